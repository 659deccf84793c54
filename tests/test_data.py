"""The dictionary, the camera of a file, and the normalisation of two views."""
import pickle
import re

import numpy as np
import pytest

from common.axes import check_root, find_focal, find_sign
from common.camera import project, ray_angle, triangulate
from common.files import save_pickle
from common.people import sample
from common.views import LEAST_ANGLE, prepare_views
from data import LAB_FILES, N_TEST, N_TRAIN, find_camera, load, make_people, split_blocks

N = 8
GOOD = sample(N, seed=3)
PEOPLE = sample(200, seed=5)
VIEWS = sample(400, seed=4)
ROT = VIEWS['rot'].reshape(-1, 3, 3)
SIGNS = pytest.mark.parametrize('sign', ((1, 1), (1, -1), (-1, 1), (-1, -1)))


# ---- the dictionary -----------------------------------------------------------------------------

@pytest.mark.parametrize('change', (
    {},
    {'joint_2d_1': GOOD['joint_2d_1'].reshape(N, 30), 'joint_3d': GOOD['joint_3d'].reshape(N, 45)},
    {'joint_3d': list(GOOD['joint_3d'].astype(np.float64))},
    {'joint_3d': GOOD['joint_3d'].tolist()},
    {'joint_2d_1': np.asfortranarray(GOOD['joint_2d_1'])},
    {'rot': GOOD['rot'].reshape(N, 3, 3), 'transl': GOOD['transl'].reshape(N, 1, 3)},
    {'rot': [row.reshape(1, 9) for row in GOOD['rot']]},
    {'another': 'text', 'dates': np.zeros(3, 'M8[s]'), (1, 2): 3, 'set': {1}}))
def test_every_spelling_of_a_file(tmp_path, change):
    save_pickle(tmp_path / 'a.pkl', {**GOOD, **change})
    loaded = load(tmp_path / 'a.pkl')
    assert loaded.keys() == GOOD.keys()
    for key, array in loaded.items():
        assert array.dtype == np.float32 and array.flags['C_CONTIGUOUS']
        np.testing.assert_allclose(array, GOOD[key], rtol=1e-6)


@pytest.mark.parametrize('focal', (1.15, np.float64(1.15), np.array(1.15), [1.15, 1.15], (1.15,)))
def test_one_focal_length_for_all_samples(tmp_path, focal):
    save_pickle(tmp_path / 'a.pkl', {**GOOD, 'focal_len_1': focal})
    np.testing.assert_allclose(load(tmp_path / 'a.pkl')['focal_len_1'], np.full((N, 2), 1.15))


def changed(key, rows, value):
    array = GOOD[key].copy()
    array[rows] = value
    return {**GOOD, key: array}


@pytest.mark.parametrize('content, words', (
    ({}, 'key joint_2d_1 is missing'),
    ({'joint_2d_1': GOOD['joint_2d_1'], 'x': 1}, 'key joint_3d is missing: found joint_2d_1, x'),
    ({**GOOD, 'joint_3d': GOOD['joint_2d_1']}, 'key joint_3d: found shape (8, 15, 2)'),
    ({**GOOD, 'joint_2d_1': np.zeros((8, 31))}, 'key joint_2d_1: found shape (8, 31)'),
    ({**GOOD, 'joint_2d_1': 1.}, 'key joint_2d_1: found shape'),
    ({**GOOD, 'joint_2d_1': []}, 'key joint_2d_1: found shape'),
    ({**GOOD, 'joint_2d_1': 0 * GOOD['joint_2d_1']}, 'key joint_2d_1: found all points in one'),
    ({**GOOD, 'joint_3d': GOOD['joint_3d'][:5]}, 'key joint_3d: found 5 samples, expected 8'),
    ({**GOOD, 'joint_3d': GOOD['joint_3d'][:, :9]}, 'key joint_3d: found 9 joints, expected 15'),
    ({**GOOD, 'joint_3d': 'text'}, 'key joint_3d: found a str'),
    (changed('joint_3d', (5, 3, 1), np.nan), 'key joint_3d: found NaN'),
    (changed('joint_2d_1', [2, 6], np.inf), '2 of 8 rows, first in row 2'),
    (changed('rot', 4, 0), 'key rot: found no rotation in row 4'),
    (changed('rot', 4, np.diag([1, 1, -1]).ravel()), 'key rot: found no rotation in row 4'),
    ({**GOOD, 'rot': GOOD['rot'][:, :8]}, 'key rot: found shape (8, 8)'),
    ({**GOOD, 'transl': GOOD['rot']}, 'key transl: found shape (8, 9)'),
    ({**GOOD, 'focal_len_1': np.ones((8, 3))}, 'key focal_len_1: found shape (8, 3)'),
    ({**GOOD, 'focal_len_1': np.ones((7, 2))}, 'key focal_len_1: found 7 samples, expected 8'),
    (changed('focal_len_1', 6, 0), 'key focal_len_1: found 0 in 1 of 8 rows, first in row 6'),
    ([GOOD], 'found a list'),
    (GOOD['joint_3d'], 'found a ndarray')))
