"""Metrics against slow loops, values by hand, and another algorithm."""
import numpy as np
import pytest
import torch

from metrics import cal_joint_error, cal_mpjpe, cal_n_mpjpe, cal_pa_mpjpe, cal_pck

ROOT = np.array([0, 0, -1.])
ALL = cal_mpjpe, cal_n_mpjpe, cal_pa_mpjpe


def poses(n=6):
    rng = np.random.default_rng(0)
    truth = ROOT + rng.normal(0, .1, (n, 15, 3))
    return truth + rng.normal(0, .03, truth.shape), truth


def slow_mpjpe(pose_1, pose_2):
    total = 0.
    for a, b in zip(pose_1, pose_2):
        for p, q in zip(a, b):
            total += sum((p[i] - q[i]) ** 2 for i in range(3)) ** .5
    return total / (len(pose_1) * len(pose_1[0]))


def horn(pose_1, pose_2):
    """Align one pose with another by unit quaternions (Horn, 1987): an independent oracle."""
    x, y = pose_1 - pose_1.mean(axis=0), pose_2 - pose_2.mean(axis=0)
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = x.T @ y
    matrix = np.array([[xx + yy + zz, yz - zy, zx - xz, xy - yx],
                       [yz - zy, xx - yy - zz, xy + yx, zx + xz],
                       [zx - xz, xy + yx, yy - xx - zz, yz + zy],
                       [xy - yx, zx + xz, yz + zy, zz - xx - yy]])
    values, vectors = np.linalg.eigh(matrix)
    w, a, b, c = vectors[:, -1]
    rotation = np.array([[w*w + a*a - b*b - c*c, 2 * (a*b - w*c), 2 * (a*c + w*b)],
                         [2 * (a*b + w*c), w*w - a*a + b*b - c*c, 2 * (b*c - w*a)],
                         [2 * (a*c - w*b), 2 * (b*c + w*a), w*w - a*a - b*b + c*c]])
    scale = values[-1] / np.square(x).sum()
    return scale * x @ rotation.T + pose_2.mean(axis=0)


def test_mpjpe_by_hand_and_by_a_slow_loop():
    truth = np.zeros((2, 2, 3))
    found = np.array([[[3, 4, 0], [0, 0, 0]], [[0, 0, 1], [2, 3, 6]]], dtype=float)
    assert cal_mpjpe(found, truth, avg=False).tolist() == pytest.approx([2.5, 4])
    assert cal_joint_error(found, truth).tolist() == pytest.approx([3, 3.5])
    found, truth = poses()
    assert cal_mpjpe(found, truth).item() == pytest.approx(slow_mpjpe(found, truth))


@pytest.mark.parametrize('metric', ALL)
def test_poses_in_any_form_have_the_same_errors(metric):
    found, truth = poses()
    expected = metric(found, truth, avg=False)
    assert expected.shape == (6,)
    assert metric(found, truth).item() == pytest.approx(expected.mean().item())
    assert metric(found[2].ravel(), truth[2]).item() == pytest.approx(expected[2].item())
    for form in (torch.tensor(found), found.tolist(), found.reshape(6, 1, 45)):
        assert metric(form, truth, avg=False).tolist() == pytest.approx(expected.tolist())
    assert metric(found[None], truth[None], avg=False).shape == (1, 6)


@pytest.mark.parametrize('shapes', (
    2 * [()], 2 * [(6, 46)], 2 * [(6, 15, 2)], 2 * [(6, 3, 15)], 2 * [(6, 0)],
    [(6, 15, 3), (15, 3)]))
def test_other_shapes_are_refused(shapes):
    for metric in (*ALL, cal_joint_error, cal_pck):
        with pytest.raises(ValueError, match='expected'):
            metric(*map(np.zeros, shapes))


@pytest.mark.parametrize('mirrored', (False, True))
def test_pa_mpjpe_equals_horns_quaternions(mirrored):
    found, truth = poses(20)
    found = found * (-1, 1, 1) if mirrored else found
    expected = [slow_mpjpe([horn(a, b)], [b]) for a, b in zip(found, truth)]
    assert cal_pa_mpjpe(found, truth, avg=False).tolist() == pytest.approx(expected)
    assert not mirrored or min(expected) > .01  # a mirror image is no rotation
    point = cal_pa_mpjpe(np.ones((15, 3)), truth[0]).item()  # is put at the centre
    assert point == pytest.approx(slow_mpjpe([15 * [truth[0].mean(axis=0)]], truth[:1]))


def test_n_mpjpe_finds_the_best_scale_about_the_root():
    """Against a search over 4,001 scales."""
    found, truth = poses()
    scales = np.linspace(.5, 1.5, 4001)
    for a, b, error in zip(found, truth, cal_n_mpjpe(found, truth, avg=False)):
        squared = [np.square(s * (a - ROOT) - (b - ROOT)).sum() for s in scales]
        best = ROOT + scales[np.argmin(squared)] * (a - ROOT)
        assert error.item() == pytest.approx(slow_mpjpe([best], [b]), rel=1e-3)
    inside_out = ROOT - (truth - ROOT)  # the best scale is negative, so it becomes 0
    assert cal_n_mpjpe(inside_out, truth).item() == pytest.approx(
        slow_mpjpe(np.zeros_like(truth) + ROOT, truth))


def test_pck_by_hand():
    truth = np.zeros((1, 4, 3))
    found = np.array([[[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 9]]], dtype=float)
    pck, area = cal_pck(found, truth, thresholds=[0, 1, 3])
    assert pck.tolist() == [.25, .5, .75]
    assert area.item() == pytest.approx(((.25 + .5) / 2 * 1 + (.5 + .75) / 2 * 2) / 3)
    assert cal_pck(truth, truth)[0].tolist() == [1] * 31


def test_the_gradient_is_zero_at_zero_error():
    truth = torch.tensor(poses()[1])
    same = truth.clone().requires_grad_()
    cal_mpjpe(same, truth).backward()
    assert torch.equal(same.grad, torch.zeros_like(truth))
