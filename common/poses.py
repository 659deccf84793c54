"""Poses: a dictionary of tensors of the same N samples, the input of a training."""
import math

import numpy as np
import torch
from torch import Tensor

from common.skeleton import JOINTS, joints_of


def as_tensors(arrays: dict, device: torch.device) -> dict[str, Tensor]:
    """Make poses, tensors of the same N samples, from a dictionary of arrays.

    joint_2d (N, J, 2)   the input of the network
    joint_3d (N, J, 3)   its target: ground truth or, without 3D, triangulated
    truth    (N, J, 3)   ground truth for the score alone; NaN if there is none
    turn     (N, 3, 3)   rotation from view 1 to the virtual view that the network sees

    `find_camera` adds focal_len (N, 2) and residual (N, J, 2), the points minus the projected
    joints. `prepare_views` adds joint_2d_2 (N, J, 2), view 2 after `face_root`; image_1 and image_2
    (N, J, 2), both views divided by the focal length; rot (N, 3, 3); distance (N,) of the root from
    camera 2. Synthetic people have detected (N, 16, 3), joints and root as a detector shows them.
    """
    joints = {key: torch.as_tensor(array, device=device) for key, array in arrays.items()}
    joint_2d, truth = joints['joint_2d_1'], joints.get('joint_3d')
    joint_3d = joints.get('triangulated', truth)
    poses = {'joint_2d': joint_2d, 'joint_3d': joint_3d,
             'truth': torch.full_like(joint_3d, math.nan) if truth is None else truth,
             'turn': torch.eye(3, device=device).expand(len(joint_2d), 3, 3)}
    if 'residual' in joints:
        poses |= {'focal_len': joints['focal_len_1'], 'residual': joints['residual']}
    if 'triangulated' in joints:
        focal_len = joints['focal_len_1'][:, None]
        poses |= {'joint_2d_2': joints['joint_2d_2'], 'image_1': joint_2d / focal_len,
                  'image_2': joints['joint_2d_2'] / focal_len,
                  'rot': joints['rot'].view(-1, 3, 3), 'distance': joints['distance']}
    elif 'joint_detected' in joints and joint_2d.shape[1] == len(JOINTS):
        points = joints_of(np.asarray(arrays['joint_detected']))
        poses['detected'] = torch.as_tensor(points, device=device)
    return poses


def select(poses: dict, rows) -> dict[str, Tensor]:
    """Take these rows of every tensor."""
    return {key: value[rows] for key, value in poses.items()}
