"""The axes of a file: signs, focal lengths, frames, people upside down or mirrored."""
import numpy as np
import pytest

from common.axes import as_camera, check_root, find_focal, find_sign
from common.camera import project
from common.people import sample
from common.skeleton import BONES, NORMAL, anatomy, find_bones
from common.views import prepare_views
from data import find_camera

PEOPLE = sample(400, seed=4)
JOINTS, ROT = PEOPLE['joint_3d'], PEOPLE['rot'].reshape(-1, 3, 3)
FOCAL = np.float32([1.15, 1.15])


@pytest.mark.parametrize('sign', ((1, 1), (1, -1), (-1, 1), (-1, -1)))
def test_signs_and_focal_lengths_are_found(sign):
    focal = np.array((1.2, 1.4)) * sign
    joints = {'joint_3d': JOINTS, 'joint_2d_1': project(JOINTS, focal)}
    np.testing.assert_array_equal(find_sign(joints), sign)
    for own in ((1.2, 1.4), (1200., 1400.)):  # in another unit; then it is fitted
        found = find_focal(joints | {'focal_len_1': np.full((400, 2), own)})
        np.testing.assert_allclose(found[7], focal, rtol=1e-4)


@pytest.mark.parametrize('joint_3d, words', (
    (4500 * JOINTS, 'in another unit'),
    (1000 * (JOINTS + [0, 0, 1]), 'about the root'),
    (JOINTS * [1, 1, -1], 'multiply z by -1'),
    (JOINTS * [1, -1, -1], 'multiply y and z by -1'),
    (JOINTS * [-1, 1, -1], 'multiply x and z by -1')))
def test_joints_in_another_frame_are_refused_with_the_likely_reason(joint_3d, words):
    with pytest.raises(ValueError, match=f'key joint_3d: .*{words}'):
        check_root(joint_3d)


def test_a_root_among_the_joints_is_refused():
    """It has no error, and would make the mean over joints smaller."""
    root = np.tile(np.float32([0, 0, -1]), (400, 1, 1))
    root[..., :2] += np.random.default_rng(0).normal(0, 1e-4, (400, 1, 2))
    with pytest.raises(ValueError, match='joint 15 '):
        check_root(np.concatenate([JOINTS, root], axis=1))


def test_motion_capture_needs_no_change(mocap_test):
    """Neither as 3D nor as two views."""
    assert anatomy(mocap_test['joint_3d']) == NORMAL
    assert find_bones(mocap_test['joint_3d'], known=BONES) == BONES
    np.testing.assert_array_equal(find_sign(mocap_test), (1, 1))
    views, summary = prepare_views(mocap_test)
    assert 'signs +1 +1' in summary
    for joints in (find_camera(mocap_test)[0], views, find_camera(views)[0]):
        assert len(joints['rot']) == len(mocap_test['rot'])
    assert np.abs(views['triangulated'] - views['joint_3d']).max() < 1e-4


@pytest.mark.parametrize('signs', ((-1, 1, 1), (1, -1, 1), (-1, -1, 1)))
def test_people_in_a_mirror_or_upside_down_are_not_learnt_from(signs):
    with pytest.raises(ValueError, match='mirrored|upside down'):
        find_camera(PEOPLE | {'joint_3d': JOINTS * np.float32(signs)})


def test_an_image_in_a_mirror_is_read_as_such_if_the_skeleton_is_known():
    joint_2d = PEOPLE['joint_2d_1'] * np.float32([-1, 1])
    joints, _ = find_camera(PEOPLE | {'joint_2d_1': joint_2d})
    assert (joints['focal_len_1'] * [-1, 1] > 0).all()
    with pytest.raises(ValueError, match='x mirrored'):
        find_camera({'joint_2d_1': joint_2d[:, ::-1], 'joint_3d': JOINTS[:, ::-1]})


@pytest.mark.parametrize('weak', (False, True))
def test_people_on_their_hands_are_learnt_from_if_image_and_joints_agree(weak):
    turn = np.diag(np.float32([-1, -1, 1]))
    people = PEOPLE | {'joint_3d': JOINTS @ turn.T, 'rot': (ROT @ turn.T).reshape(-1, 9)}
    people['joint_2d_1'] = project(people['joint_3d'], people['focal_len_1'])
    people = prepare_views(people)[0] if weak else people
    kept, _ = find_camera(people)
    assert len(kept['rot']) == len(people['rot']) and (kept['focal_len_1'] > 0).all()


@pytest.mark.parametrize('focal, given', (
    ((1.5, 1.5), 1.5), ((-1.15, 1.15), None), ((1.15, -1.15), None), ((-1.5, -1.5), 1.5)))
def test_points_are_brought_to_the_camera_of_the_model(capsys, focal, given):
    """The file has another focal length, x to the left, y down, or all of that."""
    data = {'joint_3d': JOINTS, 'joint_2d_1': project(JOINTS, np.float32(focal))}
    if given:
        data['focal_len_1'] = np.full((400, 2), given)
    np.testing.assert_allclose(as_camera(data, FOCAL), project(JOINTS, FOCAL), atol=1e-5)
    assert capsys.readouterr().err == ''
    other = data | {'joint_2d_1': 1.3 * data['joint_2d_1']}  # which has other focal lengths
    np.testing.assert_allclose(np.abs(as_camera(other, FOCAL)), np.abs(other['joint_2d_1']))
    assert capsys.readouterr().err.startswith('warning: ')
