import numpy as np
import torch

from made import ARRAYS, EYE
from pare.body import EVALUATED, H36M, JOINTS, KEYPOINTS, PARENTS, Skeleton
from pare.standin import CHILD, make_body, shape_body

BODY = make_body()


def test_left_is_left_everywhere():
    joints = dict(zip(JOINTS, ARRAYS['J_regressor'] @ ARRAYS['v_template']))
    points = dict(zip(KEYPOINTS, Skeleton(ARRAYS)(torch.zeros(1, 10), EYE).keypoints[0]))
    human = dict(zip(H36M, ARRAYS['J_regressor_h36m'] @ ARRAYS['v_template']))
    for named in (joints, points, human):
        assert all((point[0] > .01) == name.startswith('L') for name, point in named.items()
                   if name[0] in 'LR' and 'Ear' not in name)
        assert named['Neck'][1] > .3 > named['LHip'][1]
    assert set(EVALUATED) <= set(H36M) and 1.6 < np.ptp(ARRAYS['v_template'][:, 1]) < 1.9


def test_keys_types_and_axes_are_those_of_smpl():
    n = len(BODY['v_template'])
    shapes = {'v_template': (n, 3), 'shapedirs': (n, 3, 10), 'posedirs': (n, 3, 207),
              'J_regressor': (24, n), 'weights': (n, 24), 'kintree_table': (2, 24),
              'J_regressor_h36m': (17, n), 'J_regressor_extra': (9, n)}
    assert n == 24 * 72 and {key: BODY[key].shape for key in shapes} == shapes
    assert BODY['f'].shape == (3360, 3) and BODY['f'].dtype == BODY['kintree_table'].dtype == 'u4'
    assert BODY['kintree_table'][0].tolist() == [2 ** 32 - 1, *PARENTS[1:]]
    for key in ('weights', 'J_regressor', 'J_regressor_h36m', 'J_regressor_extra'):
        np.testing.assert_allclose(BODY[key].sum(axis=1), 1, atol=1e-6)
        assert BODY[key].min() >= 0
    assert BODY['posedirs'].any()


def test_each_part_is_closed_and_faces_outwards():
    """The volume by the theorem of divergence is positive, and each edge is in two faces."""
    corners = BODY['v_template'].astype(float)[BODY['f']].reshape(24, -1, 3, 3)
    volumes = np.linalg.det(corners).sum(axis=1) / 6
    assert (volumes > 1e-5).all() and .03 < volumes.sum() < .12
    edges = np.sort(BODY['f'][:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()


def test_betas_are_linear_and_move_the_joints_with_the_skin():
    """Against the body that is built for them; only products of betas are left out."""
    for k in range(10):
        vertices, joints = shape_body(np.eye(10)[k])
        linear = BODY['v_template'] + BODY['shapedirs'][..., k]
        np.testing.assert_allclose(linear, vertices.reshape(-1, 3), atol=.012)
        np.testing.assert_allclose(BODY['J_regressor'] @ vertices.reshape(-1, 3), joints, atol=1e-6)
        assert .005 < np.abs(BODY['shapedirs'][..., k]).max() < .15


def test_a_part_hangs_on_its_joint_and_its_neighbours():
    weights = BODY['weights'].reshape(24, 72, 24)
    for joint, parent in enumerate(PARENTS):
        moved_by = set(np.flatnonzero(weights[joint].max(axis=0)).tolist())
        assert moved_by == {joint, parent, CHILD.get(joint, joint)} - {-1}
        assert weights[joint].mean(axis=0).argmax() == joint
