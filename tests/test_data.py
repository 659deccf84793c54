import os
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest

import data
from conftest import ROOT
from data import (BONES, JOINTS, POINTS, atomic, face_root, find_bones, find_focal, find_sign,
                  fit_focal, joints_of, load, project, ray_angle, ray_gap, sample, save,
                  second_view, settle_views, smallest_rotation, split_blocks, triangulate, walking)

N = 8
GOOD = sample(N, seed=3)


def write(path, value, **options):
    path.write_bytes(pickle.dumps(value, **options))
    return path


# ---- the dictionary -----------------------------------------------------------------------------

def test_save_and_load_give_back_the_same(tmp_path):
    save(tmp_path / 'a.pkl', GOOD)
    loaded = load(tmp_path / 'a.pkl')
    assert loaded.keys() == GOOD.keys()
    for key, array in loaded.items():
        assert array.dtype == np.float32 and array.flags['C_CONTIGUOUS']
        np.testing.assert_array_equal(array, GOOD[key])


@pytest.mark.parametrize('change', (
    {'joint_2d_1': GOOD['joint_2d_1'].reshape(N, 30), 'joint_3d': GOOD['joint_3d'].reshape(N, 45)},
    {'joint_3d': list(GOOD['joint_3d'].astype(np.float64))},
    {'joint_3d': GOOD['joint_3d'].tolist()},
    {'joint_3d': GOOD['joint_3d'].astype('>f8')},
    {'joint_2d_1': np.asfortranarray(GOOD['joint_2d_1'])},
    {'rot': GOOD['rot'].reshape(N, 3, 3), 'transl': GOOD['transl'].reshape(N, 1, 3)},
    {'rot': [row.reshape(1, 9) for row in GOOD['rot']]},
    {'unknown': object, 'another': 'text'}))
@pytest.mark.parametrize('protocol', (0, 2, 5))
def test_every_spelling_of_a_file(tmp_path, change, protocol):
    change = {key: value for key, value in change.items() if value is not object}
    loaded = load(write(tmp_path / 'a.pkl', {**GOOD, **change}, protocol=protocol))
    assert loaded.keys() == GOOD.keys()
    for key, array in loaded.items():
        np.testing.assert_allclose(array, GOOD[key], rtol=1e-6)


def test_an_array_of_arrays(tmp_path):
    joints = np.empty(N, dtype=object)
    joints[:] = list(GOOD['joint_3d'])
    loaded = load(write(tmp_path / 'a.pkl', {**GOOD, 'joint_3d': joints}))
    np.testing.assert_array_equal(loaded['joint_3d'], GOOD['joint_3d'])


@pytest.mark.parametrize('focal', (1.15, np.float64(1.15), np.array(1.15), [1.15, 1.15], (1.15,)))
def test_one_focal_length_for_all(tmp_path, focal):
    loaded = load(write(tmp_path / 'a.pkl', {**GOOD, 'focal_len_1': focal}))
    np.testing.assert_allclose(loaded['focal_len_1'], np.full((N, 2), 1.15), rtol=1e-6)


def test_a_file_of_python_2(tmp_path):
    """Python 2 wrote strings without saying that they are bytes, and numpy 1 another module."""
    def text(value):
        return b'T' + struct.pack('<i', len(value)) + value

    joints = {b'joint_2d_1': GOOD['joint_2d_1'], b'joint_3d': GOOD['joint_3d']}
    file = b'\x80\x02}('
    for key, array in joints.items():
        shape = b'(' + b''.join(b'K' + bytes([size]) for size in array.shape) + b't'
        dtype = (b'cnumpy\ndtype\n(' + text(b'f4') + b'K\x00K\x01tR(K\x03' + text(b'<')
                 + b'NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb')
        file += (text(key) + b'cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t'
                 + text(b'b') + b'tR(K\x01' + shape + dtype + b'I00\n' + text(array.tobytes())
                 + b'tb')
    (tmp_path / 'a.pkl').write_bytes(file + b'u.')
    loaded = load(tmp_path / 'a.pkl')
    for key, array in joints.items():
        np.testing.assert_array_equal(loaded[key.decode()], array)


def changed(key, rows, value):
    array = GOOD[key].copy()
    array[rows] = value
    return {**GOOD, key: array}


