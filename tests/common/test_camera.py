"""Cameras, against slow loops and formulas by hand."""
import numpy as np
import pytest
import torch

from common.camera import (ROOT, face_root, fit_focal, project, random_rotations, ray_angle,
                           ray_gap, second_view, smallest_rotation, triangulate)
from common.people import sample

VIEWS = sample(400, seed=4)
FEW = {key: array[:8] for key, array in VIEWS.items()}


def test_both_views_by_a_slow_loop():
    for row in range(8):
        rot, transl = FEW['rot'][row].reshape(3, 3), FEW['transl'][row]
        for joint in range(15):
            one = FEW['joint_3d'][row, joint].astype(float)
            two = [sum(rot[i, k] * one[k] for k in range(3)) + transl[i] for i in range(3)]
            for view, (x, y, z) in ((1, one), (2, two)):
                focal = FEW[f'focal_len_{view}'][row]
                expected = focal[0] * x / -z, focal[1] * y / -z
                assert FEW[f'joint_2d_{view}'][row, joint] == pytest.approx(expected, abs=1e-6)
    seen = project(second_view(FEW['joint_3d'], FEW['rot'], FEW['transl']), FEW['focal_len_2'])
    np.testing.assert_allclose(seen, FEW['joint_2d_2'], atol=1e-6)


@pytest.mark.parametrize('sign', ((1, 1), (1, -1), (-1, 1), (-1, -1)))
def test_focal_lengths_are_fitted_in_spite_of_a_few_wrong_samples(sign):
    focal = np.array((1.2, 1.4)) * sign
    joint_2d = project(VIEWS['joint_3d'], focal)
    joint_2d[::10] = 1e3
    joint_3d = VIEWS['joint_3d'].copy()
    joint_3d[5, 3, 2] = 0  # a joint in the plane of the camera
    np.testing.assert_allclose(fit_focal(joint_3d, joint_2d), focal, rtol=1e-4)


# ---- two views ----------------------------------------------------------------------------------

def test_rays_meet_in_both_views_and_nowhere_else():
    assert ray_gap(VIEWS).max() < 1e-5
    one, two = np.array([.3, 0, 0]), np.array([0, .2, 0])  # rays along x and y, a distance 1 apart
    by_hand = {'joint_2d_1': one[None, None, :2] * 1e6, 'joint_2d_2': two[None, None, :2] * 1e6,
               'focal_len_1': np.ones((1, 2)), 'focal_len_2': np.ones((1, 2)),
               'rot': np.eye(3).reshape(1, 9), 'transl': np.array([[5., 7., 1.]])}
    assert ray_gap(by_hand).item() == pytest.approx(1, rel=1e-4)
    transposed = VIEWS['rot'].reshape(-1, 3, 3).mT.reshape(-1, 9)
    assert np.median(ray_gap({**VIEWS, 'rot': transposed})) > 1e-3


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


def test_exact_views_give_the_exact_pose():
    wide = ray_angle(VIEWS) > 2
    error = np.linalg.norm(triangulate(VIEWS) - VIEWS['joint_3d'], axis=-1)[wide]
    assert np.median(error) < 1e-6 and error.max() < 1e-4


def test_triangulation_is_the_least_squares_one():
    """Against numpy's solver: least squares of the distances to both lines, joint by joint."""
    views = {key: array[ray_angle(VIEWS) > 10][:20] for key, array in VIEWS.items()}
    rng = np.random.default_rng(0)
    for key in ('joint_2d_1', 'joint_2d_2'):
        views[key] = views[key] + rng.normal(0, .005, views[key].shape).astype(np.float32)
    found = triangulate(views)
    for row in range(20):
        rot, transl = views['rot'][row].reshape(3, 3).astype(float), views['transl'][row]
        cameras = ((np.eye(3), np.zeros(3)), (rot, -rot.T @ transl))
        for joint in range(15):
            across, offsets = [], []
            for view, (turn, centre) in enumerate(cameras, start=1):
                plane = views[f'joint_2d_{view}'][row, joint] / views[f'focal_len_{view}'][row]
                line = turn.T @ [*plane, -1]
                across.append(np.eye(3) - np.outer(line, line) / (line @ line))
                offsets.append(across[-1] @ centre)
            expected = np.linalg.lstsq(np.concatenate(across), np.concatenate(offsets))[0]
            np.testing.assert_allclose(found[row, joint], expected, atol=1e-5)


