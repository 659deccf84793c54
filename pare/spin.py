"""The 49 joints of SPIN: 25 of OpenPose, then the 24 keypoints.

Programs that follow SPIN (Kolotouros et al., ICCV 2019) score them relative to joint 0, the nose.
"""
import numpy as np
import torch
from torch import Tensor, nn

from pare.body import FACE, JOINTS, KEYPOINTS, Body, Skeleton

OPENPOSE = ('Nose', 'Neck', 'RShoulder', 'RElbow', 'RWrist', 'LShoulder', 'LElbow', 'LWrist',
            'MidHip', 'RHip', 'RKnee', 'RAnkle', 'LHip', 'LKnee', 'LAnkle', 'REye', 'LEye', 'REar',
            'LEar', 'LBigToe', 'LSmallToe', 'LHeel', 'RBigToe', 'RSmallToe', 'RHeel')  # BODY_25
FEET = {'LBigToe': 3216, 'LSmallToe': 3226, 'LHeel': 3387, 'RBigToe': 6617, 'RSmallToe': 6624,
        'RHeel': 6787}  # vertices of SMPL
SAME = [name for name in OPENPOSE if name in KEYPOINTS and not name.endswith(('Hip', 'Neck'))]
N_SPIN = len(OPENPOSE) + len(KEYPOINTS)


class Spin(nn.Module):
    """Computes the 49 joints of a body. `complete` tells if it has all: it needs
    J_regressor_extra, and vertices of the face and the feet."""

    def __init__(self, arrays: dict):
        super().__init__()
        self.skeleton = Skeleton(arrays)
        self.complete = bool(self.skeleton.known.all()) and 'feet' in arrays
        if self.complete:
            self.vertices = Body(arrays, np.concatenate([arrays['face'], arrays['feet']]))
            names = [*FACE, *FEET, *JOINTS]
            self.order = [names.index('Pelvis' if name == 'MidHip' else name) for name in OPENPOSE]

    def forward(self, betas: Tensor, rotations: Tensor) -> Tensor:
        """Compute joints (B, 49, 3) in metres, of betas (B, 10) and rotations (B, 24, 3, 3)."""
        openpose = torch.cat(self.vertices(betas, rotations), dim=1)[:, self.order]
        return torch.cat([openpose, self.skeleton(betas, rotations).keypoints], dim=1)


def add_openpose(part: np.ndarray, openpose: np.ndarray) -> np.ndarray:
    """Replace keypoints (N, 24, 3) whose confidence is 0 by those of OpenPose (N, 25, 3).

    Hips and neck are left out: OpenPose defines them differently.
    """
    ours, theirs = ([names.index(name) for name in SAME] for names in (KEYPOINTS, OPENPOSE))
    filled = part.copy()
    filled[:, ours] = np.where(part[:, ours, 2:] > 0, part[:, ours], openpose[:, theirs])
    return filled
