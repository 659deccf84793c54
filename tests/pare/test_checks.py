"""Sets in other units and forms are refused, true ones are not."""
import numpy as np
import pytest

from made import ARRAYS, annotations, refused
from pare.data import People
from pare.files import load_annotations, load_fits

RNG = np.random.default_rng(0)
POSE = RNG.normal(0, .2, (3, 72)) + np.pad([np.pi], (0, 71))
JOINTS = np.concatenate([RNG.normal(0, .3, (3, 24, 3)), np.ones((3, 24, 1))], axis=2)
PART = np.concatenate([RNG.uniform(20, 90, (3, 24, 2)), np.ones((3, 24, 1))], axis=2)


@pytest.mark.parametrize('changes, message', (
    ({'pose': np.degrees(POSE)}, r'key pose: found a rotation by .* in row 0 and in 2 of 3 rows, '
                                 r'expected axis-angle in radians'),
    ({'S': JOINTS * (1e2, 1e2, 1e2, 1)}, 'key S: found a joint .* in row 0 and in 3 .* metres'),
    ({'scale': np.full(3, 80.)}, 'key scale: found a median of 80, .* boxes of 16000 pixels'),
    ({'center': np.full((3, 2), .5)}, 'key scale: .* about centres up to 0'),
    ({'part': PART * (1 / 120, 1 / 90, 1)}, 'key part: found x and y up to .* pixels'),
    ({'openpose': np.ones((3, 25, 3))}, 'key openpose: found x and y up to 1'),
    ({'pose': np.zeros((3, 156))}, r'key pose: found poses of SMPL-H: pose\[:, :66\]'),
    ({'pose': np.zeros((3, 165))}, 'key pose: found poses of SMPL-X'),
    ({'shape': np.zeros((3, 11))}, r'key shape: found betas of BEDLAM: shape\[:, :10\]'),
    ({'imgname': None, 'image_path': np.array(3 * ['a.jpg'])}, 'found a set in the form of Human')))
def test_other_units_and_forms_are_named(tmp_path, changes, message):
    with refused(f'set.npz: {message}'):
        load_annotations(annotations(tmp_path, **changes))


@pytest.mark.parametrize('changes', (
    {'pose': POSE * np.where(np.arange(72) < 3, 3, 1)},   # turned by about 3 pi
    {'pose': np.degrees(POSE), 'has_smpl': np.zeros(3)},  # no one needs them
    {'S': JOINTS + (9, 1, 5, 0)},                         # in the camera's frame
    {'S': np.where(JOINTS[..., 3:] * RNG.integers(0, 2, (3, 24, 1)) > 0, JOINTS,
                   (9e4, 0, 0, 0))},                      # unknown ones lie anywhere
    {'scale': np.full(3, 1.3)},                           # larger than the photograph
    {'part': np.where(np.arange(24)[:, None] > 0, 0., PART)},  # a single point
    {'part': np.zeros((3, 24, 3)), 'openpose': np.zeros((3, 25, 3))}))
def test_true_sets_are_read(tmp_path, changes):
    assert len(load_annotations(annotations(tmp_path, **changes))['center']) == 3


def test_fits_in_degrees_are_named(tmp_path):
    np.save(tmp_path / 'fits.npy', np.concatenate([np.degrees(POSE), np.zeros((3, 10))], axis=1))
    with refused('fits.npy: key pose: found a rotation'):
        load_fits(tmp_path / 'fits.npy', 3)


@pytest.mark.parametrize('changes', (
    {}, {'part': np.zeros((3, 24, 3))}, {'S': np.zeros((3, 24, 4))}, {'gtkps': PART},
    {'S': JOINTS * (np.arange(24) < 2)[:, None]},  # without the hips, which it is taken from
    {'pose': np.zeros((3, 72)), 'shape': np.zeros((3, 10)), 'has_smpl': np.zeros(3)}))
def test_a_set_with_nothing_to_learn_is_refused(tmp_path, changes):
    changes = {'pose': None, 'shape': None, 'has_smpl': None, 'part': None} | changes
    with refused('set.npz: found nothing to learn in the keys '):
        People(annotations(tmp_path, **changes), ARRAYS).check_learnable()
    for more in ({'part': PART}, {'S': JOINTS}, {'openpose': 30 + np.ones((3, 25, 3))}):
        People(annotations(tmp_path, **changes | more), ARRAYS).check_learnable()
