"""Cameras against slow loops, formulas by hand, and numpy's solver."""
import numpy as np
import pytest

from common.camera import (ROOT, face_root, project, ray_angle, ray_gap, second_view,
                           smallest_rotation, triangulate)
from common.people import sample

VIEWS = sample(400, seed=4)


def test_both_views_by_a_slow_loop():
    for row in range(8):
        rot, transl = VIEWS['rot'][row].reshape(3, 3), VIEWS['transl'][row]
        for joint in range(15):
            one = VIEWS['joint_3d'][row, joint].astype(float)
            two = [sum(rot[i, k] * one[k] for k in range(3)) + transl[i] for i in range(3)]
            for view, (x, y, z) in ((1, one), (2, two)):
                focal = VIEWS[f'focal_len_{view}'][row]
                expected = focal[0] * x / -z, focal[1] * y / -z
                assert VIEWS[f'joint_2d_{view}'][row, joint] == pytest.approx(expected, abs=1e-6)


def test_gap_and_angle_of_rays():
    """Both are known for rays along x and y that pass 1 apart."""
    assert ray_gap(VIEWS).max() < 1e-5  # those of exact views meet
    by_hand = {'joint_2d_1': np.array([[[3e5, 0]]]), 'joint_2d_2': np.array([[[0, 2e5]]]),
               'focal_len_1': np.ones((1, 2)), 'focal_len_2': np.ones((1, 2)),
               'rot': np.eye(3).reshape(1, 9), 'transl': np.array([[5., 7., 1.]])}
    assert ray_gap(by_hand).item() == pytest.approx(1, rel=1e-4)
    assert ray_angle(by_hand).item() == pytest.approx(90, abs=1e-3)
    assert ray_angle(by_hand | {'joint_2d_2': np.array([[[2e5, 2e5]]])}).item() == pytest.approx(45)


@pytest.mark.parametrize('noise', (0, .005))
def test_triangulation_is_the_least_squares_one(noise):
    """numpy's solver minimises the squared distances to both lines, joint by joint."""
    views = {key: array[ray_angle(VIEWS) > 10][:20] for key, array in VIEWS.items()}
    rng = np.random.default_rng(0)
    for key in ('joint_2d_1', 'joint_2d_2'):
        views[key] = views[key] + rng.normal(0, noise, views[key].shape).astype(np.float32)
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
    assert noise or np.abs(found - views['joint_3d']).max() < 1e-5


def test_camera_2_is_turned_to_the_root():
    """It stands aside before. Then it sees the same poses, with the focal lengths of camera 1."""
    sin, cos = np.sin(.2), np.cos(.2)
    turn = np.float32([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    rot = (turn @ VIEWS['rot'].reshape(-1, 3, 3)).reshape(-1, 9)
    aside = VIEWS | {'rot': rot, 'transl': VIEWS['transl'] @ turn.T}
    aside['joint_2d_2'] = project(second_view(VIEWS['joint_3d'], rot, aside['transl']),
                                  VIEWS['focal_len_2'])
    faced = face_root(aside)
    root = second_view(np.tile(ROOT, (400, 1, 1)), faced['rot'], faced['transl'])
    np.testing.assert_allclose(root[:, 0], np.outer(faced['distance'], ROOT), atol=1e-6)
    seen = project(second_view(VIEWS['joint_3d'], faced['rot'], faced['transl']),
                   VIEWS['focal_len_1'])
    np.testing.assert_allclose(faced['joint_2d_2'], seen, atol=1e-5)
    np.testing.assert_array_equal(faced['focal_len_2'], VIEWS['focal_len_1'])


def test_the_smallest_rotation_is_rodrigues_formula():
    start = np.random.default_rng(0).normal(size=(50, 3))
    start /= np.linalg.norm(start, axis=1, keepdims=True)
    end = np.array([0, .6, -.8])
    for one, rotation in zip(start, smallest_rotation(start, end)):
        axis, cosine = np.cross(one, end), one @ end
        k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
        np.testing.assert_allclose(rotation, np.eye(3) + k + k @ k / (1 + cosine), atol=1e-5)