def test_wrong_content_is_named_with_file_and_key(tmp_path, content, words):
    path = tmp_path / 'a.pkl'
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError) as error:
        load(path)
    assert str(error.value).startswith(f'{path}: ') and words in str(error.value)
    assert '\n' not in str(error.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / 'none.pkl', tmp_path):
        with pytest.raises(OSError, match=f'{path}: '):
            load(path)


def test_synthetic_people_are_written_once_and_never_beside_a_users_file(tmp_path, monkeypatch,
                                                                         capsys):
    monkeypatch.chdir(tmp_path)
    for name in LAB_FILES:
        (tmp_path / name).write_text("the user's")
        make_people()
        assert [path.name for path in tmp_path.iterdir()] == [name]
        (tmp_path / name).unlink()
    assert capsys.readouterr().out == ''
    make_people()
    train, test = (load(name) for name in LAB_FILES[:2])
    assert (len(train['rot']), len(test['rot'])) == (N_TRAIN, N_TEST)
    assert not np.isin(test['joint_3d'][:, 0], train['joint_3d'][:, 0]).all(axis=1).any()
    assert all(name in capsys.readouterr().out for name in LAB_FILES[:1])


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

@SIGNS
def test_sign_and_focal_length_are_found(sign):
    joints = {**PEOPLE, 'focal_len_1': np.full((200, 2), (1.2, 1.4))}
    joints['joint_2d_1'] = project(joints['joint_3d'], joints['focal_len_1'] * sign)
    joints['joint_2d_2'] = joints['joint_2d_2'] * sign
    np.testing.assert_array_equal(find_sign(joints), sign)
    np.testing.assert_allclose(find_focal(joints)[7], np.array((1.2, 1.4)) * sign)
    wrong = joints | {'focal_len_1': np.full((200, 2), 1150.)}  # in another unit: it is fitted
    np.testing.assert_allclose(find_focal(wrong)[7], np.array((1.2, 1.4)) * sign, rtol=1e-4)
    del joints['joint_3d']
    np.testing.assert_array_equal(find_sign(joints), sign)  # from the rays alone


def test_the_camera_explains_the_points_and_its_residual_the_rest():
    joints, summary = find_camera(PEOPLE | {'joint_2d_1': PEOPLE['joint_2d_1'] + np.float32(.01)})
    seen = project(joints['joint_3d'], joints['focal_len_1']) + joints['residual']
    np.testing.assert_allclose(seen, joints['joint_2d_1'], atol=1e-6)
    assert np.abs(joints['residual']).mean() < .02 and '1.1' in summary


@pytest.mark.parametrize('prepare', (lambda data: data, lambda data: prepare_views(data)[0]))
def test_samples_that_the_camera_does_not_explain_are_dropped_and_counted(prepare):
    bad = {key: array.copy() for key, array in PEOPLE.items()}
    bad['joint_2d_1'][7, 3] = 1e20
    bad = prepare(bad)
    row = np.abs(bad['joint_2d_1']).max(axis=(1, 2)).argmax()
    joints, summary = find_camera(bad)
    assert re.search(rf'\b1 samples? .*rows? {row}\b', summary)
    np.testing.assert_array_equal(joints['joint_3d'], np.delete(bad['joint_3d'], row, axis=0))
    np.testing.assert_allclose(joints['focal_len_1'].mean(), 1.1475, atol=.01)
    assert all(np.isfinite(array).all() for array in joints.values())


def test_points_that_no_camera_explains_have_no_residual():
    joint_2d = PEOPLE['joint_2d_1'] - PEOPLE['joint_2d_1'].mean(axis=1, keepdims=True)
    scaled = joint_2d / joint_2d.std(axis=(1, 2), keepdims=True)
    joints, summary = find_camera(PEOPLE | {'joint_2d_1': scaled})
    assert 'residual' not in joints and len(joints['joint_2d_1']) == 200
    assert 'no virtual views' in summary


@pytest.mark.parametrize('joint_3d, words', (
    (4500 * PEOPLE['joint_3d'], 'in another unit'),
    (PEOPLE['joint_3d'] + [0, 0, 1], 'about the root'),
    (1000 * (PEOPLE['joint_3d'] + [0, 0, 1]), 'about the root'),
    (PEOPLE['joint_3d'] * [1, -1, -1], 'multiply y and z by -1')))
def test_joints_in_another_frame_are_refused_with_the_likely_reason(joint_3d, words):
    with pytest.raises(ValueError, match=f'key joint_3d: .*{words}'):
        check_root(joint_3d)