@pytest.mark.parametrize('content, message', (
    ({}, 'key joint_2d_1 is missing: found none, expected joint_2d_1, joint_3d'),
    ({'joint_2d_1': GOOD['joint_2d_1'], 'x': 1}, 'key joint_3d is missing: found joint_2d_1, x'),
    ({**GOOD, 'joint_3d': GOOD['joint_2d_1']}, r'key joint_3d: found shape \(8, 15, 2\), expected '
                                               r'\(N, J, 3\) or \(N, 3J\)'),
    ({**GOOD, 'joint_2d_1': np.zeros((8, 31))}, r'key joint_2d_1: found shape \(8, 31\)'),
    ({**GOOD, 'joint_2d_1': 1.}, r'key joint_2d_1: found shape'),
    ({**GOOD, 'joint_3d': GOOD['joint_3d'][:5]}, 'key joint_3d: found 5 samples, expected 8'),
    ({**GOOD, 'joint_3d': GOOD['joint_3d'][:, :9]}, 'key joint_3d: found 9 joints, expected 15'),
    ({**GOOD, 'joint_3d': GOOD['joint_3d'][:0]}, r'key joint_3d: found shape \(0, 15, 3\), expec'),
    ({**GOOD, 'joint_2d_1': []}, 'key joint_2d_1: found shape .* at least one sample'),
    ({**GOOD, 'joint_3d': [[1, 2], [3]]}, 'key joint_3d: found a list that makes no array'),
    ({**GOOD, 'joint_3d': {'a': 1}}, 'key joint_3d: found a dict that makes no array'),
    ({**GOOD, 'joint_3d': 'text'}, 'key joint_3d: found a str that makes no array'),
    (changed('joint_3d', (5, 3, 1), np.nan), 'key joint_3d: .* 1 of 8 rows, first in row 5'),
    (changed('joint_2d_1', [2, 6], np.inf), 'key joint_2d_1: .* 2 of 8 rows, first in row 2'),
    ({**GOOD, 'joint_3d': GOOD['joint_3d'] * np.float64(1e300)}, 'key joint_3d: found NaN or inf'),
    (changed('rot', 4, 0), 'key rot: found no rotation in row 4, expected R R\\^T = 1'),
    (changed('rot', 4, np.diag([1, 1, -1]).ravel()), 'key rot: found no rotation in row 4'),
    ({**GOOD, 'rot': GOOD['rot'][:, :8]}, r'key rot: found shape \(8, 8\), expected \(N, 3, 3\)'),
    ({**GOOD, 'transl': GOOD['rot']}, r'key transl: found shape \(8, 9\), expected \(N, 3\)'),
    ({**GOOD, 'focal_len_1': np.ones((8, 3))}, r'key focal_len_1: found shape \(8, 3\)'),
    ({**GOOD, 'focal_len_1': np.ones((7, 2))}, 'key focal_len_1: found 7 samples, expected 8'),
    ([GOOD], 'found a list, expected a dictionary'),
    (GOOD['joint_3d'], 'found a ndarray, expected a dictionary')))
def test_what_is_wrong_is_named(tmp_path, content, message):
    path = write(tmp_path / 'a.pkl', content)
    with pytest.raises(ValueError, match=message) as error:
        load(path)
    assert str(error.value).startswith(f'{path}: ') and '\n' not in str(error.value)


@pytest.mark.parametrize('content', (b'', b'\x80', pickle.dumps(GOOD)[:-700], b'no pickle'))
def test_damaged_files(tmp_path, content):
    (tmp_path / 'a.pkl').write_bytes(content)
    with pytest.raises(ValueError, match='a.pkl: found no readable pickle'):
        load(tmp_path / 'a.pkl')


class Malicious:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize('function', (os.mkdir, eval, np.load, np.fromfile))
def test_nothing_of_a_malicious_file_runs(tmp_path, function):
    target = tmp_path / 'made'
    argument = f'__import__("os").mkdir({str(target)!r})' if function is eval else str(target)
    path = write(tmp_path / 'a.pkl', {**GOOD, 'x': Malicious(function, argument)})
    with pytest.raises(ValueError, match='neither a numpy array nor a plain type'):
        load(path)
    assert not target.exists()


ARRAY = (b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01%s'
         b'cnumpy\ndtype\nX\x02\x00\x00\x00%s\x89\x88\x87R\x89%stb')  # shape, dtype, data


def laughs(value, holder):
    """Lists or arrays that each hold the one before a hundred times: 100 ** 5 values."""
    for n in range(1, 5):
        value = holder.replace(b'?', value + b'q' + bytes([n]) + 99 * (b'h' + bytes([n])))
    return value


FLOODS = {
    'a memo of 8 GB': b'Nr\xff\xff\xff\x1f', 'bytes': b'\x8e' + struct.pack('<Q', 2 ** 40),
    'a bytearray': b'\x96' + struct.pack('<Q', 3 * 10 ** 9), 'a frame': b'\x95' + 8 * b'\x7f',
    'a shape': ARRAY % (b'\x8a\x06\0\0\0\0\0\x10\x85', b'f4', b'C\x04abcd'),
    'a shape of none': ARRAY % (b'\x8a\x05\0\0\0\0\x7fK\x00\x86', b'O8', b']'),
    'a list in itself, twice': b']q\x01(h\x01h\x01e',
    'lists of lists': laughs(b'](' + 100 * b'K\x01' + b'e', b'](?e'),
    'objects of objects': laughs(ARRAY % (b'K\x64\x85', b'O8', b'](' + 100 * b'K\x01' + b'e'),
                                 ARRAY % (b'K\x64\x85', b'O8', b'](?e')),
    'lists in lists': 600_000 * b']' + 600_000 * b'a',
    'tuples in tuples': b')' + 600_000 * b'\x85', 'marks in marks': 5_000_000 * b'(',
    'many lists': b'(' + 600_000 * b']' + b'l'}


