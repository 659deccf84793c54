import numpy as np
import torch

from made import ARRAYS, EYE, bare, random_pose
from pare.body import (FACE, JOINTS, KEYPOINTS, PARENTS, Body, Skeleton, axis_angle_to_matrix,
                       full_translation, matrix_to_axis_angle, matrix_to_rotation_6d, project,
                       rotation_6d_to_matrix)

# ---- rotations ----------------------------------------------------------------------------------

def test_rotations_there_and_back():
    torch.manual_seed(0)
    axis = torch.nn.functional.normalize(torch.randn(1004, 3, dtype=torch.double), dim=1)
    angle = torch.rand(1004, 1, dtype=torch.double) * 3.1
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
    noise = rotation_6d_to_matrix(torch.randn(100, 6))
    torch.testing.assert_close(noise @ noise.mT, torch.eye(3).expand(100, 3, 3))
    assert (torch.linalg.det(noise) > .99).all()


# ---- skinning -----------------------------------------------------------------------------------

def test_the_template_at_rest():
    vertices, joints = Body(ARRAYS)(torch.zeros(1, 10), EYE)
    np.testing.assert_allclose(vertices[0], ARRAYS['v_template'], atol=1e-7)
    np.testing.assert_allclose(joints[0], ARRAYS['J_regressor'] @ ARRAYS['v_template'], atol=1e-6)


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
    vertices, joints = Body(ARRAYS)(betas, rotations)
    for row in range(2):
        expected = by_hand(ARRAYS, betas[row].numpy(), rotations[row].double().numpy())
        np.testing.assert_allclose(vertices[row], expected[0], atol=2e-6)
        np.testing.assert_allclose(joints[row], expected[1], atol=2e-6)


def test_a_joint_moves_what_hangs_on_it_and_nothing_else():
    rotations = EYE.clone()
    elbow = JOINTS.index('LElbow')
    rotations[0, elbow] = torch.tensor([[0., 1, 0], [-1, 0, 0], [0, 0, 1]])
    arrays = ARRAYS | {'posedirs': 0 * ARRAYS['posedirs']}
    moved = (Body(arrays)(torch.zeros(1, 10), rotations)[0][0].numpy() - arrays['v_template'])
    below = [elbow, JOINTS.index('LWrist'), JOINTS.index('LHand')]
    share = ARRAYS['weights'][:, below].sum(axis=1)
    assert np.abs(moved[share == 0]).max() < 1e-7
    assert (np.linalg.norm(moved[share > 0], axis=1) > 1e-3).mean() > .98  # but for the axis
    whole = ARRAYS['weights'][:, elbow] == 1
    place = (ARRAYS['J_regressor'] @ ARRAYS['v_template'])[elbow]
    expected = (ARRAYS['v_template'][whole] - place) @ rotations[0, elbow].numpy().T + place
    np.testing.assert_allclose((moved + ARRAYS['v_template'])[whole], expected, atol=1e-6)


def test_gradients_of_skinning():
    arrays = {key: array.astype(float) if array.dtype.kind == 'f' else array
              for key, array in ARRAYS.items()}
    body = Body(arrays, slice(0, None, 200)).double()
    betas, rotations = (values.double().requires_grad_() for values in random_pose(1))
    assert torch.autograd.gradcheck(body, (betas, rotations))


def test_a_skeleton_is_taken_from_the_whole_mesh():
    betas, rotations = random_pose(3)
    vertices, joints = Body(ARRAYS)(betas, rotations)
    keypoints, h36m, own = Skeleton(ARRAYS)(betas, rotations)
    torch.testing.assert_close(own, joints)
    np.testing.assert_allclose(h36m, ARRAYS['J_regressor_h36m'] @ vertices.numpy(), atol=1e-5)
    named = dict(zip(KEYPOINTS, keypoints.unbind(1)))
    torch.testing.assert_close(named['LKnee'], joints[:, JOINTS.index('LKnee')])
    torch.testing.assert_close(named['LEar'], vertices[:, ARRAYS['face'][list(FACE).index('LEar')]])
    assert Skeleton(ARRAYS).known.all()


def test_what_a_body_without_its_other_files_lacks_is_said():
    whole = Skeleton(ARRAYS)
    assert whole.missing() == '' and set(KEYPOINTS[whole.centre]) == {'LHip', 'RHip'}
    known = dict(zip(KEYPOINTS, Skeleton(bare()).known.tolist()))
    assert known['RAnkle'] and known['Nose'] and not known['LHip'] and sum(known.values()) == 15
    assert 'RHip, LHip' in Skeleton(bare()).missing()
    assert 'J_regressor_extra.npy' in Skeleton(bare()).missing()
    assert Skeleton(bare())(torch.zeros(1, 10), EYE).h36m.shape == (1, 0, 3)
    faceless = {key: array for key, array in bare().items() if key != 'face'}
    skeleton = Skeleton(faceless)
    assert skeleton.known.sum() == 10 and skeleton.known[skeleton.centre].all()
    found = skeleton(*random_pose(2))[0]
    expected = whole(*random_pose(2))[0]
    torch.testing.assert_close(found[:, skeleton.known], expected[:, skeleton.known])


# ---- cameras ------------------------------------------------------------------------------------

def test_the_camera_of_the_whole_image_sees_the_same_pixel():
    torch.manual_seed(0)
    points, camera = torch.randn(4, 9, 3) * .3, torch.tensor([[.9, .1, -.2]]).repeat(4, 1)
    centre, side = torch.tensor([[300., 180]]).repeat(4, 1), torch.full((4,), 250.)
    size = torch.tensor([[640., 480]]).repeat(4, 1)
    crop = project(points, camera) * side[0] / 2 + centre[:, None]
    errors = []
    for focal in (5e3, 5e5):
        seen = points + full_translation(camera, centre, side, size, focal)[:, None]
        whole = focal * seen[..., :2] / seen[..., 2:] + size[:, None] / 2
        errors.append((whole - crop).abs().max().item())
    assert errors[0] < 5 and errors[1] < .05  # the same as it moves away
    shift = full_translation(camera, size / 2, torch.full((4,), 224.), size)[0]
    torch.testing.assert_close(shift, torch.tensor([.1, -.2, 2 * 5000 / (224 * .9)]))
