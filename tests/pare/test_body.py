"""The body: rotations, skinning, keypoints, and the stand-in."""
import numpy as np
import torch

from made import ARRAYS, EYE, SKELETON, bare, random_pose
from pare.body import (EVALUATED, H36M, JOINTS, KEYPOINTS, PARENTS, Body, Skeleton,
                       axis_angle_to_matrix, matrix_to_axis_angle, matrix_to_rotation_6d,
                       relative_rotations, rotation_6d_to_matrix)


def test_rotations_there_and_back():
    torch.manual_seed(0)
    axis = torch.nn.functional.normalize(torch.randn(104, 3, dtype=torch.double), dim=1)
    angle = torch.rand(104, 1, dtype=torch.double) * 3.1
    angle[:4, 0] = torch.tensor([0, 1e-8, np.pi - 1e-6, 1e-3])
    cross = torch.linalg.cross((axis * angle)[:, None], torch.eye(3).double()[None]).mT
    matrix = axis_angle_to_matrix(axis * angle)
    torch.testing.assert_close(matrix, torch.matrix_exp(cross))
    torch.testing.assert_close(matrix_to_axis_angle(matrix), axis * angle, atol=1e-9, rtol=0)
    torch.testing.assert_close(rotation_6d_to_matrix(matrix_to_rotation_6d(matrix)), matrix)
    found = rotation_6d_to_matrix(torch.tensor([0., 3, 2, 9, 0, 0]))  # columns are interleaved
    assert found.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, -1]]


def test_relative_rotations_undo_the_tree():
    _, rotations = random_pose(3)
    world = [rotations[:, 0]]
    for joint in range(1, 24):
        world.append(world[PARENTS[joint]] @ rotations[:, joint])
    torch.testing.assert_close(relative_rotations(torch.stack(world, dim=1)), rotations)


def by_hand(arrays, betas, rotations):
    """One body by 4 x 4 matrices, a vertex at a time, in double precision."""
    arrays = {key: array.astype(float) for key, array in arrays.items()}
    shaped = arrays['v_template'] + arrays['shapedirs'] @ betas
    joints = arrays['J_regressor'] @ shaped
    posed = shaped + arrays['posedirs'] @ (rotations[1:] - np.eye(3)).ravel()
    moves = []
    for joint, parent in enumerate(PARENTS):
        local = np.eye(4)
        local[:3, :3] = rotations[joint]
        local[:3, 3] = joints[joint] - (joints[parent] if parent >= 0 else 0)
        moves.append(moves[parent] @ local if parent >= 0 else local)
    places = np.array([move[:3, 3] for move in moves])
    rest = [move @ np.vstack([np.column_stack([np.eye(3), -joint]), (0, 0, 0, 1)])
            for move, joint in zip(moves, joints)]
    vertices = [(np.tensordot(weights, rest, 1) @ np.append(vertex, 1))[:3]
                for weights, vertex in zip(arrays['weights'], posed)]
    return np.array(vertices), places


def test_skinning_is_that_of_a_slow_loop():
    betas, rotations = random_pose(2)
    betas[1], rotations[1] = 0, EYE[0]  # at rest
    vertices, joints = Body(ARRAYS)(betas, rotations)
    for row in range(2):
        expected = by_hand(ARRAYS, betas[row].numpy(), rotations[row].double().numpy())
        np.testing.assert_allclose(vertices[row], expected[0], atol=2e-6)
        np.testing.assert_allclose(joints[row], expected[1], atol=2e-6)
    np.testing.assert_allclose(vertices[1], ARRAYS['v_template'], atol=1e-7)


def test_a_body_without_its_other_files_has_fewer_keypoints():
    assert SKELETON.missing() == '' and set(KEYPOINTS[SKELETON.centre]) == {'LHip', 'RHip'}
    expected = SKELETON(*random_pose(2)).keypoints
    for arrays, n in ((bare(), 15), (bare('face'), 10)):
        lacking = Skeleton(arrays)
        assert lacking.known.sum() == n and lacking.known[lacking.centre].all()
        assert 'RHip, LHip' in lacking.missing() and 'J_regressor_extra.npy' in lacking.missing()
        found = lacking(*random_pose(2))
        torch.testing.assert_close(found.keypoints[:, lacking.known], expected[:, lacking.known])
        assert found.h36m.shape == (2, 0, 3)


def test_the_stand_in_has_its_left_on_the_left_and_faces_outwards():
    joints = dict(zip(JOINTS, ARRAYS['J_regressor'] @ ARRAYS['v_template']))
    points = dict(zip(KEYPOINTS, SKELETON(torch.zeros(1, 10), EYE).keypoints[0]))
    human = dict(zip(H36M, ARRAYS['J_regressor_h36m'] @ ARRAYS['v_template']))
    for named in (joints, points, human):
        assert all((point[0] > .01) == name.startswith('L') for name, point in named.items()
                   if name[0] in 'LR' and 'Ear' not in name)
        assert named['Neck'][1] > .3 > named['LHip'][1]
    assert set(EVALUATED) <= set(H36M) and 1.6 < np.ptp(ARRAYS['v_template'][:, 1]) < 1.9
    corners = ARRAYS['v_template'].astype(float)[ARRAYS['f']].reshape(24, -1, 3, 3)
    volumes = np.linalg.det(corners).sum(axis=1) / 6  # by the theorem of divergence
    assert (volumes > 1e-5).all() and .03 < volumes.sum() < .12
