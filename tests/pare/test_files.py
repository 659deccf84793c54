"""Sets of annotations, fits and sequences of 3DPW."""
import numpy as np
import pytest
import torch

from made import ARRAYS, annotations, pickle_as_field, refused, sequence
from pare import files
from pare.body import KEYPOINTS, axis_angle_to_matrix
from pare.data import People
from pare.files import convert_3dpw, load_annotations, load_fits
from pare.spin import OPENPOSE, add_openpose

RNG = np.random.default_rng(0)
POSE = RNG.normal(0, .2, (3, 72)) + np.pad([np.pi], (0, 71))
JOINTS = np.concatenate([RNG.normal(0, .3, (3, 24, 3)), np.ones((3, 24, 1))], axis=2)
PART = np.concatenate([RNG.uniform(20, 90, (3, 24, 2)), np.ones((3, 24, 1))], axis=2)
OPEN = np.concatenate([RNG.uniform(20, 90, (3, 25, 2)), np.ones((3, 25, 1))], axis=2)


# ---- annotations --------------------------------------------------------------------------------

def test_annotations_are_numbers_and_names(tmp_path):
    found = load_annotations(annotations(tmp_path, center=np.tile([60, 45], (3, 1)),
                                         imgname=np.array(3 * [b'images/0.jpg'])))
    assert found['center'].dtype == found['pose'].dtype == np.float32
    assert found['has_smpl'].tolist() == [True, True, False]
    assert found['imgname'][0] == 'images/0.jpg' and found['gender'].tolist() == 3 * ['neutral']
    for genders in ([0, 1, -1], ['male', 'female', 'neutral'], [b'm', b'f', b'n']):
        found = load_annotations(annotations(tmp_path, gender=genders, has_smpl=None))
        assert found['gender'].tolist() == ['m', 'f', 'neutral'] and found['has_smpl'].all()
    found = load_annotations(annotations(tmp_path, pose=None, shape=None))
    assert not found['has_smpl'].any() and not found['pose'].any()
    assert found['S'].shape == (3, 24, 4) and not found['S'].any()


@pytest.mark.parametrize('changes, words', (
    ({'center': None}, 'key center missing'),
    ({'imgname': None}, 'key imgname missing'),
    ({'imgname': None, 'image_path': np.array(3 * ['a.jpg'])}, 'HumanData'),
    ({'scale': np.ones(2)}, 'key scale: (2,) (3)'),
    ({'scale': np.array([1, 1e30, 1])}, 'key scale: 1e+30 row 1'),
    ({'scale': np.full(3, 80.)}, 'key scale: 80 16000'),
    ({'center': np.full((3, 2), .5)}, 'key scale: centres'),
    ({'pose': np.full((3, 72), 1e300)}, 'key pose: NaN 3 of'),
    ({'pose': np.full((3, 72), None)}, 'key pose: bject'),
    ({'pose': np.degrees(POSE)}, 'key pose: row 0 radians'),
    ({'pose': np.zeros((3, 156))}, 'key pose: SMPL-H'),
    ({'shape': None}, 'pose and shape'),
    ({'shape': np.zeros((3, 11))}, 'key shape: BEDLAM'),
    ({'part': -PART}, 'key part: row 0 confidence'),
    ({'part': PART * (1 / 120, 1 / 90, 1)}, 'key part: pixels'),
    ({'openpose': np.ones((3, 25, 3))}, 'key openpose: pixels'),
    ({'S': np.ones((3, 17, 4))}, 'key S: Human3.6M'),
    ({'S': np.ones((3, 49, 4))}, 'key S: (3, 49, 4) (3, 24, 4)'),
    ({'S': JOINTS * (1e2, 1e2, 1e2, 1)}, 'key S: row 0 metres'),
    ({'gender': ['m', 'f', 'x\ny']}, 'key gender: x y'),
    ({'gender': ['m', 'f']}, 'key gender: (2,) 3 rows')))
def test_wrong_annotations_are_named(tmp_path, changes, words):
    with refused(f'set.npz: {words}'):
        load_annotations(annotations(tmp_path, **changes))