def test_joints_on_parallel_rays_are_put_as_far_away_as_the_root():
    alike = VIEWS | {'joint_2d_2': VIEWS['joint_2d_1'], 'focal_len_2': VIEWS['focal_len_1'],
                     'rot': np.tile(np.eye(3, dtype='f').ravel(), (400, 1)),
                     'transl': np.zeros((400, 3), dtype='f')}
    joint_3d = triangulate(alike)
    assert np.abs(joint_3d[..., 2] + 1).max() < .3
    np.testing.assert_allclose(project(joint_3d, alike['focal_len_1']), alike['joint_2d_1'],
                               atol=1e-5)


def test_camera_2_is_turned_to_the_root():
    """By a fifth of a radian off it the same poses are seen, in the image that it would have."""
    turn = np.float32([[np.cos(.2), 0, np.sin(.2)], [0, 1, 0], [-np.sin(.2), 0, np.cos(.2)]])
    rot = (turn @ VIEWS['rot'].reshape(-1, 3, 3)).reshape(-1, 9)
    aside = VIEWS | {'rot': rot, 'transl': VIEWS['transl'] @ turn.T}
    aside['joint_2d_2'] = project(second_view(VIEWS['joint_3d'], rot, aside['transl']),
                                  VIEWS['focal_len_2'])
    faced = face_root(aside)
    root = second_view(np.tile(ROOT, (400, 1, 1)), faced['rot'], faced['transl'])
    np.testing.assert_allclose(root[:, 0, :2], 0, atol=1e-6)
    np.testing.assert_allclose(root[:, 0, 2], -faced['distance'], rtol=1e-6)
    for joints in (faced, face_root(VIEWS)):  # whose cameras look at the root as they are
        seen = project(second_view(VIEWS['joint_3d'], joints['rot'], joints['transl']),
                       VIEWS['focal_len_1'])
        np.testing.assert_allclose(joints['joint_2d_2'], seen, atol=1e-5)
        np.testing.assert_array_equal(joints['focal_len_2'], VIEWS['focal_len_1'])
    np.testing.assert_allclose(face_root(VIEWS)['rot'], VIEWS['rot'], atol=1e-5)


# ---- rotations ----------------------------------------------------------------------------------

def test_the_smallest_rotation_is_rodrigues_formula():
    rng = np.random.default_rng(0)
    start = rng.normal(size=(50, 3))
    start /= np.linalg.norm(start, axis=1, keepdims=True)
    end = np.array([0, .6, -.8])
    for one, rotation in zip(start, smallest_rotation(start, end)):
        axis, cosine = np.cross(one, end), one @ end
        k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
        np.testing.assert_allclose(rotation, np.eye(3) + k + k @ k / (1 + cosine), atol=1e-5)


def test_random_rotations_leave_people_upright_and_are_from_all_around():
    torch.manual_seed(0)
    turn = random_rotations(5000, 6., torch.device('cpu'))
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3).expand(5000, 3, 3))
    assert (torch.linalg.det(turn) > 0).all()
    up, ahead = turn[:, :, 1], turn[:, :, 2]
    tilt = torch.rad2deg(up[:, 1].acos())
    assert up[:, 0].abs().max() < 1e-6 and tilt.square().mean().sqrt().item() == pytest.approx(
        6, rel=.05)
    angle = torch.atan2(ahead[:, 0], ahead[:, 2]).histc(8, -np.pi, np.pi)
    assert angle.min() > 500 and angle.max() < 750
    assert random_rotations(9, 0., torch.device('cpu'))[:, 1, 1].eq(1).all()