def test_a_root_among_the_joints_is_refused():
    """It has no error, and would make the mean over joints smaller."""
    root = np.tile(np.float32([0, 0, -1]), (200, 1, 1))
    root[:, :, :2] += np.random.default_rng(0).normal(0, 1e-4, (200, 1, 2))
    with pytest.raises(ValueError, match='joint 15 '):
        check_root(np.concatenate([PEOPLE['joint_3d'], root], axis=1))
    check_root(PEOPLE['joint_3d'])


def test_motion_capture_needs_no_change(mocap):
    joints = load(mocap / 'data_test.pkl')
    np.testing.assert_array_equal(find_sign(joints), (1, 1))
    _, summary = find_camera(joints)
    assert 'left out' not in summary
    views, summary = prepare_views(joints)
    assert 'signs +1 +1' in summary and len(views['rot']) == len(joints['rot'])
    assert np.abs(views['triangulated'] - views['joint_3d']).max() < 1e-4


# ---- two views ----------------------------------------------------------------------------------

def noisy(joints, noise):
    rng = np.random.default_rng(0)
    return joints | {key: (joints[key] + rng.normal(0, noise, joints[key].shape)).astype('f')
                     for key in ('joint_2d_1', 'joint_2d_2')}


@pytest.mark.parametrize('noise', (0, .01))
@SIGNS
def test_views_of_each_sign_are_prepared_without_3d(sign, noise):
    joints = noisy(VIEWS, noise)
    joints |= {key: joints[key] * np.float32(sign) for key in ('joint_2d_1', 'joint_2d_2')}
    joints['joint_3d'] = np.full_like(joints['joint_3d'], np.nan)  # never looked at
    views, summary = prepare_views(joints)
    assert 'signs {:+} {:+}'.format(*sign) in summary
    angle = ray_angle(VIEWS)
    assert len(views['rot']) > .97 * (angle > 20).sum() and (angle > 20).mean() > .7
    if not noise:
        wide = angle[angle > LEAST_ANGLE] > 20
        np.testing.assert_allclose(triangulate(views)[wide], VIEWS['joint_3d'][angle > 20],
                                   atol=1e-5)
        np.testing.assert_allclose(views['triangulated'][wide], VIEWS['joint_3d'][angle > 20],
                                   atol=1e-5)


def test_samples_without_depth_are_dropped_and_counted():
    joints = {key: array[ray_angle(VIEWS) > 5] for key, array in VIEWS.items()}
    joints['joint_2d_2'][7] = joints['joint_2d_1'][7]
    joints['rot'][7], joints['transl'][7] = np.eye(3).ravel(), 0
    views, summary = prepare_views(joints)
    assert '1 samples' in summary
    np.testing.assert_array_equal(views['joint_3d'], np.delete(joints['joint_3d'], 7, axis=0))


def test_the_unit_of_transl_is_found():
    views, summary = prepare_views(VIEWS | {'transl': VIEWS['transl'] * np.float32(4200)})
    unit = float(summary.partition('its unit, ')[2].split(';')[0])
    assert unit == pytest.approx(4200, rel=.02)
    error = np.linalg.norm(views['triangulated'] - views['joint_3d'], axis=-1)
    assert np.median(error) < .01


DOWN = np.diag([1, -1, -1])
TRANSPOSED, INVERSE = ROT.mT.reshape(-1, 9), -np.vecmat(VIEWS['transl'], ROT)
ALIKE = {'joint_2d_2': VIEWS['joint_2d_1'], 'focal_len_2': VIEWS['focal_len_1'],
         'rot': np.tile(np.eye(3, dtype='f').ravel(), (400, 1)), 'transl': 0 * VIEWS['transl']}


@pytest.mark.parametrize('change, words', (
    (ALIKE, 'give no depth'),
    (noisy(VIEWS | ALIKE, .005), 'give no depth'),
    ({'rot': TRANSPOSED}, 'with rot transposed'),
    ({'transl': -VIEWS['transl']}, 'behind the camera.*with transl of the other sign'),
    ({'rot': TRANSPOSED, 'transl': INVERSE}, 'with rot and transl from view 2 to view 1'),
    ({'transl': INVERSE}, 'with transl from view 2 to view 1'),
    ({'rot': (DOWN @ ROT @ DOWN).reshape(-1, 9), 'transl': VIEWS['transl'] @ DOWN,
      'joint_2d_1': VIEWS['joint_2d_1'] * [1, -1], 'joint_2d_2': VIEWS['joint_2d_2'] * [1, -1]},
     'behind the camera.*OpenCV'),
    ({'transl': 0 * VIEWS['transl']}, 'keys rot, transl'),
    ({'rot': np.roll(VIEWS['rot'], 50, axis=0)}, r'keys rot, transl: .*= R V1 \+ t$'),
    ({'transl': VIEWS['transl'] * np.linspace(3, 6, 400)[:, None]}, 'key transl: ')))
def test_views_that_do_not_belong_together_are_refused_with_the_likely_reason(change, words):
    with pytest.raises(ValueError, match=words):
        prepare_views(VIEWS | change)
