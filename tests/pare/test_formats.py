import argparse
import struct
import zipfile

import numpy as np
import pytest
import torch

from pare import formats
from pare.formats import read_weights


def one_line(error) -> bool:
    text = str(error.value)
    return '\n' not in text and len(text) < 700


# ---- arrays -------------------------------------------------------------------------------------

def npz_of(path, header: bytes, content: bytes):
    """An .npz with one array `a` of this header."""
    head = b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header)) + header
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('a.npy', head + content)
    return path


@pytest.mark.parametrize('dtype, shape, content', (
    ('<f8', '(2,)', b'8 bytes.'), ('|O', '(1,)', b'8 bytes.'), ('<f8', '(-1,)', b''),
    ('<f8', '("a",)', b'')))
def test_wrong_arrays_are_named(tmp_path, dtype, shape, content):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    path = npz_of(tmp_path / 'a.npz', header, content)
    with pytest.raises(ValueError, match='a.npz: key a: found') as error:
        formats.read_npz(path, ('a',))
    assert one_line(error)


def test_what_is_no_npz_is_named(tmp_path):
    np.savez(tmp_path / 'whole.npz', a=np.arange(1000))
    np.save(tmp_path / 'one.npy', np.ones(3))
    whole = (tmp_path / 'whole.npz').read_bytes()
    for content in (b'', b'nothing', whole[:len(whole) // 2], (tmp_path / 'one.npy').read_bytes()):
        (tmp_path / 'a.npz').write_bytes(content)
        with pytest.raises(ValueError, match='a.npz: found') as error:
            formats.read_npz(tmp_path / 'a.npz', ('a',))
        assert one_line(error)


@pytest.mark.parametrize('content, message', (
    (b'version https://git-lfs.github.com/spec/v1\noid sha256:1\n', 'a pointer of git-lfs'),
    (b'\n<!DOCTYPE html><html>', 'a web page')))
def test_what_came_in_place_of_a_file_is_named(tmp_path, content, message):
    path = tmp_path / 'a.npz'
    path.write_bytes(content)
    for read in (lambda: formats.read_npz(path, ('a',)), lambda: formats.read_npy(path),
                 lambda: formats.read_weights(path), lambda: formats.read_pickle(path)):
        with pytest.raises(ValueError, match=f'a.npz: found {message}') as error:
            read()
        assert one_line(error)


def test_keys_that_nobody_needs_are_not_read(tmp_path):
    objects = np.array([{}, 1], dtype=object)
    a = np.asfortranarray([[1, 2], [3, 4.]])
    np.savez(tmp_path / 'a.npz', objects=objects, a=a, b=['é', 'b'])
    found = formats.read_npz(tmp_path / 'a.npz', ('a', 'b', 'c'))
    assert sorted(found) == ['a', 'b'] and found['a'].tolist() == [[1, 2], [3, 4]]
    assert found['b'].tolist() == ['é', 'b'] and found['a'].flags.writeable


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    formats.write_npz(tmp_path / 'a.npz', {'a': np.ones(3)})

    class Broken:
        def __array__(self, *_, **__):
            raise OSError(28, 'disk full')
    with pytest.raises(OSError, match='disk full'):
        formats.write_npz(tmp_path / 'a.npz', {'a': Broken()})
    assert [path.name for path in tmp_path.iterdir()] == ['a.npz']
    assert formats.read_npz(tmp_path / 'a.npz', ['a'])['a'].tolist() == [1, 1, 1]


def test_numbers_are_checked():
    found = formats.checked('a: key b', [[1, 2], [3, 4]], (None, 2))
    assert found.dtype == np.float32 and found.tolist() == [[1, 2], [3, 4]]
    assert formats.checked('a', np.zeros((0, 2)), (None, 2)).shape == (0, 2)
    for value, message in (([[1], [2, 3]], 'found no array'), ([10 ** 400], 'found object'),
                           ([1j], 'found complex128'), ([None], 'found object'),
                           ([[1], [np.inf]], r'found shape \(2, 1\), expected \(any, 2\)'),
                           ([[1, 2], [1, np.inf]], 'found NaN or infinity in 1 of 2 rows.* row 1')):
        with pytest.raises(ValueError, match=f'a: key b: {message}'):
            formats.checked('a: key b', value, (None, 2) if 'rows' in message or 'shape' in message
                            else (None,))


# ---- weights ------------------------------------------------------------------------------------

STATE = {'conv1.weight': torch.randn(4, 3, 7, 7), 'bn1.weight': torch.ones(4),
         'layer1.0.conv1.weight': torch.randn(4, 4, 1, 1), 'fc.weight': torch.randn(5, 4)}


def before(prefix, state=STATE):
    return {f'{prefix}{name}': value for name, value in state.items()}


OTHER = {'head.conv1.weight_g': torch.ones(1), 'head.mlp.0.weight': torch.ones(2, 2)}


@pytest.mark.parametrize('saved', (
    STATE, before('module.'), {'state_dict': before('backbone.') | OTHER},
    {'model': STATE | {'fc1.weight': torch.zeros(3, 3), 'deccam.bias': torch.ones(3)}},
    {'student': before('module.backbone.') | OTHER, 'teacher': before('backbone.') | OTHER,
     'optimizer': {'state': {0: {'step': 3}}, 'param_groups': [{'lr': .1, 'params': [0]}]},
     'epoch': 100, 'args': argparse.Namespace(arch='resnet50', lr=.03, local_crops_scale=(.05, .4)),
     'dino_loss': {'center': torch.zeros(1, 7)}},
    {'state_dict': before('model.encoder.')}))
def test_weights_of_a_backbone_are_found_in_checkpoints(tmp_path, saved):
    torch.save(saved, tmp_path / 'a.pth')
    found = read_weights(tmp_path / 'a.pth')
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


def test_the_teacher_is_taken(tmp_path):
    torch.save({'student': STATE, 'teacher': before('backbone.', {
        name: value + 1 for name, value in STATE.items()})}, tmp_path / 'a.pth')
    assert torch.equal(read_weights(tmp_path / 'a.pth')['bn1.weight'], 2 * torch.ones(4))


class Evil:
    def __reduce__(self):
        return exec, ('raise SystemExit',)


@pytest.mark.parametrize('saved, message', (
    ({'layers.weight': torch.ones(1)}, 'found no weights of a ResNet, expected names'),
    ([1, 2], 'found no weights of a ResNet'),
    ({'state_dict': {'conv1.weight': 'text'}}, 'found no weights of a ResNet'),
    ({'a': Evil()}, 'found no'), (b'nothing', 'found no'), (b'', 'found no')))
def test_what_holds_no_weights_is_named(tmp_path, saved, message):
    if isinstance(saved, bytes):
        (tmp_path / 'a.pth').write_bytes(saved)
    else:
        torch.save(saved, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=f'a.pth: {message}') as error:
        read_weights(tmp_path / 'a.pth')
    assert one_line(error)
    with pytest.raises(FileNotFoundError, match='none.pth: No such file'):
        read_weights(tmp_path / 'none.pth')
