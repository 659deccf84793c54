import numpy as np
import pytest
import torch

from made import ARRAYS, annotations, bare, grown, random_pose
from pare.body import KEYPOINTS, Body
from pare.files import load_annotations
from pare.metrics import Meshes
from pare.spin import FEET, OPENPOSE, Spin, add_openpose

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


def test_the_stand_in_has_toes_ahead_of_heels_and_left_of_right():
    found = dict(zip(FEET, ARRAYS['v_template'][ARRAYS['feet']]))
    assert Spin(ARRAYS).complete
    for side, sign in (('L', 1), ('R', -1)):
        big, small, heel = (found[f'{side}{name}'] for name in ('BigToe', 'SmallToe', 'Heel'))
        assert big[2] > small[2] > heel[2] and sign * small[0] > sign * big[0] > 0
        assert max(big[1], small[1], heel[1]) < -.8  # below the pelvis
    for name, changed in (('feet', ARRAYS), ('extra', bare())):
        assert not Spin({key: array for key, array in changed.items() if key != name}).complete


def test_49_joints_are_measured_from_the_nose_with_the_true_gender():
    """Against the definition, a person at a time."""
    wide = ARRAYS | {'v_template': 1.1 * ARRAYS['v_template']}
    betas, rotations = random_pose(3)
    other_betas, other = random_pose(3, seed=1)
    batch = {'labels': torch.zeros(3, 16, 16), 'betas': betas, 'rotations': rotations,
             'has_smpl': torch.tensor([1., 1, 0]), 'points_3d': torch.zeros(3, 24, 4),
             'gender': torch.tensor([0, 2, 0])}
    measure = Meshes({'neutral': ARRAYS, 'f': wide}, torch.device('cpu'))
    found = measure({'betas': other_betas, 'rotations': other}, batch)
    for row, true_body in enumerate((ARRAYS, wide)):
        joints = Spin(ARRAYS)(other_betas[row:row + 1], other[row:row + 1])[0].numpy()
        truth = Spin(true_body)(betas[row:row + 1], rotations[row:row + 1])[0].numpy()
        expected = np.mean([np.linalg.norm(joints[k] - joints[0] - truth[k] + truth[0])
                            for k in range(49)])
        error = (found['found_49'][row] - found['true_49'][row]).norm(dim=1).mean().item()
        assert error == pytest.approx(expected, rel=1e-5) and error > .1
    assert found['true_49'][2].isnan().all()
    without = Meshes({'neutral': bare()}, torch.device('cpu'))(
        {'betas': betas, 'rotations': rotations}, batch)
    assert not without.keys() & {'found_49', 'found_14'} and without['vertices'][0] < 1e-6


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
    elbow = KEYPOINTS.index('LElbow')
    np.testing.assert_allclose(found['part'][:, elbow], openpose[:, OPENPOSE.index('LElbow')],
                               rtol=1e-6)
    assert 'openpose' not in found and not found['part'][:, KEYPOINTS.index('LHip')].any()
