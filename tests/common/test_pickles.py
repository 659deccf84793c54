"""Pickles: every spelling of an array is read, and nothing of a file runs."""
import pickle

import numpy as np
import pytest

from common.pickles import read_pickle

JOINTS = np.random.default_rng(0).normal(size=(4, 15, 3)).astype(np.float32)
OBJECTS = np.empty(4, dtype=object)
OBJECTS[:] = list(JOINTS)
SPELLINGS = {'array': JOINTS, 'list of arrays': list(JOINTS), 'lists': JOINTS.tolist(),
             'array of arrays': OBJECTS, 'other byte order': JOINTS.astype('>f8'),
             'transposed': JOINTS.transpose(0, 2, 1), 'number': np.float64(1.15),
             'text': np.array(['é', '日本'])}


def read(tmp_path, content) -> dict:
    (tmp_path / 'a.pkl').write_bytes(content)
    return read_pickle(tmp_path / 'a.pkl')


@pytest.mark.parametrize('protocol', range(6))
def test_every_spelling_of_an_array(tmp_path, protocol):
    """Of numpy 1 and 2, beside values that are no arrays."""
    others = {'dates': np.zeros(3, 'M8[s]'), 'records': np.zeros(3, 'f4, O'), 'set': {1}, (1, 2): 3}
    content = pickle.dumps(SPELLINGS | others, protocol)
    numpy_1 = content.replace(b'numpy._core.', b'numpy.core.')
    for content in (content, numpy_1) if protocol < 4 else (content,):  # then names have lengths
        found = read(tmp_path, content)
        assert found.keys() == {*SPELLINGS, 'dates', 'records', 'set'}
        for key, value in SPELLINGS.items():
            expected = JOINTS if key == 'array of arrays' else value
            np.testing.assert_array_equal(found[key], expected)
        assert type(found['array']) is np.ndarray and found['array'].flags.writeable


def test_a_file_of_python_2(tmp_path):
    """Python 2 wrote bytes as text of one byte a character."""
    content = (b"(dS'joint_3d'\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\n"
               b"tS'b'\ntR(I1\n(I2\ntcnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNN"
               b"I-1\nI-1\nI0\ntbI00\nS'\\x00\\x00\\x80?\\x00\\x00\\x00\\xc0'\ntbs.")
    assert read(tmp_path, content)['joint_3d'].tolist() == [1, -2]


@pytest.mark.parametrize('name', ('os mkdir', 'builtins eval', 'numpy load', 'numpy fromfile'))
def test_nothing_of_a_malicious_file_runs(tmp_path, name):
    target = str(tmp_path / 'made')
    argument = f'__import__("os").mkdir({target!r})' if 'eval' in name else target
    module, function = name.split()
    for call in (f'c{module}\n{function}\n', f'V{module}\nV{function}\n\x93'):  # protocols 0 and 4
        with pytest.raises(ValueError, match=f'a.pkl: found .*{function}'):
            read(tmp_path, f'{call}(V{argument}\ntR.'.encode('latin1'))
        assert [path.name for path in tmp_path.iterdir()] == ['a.pkl']


@pytest.mark.parametrize('content, words', (
    (pickle.dumps([JOINTS]), 'a list'), (pickle.dumps(SPELLINGS)[:-99], 'no readable pickle'),
    (pickle.dumps(np.ones(2), 2).replace(b'f8', b'O8'), 'no readable pickle'),  # pointers
    (b'', 'no readable pickle'), (b'\x1f\x8b', 'gunzip'), (b'PK\x03\x04', 'zip'),
    (b'\x93NUMPY', 'np.save'), (b'{"a": 1}', 'JSON'), (b'version https://git-lfs', 'git-lfs')))
def test_another_kind_of_file_is_named(tmp_path, content, words):
    with pytest.raises(ValueError, match=f'a.pkl: found .*{words}') as error:
        read(tmp_path, content)
    assert str(error.value).isprintable()
    with pytest.raises(OSError, match=f'^{tmp_path}: '):  # a folder
        read_pickle(tmp_path)
