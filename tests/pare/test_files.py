import numpy as np
import pytest
import torch

from made import annotations, pickle_as_field, refused, sequence
from pare import files
from pare.body import KEYPOINTS, axis_angle_to_matrix
from pare.files import convert_3dpw, load_annotations, load_fits


# ---- annotations --------------------------------------------------------------------------------

def test_annotations_are_numbers_and_names(tmp_path):
    path = annotations(tmp_path, center=np.tile([60, 45], (3, 1)), gender=[b'm', b'f', b'f'],
                       maskname=np.array([None, 1, 2]), imgname=np.array([b'images/0.jpg'] * 3))
    found = load_annotations(path)
    assert found['center'].dtype == found['pose'].dtype == np.float32
    assert found['has_smpl'].tolist() == [True, True, False] and 'maskname' not in found
    assert found['gender'].tolist() == ['m', 'f', 'f'] and found['imgname'][0] == 'images/0.jpg'
    for genders in ([0, 1, -1], ['male', 'female', 'neutral'], ['m', 'f', 'n']):
        found = load_annotations(annotations(tmp_path, gender=genders, has_smpl=None))
        assert found['gender'].tolist() == ['m', 'f', 'neutral'] and found['has_smpl'].all()
    found = load_annotations(annotations(tmp_path, pose=None, shape=None))
    assert not found['has_smpl'].any() and found['gender'].tolist() == ['neutral'] * 3
    assert found['S'].shape == (3, 24, 4) and not found['S'].any() and not found['pose'].any()


@pytest.mark.parametrize('changes, message', (
    ({'center': None}, 'key center is missing'), ({'imgname': None}, 'key imgname is missing'),
    ({'scale': np.ones(2)}, r'key scale: found shape \(2,\), expected \(3\)'),
    ({'scale': np.array([1, 1e30, 1])}, 'key scale: found 1e.30 in row 1, .* 0.005 to 500'),
    ({'pose': np.full((3, 72), 1e300)}, 'key pose: found NaN or infinity in 3 of 3 rows'),
    ({'pose': np.full((3, 72), None)}, 'key pose: .*bject'),
    ({'shape': None}, 'found only one of pose and shape'),
    ({'part': -np.ones((3, 24, 3))}, 'key part: found -1 in row 0, expected no confidence below 0'),
    ({'S': np.ones((3, 17, 4))}, 'key S: found the 17 joints of Human3.6M'),
    ({'S': np.ones((3, 49, 4))}, r'key S: found shape \(3, 49, 4\), expected \(3, 24, 4\)'),
    ({'gender': ['m', 'f', 'x\ny']}, 'key gender: found x y, expected m, f or neutral'),
    ({'gender': ['m', 'f']}, r'key gender: found shape \(2,\), expected 3 rows')))
def test_wrong_annotations_are_named(tmp_path, changes, message):
    with refused(f'set.npz: {message}'):
        load_annotations(annotations(tmp_path, **changes))


def test_fits_stand_where_there_is_no_truth(tmp_path):
    rng = np.random.default_rng(0)
    pose, shape = rng.normal(0, .3, (3, 72)), rng.uniform(-2.9, 2.9, (3, 10))
    shape[1, 4] = -3.1  # a failure
    np.save(tmp_path / 'static.npy', np.concatenate([pose, shape], axis=1))
    np.savez(tmp_path / 'final.npz', pose=pose, betas=shape, valid_fit=[False, True, True])
    np.savez(tmp_path / 'mview.npz', pose=pose, shape=shape, has_smpl=np.array([1., 1, 0]))
    kept = np.where(np.arange(3)[:, None] == 1, 0, shape)
    for name, valid in (('static.npy', [1, 1, 1]), ('final.npz', [0, 1, 1]),
                        ('mview.npz', [1, 1, 0])):
        path = annotations(tmp_path, pose=None, shape=None, has_smpl=None)
        found = load_annotations(path, tmp_path / name)
        np.testing.assert_allclose(found['pose'], pose, rtol=1e-6)
        np.testing.assert_allclose(found['shape'], np.array(valid)[:, None] * kept, rtol=1e-6)
        assert found['has_smpl'].tolist() == valid
        path = annotations(tmp_path)  # with the truth of the first two
        truth, found = load_annotations(path), load_annotations(path, tmp_path / name)
        for key in ('pose', 'shape'):
            np.testing.assert_array_equal(found[key][:2], truth[key][:2])
        np.testing.assert_allclose(found['pose'][2], pose[2], rtol=1e-6)
        assert found['has_smpl'].tolist() == [True, True, valid[2]]


