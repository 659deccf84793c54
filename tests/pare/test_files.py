import os
import pickle
import struct

import numpy as np
import pytest
import torch

from made import (ARRAYS, Ch, MatVecMult, Select, annotations, csc_matrix, pickle_as_field,
                  sequence, smpl_parts, smpl_pickle)
from pare import files
from pare.body import FACE, KEYPOINTS, Skeleton, axis_angle_to_matrix
from pare.files import SHAPES, convert_3dpw, load_annotations, load_body, load_fits


def one_line(error) -> bool:
    text = str(error.value)
    return '\n' not in text and len(text) < 700


# ---- bodies -------------------------------------------------------------------------------------

@pytest.mark.parametrize('protocol', (0, 1, 2, 4))
def test_smpl_files_are_read_without_their_packages(tmp_path, protocol):
    found = load_body(smpl_pickle(tmp_path / 'SMPL_NEUTRAL.pkl', protocol))
    for key in SHAPES:
        np.testing.assert_allclose(found[key], ARRAYS[key])
        assert found[key].dtype == ARRAYS[key].dtype
    np.savez(tmp_path / 'smpl.npz', **found)
    again = load_body(tmp_path / 'smpl.npz')
    assert again.keys() == found.keys()
    assert all(np.array_equal(again[key], found[key]) for key in found)


def test_a_model_of_python_2(tmp_path):
    """As written by cPickle: strings that do not say whether they are bytes, memo from 1."""
    raw = pickle.dumps({'v_template': ARRAYS['v_template']}, protocol=2)
    start, n = ARRAYS['v_template'].tobytes(), 12 * 1728
    old = (b'\x80\x02}U\nv_templateq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\n'
           b'ndarray\nq\x03K\x00\x85U\x01bq\x04\x87R(K\x01M\xc0\x06K\x03\x86'
           b'cnumpy\ndtype\nU\x02f4K\x00K\x01'
           b'\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T'
           + struct.pack('<i', n) + start + b'tbs.')
    for number, content in enumerate((raw, old)):
        (tmp_path / f'{number}.pkl').write_bytes(content)
        found = files.read_pickle(tmp_path / f'{number}.pkl')
        np.testing.assert_array_equal(found['v_template'], ARRAYS['v_template'])


def test_vertices_of_the_face_belong_to_a_body_of_smpl(tmp_path):
    grown = {key: np.resize(array, [6890 if n == 1728 else n for n in array.shape])
             for key, array in ARRAYS.items() if key in SHAPES}
    np.savez(tmp_path / 'large.npz', **grown)
    assert load_body(tmp_path / 'large.npz')['face'].tolist() == list(FACE.values())
    assert 'face' not in load_body(smpl_pickle(tmp_path / 'small.pkl'))
    assert Skeleton(load_body(tmp_path / 'small.pkl')).known.sum() == 10


def test_regressors_beside_a_model_are_found_and_turned_to_its_left(tmp_path):
    path = smpl_pickle(tmp_path / 'a.pkl')
    swapped = ARRAYS['J_regressor_h36m'][[0, 4, 5, 6, 1, 2, 3, *range(7, 17)]]
    np.save(tmp_path / 'J_regressor_h36m.npy', swapped.astype(float))
    np.save(tmp_path / 'J_regressor_extra.npy', ARRAYS['J_regressor_extra'])
    found = load_body(path)
    for key in ('J_regressor_h36m', 'J_regressor_extra'):
        np.testing.assert_array_equal(found[key], ARRAYS[key])
    np.save(tmp_path / 'J_regressor_h36m.npy', swapped[:, 1:])
    with pytest.raises(ValueError, match=r'J_regressor_h36m.npy: found shape \(17, 1727\)'):
        load_body(path)
    (tmp_path / 'J_regressor_h36m.npy').write_bytes(b'nothing')
    with pytest.raises(ValueError, match='J_regressor_h36m.npy: '):
        load_body(path)


class Evil:
    def __reduce__(self):
        return os.system, ('touch evil',)


def sparse(**changes):
    return {'J_regressor': csc_matrix(**vars(smpl_parts()['J_regressor']) | changes)}


