import os
import pickle
import pickletools
import struct
from collections import OrderedDict

import numpy as np
import pytest

from common.files import numbers
from common.pickles import read_pickle

JOINTS = np.random.default_rng(0).normal(size=(4, 15, 3)).astype(np.float32)
OBJECTS = np.empty(4, dtype=object)
OBJECTS[:] = list(JOINTS)
SPELLINGS = {'array': JOINTS, 'list of arrays': list(JOINTS), 'lists': JOINTS.tolist(),
             'tuples': tuple(map(tuple, JOINTS)), 'array of arrays': OBJECTS,
             'other byte order': JOINTS.astype('>f8'), 'by columns': np.asfortranarray(JOINTS),
             'transposed': JOINTS.transpose(0, 2, 1), 'empty': JOINTS[:0], 'whole': np.arange(3),
             'number': np.float64(1.15), 'no dimension': np.array(2), 'nested': {'a': [JOINTS]}}


def read(tmp_path, content) -> dict:
    (tmp_path / 'a.pkl').write_bytes(content)
    return read_pickle(tmp_path / 'a.pkl')


def refused(tmp_path, content) -> str:
    with pytest.raises(ValueError) as error:
        read(tmp_path, content)
    message = str(error.value)
    assert message.startswith(f'{tmp_path / "a.pkl"}: found ') and message.isprintable()
    return message


# ---- accepted -----------------------------------------------------------------------------------

@pytest.mark.parametrize('numpy', (b'numpy.core.', b'numpy._core.'))
@pytest.mark.parametrize('protocol', range(6))
def test_every_spelling_of_an_array(tmp_path, protocol, numpy):
    content = pickle.dumps(OrderedDict(SPELLINGS), protocol)
    if protocol < 4:  # later ones write the length of a name
        content = content.replace(b'numpy._core.', numpy)
    found = read(tmp_path, content)
    assert found.keys() == SPELLINGS.keys()
    array, = found['nested'].pop('a')
    for item in (array, found['array'], *found['list of arrays'], *found['array of arrays']):
        assert type(item) is np.ndarray and item.flags.writeable and item.dtype == np.float32
    for key, value in (found | {'nested': array}).items():
        expected = JOINTS if key in ('nested', 'array of arrays') else SPELLINGS[key]
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize('protocol', range(6))
def test_other_values_do_not_hinder(tmp_path, protocol):
    text = np.asfortranarray([['é', '日本'], ['a', '']])
    strange = {'set': {1, (2, 3)}, 'complex': 1j, 'bytes': b'', 'text': text, 'None': None,
               'dates': np.zeros(3, 'M8[s]'), 'date': np.datetime64('2020-02-02'),
               'records': np.zeros(3, 'f4, i4'), 'of objects': np.zeros(3, 'f4, O')}
    found = read(tmp_path, pickle.dumps({'joint_3d': JOINTS, **strange, (1, 2): 3}, protocol))
    assert found.keys() == {'joint_3d', *strange}
    assert (found['set'], found['bytes'], found['None']) == ({1, (2, 3)}, b'', None)
    assert found['text'].tolist() == text.tolist()
    for key in ('text', 'dates', 'date', 'records', 'complex'):
        with pytest.raises(ValueError):
            numbers(key, found[key])


def test_a_file_of_python_2(tmp_path):
    """Python 2 wrote strings without saying that they are bytes."""
    def text(value):
        return b'T' + struct.pack('<i', len(value)) + value

    dtype = (b'cnumpy\ndtype\n(' + text(b'f4') + b'K\0K\1tR(K\3' + text(b'<')
             + b'NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb')
    found = read(tmp_path, b'\x80\2}(' + text(b'joint_3d') + b'cnumpy.core.multiarray\n_reconstruct'
                 b'\n(cnumpy\nndarray\n(K\0t' + text(b'b') + b'tR(K\1(K\4K\x0fK\3t' + dtype
                 + b'I00\n' + text(JOINTS.tobytes()) + b'tb' + text(b'focal_len_1')
                 + b'cnumpy.core.multiarray\nscalar\n(' + dtype + text(b'\0\0\x80?') + b'tRu.')
    np.testing.assert_array_equal(found['joint_3d'], JOINTS)
    assert found['focal_len_1'] == 1


# ---- refused ------------------------------------------------------------------------------------

@pytest.mark.parametrize('module, name', (
    ('os', 'mkdir'), ('builtins', 'eval'), ('builtins', 'getattr'), ('numpy', 'load'),
    ('numpy', 'fromfile'), ('numpy', 'ndarray.tofile')))
def test_nothing_of_a_malicious_file_runs(tmp_path, module, name):
    target = str(tmp_path / 'made')
    argument = f'__import__("os").mkdir({target!r})' if name == 'eval' else target
    for function in (f'c{module}\n{name}\n', f'V{module}\nV{name}\n\x93'):  # protocols 0 and 4
        assert name in refused(tmp_path, f'{function}(V{argument}\ntR.'.encode('latin1'))
        assert os.listdir(tmp_path) == ['a.pkl']