@pytest.mark.parametrize('changes', (
    {'pose': POSE * np.where(np.arange(72) < 3, 3, 1)},        # turned by about 3 pi
    {'pose': np.degrees(POSE), 'has_smpl': np.zeros(3)},       # no one needs them
    {'S': JOINTS + (9, 1, 5, 0)},                              # in the camera's frame
    {'S': np.where(np.arange(24)[:, None] < 9, JOINTS, (9e4, 0, 0, 0))},  # unknown ones are far
    {'part': np.zeros((3, 24, 3)), 'openpose': np.zeros((3, 25, 3))}))
def test_true_sets_are_read(tmp_path, changes):
    assert len(load_annotations(annotations(tmp_path, **changes))['center']) == 3


def test_a_set_with_nothing_to_learn_is_refused(tmp_path):
    nothing = {'pose': None, 'shape': None, 'has_smpl': None, 'part': None}
    for changes in ({}, {'part': 0 * PART}, {'S': JOINTS * (np.arange(24) < 2)[:, None]},
                    {'pose': POSE, 'shape': np.zeros((3, 10)), 'has_smpl': np.zeros(3)}):
        with refused('set.npz: nothing to learn'):
            People(annotations(tmp_path, **nothing | changes), ARRAYS).check_learnable()
    for changes in ({'part': PART}, {'S': JOINTS}, {'openpose': OPEN}):
        People(annotations(tmp_path, **nothing | changes), ARRAYS).check_learnable()


def test_openpose_fills_in_what_no_one_marked(tmp_path):
    part = PART.copy()
    part[1, 5:] = 0
    filled = add_openpose(part, OPEN)
    for row, (column, name) in ((row, at) for row in range(3) for at in enumerate(KEYPOINTS)):
        theirs = name in OPENPOSE and name not in ('RHip', 'LHip', 'Neck')
        expected = (OPEN[row, OPENPOSE.index(name)] if theirs and part[row, column, 2] == 0
                    else part[row, column])
        np.testing.assert_array_equal(filled[row, column], expected)
    found = load_annotations(annotations(tmp_path, part=None, openpose=OPEN))
    np.testing.assert_allclose(found['part'], add_openpose(0 * PART, OPEN), rtol=1e-6)


# ---- fits ---------------------------------------------------------------------------------------

def test_fits_stand_where_there_is_no_truth(tmp_path):
    shape = RNG.uniform(-2.9, 2.9, (3, 10))
    shape[1, 4] = -3.1  # a failure
    np.save(tmp_path / 'static.npy', np.concatenate([POSE, shape], axis=1))
    np.savez(tmp_path / 'final.npz', pose=POSE, betas=shape, valid_fit=[False, True, True])
    np.savez(tmp_path / 'mview.npz', pose=POSE, shape=shape, has_smpl=np.array([1., 1, 0]))
    kept = np.where(np.arange(3)[:, None] == 1, 0, shape)
    for name, valid in (('static.npy', [1, 1, 1]), ('final.npz', [0, 1, 1]),
                        ('mview.npz', [1, 1, 0])):
        path = annotations(tmp_path, pose=None, shape=None, has_smpl=None)
        found = load_annotations(path, tmp_path / name)
        np.testing.assert_allclose(found['pose'], POSE, rtol=1e-6)
        np.testing.assert_allclose(found['shape'], np.array(valid)[:, None] * kept, rtol=1e-6)
        assert found['has_smpl'].tolist() == valid
        path = annotations(tmp_path)  # with the truth of the first two
        truth, found = load_annotations(path), load_annotations(path, tmp_path / name)
        np.testing.assert_array_equal(found['pose'][:2], truth['pose'][:2])
        np.testing.assert_allclose(found['pose'][2], POSE[2], rtol=1e-6)
        assert found['has_smpl'].tolist() == [True, True, valid[2]]