@pytest.mark.parametrize('flood', FLOODS)
def test_small_files_take_little_memory(tmp_path, flood):
    """In a process of its own that has 300 MB more than numpy needs."""
    key = b'X\x0a\x00\x00\x00joint_2d_1'
    (tmp_path / 'a.pkl').write_bytes(b'\x80\x04}' + key + FLOODS[flood] + b's.')
    script = f'''
import resource, sys, time
sys.path.insert(0, {str(ROOT)!r})
import data
pages = int(open('/proc/self/statm').read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, 2 * (pages * resource.getpagesize() + 300_000_000,))
start = time.process_time()
try:
    data.load('a.pkl', ('joint_2d_1',))
except ValueError as error:
    print(error)
assert time.process_time() - start < 10
'''
    output = subprocess.run([sys.executable, '-c', script], cwd=tmp_path, capture_output=True,
                            text=True, env=os.environ | {'OPENBLAS_NUM_THREADS': '1'})
    assert output.returncode == 0, output.stderr
    assert output.stdout.startswith('a.pkl: ') and output.stdout.count('\n') == 1
    assert 'Memory' not in output.stdout


def test_a_key_that_is_a_deep_tuple_is_left_out(tmp_path):
    """Its hash would end the process: it is taken in C, a million calls deep."""
    good = pickle.dumps(GOOD, protocol=2)
    deep = b')' + 200_000 * b'\x85' + b'Ns'
    (tmp_path / 'a.pkl').write_bytes(good[:-1] + deep + b'.')
    assert load(tmp_path / 'a.pkl').keys() == GOOD.keys()


@pytest.mark.parametrize('value, message', (
    (GOOD['joint_3d'].astype(complex), 'an array of c16'), (np.zeros(3, 'f4, O'), 'array of V12'),
    (GOOD['joint_3d'].astype('M8[s]'), 'an array of M8'), (GOOD['joint_3d'].astype(str), 'of U'),
    ([[['1', '2', '3']]] * N, 'a list that makes no array'), ([[10 ** 400] * 3] * 6, 'a list that'),
    (np.array({}, dtype=object), 'a dict that makes no array'), (None, 'a NoneType that'),
    (b'123', 'a bytes that'), ({1, 2}, ''), (1j, 'a builtins.complex'),
    (eval('[' * 30 + '1.' + ']' * 30), 'values nested more than 20 deep')))
@pytest.mark.parametrize('protocol', (3, 5))
def test_only_numbers_are_numbers(tmp_path, value, message, protocol):
    path = write(tmp_path / 'a.pkl', {**GOOD, 'joint_3d': value}, protocol=protocol)
    with pytest.raises(ValueError, match=f'^{path}: key joint_3d: found .*{message}') as error:
        load(path)
    assert '\n' not in str(error.value)


def test_a_dtype_with_objects_is_refused(tmp_path):
    """Fields of objects would make pointers of the bytes of the file."""
    fields = (b'(K\x03X\x01\0\0\0|NX\x01\0\0\0a\x85}X\x01\0\0\0acnumpy\ndtype\nX\x02\0\0\0O8\x89'
              b'\x88\x87RK\x00\x86sK\x08K\x01K\x3ftb')
    for dtype in (b'V8', b'f8'):
        value = (ARRAY % (b'K\x05\x85', dtype, b'C\x28' + 40 * b'A')).replace(
            b'\x87R\x89C', b'\x87R' + fields + b'\x89C')
        (tmp_path / 'a.pkl').write_bytes(b'\x80\x04}X\x08\0\0\0joint_3d' + value + b's.')
        with pytest.raises(ValueError, match='key joint_3d: found an array of'):
            load(tmp_path / 'a.pkl')


@pytest.mark.parametrize('content', (
    b'(cnumpy\ndtype\nX\2\0\0\0f4o', b'(X\2\0\0\0f4inumpy\ndtype\n', b'cnumpy\ndtype\n)}\x92',
    b'\x82\1', b'Pid\n', b'NQ', b'\x97', b'N2', b'N0', b'# a text'))
def test_opcodes_that_no_file_needs_are_refused(tmp_path, content):
    (tmp_path / 'a.pkl').write_bytes(b'\x80\x05' + content + b'.')
    with pytest.raises(ValueError, match='readable pickle .an opcode that no file of arrays needs'):
        load(tmp_path / 'a.pkl')