@pytest.mark.parametrize('changes, message', (
    ({'v_template': Evil()}, 'system is neither a numpy array nor a plain type'),
    ({'v_template': None}, 'key v_template is missing'),
    ({'v_template': 'text'}, 'key v_template: found <U4'),
    ({'v_template': np.zeros((5, 2))}, r'key v_template: found shape \(5, 2\), expected \(any, 3'),
    ({'weights': np.zeros((5, 24))}, r'key weights: found shape \(5, 24\), expected \(1728, 24'),
    ({'v_template': np.full((1728, 3), 1e300)}, 'key v_template: found NaN or infinity'),
    ({'posedirs': np.full((1728, 3, 207), np.nan)}, 'key posedirs: found NaN or infinity in 1728'),
    ({'weights': np.zeros((1728, 24), complex)}, 'key weights: found complex'),
    ({'weights': np.zeros((1728, 24), 'M8[s]')}, 'key weights: found .V8'),
    ({'weights': np.array('x', object)}, 'key weights: found'),
    ({'f': np.zeros((5, 3))}, 'key f: found float64'),
    ({'f': np.full((5, 3), 1728)}, 'key f: found vertices 1728 to 1728, expected 0 to 1727'),
    ({'kintree_table': np.zeros((2, 24), int)}, 'found 12 shapes and another skeleton'),
    ({'shapedirs': np.zeros((1728, 3, 4))}, 'found 4 shapes'),
    ({'v_template': MatVecMult()}, 'key v_template: found'),
    ({'v_template': Ch()}, 'key v_template: found'),
    ({'v_template': Select(a=1)}, 'key v_template: found'),
    ({'shapedirs': Select(a=Ch(x=np.ones(3)), idxs=np.array([7]), preferred_shape=(1,))},
     'key shapedirs: found'),
    (sparse(indptr=np.array([0, 4])), 'key J_regressor: found'),
    (sparse(indices=np.full(240, 99)), 'key J_regressor: found')))
def test_wrong_bodies_are_named_and_run_nothing(tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f'^a.pkl: .*{message}') as error:
        load_body(smpl_pickle(tmp_path / 'a.pkl', **changes).relative_to(tmp_path))
    assert one_line(error) and not (tmp_path / 'evil').exists()


def test_what_is_no_body_is_named(tmp_path):
    for content in (b'nothing', b'', pickle.dumps([1])):
        (tmp_path / 'a.pkl').write_bytes(content)
        with pytest.raises(ValueError, match='a.pkl: found'):
            load_body(tmp_path / 'a.pkl')
    for name in ('none.pkl', 'none.npz', 'none.npy'):
        with pytest.raises(FileNotFoundError, match=f'{name}: No such file'):
            files.read_npy(tmp_path / name) if name.endswith('npy') else load_body(tmp_path / name)


# ---- annotations --------------------------------------------------------------------------------

def test_annotations_are_numbers_and_names(tmp_path):
    path = annotations(tmp_path, center=np.tile([60, 45], (3, 1)), gender=[b'm', b'f', b'f'],
                       openpose=np.array([None, 1, 2]), imgname=np.array([b'images/0.jpg'] * 3))
    found = load_annotations(path)
    assert found['center'].dtype == found['pose'].dtype == np.float32
    assert found['has_smpl'].tolist() == [True, True, False] and 'openpose' not in found
    assert found['gender'].tolist() == ['m', 'f', 'f'] and found['imgname'][0] == 'images/0.jpg'
    for genders in ([0, 1, -1], ['male', 'female', 'neutral'], ['m', 'f', 'n']):
        found = load_annotations(annotations(tmp_path, gender=genders, has_smpl=None))
        assert found['gender'].tolist() == ['m', 'f', 'neutral'] and found['has_smpl'].all()
    found = load_annotations(annotations(tmp_path, pose=None, shape=None))
    assert not found['has_smpl'].any() and found['gender'].tolist() == ['neutral'] * 3
    assert found['S'].shape == (3, 24, 4) and not found['S'].any() and not found['pose'].any()


@pytest.mark.parametrize('changes, message', (
    ({'center': None}, 'key center is missing'), ({'imgname': None}, 'key imgname is missing'),
    ({'imgname': np.array([])}, 'key imgname is missing or empty'),
    ({'scale': np.ones(2)}, r'key scale: found shape \(2,\), expected \(3\)'),
    ({'scale': np.array([1, 0, 1.])}, 'key scale: found 0 in row 1, expected a side of the box'),
    ({'scale': np.array([1, 1, -1.])}, 'key scale: found -1 in row 2'),
    ({'scale': np.array([1, 1e30, 1])}, 'key scale: found 1e.30 in row 1, .* 0.005 to 500'),
    ({'center': np.float32(3)}, 'key center is missing or empty'),
    ({'center': np.array([[1, 1], [np.nan, 1], [1, 1]])}, 'key center: found NaN or inf'),
    ({'pose': np.full((3, 72), 1e300)}, 'key pose: found NaN or infinity in 3 of 3 rows'),
    ({'pose': np.full((3, 72), '1')}, 'key pose: found <U1, expected numbers'),
    ({'pose': np.full((3, 72), None)}, 'key pose: .*bject'),
    ({'shape': None}, 'found only one of pose and shape'),
    ({'part': -np.ones((3, 24, 3))}, 'key part: found -1 in row 0, expected no confidence below 0'),
    ({'S': np.ones((3, 17, 4))}, 'key S: found the 17 joints of Human3.6M'),
    ({'part': np.ones((3, 17, 3))}, 'key part: found the 17 joints of Human3.6M'),
    ({'S': np.ones((3, 49, 4))}, r'key S: found shape \(3, 49, 4\), expected \(3, 24, 4\)'),
    ({'gender': ['m', 'f', 'x\ny']}, 'key gender: found x y, expected m, f or neutral'),
    ({'gender': ['m', 'f']}, r'key gender: found shape \(2,\), expected 3 rows')))