def test_wrong_fits_are_named(tmp_path):
    path, pose, shape = tmp_path / 'fits.npz', np.zeros((3, 72)), np.zeros((3, 10))
    for arrays, message in (
            ({'pose': pose, 'shape': shape}, 'key has_smpl is missing, expected pose, betas'),
            ({'pose': pose, 'betas': shape}, 'key valid_fit is missing'),
            ({'pose': pose, 'betas': shape[:2], 'valid_fit': np.ones(3)},
             r'key betas: found shape \(2, 10\), expected \(3, 10\)')):
        np.savez(path, **arrays)
        with refused(f'fits.npz: {message}'):
            load_fits(path, 3)
    np.save(tmp_path / 'fits.npy', np.zeros((2, 82)))
    with refused(r'fits.npy: found shape \(2, 82\), expected \(3, 82\)'):
        load_fits(tmp_path / 'fits.npy', 3)


# ---- 3DPW ---------------------------------------------------------------------------------------

def write_sequence(folder, changes=()):
    """As Python 2 wrote it, but for its strings."""
    pickle_as_field(folder / 'walk_00.pkl', sequence() | dict(changes), protocol=2)
    return folder


@pytest.mark.parametrize('names', ((), ('gender', 'poses2D')))
def test_sequences_of_3dpw_are_converted(tmp_path, names, capsys):
    changes = {}
    for other, name in zip(names, ('genders', 'poses2d')):
        changes |= {other: sequence()[name], name: None}
    write_sequence(tmp_path, changes)
    out = tmp_path / 'out.npz'
    files.main([str(tmp_path), str(out)])
    assert capsys.readouterr().out == f'wrote {out}: 3 samples\n'
    found = load_annotations(out)  # without the invalid frame, those not seen, and a single point
    assert found['imgname'].tolist() == [f'imageFiles/walk_00/image_0000{n}.jpg' for n in (0, 3, 3)]
    np.testing.assert_allclose(found['center'], [[20, 40], [20, 40], [7, 11]])
    np.testing.assert_allclose(found['scale'], 1.2 * np.array([40, 40, 10]) / 200, rtol=1e-6)
    np.testing.assert_allclose(found['part'][0, KEYPOINTS.index('RElbow')], (10, 20, .9), rtol=1e-6)
    assert found['part'][0, KEYPOINTS.index('HeadTop')].tolist() == [0, 0, 0]
    raw = sequence()
    for row, (person, frame) in enumerate(((0, 0), (0, 3), (1, 3))):
        own = torch.from_numpy(raw['poses'][person][frame])
        expected = raw['cam_poses'][frame, :3, :3] @ axis_angle_to_matrix(own[:3]).numpy()
        world = axis_angle_to_matrix(torch.from_numpy(found['pose'][row, :3])).numpy()
        np.testing.assert_allclose(world, expected, atol=1e-6)
        np.testing.assert_allclose(found['pose'][row, 3:], own[3:], rtol=1e-6)
    assert found['shape'].tolist() == [list(range(10))] * 2 + [[1] * 10]
    assert found['gender'].tolist() == ['f', 'f', 'm']


@pytest.mark.parametrize('changes, message', (
    ({'cam_poses': None}, 'key cam_poses is missing'),
    ({'cam_poses': np.zeros((4, 3, 4))}, r'key cam_poses: found shape \(4, 3, 4\)'),
    ({'poses': [np.zeros((4, 72)), np.zeros((3, 72))]}, r'key poses: found shape \(3, 72\)'),
    ({'betas': [np.zeros(10)]}, 'key betas: found no list of 2, expected an entry for each person'),
    ({'poses': 7}, 'key poses'),
    ({'betas': [np.zeros(4), np.zeros(10)]}, r'key betas: found 4 numbers, expected 10 or more'),
    ({'genders': ['m', 'alien']}, 'key genders: found alien, expected m or f'),
    ({'poses2d': [np.full((4, 3, 18), np.nan)] * 2}, 'key poses2d: found NaN'),
    ({key: [] for key in files.PEOPLE}, 'found no frame with a valid camera')))
def test_wrong_sequences_are_named(tmp_path, changes, message):
    with refused(f'^{tmp_path}.*: {message}'):
        convert_3dpw(write_sequence(tmp_path, changes))


def test_mistakes_are_said_in_a_line(tmp_path, fails):
    assert f'{tmp_path}: found no .pkl' in fails(files.main, str(tmp_path), 'a')
    sequence = write_sequence(tmp_path) / 'walk_00.pkl'
    assert 'the input walk_00.pkl' in fails(files.main, str(tmp_path), str(sequence))
    assert 'none/a.npz' in fails(files.main, str(tmp_path), f'{tmp_path}/none/a.npz')