def test_keys_of_any_text_make_one_line(tmp_path):
    many = {f'k{n}': n for n in range(999)}
    path = write(tmp_path / 'a.pkl', {'a\nb\x1b\u2028\ud800': 1, **many})
    with pytest.raises(ValueError) as error:
        load(path)
    assert str(error.value).isprintable() and len(str(error.value)) < 700


def test_what_nobody_needs_is_not_read(tmp_path):
    strange = {'set': {1, (2, 3)}, 'dates': np.zeros(3, 'M8[s]'), (1, 2): 3, 'complex': 1j}
    for protocol in range(6):
        loaded = load(write(tmp_path / 'a.pkl', {**GOOD, **strange}, protocol=protocol))
        assert loaded.keys() == GOOD.keys()


@pytest.mark.parametrize('seed', range(4))
def test_damaged_files_end_in_a_line_or_in_numbers(tmp_path, seed):
    """A hundred files of each seed with bytes changed, put in, doubled and left out."""
    rng = np.random.default_rng(seed)
    value = [GOOD, {key: list(array) for key, array in GOOD.items()}][seed % 2]
    whole, path = pickle.dumps(value, protocol=(0, 2, 4, 5)[seed]), tmp_path / 'a.pkl'
    for _ in range(100):
        content = bytearray(whole)
        for at in rng.integers(0, len(content), rng.integers(1, 6)):
            end = at + rng.integers(0, 9)
            new = (rng.bytes(1), bytes(rng.choice(list(b'(.0RbctsauehqrKMJX]})\x85\x93\x94'), 3)),
                   2 * content[at:end])[rng.integers(3)]
            content[at:end] = new
        path.write_bytes(content)
        try:
            for array in load(path).values():
                assert array.dtype == np.float32 and np.isfinite(array).all()
        except ValueError as error:
            assert str(error).startswith(f'{path}: ') and '\n' not in str(error)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / 'none.pkl', tmp_path):
        with pytest.raises(OSError, match=f'{path}: .*, expected a pickled dictionary'):
            load(path)


def test_a_save_that_fails_keeps_the_old_file(tmp_path):
    save(tmp_path / 'a.pkl', GOOD)
    with pytest.raises(Exception, match='pickle'):
        save(tmp_path / 'a.pkl', {'joint_3d': GOOD['joint_3d'], 'x': lambda: 0})
    assert load(tmp_path / 'a.pkl').keys() == GOOD.keys()
    assert [path.name for path in tmp_path.iterdir()] == ['a.pkl']


def test_two_may_write_to_one_file_at_once(tmp_path):
    script = 'import data; data.save("a.pkl", {"a": 1})'
    with atomic(tmp_path / 'a.pkl') as file:
        subprocess.run([sys.executable, '-c', script], cwd=tmp_path, check=True,
                       env=os.environ | {'PYTHONPATH': str(ROOT)})
        file.write(b'the last')
    assert (tmp_path / 'a.pkl').read_bytes() == b'the last'
    assert [path.name for path in tmp_path.iterdir()] == ['a.pkl']


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / 'link').symlink_to('a.pkl')
    save(tmp_path / 'link', GOOD)
    assert (tmp_path / 'link').is_symlink() and load(tmp_path / 'a.pkl').keys() == GOOD.keys()
    (tmp_path / 'loop').symlink_to('loop')
    save(tmp_path / 'loop', GOOD)  # a link to itself is no place to keep
    assert load(tmp_path / 'loop').keys() == GOOD.keys()


@pytest.mark.parametrize('n_samples', (3, 10, 25, 100, 1234))
def test_split_is_whole_blocks(n_samples):
    rows = np.arange(n_samples)
    train, val = (part['joint_2d_1'] for part in split_blocks({'joint_2d_1': rows}))
    assert sorted([*train, *val]) == list(rows) and len(train) >= 2 and len(val) >= 1
    if n_samples >= 100:
        assert len(val) == pytest.approx(.05 * n_samples, rel=.1)
        assert (np.diff(val) > 1).sum() == 4  # five blocks


def test_split_of_too_few():
    with pytest.raises(ValueError, match='found 2 samples, expected at least 3'):
        split_blocks({'joint_2d_1': np.zeros((2, 15, 2))})


# ---- the camera ---------------------------------------------------------------------------------

def test_both_views_by_a_slow_loop():
    for row in range(N):
        for joint in range(15):
            one = GOOD['joint_3d'][row, joint].astype(float)
            rot, transl = GOOD['rot'][row].reshape(3, 3), GOOD['transl'][row]
            two = [sum(rot[i, k] * one[k] for k in range(3)) + transl[i] for i in range(3)]
            for view, (x, y, z) in ((1, one), (2, two)):
                focal = GOOD[f'focal_len_{view}'][row]
                expected = focal[0] * x / -z, focal[1] * y / -z
                assert GOOD[f'joint_2d_{view}'][row, joint] == pytest.approx(expected, abs=1e-6)
    seen = project(second_view(GOOD['joint_3d'], GOOD['rot'], GOOD['transl']), GOOD['focal_len_2'])
    np.testing.assert_allclose(seen, GOOD['joint_2d_2'], atol=1e-6)


