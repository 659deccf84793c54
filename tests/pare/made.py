"""Small files as a user has them, in the true keys and types, and what they are made of."""
import pickle
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, default_collate

from pare import training
from pare.body import FACE, Skeleton, axis_angle_to_matrix, fit_camera
from pare.losses import losses
from pare.metrics import validate
from pare.model import build
from pare.people import rendered_samples
from pare.ranks import from_first
from pare.spin import FEET
from pare.standin import make_body

ARRAYS = {key: array.astype(np.int64 if array.dtype.kind in 'ui' else np.float32)
          for key, array in make_body().items()}
TINY = ('--people', '100', '--epochs', '2', '--batch-size', '32', '--resolution', '32', '--device',
        'cpu', '--precision', 'float32')
EYE = torch.eye(3).expand(1, 24, 3, 3)


def random_pose(n, seed=0, angle=.6):
    torch.manual_seed(seed)
    return torch.randn(n, 10), axis_angle_to_matrix(angle * torch.randn(n, 24, 3))


def bare(arrays=ARRAYS) -> dict:
    """A body without the files of regressors."""
    return {key: array for key, array in arrays.items() if 'J_regressor_' not in key}


def rendered_batch(n: int, size: int = 64, seed: int = 5) -> dict:
    """Rendered people as a batch."""
    return default_collate(rendered_samples(n, size, seed)[0])


def truth_of(batch, **changes) -> dict:
    """What a perfect network finds: the true bodies, and cameras that see their keypoints."""
    points = Skeleton(ARRAYS)(batch['betas'], batch['rotations']).keypoints
    places, sure = batch['keypoints'].split((2, 1), dim=2)
    return {'betas': batch['betas'], 'rotations': batch['rotations'],
            'camera': fit_camera(points, places, sure[..., 0])} | changes


@contextmanager
def refused(message: str):
    """The block must raise a ValueError of one short line that matches."""
    with pytest.raises(ValueError, match=message) as error:
        yield
    assert '\n' not in str(error.value) and len(str(error.value)) < 700


def share(folder) -> None:
    """Save the gradients and scores of one of two processes, each of which has its share."""
    torch.distributed.init_process_group()
    assert from_first(lambda: training.RANK) == 0
    torch.save((gradients(), scores()), folder / f'{training.RANK}.pt')
    torch.distributed.destroy_process_group()


def gradients() -> list:
    """Of a batch, once more without part loss as after --part-epochs.

    Batch norm is as in evaluation, since it sees only its share.
    """
    torch.manual_seed(0)
    model = build('pare', 'small').eval()
    learner = training.distributed(model)
    batch = {key: value[training.RANK::training.N_RANKS]
             for key, value in rendered_batch(8, 32).items()}
    for weight_of_parts in (1., 0.):
        model.zero_grad()
        terms = losses(learner(batch['image'], batch['gain']), batch, Skeleton(ARRAYS), False)
        terms['parts'] = weight_of_parts * terms['parts']
        sum(terms.values()).backward()
    return [weight.grad for weight in model.parameters()]


def scores() -> dict:
    """Of a network without training."""
    torch.manual_seed(0)
    batches = DataLoader(rendered_samples(9, 32, 0)[0], 4,
                         sampler=range(training.RANK, 9, training.N_RANKS))
    return validate(build('pare', 'small'), batches, Skeleton(ARRAYS), torch.device('cpu'), 32)


class Ch:
    """Pickled as chumpy pickles its arrays."""

    def __init__(self, **state):
        self.__dict__.update(state)


class Select(Ch):
    pass


class csc_matrix(Ch):
    pass


CLASSES = {Ch: 'chumpy.ch', Select: 'chumpy.reordering',
           csc_matrix: 'scipy.sparse.csc'}


def pickle_as_field(path, value, protocol):
    """Pickles a value with the classes above under their true names."""
    names = {module for module in CLASSES.values()} | {'chumpy', 'scipy', 'scipy.sparse'}
    before = {name: sys.modules.get(name) for name in names}
    try:
        sys.modules.update({name: type(sys)(name) for name in names})
        for kind, module in CLASSES.items():
            kind.__module__ = module
            setattr(sys.modules[module], kind.__name__, kind)
        path.write_bytes(pickle.dumps(value, protocol=protocol))
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
    return path


