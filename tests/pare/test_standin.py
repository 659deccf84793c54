import numpy as np
import torch

from made import ARRAYS, EYE
from pare.body import EVALUATED, H36M, JOINTS, KEYPOINTS, Skeleton
from pare.standin import make_body

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


def test_each_part_is_closed_and_faces_outwards():
    """The volume by the theorem of divergence is positive, and each edge is in two faces."""
    corners = BODY['v_template'].astype(float)[BODY['f']].reshape(24, -1, 3, 3)
    volumes = np.linalg.det(corners).sum(axis=1) / 6
    assert (volumes > 1e-5).all() and .03 < volumes.sum() < .12
    edges = np.sort(BODY['f'][:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
