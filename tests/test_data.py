"""The dictionary of the lab, its split, and the camera of a file."""
import pickle
import re

import numpy as np
import pytest

from common.files import save_pickle
from common.people import sample
from common.views import prepare_views
from data import LAB_FILES, find_camera, load, make_people, split_blocks

N = 8
GOOD = sample(N, seed=3) | {'focal_len_1': np.full((N, 2), 1.15, np.float32)}
PEOPLE = sample(200, seed=5)


@pytest.mark.parametrize('change', (
    {}, {'joint_2d_1': GOOD['joint_2d_1'].reshape(N, 30), 'joint_3d': GOOD['joint_3d'].tolist()},
    {'joint_2d_1': np.asfortranarray(GOOD['joint_2d_1']), 'rot': GOOD['rot'].reshape(N, 3, 3)},
    {'joint_3d': list(GOOD['joint_3d'].astype(float)), 'transl': GOOD['transl'][:, None]},
    {'focal_len_1': 1.15}, {'focal_len_1': [1.15, 1.15]},
    {'another': 'text', 'dates': np.zeros(3, 'M8[s]'), (1, 2): 3}))
def test_every_spelling_of_a_file(tmp_path, change):
    save_pickle(tmp_path / 'a.pkl', {**GOOD, **change})
    loaded = load(tmp_path / 'a.pkl')
    assert loaded.keys() == GOOD.keys()
    for key, array in loaded.items():
        assert array.dtype == np.float32 and array.flags['C_CONTIGUOUS']
        np.testing.assert_allclose(array, GOOD[key], rtol=1e-6)


def changed(key, rows, value):
    array = GOOD[key].copy()
    array[rows] = value
    return {**GOOD, key: array}


@pytest.mark.parametrize('content, words', (
    ({'joint_2d_1': GOOD['joint_2d_1'], 'x': 1}, 'key joint_3d is missing: found joint_2d_1, x'),
    ({**GOOD, 'joint_3d': GOOD['joint_2d_1']}, 'key joint_3d: found shape (8, 15, 2)'),
    ({**GOOD, 'joint_2d_1': np.zeros((8, 31))}, 'key joint_2d_1: found shape (8, 31)'),
    ({**GOOD, 'joint_2d_1': 0 * GOOD['joint_2d_1']}, 'key joint_2d_1: found all points in one'),
    ({**GOOD, 'joint_3d': GOOD['joint_3d'][:5]}, 'key joint_3d: found 5 samples, expected 8'),
    ({**GOOD, 'joint_3d': GOOD['joint_3d'][:, :9]}, 'key joint_3d: found 9 joints, expected 15'),
    (changed('joint_2d_1', [2, 6], np.inf), 'key joint_2d_1: found NaN or infinity in 2 of 8 rows'),
    (changed('rot', 4, np.diag([1, 1, -1]).ravel()), 'key rot: found no rotation in row 4'),
    ({**GOOD, 'rot': GOOD['rot'][:, :8]}, 'key rot: found shape (8, 8)'),
    ({**GOOD, 'focal_len_1': np.ones((8, 3))}, 'key focal_len_1: found shape (8, 3)'),
    (changed('focal_len_1', 6, 0), 'key focal_len_1: found 0 in 1 of 8 rows, first in row 6'),
    ([GOOD], 'found a list')))
def test_wrong_content_is_named_with_file_and_key(tmp_path, content, words):
    path = tmp_path / 'a.pkl'
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError) as error:
        load(path)
    assert str(error.value).startswith(f'{path}: ') and words in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', LAB_FILES)
def test_synthetic_people_are_never_written_beside_a_users_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("the user's")
    make_people()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize('n_samples, n_val, n_gaps', ((3, 1, 0), (100, 5, 4), (1234, 62, 4)))
def test_the_split_is_five_whole_blocks(n_samples, n_val, n_gaps):
    rows = np.arange(n_samples)
    train, val = (part['joint_2d_1'] for part in split_blocks({'joint_2d_1': rows}))
    assert sorted([*train, *val]) == list(rows)
    assert len(val) == n_val and (np.diff(val) > 1).sum() == n_gaps


@pytest.mark.parametrize('key', ('joint_2d_1', 'joint_3d', 'transl'))
def test_a_wrong_sample_is_dropped_and_its_row_is_named(key):
    """The samples are of two views if the key is transl, else without focal lengths."""
    wrong = {key: array.copy() for key, array in PEOPLE.items()}
    wrong[key][7] *= 1e9
    if key == 'transl':
        wrong, _ = prepare_views(wrong)
    else:
        del wrong['focal_len_1']
    joints, summary = find_camera(wrong)
    assert re.search(r'\b1 samples? .*rows? 7\b', summary)
    assert len(joints['rot']) == len(wrong['rot']) - 1
    assert np.median(joints['focal_len_1']) == pytest.approx(1.1475, abs=.01)
    assert all(np.isfinite(array).all() for array in joints.values())


def test_many_samples_in_another_unit_are_refused():
    wrong = PEOPLE['joint_3d'].copy()
    wrong[50:70] *= 1000
    with pytest.raises(ValueError, match='20 of 200 .* row 50'):
        find_camera(PEOPLE | {'joint_3d': wrong})


def test_points_that_no_camera_explains_have_no_residual():
    joint_2d = PEOPLE['joint_2d_1'] - PEOPLE['joint_2d_1'].mean(axis=1, keepdims=True)
    scaled = joint_2d / joint_2d.std(axis=(1, 2), keepdims=True)
    joints, _ = find_camera(PEOPLE | {'joint_2d_1': scaled})
    assert 'residual' not in joints and len(joints['joint_2d_1']) == 200