def grown() -> dict:
    """The stand-in with SMPL's 6,890 vertices; those that are added move no joint."""
    copies = {key: np.resize(ARRAYS[key], (6890, *ARRAYS[key].shape[1:]))
              for key in ('v_template', 'shapedirs', 'posedirs', 'weights')}
    padded = {key: np.pad(ARRAYS[key], ((0, 0), (0, 6890 - 1728)))
              for key in ('J_regressor', 'J_regressor_h36m', 'J_regressor_extra')}
    return ARRAYS | copies | padded | {'face': np.array([*FACE.values()]),
                                       'feet': np.array([*FEET.values()])}


def smpl_parts(arrays=ARRAYS) -> dict:
    """The keys of an SMPL model as its files hold them, of the stand-in's numbers."""
    regressor, n = arrays['J_regressor'], len(arrays['v_template'])
    columns, rows = np.nonzero(regressor.T)
    shapes = np.concatenate([arrays['shapedirs'], np.ones((n, 3, 2), np.float32)], axis=2)
    template = Ch(x=arrays['v_template'].astype(float), _dirty_vars=set(), dirty={1})
    return {key: arrays[key] for key in ('posedirs', 'weights')} | {
        'v_template': template, 'bs_style': 'lbs', 'bs_type': 'lrotmin',
        'shapedirs': Select(a=Ch(x=shapes), idxs=np.arange(shapes.size),
                            preferred_shape=shapes.shape),
        'J_regressor': csc_matrix(_shape=regressor.shape, data=regressor[rows, columns],
                                  indices=rows, format='csc',
                                  indptr=np.searchsorted(columns, np.arange(n + 1))),
        'f': arrays['f'].astype(np.uint32),
        'kintree_table': arrays['kintree_table'].astype(np.uint32)}


def smpl_pickle(path, protocol=2, **changes):
    return pickle_as_field(path, smpl_parts() | changes, protocol)


def annotations(folder, **changes):
    """Three photographs with the keys of SPIN, the pose of one known to be wrong."""
    rng, n = np.random.default_rng(0), 3
    (folder / 'images').mkdir(exist_ok=True)
    for number in range(n):
        Image.fromarray(rng.integers(0, 255, (90, 120, 3), dtype=np.uint8)).save(
            folder / f'images/{number}.jpg')
    pose = np.float32(rng.normal(0, .2, (n, 72)))
    pose[:, :3] += (np.pi, 0, 0)
    points = Skeleton(ARRAYS)(torch.zeros(n, 10), axis_angle_to_matrix(
        torch.from_numpy(pose).view(n, 24, 3))).keypoints
    part = np.concatenate([40 * points[..., :2].numpy() + (60, 45), np.ones((n, 24, 1))], axis=2)
    found = {'imgname': np.array([f'images/{number}.jpg' for number in range(n)]),
             'center': np.tile([60., 45], (n, 1)), 'scale': np.full(n, .4), 'part': part,
             'pose': pose, 'shape': np.zeros((n, 10), np.float32),
             'has_smpl': np.array([1, 1, 0])} | changes
    found = {key: array for key, array in found.items() if array is not None}
    np.savez(folder / 'set.npz', **found)
    return folder / 'set.npz'


def sequence() -> dict:
    """A sequence of 3DPW: two people in four frames, of which the second person is seen in one."""
    rng, n = np.random.default_rng(0), 4
    turn = axis_angle_to_matrix(torch.tensor([.3, -.2, .1], dtype=torch.double)).numpy()
    cameras = np.tile(np.eye(4), (n, 1, 1))
    cameras[:, :3, :3], cameras[:, :3, 3] = turn, (0, 0, 4)
    points = np.zeros((2, n, 3, 18))
    points[0, :, :, 3], points[0, :, :, 4] = (10, 20, .9), (30, 60, .8)
    points[0, 2] = 0
    points[1, 3, :, 0], points[1, 3, :, 1], points[1, 1, :, 0] = (5, 6, 1), (9, 16, 1), (5, 6, 1)
    return {'sequence': 'walk_00', 'genders': ['f', 'm'], 'betas': [np.arange(12.), np.ones(10)],
            'poses': list(rng.normal(0, .3, (2, n, 72))), 'trans': list(np.zeros((2, n, 3))),
            'poses2d': list(points), 'campose_valid': [np.array([1, 0, 1, 1]), np.ones(n, int)],
            'cam_poses': cameras, 'cam_intrinsics': np.eye(3), 'img_frame_ids': np.arange(7, 7 + n),
            'texture_maps': [], 'v_template_clothed': [np.zeros((5, 3))] * 2}
