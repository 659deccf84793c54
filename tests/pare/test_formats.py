import argparse

import numpy as np
import pytest
import torch

from made import refused
from pare import formats
from pare.formats import read_weights

# ---- arrays -------------------------------------------------------------------------------------

def test_arrays_are_read_by_their_keys_and_others_are_left(tmp_path):
    objects = np.array([{}, 1], dtype=object)
    np.savez(tmp_path / 'a.npz', objects=objects, a=[[1, 2], [3, 4.]], b=['é', 'b'])
    found = formats.read_npz(tmp_path / 'a.npz', ('a', 'b', 'c'))
    assert sorted(found) == ['a', 'b'] and found['a'].tolist() == [[1, 2], [3, 4]]
    assert found['b'].tolist() == ['é', 'b'] and found['a'].flags.writeable
    with refused('a.npz: key objects: found'):
        formats.read_npz(tmp_path / 'a.npz', ('objects',))


def test_what_is_no_array_is_named(tmp_path):
    path = tmp_path / 'a.npz'
    np.savez(path, a=np.arange(1000))
    np.save(tmp_path / 'one.npy', np.ones(3))
    for content in (b'', path.read_bytes()[:700], (tmp_path / 'one.npy').read_bytes()):
        path.write_bytes(content)
        with refused('a.npz: found'):
            formats.read_npz(path, ('a',))
    path.write_bytes(b'\x93NUMPY\x01\x00\xff\xff{')
    with refused('a.npz: found'):
        formats.read_npy(path)


@pytest.mark.parametrize('content, message', (
    (b'version https://git-lfs.github.com/spec/v1\noid sha256:1\n', 'a pointer of git-lfs'),
    (b'\n<!DOCTYPE html><html>', 'a web page')))
def test_what_came_in_place_of_a_file_is_named(tmp_path, content, message):
    path = tmp_path / 'a.npz'
    path.write_bytes(content)
    for read in (lambda: formats.read_npz(path, ('a',)), lambda: formats.read_npy(path),
                 lambda: formats.read_weights(path), lambda: formats.read_pickle(path)):
        with refused(f'a.npz: found {message}'):
            read()


# ---- weights ------------------------------------------------------------------------------------

STATE = {'conv1.weight': torch.randn(4, 3, 7, 7), 'bn1.weight': torch.ones(4),
         'layer1.0.conv1.weight': torch.randn(4, 4, 1, 1), 'fc.weight': torch.randn(5, 4)}
STUDENT = {name: value + 1 for name, value in STATE.items()}
OTHER = {'head.conv1.weight_g': torch.ones(1), 'head.mlp.0.weight': torch.ones(2, 2)}


def before(prefix, state=STATE):
    return {f'{prefix}{name}': value for name, value in state.items()}


@pytest.mark.parametrize('saved', (
    STATE, before('module.'), {'state_dict': before('backbone.') | OTHER},
    {'model': STATE | {'fc1.weight': torch.zeros(3, 3), 'deccam.bias': torch.ones(3)}},
    {'student': before('module.backbone.', STUDENT) | OTHER,
     'teacher': before('backbone.') | OTHER, 'optimizer': {'state': {0: {'step': 3}}},
     'epoch': 100, 'args': argparse.Namespace(arch='resnet50', lr=.03),
     'dino_loss': {'center': torch.zeros(1, 7)}},
    {'state_dict': before('model.encoder.')}))
def test_weights_of_a_backbone_are_found_in_checkpoints(tmp_path, saved):
    torch.save(saved, tmp_path / 'a.pth')
    found = read_weights(tmp_path / 'a.pth')
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


class Evil:
    def __reduce__(self):
        return exec, ('raise SystemExit',)


@pytest.mark.parametrize('saved, message', (
    ({'layers.weight': torch.ones(1)}, 'found no weights of a ResNet, expected names'),
    ([1, 2], 'found no weights of a ResNet'),
    ({'state_dict': {'conv1.weight': 'text'}}, 'found no weights of a ResNet'),
    ({'a': Evil()}, 'found no'), (None, 'found no')))
def test_what_holds_no_weights_is_named(tmp_path, saved, message):
    torch.save(saved, tmp_path / 'a.pth')
    if saved is None:
        (tmp_path / 'a.pth').write_bytes(b'nothing')
    with refused(f'a.pth: {message}'):
        read_weights(tmp_path / 'a.pth')