def test_wrong_annotations_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=f'set.npz: .*{message}|set.npz: {message}') as error:
        load_annotations(annotations(tmp_path, **changes))
    assert one_line(error)


def test_fits_stand_where_there_is_no_truth(tmp_path):
    rng = np.random.default_rng(0)
    pose, shape = rng.normal(0, .3, (3, 72)), rng.uniform(-2.9, 2.9, (3, 10))
    shape[1, 4] = -3.1  # a failure
    np.save(tmp_path / 'static.npy', np.concatenate([pose, shape], axis=1))
    np.savez(tmp_path / 'final.npz', pose=pose, betas=shape, valid_fit=[False, True, True])
    np.savez(tmp_path / 'mview.npz', pose=pose, shape=shape, has_smpl=np.array([1., 1, 0]))
    kept = np.where(np.arange(3)[:, None] == 1, 0, shape)  # and 0 if the pose is unknown
    bare = annotations(tmp_path, pose=None, shape=None, has_smpl=None)
    for name, valid in (('static.npy', [1, 1, 1]), ('final.npz', [0, 1, 1]),
                        ('mview.npz', [1, 1, 0])):
        found = load_annotations(bare, tmp_path / name)
        np.testing.assert_allclose(found['pose'], pose, rtol=1e-6)
        np.testing.assert_allclose(found['shape'], np.array(valid)[:, None] * kept, rtol=1e-6)
        assert found['has_smpl'].tolist() == valid
    (tmp_path / 'some').mkdir()
    path = annotations(tmp_path / 'some')  # with the truth of the first two
    truth = load_annotations(path)
    for name, valid in (('final.npz', [1, 1, 1]), ('mview.npz', [1, 1, 0])):
        found = load_annotations(path, tmp_path / name)
        np.testing.assert_array_equal(found['pose'][:2], truth['pose'][:2])
        np.testing.assert_array_equal(found['shape'][:2], truth['shape'][:2])
        np.testing.assert_allclose(found['pose'][2], pose[2], rtol=1e-6)
        assert found['has_smpl'].tolist() == valid


def test_wrong_fits_are_named(tmp_path):
    one, other = tmp_path / 'fits.npy', tmp_path / 'fits.npz'
    pose, shape = np.zeros((3, 72)), np.zeros((3, 10))
    for arrays, message in (
            ({'pose': pose, 'shape': shape}, 'key has_smpl is missing, expected pose, betas'),
            ({'pose': pose, 'betas': shape}, 'key valid_fit is missing'),
            ({'pose': pose, 'betas': shape[:2], 'valid_fit': np.ones(3)},
             r'key betas: found shape \(2, 10\), expected \(3, 10\)')):
        np.savez(other, **arrays)
        with pytest.raises(ValueError, match=f'fits.npz: {message}'):
            load_fits(other, 3)
    np.save(one, np.zeros((2, 82)))
    with pytest.raises(ValueError, match=r'fits.npy: found shape \(2, 82\), expected \(3, 82\)'):
        load_fits(one, 3)
    for content in (b'no array', b'', b'\x93NUMPY\x01\x00\xff\xff{'):
        one.write_bytes(content)
        with pytest.raises(ValueError, match='fits.npy: found') as error:
            load_fits(one, 3)
        assert one_line(error)


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
    ({'poses2d': None}, 'key poses2d is missing'),
    ({'cam_poses': np.zeros((4, 3, 4))}, r'key cam_poses: found shape \(4, 3, 4\)'),
    ({'poses': [np.zeros((4, 72)), np.zeros((3, 72))]}, r'key poses: found shape \(3, 72\)'),
    ({'poses': np.zeros((2, 4, 72))[:, :, :1].tolist()}, r'key poses: found shape \(4, 1\)'),
    ({'betas': [np.zeros(10)]}, 'key betas: found no list of 2, expected an entry for each person'),
    ({'betas': 7}, 'key betas: found no list of 2'), ({'poses': 7}, 'key poses'),
    ({'betas': [np.zeros(4), np.zeros(10)]}, r'key betas: found 4 numbers, expected 10 or more'),
    ({'genders': ['m', 'alien']}, 'key genders: found alien, expected m or f'),
    ({'poses2d': [np.full((4, 3, 18), np.nan)] * 2}, 'key poses2d: found NaN'),
    ({'campose_valid': [np.zeros(4)] * 2}, 'found no frame with a valid camera'),
    ({key: [] for key in files.PEOPLE}, 'found no frame with a valid camera')))
def test_wrong_sequences_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=f'^{tmp_path}.*: {message}') as error:
        convert_3dpw(write_sequence(tmp_path, changes))
    assert one_line(error)


def test_mistakes_are_said_in_a_line(tmp_path, fails):
    assert 'required: source, out' in fails(files.main)
    assert f'{tmp_path}: found no .pkl' in fails(files.main, str(tmp_path), 'a')
    write_sequence(tmp_path)
    assert 'none/a.npz' in fails(files.main, str(tmp_path), f'{tmp_path}/none/a.npz')
