import numpy as np
import pytest
import torch
from torch import nn

from made import ARRAYS, bare, random_pose
from metrics import cal_mpjpe, cal_pa_mpjpe
from pare.body import GENDERS, H36M, KEYPOINTS, Body, Skeleton, fit_camera
from pare.metrics import (centre_of, evaluate, mean_pose, names_of, true_joints, validate,
                          visible)
from pare.people import rendered_samples

CPU, SKELETON = torch.device('cpu'), Skeleton(ARRAYS)
BARE = Skeleton(bare())


class Fixed(nn.Module):
    """A regressor that finds what it is told, a batch at a time."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = iter(outputs)

    def forward(self, image):
        return next(self.outputs)


@pytest.fixture(scope='module')
def batch():
    return torch.utils.data.default_collate(rendered_samples(10, 64, 5)[0])


def truth_of(batch, **changes):
    points = SKELETON(batch['betas'], batch['rotations']).keypoints
    places, weight = batch['keypoints'].split((2, 1), dim=2)
    return {'betas': batch['betas'], 'rotations': batch['rotations'],
            'camera': fit_camera(points, places, weight[..., 0])} | changes


def test_the_truth_has_no_error_and_a_wrong_pose_that_of_its_joints(batch):
    betas, rotations = random_pose(10)
    found = evaluate(Fixed([truth_of(batch), truth_of(batch, betas=betas, rotations=rotations)]),
                     [batch, batch], SKELETON, CPU)
    torch.testing.assert_close(found['found'][:10], found['true'][:10])
    assert found['off'][:10].nanmean() < 1e-5
    joints = [torch.from_numpy(ARRAYS['J_regressor_h36m']) @ Body(ARRAYS)(*part)[0]
              for part in ((betas, rotations), (batch['betas'], batch['rotations']))]
    expected = np.linalg.norm((joints[0] - joints[0][:, :1]) - (joints[1] - joints[1][:, :1]),
                              axis=2).mean(axis=1)
    np.testing.assert_allclose(cal_mpjpe(found['found'][10:], found['true'][10:], avg=False),
                               expected, rtol=1e-4)


def test_validation_is_in_millimetres_and_pixels(batch):
    betas, rotations = random_pose(10)
    output = truth_of(batch, betas=betas, rotations=rotations)
    output['camera'] = output['camera'] + .1
    result = validate(Fixed([output]), [batch], SKELETON, CPU, 64)
    found = evaluate(Fixed([output]), [batch], SKELETON, CPU)
    assert result['val_mpjpe'] == pytest.approx(1e3 * cal_mpjpe(found['found'], found['true']))
    assert result['val_pa_mpjpe'] == pytest.approx(1e3 * cal_pa_mpjpe(found['found'],
                                                                      found['true']))
    off = found['off'][visible(batch)]
    assert result['val_pixels'] == pytest.approx(32 * off.mean().item())
    assert found['off'].isnan().equal(~visible(batch)) and 0 < len(off) < 240


def test_keypoints_are_visible_on_parts_that_are_seen():
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    labels[0, 1, 2] = 7                         # x in 0 to .5, y in -.5 to 0
    keypoints = torch.zeros(1, 24, 3)
    keypoints[0, :6] = torch.tensor([[.25, -.25, 1], [.49, -.01, 1], [.25, -.25, 0],
                                     [-.25, -.25, 1], [.25, .25, 1], [5, -9, 1]])
    seen = visible({'labels': labels, 'keypoints': keypoints})[0]
    assert seen[:6].tolist() == [True, True, False, False, False, False] and not seen[6:].any()
    unknown = visible({'labels': torch.full_like(labels, -1), 'keypoints': keypoints})[0]
    assert unknown[:6].tolist() == [True, True, False, True, True, True] and not unknown[6:].any()


def test_without_a_body_the_joints_are_those_of_s(batch):
    """Human3.6M's from its pelvis; a body goes before S."""
    given = torch.cat([torch.randn(10, 24, 3), torch.ones(10, 24, 1)], dim=2)
    changed = batch | {'points_3d': given, 'has_smpl': (torch.arange(10) < 4).float()}
    found = true_joints(changed, SKELETON)
    torch.testing.assert_close(found[:4], true_joints(batch, SKELETON)[:4])
    for column, name in enumerate(H36M):
        expected = given[4:, KEYPOINTS.index(name), :3] - given[4:, KEYPOINTS.index('Pelvis'), :3]
        torch.testing.assert_close(found[4:, column], expected)


def test_without_a_regressor_keypoints_are_compared(batch):
    """Those alone that the body has, from the middle of the shoulders."""
    skeleton = Skeleton({key: array for key, array in bare().items() if key != 'face'})
    found = true_joints(batch, skeleton)
    every = skeleton(batch['betas'], batch['rotations']).keypoints
    shoulders = [KEYPOINTS.index(name) for name in ('RShoulder', 'LShoulder')]
    for number, name in enumerate(names_of(skeleton)):
        expected = every[:, KEYPOINTS.index(name)] - every[:, shoulders].mean(dim=1)
        torch.testing.assert_close(found[:, number], expected)
    assert found.shape == (10, 10, 3) and '10 keypoints of SPIN' in centre_of(skeleton)


def test_bodies_of_a_gender_are_the_truth(batch):
    """Against each sample alone."""
    wide = Skeleton(ARRAYS | {'v_template': 1.1 * ARRAYS['v_template']})
    batch = batch | {'gender': torch.arange(10) % 3}
    found = true_joints(batch, SKELETON, {'m': wide})
    for row in range(10):
        own = wide if row % 3 == GENDERS.index('m') else SKELETON
        points = own(batch['betas'][row:row + 1], batch['rotations'][row:row + 1]).h36m[0]
        torch.testing.assert_close(found[row], points - points[0])


@pytest.mark.parametrize('skeleton', (SKELETON, BARE))
def test_the_mean_pose_is_the_mean_of_the_joints(skeleton):
    """More people than are taken at a time."""
    betas, rotations = random_pose(1100)
    every = true_joints({'betas': betas, 'rotations': rotations, 'has_smpl': torch.ones(1100),
                         'points_3d': torch.zeros(1100, 24, 4)}, skeleton)
    torch.testing.assert_close(mean_pose(betas.double(), rotations, skeleton), every.mean(dim=0),
                               atol=1e-5, rtol=0)
