import pytest
import torch
from torch import nn

from made import ARRAYS, bare, random_pose, rendered_batch, truth_of
from metrics import cal_mpjpe, cal_pa_mpjpe
from pare.body import GENDERS, H36M, KEYPOINTS, Body, Skeleton
from pare.metrics import centre_of, evaluate, names_of, true_joints, validate, visible

CPU, SKELETON = torch.device('cpu'), Skeleton(ARRAYS)


class Fixed(nn.Module):
    """A regressor that finds what it is told, a batch at a time."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = iter(outputs)

    def forward(self, image):
        return next(self.outputs)


@pytest.fixture(scope='module')
def batch():
    return rendered_batch(10)


def test_the_truth_has_no_error_and_a_wrong_pose_that_of_its_joints(batch):
    betas, rotations = random_pose(10)
    wrong = truth_of(batch, betas=betas, rotations=rotations)
    wrong['camera'] = wrong['camera'] + .1
    found = evaluate(Fixed([truth_of(batch), wrong]), [batch, batch], SKELETON, CPU)
    torch.testing.assert_close(found['found'][:10], found['true'][:10])
    assert found['off'][:10].nanmean() < 1e-5
    joints = [torch.from_numpy(ARRAYS['J_regressor_h36m']) @ Body(ARRAYS)(*part)[0]
              for part in ((betas, rotations), (batch['betas'], batch['rotations']))]
    one, two = (part - part[:, :1] for part in joints)
    torch.testing.assert_close(found['found'][10:] - found['true'][10:], one - two, atol=1e-5,
                               rtol=0)
    off = found['off'][10:]
    assert off.isnan().equal(~visible(batch)) and 0 < off.isnan().sum() < 240
    result = validate(Fixed([wrong]), [batch], SKELETON, CPU, 64)  # in millimetres and pixels
    assert result == pytest.approx({
        'val_mpjpe': 1e3 * cal_mpjpe(one, two).item(), 'val_pixels': 32 * off.nanmean().item(),
        'val_pa_mpjpe': 1e3 * cal_pa_mpjpe(one, two).item()}, rel=1e-4)


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


def test_the_truth_is_of_the_gender_and_without_a_body_s(batch):
    """Against each sample alone."""
    wide = Skeleton(ARRAYS | {'v_template': 1.1 * ARRAYS['v_template']})
    given = torch.cat([torch.randn(10, 24, 3), torch.ones(10, 24, 1)], dim=2)
    batch = batch | {'points_3d': given, 'gender': torch.arange(10) % 3,
                     'has_smpl': (torch.arange(10) < 7).float()}
    found = true_joints(batch, SKELETON, {'m': wide})
    columns = [KEYPOINTS.index(name) for name in H36M]
    for row in range(10):
        own = wide if row % 3 == GENDERS.index('m') else SKELETON
        points = own(batch['betas'][[row]], batch['rotations'][[row]]).h36m[0]
        points = points if row < 7 else given[row, columns, :3]
        torch.testing.assert_close(found[row], points - points[0])


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