@pytest.mark.parametrize('sign', ((1, 1), (1, -1), (-1, 1), (-1, -1)))
def test_sign_and_focal_length_are_found(sign):
    focal = np.array((1.2, 1.4)) * sign
    joints = {**sample(200, seed=0), 'focal_len_1': np.full((200, 2), (1.2, 1.4))}
    joints['joint_2d_1'] = project(joints['joint_3d'], focal)
    joints['joint_2d_2'] = joints['joint_2d_2'] * sign
    fitted = fit_focal(joints['joint_3d'], joints['joint_2d_1'])
    np.testing.assert_allclose(fitted, focal, rtol=1e-4)
    np.testing.assert_array_equal(find_sign(joints), sign)
    np.testing.assert_allclose(find_focal(joints)[7], focal)
    del joints['joint_3d']
    np.testing.assert_array_equal(find_sign(joints), sign)  # from the rays alone


def test_rays_meet_in_both_views_and_nowhere_else():
    assert ray_gap(GOOD).max() < 1e-6
    one, two = np.array([.3, 0, 0]), np.array([0, .2, 0])  # rays along x and y, a distance 1 apart
    by_hand = {'joint_2d_1': one[None, None, :2] * 1e6, 'joint_2d_2': two[None, None, :2] * 1e6,
               'focal_len_1': np.ones((1, 2)), 'focal_len_2': np.ones((1, 2)),
               'rot': np.eye(3).reshape(1, 9), 'transl': np.array([[5., 7., 1.]])}
    assert ray_gap(by_hand).item() == pytest.approx(1, rel=1e-4)
    transposed = GOOD['rot'].reshape(-1, 3, 3).mT.reshape(-1, 9)
    assert np.median(ray_gap({**GOOD, 'rot': transposed})) > 1e-3


def test_signs_of_real_motion_capture(mocap):
    joints = load(mocap / 'data_test.pkl')
    np.testing.assert_array_equal(find_sign(joints), (1, 1))
    del joints['joint_3d']
    np.testing.assert_array_equal(find_sign(joints), (1, 1))


# ---- depth from two views -----------------------------------------------------------------------

VIEWS = sample(400, seed=4)
ROT = VIEWS['rot'].reshape(-1, 3, 3)
DOWN = np.diag([1, -1, -1])
TRANSPOSED, INVERSE = ROT.mT.reshape(-1, 9), -np.vecmat(VIEWS['transl'], ROT)


def noisy(joints, noise):
    rng = np.random.default_rng(0)
    return joints | {key: (joints[key] + rng.normal(0, noise, joints[key].shape)).astype('f')
                     for key in ('joint_2d_1', 'joint_2d_2')}


def test_exact_views_give_the_exact_pose():
    wide = ray_angle(VIEWS) > 2
    error = np.linalg.norm(triangulate(VIEWS) - VIEWS['joint_3d'], axis=-1)[wide]
    assert np.median(error) < 1e-7 and error.max() < 1e-4


def test_triangulation_is_the_least_squares_one():
    """Against numpy's solver: least squares of the distances to both lines, joint by joint."""
    joints = {key: array[ray_angle(VIEWS) > 10][:20] for key, array in noisy(VIEWS, .005).items()}
    found = triangulate(joints)
    for row in range(20):
        rot, transl = joints['rot'][row].reshape(3, 3).astype(float), joints['transl'][row]
        cameras = ((np.eye(3), np.zeros(3)), (rot, -rot.T @ transl))
        for joint in range(15):
            across, offsets = [], []
            for view, (turn, centre) in enumerate(cameras, start=1):
                plane = joints[f'joint_2d_{view}'][row, joint] / joints[f'focal_len_{view}'][row]
                line = turn.T @ [*plane, -1]
                across.append(np.eye(3) - np.outer(line, line) / (line @ line))
                offsets.append(across[-1] @ centre)
            expected = np.linalg.lstsq(np.concatenate(across), np.concatenate(offsets))[0]
            np.testing.assert_allclose(found[row, joint], expected, atol=1e-5)


def test_parallel_rays_are_finite_and_beside_the_root():
    alike = VIEWS | {'joint_2d_2': VIEWS['joint_2d_1'], 'focal_len_2': VIEWS['focal_len_1'],
                     'rot': np.tile(np.eye(3, dtype='f').ravel(), (400, 1)),
                     'transl': np.zeros((400, 3), dtype='f')}
    joint_3d = triangulate(alike)
    assert np.abs(joint_3d[..., 2] + 1).max() < .3
    np.testing.assert_allclose(project(joint_3d, alike['focal_len_1']), alike['joint_2d_1'],
                               atol=1e-5)
    with pytest.raises(ValueError, match='degrees to each other .* give no depth'):
        settle_views(alike)
    with pytest.raises(ValueError, match='give no depth'):
        settle_views(noisy(alike, .005))


