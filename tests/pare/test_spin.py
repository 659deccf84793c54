import numpy as np
import torch

from made import annotations, grown, random_pose
from pare.body import KEYPOINTS, Body
from pare.files import load_annotations
from pare.spin import OPENPOSE, Spin, add_openpose

# SPIN's map: OpenPose's 25 among SMPL's 24 joints, then nose, eyes, ears, toes and heels
MAP = [24, 12, 17, 19, 21, 16, 18, 20, 0, 2, 5, 8, 1, 4, 7, 25, 26, 27, 28, *range(29, 35)]
VERTICES = [332, 6260, 2800, 4071, 583, 3216, 3226, 3387, 6617, 6624, 6787]


def test_the_joints_of_openpose_are_those_of_smpl():
    betas, rotations = random_pose(3)
    body = grown()
    mesh, joints = Body(body)(betas, rotations)
    expected = torch.cat([joints, mesh[:, VERTICES]], dim=1)[:, MAP]
    spin = Spin(body)
    found = spin(betas, rotations)
    assert spin.complete and found.shape == (3, 49, 3)
    torch.testing.assert_close(found[:, :25], expected)
    torch.testing.assert_close(found[:, 25:], spin.skeleton(betas, rotations).keypoints)


def test_openpose_fills_in_what_no_one_marked(tmp_path):
    rng = np.random.default_rng(0)
    openpose = rng.uniform(20, 90, (3, 25, 3))
    part = rng.uniform(20, 90, (3, 24, 3))
    part[1, 5:] = 0
    filled = add_openpose(part, openpose)
    for column, name in enumerate(KEYPOINTS):
        theirs = name in OPENPOSE and name not in ('RHip', 'LHip', 'Neck')
        for row in range(3):
            expected = (openpose[row, OPENPOSE.index(name)] if theirs and part[row, column, 2] == 0
                        else part[row, column])
            np.testing.assert_array_equal(filled[row, column], expected)
    found = load_annotations(annotations(tmp_path, part=None, openpose=openpose))
    expected = add_openpose(np.zeros((3, 24, 3)), openpose)
    np.testing.assert_allclose(found['part'], expected, rtol=1e-6)