@pytest.mark.parametrize('arrays, words', (
    ({'pose': POSE, 'shape': np.zeros((3, 10))}, 'key has_smpl missing'),
    ({'pose': POSE, 'betas': np.zeros((3, 10))}, 'key valid_fit missing'),
    ({'pose': POSE, 'betas': np.zeros((2, 10)), 'valid_fit': np.ones(3)}, 'key betas: (2, 10)'),
    (np.zeros((2, 82)), '(2, 82) (3, 82)'),
    (np.degrees(np.pad(POSE, ((0, 0), (0, 10)))), 'key pose: radians')))
def test_wrong_fits_are_named(tmp_path, arrays, words):
    path = tmp_path / ('fits.npz' if isinstance(arrays, dict) else 'fits.npy')
    np.savez(path, **arrays) if isinstance(arrays, dict) else np.save(path, arrays)
    with refused(f'{path}: {words}'):
        load_fits(path, 3)


# ---- 3DPW ---------------------------------------------------------------------------------------

@pytest.mark.parametrize('other', ({}, {'genders': 'gender', 'poses2d': 'poses2D'}))
def test_sequences_of_3dpw_are_converted(tmp_path, other, capsys, fails):
    raw, out = sequence(), tmp_path / 'out.npz'
    path = pickle_as_field(tmp_path / 'walk_00.pkl',
                           {other.get(key, key): value for key, value in raw.items()})
    files.main([str(tmp_path), str(out)])
    assert capsys.readouterr().out == f'wrote {out}: 3 samples\n'
    found = load_annotations(out)  # without the invalid frame, those not seen, and a single point
    assert found['imgname'].tolist() == [f'imageFiles/walk_00/image_0000{n}.jpg' for n in (0, 3, 3)]
    np.testing.assert_allclose(found['center'], [[20, 40], [20, 40], [7, 11]])
    np.testing.assert_allclose(found['scale'], 1.2 * np.array([40, 40, 10]) / 200, rtol=1e-6)
    np.testing.assert_allclose(found['part'][0, KEYPOINTS.index('RElbow')], (10, 20, .9), rtol=1e-6)
    assert found['part'][0, KEYPOINTS.index('HeadTop')].tolist() == [0, 0, 0]
    for row, (person, frame) in enumerate(((0, 0), (0, 3), (1, 3))):
        own = torch.from_numpy(raw['poses'][person][frame])
        expected = raw['cam_poses'][frame, :3, :3] @ axis_angle_to_matrix(own[:3]).numpy()
        world = axis_angle_to_matrix(torch.from_numpy(found['pose'][row, :3])).numpy()
        np.testing.assert_allclose(world, expected, atol=1e-6)
        np.testing.assert_allclose(found['pose'][row, 3:], own[3:], rtol=1e-6)
    assert found['shape'].tolist() == [list(range(10))] * 2 + [[1] * 10]
    assert found['gender'].tolist() == ['f', 'f', 'm']
    assert 'the input walk_00.pkl' in fails(files.main, str(tmp_path), str(path))
    assert f'{out}: found no .pkl' in fails(files.main, str(out), 'a')


@pytest.mark.parametrize('changes, words', (
    ({'cam_poses': None}, 'key cam_poses missing'),
    ({'cam_poses': np.zeros((4, 3, 4))}, 'key cam_poses: (4, 3, 4)'),
    ({'poses': [np.zeros((4, 72)), np.zeros((3, 72))]}, 'key poses: (3, 72)'),
    ({'poses': 7}, 'key poses'),
    ({'betas': [np.zeros(10)]}, 'key betas: 2'),
    ({'betas': [np.zeros(4), np.zeros(10)]}, 'key betas: 4 10'),
    ({'genders': ['m', 'alien']}, 'key genders: alien'),
    ({'poses2d': [np.full((4, 3, 18), np.nan)] * 2}, 'key poses2d: NaN'),
    ({key: [] for key in files.PEOPLE}, 'valid camera')))
def test_wrong_sequences_are_named(tmp_path, changes, words):
    pickle_as_field(tmp_path / 'walk_00.pkl', sequence() | changes)
    with refused(f'{tmp_path} {words}'):
        convert_3dpw(tmp_path)