def test_camera_2_is_turned_to_the_root():
    """By a fifth of a radian off it the same poses are seen, in the image that it would have."""
    turn = np.float32([[np.cos(.2), 0, np.sin(.2)], [0, 1, 0], [-np.sin(.2), 0, np.cos(.2)]])
    rot = (turn @ VIEWS['rot'].reshape(-1, 3, 3)).reshape(-1, 9)
    aside = VIEWS | {'rot': rot, 'transl': VIEWS['transl'] @ turn.T}
    aside['joint_2d_2'] = project(second_view(VIEWS['joint_3d'], rot, aside['transl']),
                                  VIEWS['focal_len_2'])
    faced = face_root(aside)
    root = second_view(np.tile(np.float32([0, 0, -1]), (400, 1, 1)), faced['rot'], faced['transl'])
    np.testing.assert_allclose(root[:, 0, :2], 0, atol=1e-6)
    np.testing.assert_allclose(root[:, 0, 2], -faced['distance'], rtol=1e-6)
    for joints in (faced, face_root(VIEWS)):  # whose cameras look at the root as they are
        seen = project(second_view(VIEWS['joint_3d'], joints['rot'], joints['transl']),
                       VIEWS['focal_len_1'])
        np.testing.assert_allclose(joints['joint_2d_2'], seen, atol=1e-5)
    np.testing.assert_allclose(face_root(VIEWS)['rot'], VIEWS['rot'], atol=1e-5)


def test_the_smallest_rotation_is_rodrigues_formula():
    rng = np.random.default_rng(0)
    start = rng.normal(size=(50, 3))
    start /= np.linalg.norm(start, axis=1, keepdims=True)
    end = np.array([0, .6, -.8])
    for one, rotation in zip(start, smallest_rotation(start, end)):
        axis, cosine = np.cross(one, end), one @ end
        k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
        np.testing.assert_allclose(rotation, np.eye(3) + k + k @ k / (1 + cosine), atol=1e-5)


def test_the_angle_between_views():
    degrees = np.array([0, 30, 90, 150, 180])  # the second camera turned about the root
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    zero, one = np.zeros(5), np.ones(5)
    rot = np.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], axis=-1)
    ahead, aside = np.zeros((5, 3, 2)), np.array([[0, 0], [0, 0], [.5, 0]]) * np.ones((5, 1, 1))
    views = {'joint_2d_1': ahead, 'joint_2d_2': aside, 'rot': rot,
             'transl': np.stack([sin, zero, cos - 1], axis=-1),
             'focal_len_1': np.ones((5, 2)), 'focal_len_2': np.ones((5, 2))}
    np.testing.assert_allclose(ray_angle(views), [0, 30, 90, 30, 0], atol=1e-5)
    np.testing.assert_allclose(triangulate(views)[1:4, 0], [[0, 0, -1]] * 3, atol=1e-6)


@pytest.mark.parametrize('noise', (0, .01))
@pytest.mark.parametrize('sign', ((1, 1), (1, -1), (-1, 1), (-1, -1)))
def test_views_of_each_sign_are_settled_without_3d(sign, noise):
    joints = noisy(VIEWS, noise)
    joints |= {key: joints[key] * np.float32(sign) for key in ('joint_2d_1', 'joint_2d_2')}
    joints['joint_3d'] = np.full_like(joints['joint_3d'], np.nan)  # never looked at
    settled, found = settle_views(joints)
    assert 'signs {:+} {:+}'.format(*sign) in found
    wide = ray_angle(VIEWS) > 20
    assert len(settled['rot']) > .97 * len(wide) and wide.mean() > .7
    if not noise:
        np.testing.assert_allclose(triangulate(_settled_rows(settled, wide)),
                                   VIEWS['joint_3d'][wide], atol=1e-5)


def _settled_rows(settled, wide):
    kept = ray_angle(VIEWS) > data.LEAST_ANGLE
    return {key: array[wide[kept]] for key, array in settled.items()}


def test_samples_without_depth_are_left_out_and_counted():
    joints = {key: array[ray_angle(VIEWS) > 5] for key, array in VIEWS.items()}
    n_samples = len(joints['rot'])
    joints['joint_2d_2'][7] = joints['joint_2d_1'][7]
    joints['rot'][7], joints['transl'][7] = np.eye(3).ravel(), 0
    settled, found = settle_views(joints)
    assert len(settled['triangulated']) == n_samples - 1
    assert '1 samples of nearly parallel rays left out' in found
    np.testing.assert_array_equal(settled['joint_3d'], np.delete(joints['joint_3d'], 7, axis=0))


def test_a_unit_of_transl_is_found():
    settled, found = settle_views(VIEWS | {'transl': VIEWS['transl'] * np.float32(4200)})
    assert 'transl divided by its unit, 42' in found or 'transl divided by its unit, 41' in found
    error = np.linalg.norm(settled['triangulated'] - settled['joint_3d'], axis=-1)
    assert np.median(error) < .01