@pytest.mark.parametrize('name', (b'numpy\ndtype', b'numpy\nndarray', b'numpy\n_frombuffer',
                                  b'numpy\nscalar', b'_codecs\nencode', b'builtins\nset'))
def test_a_file_cannot_change_the_reader(tmp_path, name):
    attributes = b'N}(X\x0c\0\0\0__setstate__NX\x05\0\0\0valueNu\x86'
    refused(tmp_path, b'\x80\4}X\1\0\0\0ac' + name + b'\n' + attributes + b'bs.')
    found = read(tmp_path, pickle.dumps({'joint_3d': JOINTS}))
    np.testing.assert_array_equal(found['joint_3d'], JOINTS)


ARRAY = (b'\x80\4}X\1\0\0\0acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\1b\x87R'
         b'(K\1%scnumpy\ndtype\nX\2\0\0\0%s\x89\x88\x87R(K\3X\1\0\0\0<%sK\x08K\1K\x3ftb\x89%stbs.')


@pytest.mark.parametrize('shape, dtype, data', (
    (b'K\2\x85', b'O8', b'C\x10' + 16 * b'A'),     # pointers
    (b'K\2\x85', b'U1', b'C\x08' + 8 * b'\xff'),   # characters that do not exist
    (b'K\3\x85', b'f8', b'C\x10' + 16 * b'A'), (b'K\1\x85', b'f8', b'C\x10' + 16 * b'A'),
    (b'K\3\x85', b'O8', b'](K\1K\2e'), (b'K\2\x85', b'f3', b'C\6abcdef'),
    (b'\x8a\x09' + 8 * b'\0' + b'\1\x85', b'f8', b'C\0'),  # 2 ** 64
    (b'(' + 70 * b'K\1' + b't', b'f8', b'C\x08' + 8 * b'A')))
def test_crafted_arrays_are_refused(tmp_path, shape, dtype, data):
    refused(tmp_path, ARRAY % (shape, dtype, b'NNN', data))


@pytest.mark.parametrize('dtype', (b'V8', b'f8'))
def test_fields_of_objects_make_no_pointers(tmp_path, dtype):
    fields = (b'NX\1\0\0\0a\x85}X\1\0\0\0acnumpy\ndtype\nX\2\0\0\0O8\x89\x88\x87R(K\3X\1\0\0\0|NNN'
              b'K\x08K\1K\x3ftbK\0\x86s')
    found = read(tmp_path, ARRAY % (b'K\2\x85', dtype, fields, b'C\x10' + 16 * b'A'))
    assert found['a'].dtype == 'V8'


@pytest.mark.parametrize('content, kind', (([JOINTS], 'list'), (JOINTS, 'ndarray')))
def test_what_is_no_dictionary_is_named(tmp_path, content, kind):
    assert f'found a {kind}, ' in refused(tmp_path, pickle.dumps(content))


def memo_is_small(content) -> bool:
    """Tell if no LONG_BINPUT is run: a damaged one takes gigabytes."""
    try:
        return all(code.name != 'LONG_BINPUT' for code, *_ in pickletools.genops(content))
    except Exception:
        return True


@pytest.mark.parametrize('protocol', range(6))
def test_damaged_files_end_in_a_line_or_in_numbers(tmp_path, protocol):
    """Files cut, and with bytes changed, put in, doubled and left out."""
    rng, whole = np.random.default_rng(protocol), pickle.dumps(SPELLINGS, protocol)
    damaged = [b'', b'a, b\n1, 2\n', *(whole[:end] for end in rng.integers(1, len(whole), 20))]
    for _ in range(80):
        content = bytearray(whole)
        for at in rng.integers(0, len(content), rng.integers(1, 6)):
            end = at + rng.integers(0, 9)
            content[at:end] = (rng.bytes(1), bytes(rng.choice(list(b'(.0RbtsauehqKMJX]})\x85'), 3)),
                               2 * content[at:end])[rng.integers(3)]
        damaged.append(bytes(content))
    for content in filter(memo_is_small, damaged):
        try:
            for key, value in read(tmp_path, content).items():
                assert np.isfinite(numbers(key, value)).all()
        except ValueError as error:
            assert '\n' not in str(error)


@pytest.mark.parametrize('start, word', ((b'\x1f\x8b', 'gunzip'), (b'PK\x03\x04', 'zip'),
                                         (b'\x93NUMPY', 'np.save'), (b'<!DOCTYPE', 'web page'),
                                         (b'{"a": 1}', 'JSON'),
                                         (b'version https://git-lfs', 'git-lfs')))
def test_another_kind_of_file_is_named(tmp_path, start, word):
    (tmp_path / 'a.pkl').write_bytes(start + bytes(99))
    with pytest.raises(ValueError, match=f'a.pkl: found .*{word}'):
        read_pickle(tmp_path / 'a.pkl')


def test_missing_file_and_folder(tmp_path):
    for path, kind in ((tmp_path / 'none.pkl', FileNotFoundError), (tmp_path, IsADirectoryError)):
        with pytest.raises(kind) as error:
            read_pickle(path)
        assert str(error.value).startswith(f'{path}: ')
