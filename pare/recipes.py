"""Recipes: a network, the weights of its loss, and the settings of its training."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """A network, its loss, and the settings of its training."""
    network: dict             # options of pare.model.build
    weights: dict             # by the terms of the loss
    squared: bool             # compare squares instead of distances
    muon: bool                # Muon beside Adam
    resolution: int           # pixels of a side of the crop
    epochs: int
    part_epochs: int | None   # epochs with the loss of part labels; None for all
    lr: float
    batch_size: int
    one_cycle: bool = False   # as most rungs of the ladder; if False the rate is held


SMALL = Recipe(
    network={'kind': 'pare', 'size': 'small', 'placed': True, 'shared': False},
    weights={'keypoints': 1., 'points_3d': 2., 'pose': 1., 'betas': .001, 'camera': 1.,
             'parts': .3, 'places': 1., 'skeletons': 1.},
    squared=False, muon=True, resolution=64, epochs=3, part_epochs=None, lr=2e-3, batch_size=64)
# as in SPIN, whose 2D loss is a mean over 49 keypoints, of which only 24 have a weight
FULL = Recipe(
    network={'kind': 'pare', 'size': 'full', 'placed': False, 'shared': False},
    weights={'keypoints': 5. * 24 / 49, 'points_3d': 5., 'pose': 1., 'betas': .001, 'camera': 1.,
             'parts': 1., 'places': 0., 'skeletons': 0.},
    squared=True, muon=False, resolution=224, epochs=120, part_epochs=None, lr=3e-4, batch_size=64)
RECIPES = {'small': SMALL, 'full': FULL}
