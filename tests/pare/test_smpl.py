import os

import numpy as np
import pytest

from made import ARRAYS, Select, csc_matrix, grown, refused, smpl_parts, smpl_pickle
from pare.body import FACE, Skeleton
from pare.smpl import SHAPES, files_of, load_bodies, load_body
from pare.spin import FEET


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


def test_vertices_of_the_face_belong_to_a_body_of_smpl(tmp_path):
    np.savez(tmp_path / 'large.npz', **{key: grown()[key] for key in SHAPES})
    found = load_body(tmp_path / 'large.npz')
    assert found['face'].tolist() == list(FACE.values())
    assert found['feet'].tolist() == list(FEET.values())
    assert 'face' not in load_body(smpl_pickle(tmp_path / 'small.pkl'))
    assert Skeleton(load_body(tmp_path / 'small.pkl')).known.sum() == 10


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
    with refused(r'J_regressor_extra.npy: found shape \(9, 1727\)'):
        load_body(path)
    extra.rename(tmp_path / extra.name)
    assert 'J_regressor_extra' not in load_body(path)  # too far above


def test_regressors_of_the_neutral_body_serve_all(tmp_path):
    for name, keys in (('NEUTRAL', {'J_regressor_extra'}), ('MALE', {'J_regressor_h36m'}),
                       ('FEMALE', set())):
        np.savez(tmp_path / f'SMPL_{name}.npz', **{key: array for key, array in ARRAYS.items()
                                                   if key in keys | set(SHAPES)})
    for body in load_bodies(tmp_path).values():
        np.testing.assert_array_equal(body['J_regressor_extra'], ARRAYS['J_regressor_extra'])
        assert 'J_regressor_h36m' not in body


@pytest.mark.parametrize('name, n_vertices, n_joints', (
    ('SMPL-X', 10475, 55), ('SMPL-H', 6890, 52), ('MANO', 778, 16), ('FLAME', 5023, 5)))
def test_other_models_are_named(tmp_path, name, n_vertices, n_joints):
    np.savez(tmp_path / 'a.npz', v_template=np.zeros((n_vertices, 3)),
             shapedirs=np.zeros((n_vertices, 3, 10)), kintree_table=np.zeros((2, n_joints), int))
    with refused(f'a.npz: found a model of {name}, expected SMPL'):
        load_body(tmp_path / 'a.npz')


class Evil:
    def __reduce__(self):
        return os.system, ('touch evil',)


def sparse(**changes):
    return {'J_regressor': csc_matrix(**vars(smpl_parts()['J_regressor']) | changes)}


@pytest.mark.parametrize('changes, message', (
    ({'v_template': Evil()}, 'system is neither a numpy array nor a plain type'),
    ({'v_template': None}, 'key v_template is missing'),
    ({'v_template': np.zeros((5, 2))}, r'key v_template: found shape \(5, 2\), expected \(any, 3'),
    ({'weights': np.zeros((5, 24))}, r'key weights: found shape \(5, 24\), expected \(1728, 24'),
    ({'posedirs': np.full((1728, 3, 207), np.nan)}, 'key posedirs: found NaN or infinity in 1728'),
    ({'f': np.zeros((5, 3))}, 'key f: found float64'),
    ({'f': np.full((5, 3), 1728)}, 'key f: found vertices 1728 to 1728, expected 0 to 1727'),
    ({'kintree_table': np.zeros((2, 24), int)}, 'found 12 shapes and another skeleton'),
    ({'v_template': Select(a=1)}, 'key v_template: found'),
    (sparse(indptr=np.array([0, 4])), 'key J_regressor: found'),
    (sparse(indices=np.full(240, 99)), 'key J_regressor: found')))
def test_wrong_bodies_are_named_and_run_nothing(tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    with refused(f'^a.pkl: .*{message}'):
        load_body(smpl_pickle(tmp_path / 'a.pkl', **changes).relative_to(tmp_path))
    assert not (tmp_path / 'evil').exists()