@pytest.mark.parametrize('change, message', (
    ({'rot': TRANSPOSED}, 'with rot transposed they would meet'),
    ({'transl': -VIEWS['transl']}, 'behind the camera.*with transl of the other sign'),
    ({'rot': TRANSPOSED, 'transl': INVERSE}, 'with rot and transl from view 2 to view 1'),
    ({'transl': INVERSE}, 'with transl from view 2 to view 1'),
    ({'rot': (DOWN @ ROT @ DOWN).reshape(-1, 9), 'transl': VIEWS['transl'] @ DOWN,
      'joint_2d_1': VIEWS['joint_2d_1'] * [1, -1], 'joint_2d_2': VIEWS['joint_2d_2'] * [1, -1]},
     'behind the camera.*with both from the frame of OpenCV'),
    ({'rot': np.roll(VIEWS['rot'], 50, axis=0)}, r'within [\d.e+]+ times the spread.*= R V1 \+ t$'),
    ({'transl': VIEWS['transl'] * np.linspace(3, 6, 400)[:, None]}, 'from the camera .half of')))
def test_views_that_do_not_belong_together(change, message):
    with pytest.raises(ValueError, match=message):
        settle_views(VIEWS | change)


def test_views_of_real_motion_capture(mocap):
    settled, found = settle_views(load(mocap / 'data_test.pkl'))
    assert 'signs +1 +1' in found and 'left out' not in found
    assert np.abs(settled['triangulated'] - settled['joint_3d']).max() < 1e-4


# ---- the skeleton --------------------------------------------------------------------------------

PEOPLE = sample(3000, seed=7)['joint_3d']


def pairs(bones):
    return {frozenset(bone) for bone in bones}


def test_bones_are_found_in_any_order():
    order = np.random.default_rng(0).permutation(15)
    bones = find_bones(PEOPLE[:, order])
    new = {old: new for new, old in enumerate(order)} | {15: 15}
    assert pairs(bones) == pairs((new[a], new[b]) for a, b in BONES)
    reached = {15}
    for parent, child in bones:  # from the root outwards
        assert parent in reached and child not in reached
        reached.add(child)


def test_known_bones_are_taken_where_they_fit():
    assert find_bones(PEOPLE, known=BONES) == BONES
    assert find_bones(PEOPLE[:, ::-1], known=BONES) != BONES
    assert find_bones(PEOPLE[:, :9], known=BONES) != BONES


@pytest.mark.parametrize('name', ('data_train.pkl', 'data_test.pkl'))
def test_bones_of_real_motion_capture(mocap, name):
    joint_3d = load(mocap / name)['joint_3d']
    assert find_bones(joint_3d, known=BONES) == BONES
    assert len(pairs(find_bones(joint_3d)) - pairs(BONES)) <= 1


# ---- the embedded default -----------------------------------------------------------------------

POSES = sample(2000, seed=0)


def vector(joints, start, end):
    points = dict(zip((*JOINTS, 'Root'), np.moveaxis(np.concatenate(
        [joints, np.tile([0., 0., -1.], (len(joints), 1, 1))], axis=1), 1, 0)))
    return points[end] - points[start]


def bend(joints, a, b, c):
    """Angle in degrees between the bones a to b and b to c."""
    one, two = vector(joints, a, b), vector(joints, b, c)
    cosine = np.vecdot(one, two) / np.linalg.norm(one, axis=-1) / np.linalg.norm(two, axis=-1)
    return np.degrees(np.arccos(cosine.clip(-1, 1)))


def test_sample_is_reproducible_and_a_seed_is_other_people():
    again, other = sample(2000, seed=0), sample(2000, seed=1)
    assert all(np.array_equal(POSES[key], again[key]) for key in POSES)
    ratio = [np.linalg.norm(vector(joints['joint_3d'], 'RHip', 'RKnee'), axis=-1)
             / np.linalg.norm(vector(joints['joint_3d'], 'RKnee', 'RAnkle'), axis=-1)
             for joints in (POSES, other)]
    one, two = (np.unique(np.round(values, 4)) for values in ratio)
    assert len(one) > 80 and np.isin(one, two).mean() < .1


def test_bones_of_a_person_do_not_change():
    lengths = np.stack([np.linalg.norm(vector(POSES['joint_3d'], (*JOINTS, 'Root')[a],
                                              (*JOINTS, 'Root')[b]), axis=-1) for a, b in BONES], 1)
    shares = lengths / lengths.sum(axis=1, keepdims=True)
    shares = shares.reshape(-1, data.POSES_PER_PERSON, 15)
    assert np.ptp(shares, axis=1).max() < 1e-4
    assert shares.std(axis=(0, 1)).min() > 1e-3  # but people differ


