import numpy as np
import torch

from made import ARRAYS, EYE, bare, random_pose
from pare.body import (KEYPOINTS, PARENTS, Body, Skeleton, axis_angle_to_matrix, full_translation,
                       matrix_to_axis_angle, matrix_to_rotation_6d, project, relative_rotations,
                       rotation_6d_to_matrix)

def test_rotations_there_and_back():
    torch.manual_seed(0)
    axis = torch.nn.functional.normalize(torch.randn(104, 3, dtype=torch.double), dim=1)
    angle = torch.rand(104, 1, dtype=torch.double) * 3.1
    angle[:4, 0] = torch.tensor([0, 1e-8, np.pi - 1e-6, 1e-3])
    matrix = axis_angle_to_matrix(axis * angle)
    torch.testing.assert_close(matrix, torch.matrix_exp(cross(axis * angle)))
    torch.testing.assert_close(matrix_to_axis_angle(matrix), axis * angle, atol=1e-9, rtol=0)
    torch.testing.assert_close(rotation_6d_to_matrix(matrix_to_rotation_6d(matrix)), matrix)


def cross(vector):
    x, y, z = vector.unbind(-1)
    zero = 0 * x
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))


def test_six_numbers_are_two_columns_interleaved():
    found = rotation_6d_to_matrix(torch.tensor([0., 3, 2, 9, 0, 0]))
    expected = [[0., 1, 0], [1, 0, 0], [0, 0, -1]]  # a1 = (0, 2, 0), a2 = (3, 9, 0)
    torch.testing.assert_close(found, torch.tensor(expected))


def test_relative_rotations_undo_the_tree():
    _, rotations = random_pose(3)
    world = [rotations[:, 0]]
    for joint in range(1, 24):
        world.append(world[PARENTS[joint]] @ rotations[:, joint])
    torch.testing.assert_close(relative_rotations(torch.stack(world, dim=1)), rotations)


# ---- skinning -----------------------------------------------------------------------------------

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


def test_a_body_without_its_other_files_says_which_keypoints_it_lacks():
    whole = Skeleton(ARRAYS)
    assert whole.missing() == '' and set(KEYPOINTS[whole.centre]) == {'LHip', 'RHip'}
    lacking = Skeleton(bare())
    known = dict(zip(KEYPOINTS, lacking.known.tolist()))
    assert known['RAnkle'] and known['Nose'] and not known['LHip'] and sum(known.values()) == 15
    for part in ('RHip, LHip', 'J_regressor_extra.npy', 'up to two folders above'):
        assert part in lacking.missing()
    assert lacking(torch.zeros(1, 10), EYE).h36m.shape == (1, 0, 3)
    faceless = Skeleton({key: array for key, array in bare().items() if key != 'face'})
    assert faceless.known.sum() == 10 and faceless.known[faceless.centre].all()
    found, expected = (skeleton(*random_pose(2))[0] for skeleton in (faceless, whole))
    torch.testing.assert_close(found[:, faceless.known], expected[:, faceless.known])


def test_the_camera_of_the_whole_image_sees_the_same_pixel():
    torch.manual_seed(0)
    points, camera = torch.randn(4, 9, 3) * .3, torch.tensor([[.9, .1, -.2]]).repeat(4, 1)
    centre, side = torch.tensor([[300., 180]]).repeat(4, 1), torch.full((4,), 250.)
    size = torch.tensor([[640., 480]]).repeat(4, 1)
    crop = project(points, camera) * side[0] / 2 + centre[:, None]
    for focal, most in ((5e3, 5), (5e5, .05)):  # the same as it moves away
        seen = points + full_translation(camera, centre, side, size, focal)[:, None]
        whole = focal * seen[..., :2] / seen[..., 2:] + size[:, None] / 2
        assert (whole - crop).abs().max() < most
