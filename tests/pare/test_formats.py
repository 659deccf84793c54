"""Formats of the field: arrays, weights of other programs, SMPL models."""
import argparse
import os

import numpy as np
import pytest
import torch

from made import ARRAYS, Select, csc_matrix, refused, smpl_parts, smpl_pickle
from pare.body import Skeleton
from pare.formats import read_npy, read_npz, read_pickle, read_weights
from pare.smpl import SHAPES, files_of, load_body


class Evil:
    def __reduce__(self):
        return os.system, ('touch evil',)


# ---- arrays -------------------------------------------------------------------------------------

@pytest.mark.parametrize('content, word', (
    (b'', ''), (b'\x93NUMPY\x01\x00\xff\xff{', ''), (b'PK\x03\x04', ''),
    (b'version https://git-lfs.github.com/spec/v1\noid sha256:1\n', 'git-lfs'),
    (b'\n<!DOCTYPE html><html>', 'web page')))
def test_what_came_in_place_of_a_file_is_named(tmp_path, content, word):
    path = tmp_path / 'a.npz'
    path.write_bytes(content)
    for read in (lambda path: read_npz(path, ('a',)), read_npy, read_weights, read_pickle):
        with refused(f'{path}: found {word}'):
            read(path)


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
     'dino_loss': {'center': torch.zeros(1, 7)}}))
def test_weights_of_a_backbone_are_found_in_checkpoints(tmp_path, saved):
    torch.save(saved, tmp_path / 'a.pth')
    found = read_weights(tmp_path / 'a.pth')
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize('saved', (
    {'layers.weight': torch.ones(1)}, [1, 2], {'state_dict': {'conv1.weight': 'text'}},
    {'a': Evil()}))
def test_what_holds_no_weights_is_named(tmp_path, monkeypatch, saved):
    monkeypatch.chdir(tmp_path)
    torch.save(saved, 'a.pth')
    with refused('a.pth: expected'):
        read_weights('a.pth')
    assert not os.path.exists('evil')


# ---- SMPL models --------------------------------------------------------------------------------

@pytest.mark.parametrize('protocol', (0, 2, 4))
def test_smpl_files_are_read_without_their_packages(tmp_path, protocol):
    found = load_body(smpl_pickle(tmp_path / 'SMPL_NEUTRAL.pkl', protocol))
    for key in SHAPES:
        np.testing.assert_allclose(found[key], ARRAYS[key])
        assert found[key].dtype == ARRAYS[key].dtype
    assert Skeleton(found).known.sum() == 10  # the vertices of the face are those of SMPL
    np.savez(tmp_path / 'smpl.npz', **found)
    again = load_body(tmp_path / 'smpl.npz')
    assert again.keys() == found.keys()
    assert all(np.array_equal(again[key], found[key]) for key in found)


def test_regressors_beside_or_above_a_model_are_found_and_turned_to_its_left(tmp_path):
    (tmp_path / 'data/models/smpl').mkdir(parents=True)
    path, extra = tmp_path / 'data/models/smpl/a.pkl', tmp_path / 'data/J_regressor_extra.npy'
    swapped = ARRAYS['J_regressor_h36m'][[0, 4, 5, 6, 1, 2, 3, *range(7, 17)]]
    np.save(path.with_name('J_regressor_h36m_correct.npy'), swapped.astype(float))
    np.save(extra, ARRAYS['J_regressor_extra'])
    found = load_body(smpl_pickle(path))
    for key in ('J_regressor_h36m', 'J_regressor_extra'):
        np.testing.assert_array_equal(found[key], ARRAYS[key])
    assert {path, extra} <= set(files_of(path).values())
    np.save(extra, ARRAYS['J_regressor_extra'][:, 1:])
    with refused('J_regressor_extra.npy: (9, 1727)'):
        load_body(path)


def other(n_vertices: int, n_joints: int = 24) -> dict:
    return {'v_template': np.zeros((n_vertices, 3)), 'shapedirs': np.zeros((n_vertices, 3, 10)),
            'kintree_table': np.zeros((2, n_joints), int)}


def sparse(**changes) -> dict:
    return {'J_regressor': csc_matrix(**vars(smpl_parts()['J_regressor']) | changes)}


@pytest.mark.parametrize('changes, words', (
    ({'v_template': Evil()}, 'system plain type'),
    ({'v_template': None}, 'key v_template missing'),
    ({'v_template': np.zeros((5, 2))}, 'key v_template: (5, 2) (any, 3)'),
    ({'v_template': Select(a=1)}, 'key v_template:'),
    ({'weights': np.zeros((5, 24))}, 'key weights: (5, 24) (1728, 24)'),
    ({'posedirs': np.full((1728, 3, 207), np.nan)}, 'key posedirs: NaN 1728'),
    ({'f': np.zeros((5, 3))}, 'key f: float64'),
    ({'f': np.full((5, 3), 1728)}, 'key f: 1728 1727'),
    ({'kintree_table': np.zeros((2, 24), int)}, '12 betas'),
    (sparse(indptr=np.array([0, 4])), 'key J_regressor:'),
    (sparse(indices=np.full(240, 99)), 'key J_regressor:'),
    (other(10475, 55), 'SMPL-X'), (other(6890, 52), 'SMPL-H'), (other(778), 'MANO')))
def test_wrong_bodies_are_named_and_run_nothing(tmp_path, monkeypatch, changes, words):
    monkeypatch.chdir(tmp_path)
    with refused(f'a.pkl: {words}'):
        load_body(smpl_pickle(tmp_path / 'a.pkl', **changes).relative_to(tmp_path))
    assert not (tmp_path / 'evil').exists()