def test_joints_stay_within_their_ranges():
    joints = POSES['joint_3d'].astype(float)
    for side, sign in (('L', 1), ('R', -1)):
        knee = bend(joints, f'{side}Hip', f'{side}Knee', f'{side}Ankle')
        elbow = bend(joints, f'{side}Shoulder', f'{side}Elbow', f'{side}Wrist')
        assert knee.max() <= 135.1 and elbow.max() <= 150.1
        # a knee bends backwards: the shank turns about the hips' own axis, from left to right
        axis = np.cross(vector(joints, f'{side}Knee', f'{side}Ankle'),
                        vector(joints, f'{side}Hip', f'{side}Knee'))
        right = vector(joints, 'LHip', 'RHip')
        bent = knee > 30
        assert (np.vecdot(axis, right)[bent] > 0).mean() > .99


def test_people_stand_upright_in_the_image_with_left_and_right():
    joints = POSES['joint_3d']
    assert (vector(joints, 'Root', 'Neck')[:, 1] > 0).mean() > .95
    up, left = vector(joints, 'Root', 'Neck'), vector(joints, 'RHip', 'LHip')
    ahead = np.cross(left, up)
    toes_ahead = np.vecdot(vector(joints, 'RHip', 'RKnee') + vector(joints, 'LHip', 'LKnee'), ahead)
    assert (toes_ahead > 0).mean() > .8  # thighs swing ahead more than back
    facing = ahead[:, 2] > 0
    assert .4 < facing.mean() < .6 and (left[facing & (np.abs(left[:, 2]) < .01), 0] > 0).all()


def test_cameras_are_3_and_a_half_to_6_metres_away():
    ratio = -second_view(np.tile([0, 0, -1.], (2000, 1, 1)), POSES['rot'], POSES['transl'])[:, 0, 2]
    assert 3.5 / 6 - 1e-6 <= ratio.min() < .65 and 1.5 < ratio.max() <= 6 / 3.5 + 1e-6
    assert all(np.isfinite(array).all() and array.dtype == np.float32 for array in POSES.values())


def test_a_detector_shows_the_same_people():
    shown = dict(zip(POINTS, np.moveaxis(POSES['joint_detected'], 1, 0)))
    for name in POINTS[3:]:
        np.testing.assert_array_equal(shown[name], POSES['joint_3d'][:, JOINTS.index(name)])
    ears = (shown['LEar'] + shown['REar']) / 2
    metre = np.linalg.norm(vector(POSES['joint_3d'], 'RHip', 'RKnee'), axis=-1) / .43
    wide = np.linalg.norm(shown['LEar'] - shown['REar'], axis=-1) / metre
    nose = np.linalg.norm(shown['Nose'] - ears, axis=-1) / metre
    assert .14 < wide.mean() < .16 and .09 < nose.mean() < .12
    body = np.cross(vector(POSES['joint_3d'], 'RShoulder', 'LShoulder'),
                    vector(POSES['joint_3d'], 'Root', 'Neck'))
    assert (np.vecdot(shown['Nose'] - ears, body) > 0).mean() > .98  # the nose is ahead
    assert (np.vecdot(shown['LEar'] - shown['REar'],
                      vector(POSES['joint_3d'], 'RShoulder', 'LShoulder')) > 0).mean() > .98


def test_joints_that_a_detector_does_not_show_are_put_where_they_are():
    joints = joints_of(POSES['joint_detected'])
    truth = np.pad(POSES['joint_3d'], ((0, 0), (0, 1), (0, 0)))
    truth[:, -1, 2] = -1
    off = np.linalg.norm(joints - truth, axis=-1)
    hidden = [JOINTS.index(name) for name in ('Spine', 'Neck', 'Head')] + [15]
    assert np.abs(np.delete(off, hidden, axis=1)).max() < 1e-6
    assert (off[:, hidden].mean(axis=0) < .0135).all()  # 6 cm at 4.5 m
    moved = joints_of(2 * POSES['joint_detected'] + np.float32(3))  # a pose anywhere, of any size
    np.testing.assert_allclose(moved, 2 * joints + 3, atol=1e-5)


def test_someone_walks_a_cycle_and_stands():
    steps, (stands,) = walking(40), walking(1, stride=0)
    assert np.linalg.norm(np.diff(steps[[*range(40), 0]], axis=0), axis=-1).max() < .12
    lengths = [np.linalg.norm(steps[:, a] - steps[:, b], axis=-1) for a, b in BONES if a < 15]
    assert np.ptp(lengths, axis=1).max() < 1e-6
    left, right = (steps[:, JOINTS.index(name), 2] for name in ('LAnkle', 'RAnkle'))
    assert (left > right).any() and (left < right).any()
    assert stands[JOINTS.index('Head'), 1] == stands[:, 1].max()
    np.testing.assert_allclose(stands[[0, 1, 2], 1], stands[[3, 4, 5], 1], atol=1e-9)
