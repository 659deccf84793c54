"""Metrics against slow loops, by hand, and against another algorithm."""
import numpy as np
import pytest
import torch

from metrics import cal_joint_error, cal_mpjpe, cal_n_mpjpe, cal_pa_mpjpe, cal_pck

ROOT = np.array([0, 0, -1.])
ALL = (cal_mpjpe, cal_n_mpjpe, cal_pa_mpjpe)


def poses(n=6, joints=15, seed=0):
    rng = np.random.default_rng(seed)
    truth = ROOT + rng.normal(0, .1, (n, joints, 3))
    return truth + rng.normal(0, .03, truth.shape), truth


def random_rotation(rng):
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.linalg.det(q)


def horn(pose_1, pose_2):
    """Procrustes alignment of one pose by unit quaternions (Horn, 1987): an independent oracle."""
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


def slow_mpjpe(pose_1, pose_2):
    total = 0.
    for a, b in zip(pose_1, pose_2):
        for p, q in zip(a, b):
            total += sum((p[i] - q[i]) ** 2 for i in range(3)) ** .5
    return total / (len(pose_1) * len(pose_1[0]))


def test_mpjpe_by_hand():
    truth = np.zeros((2, 2, 3))
    found = np.array([[[3, 4, 0], [0, 0, 0]], [[0, 0, 1], [2, 3, 6]]], dtype=float)
    assert cal_mpjpe(found, truth).item() == pytest.approx((5 + 0 + 1 + 7) / 4)
    assert cal_mpjpe(found, truth, avg=False).tolist() == pytest.approx([2.5, 4])
    assert cal_joint_error(found, truth).tolist() == pytest.approx([3, 3.5])


def test_mpjpe_equals_a_slow_loop():
    found, truth = poses()
    assert cal_mpjpe(found, truth).item() == pytest.approx(slow_mpjpe(found, truth))


@pytest.mark.parametrize('metric', ALL)
def test_arrays_tensors_and_flat_poses_agree(metric):
    found, truth = poses()
    expected = metric(found, truth, avg=False)
    assert expected.shape == (6,)
    assert torch.equal(metric(torch.tensor(found), truth, avg=False), expected)
    assert torch.equal(metric(found.reshape(6, 45), truth.reshape(6, 45), avg=False), expected)
    assert torch.equal(metric(found.reshape(6, 45), truth, avg=False), expected)
    assert torch.equal(metric(found, truth.reshape(6, 45), avg=False), expected)
    assert metric(found, truth).item() == pytest.approx(expected.mean().item())


@pytest.mark.parametrize('metric', ALL + (cal_joint_error, cal_pck))
def test_shapes_that_differ_are_refused(metric):
    with pytest.raises(ValueError, match=r'\(6, 15, 3\) and \(15, 3\)'):
        metric(torch.zeros(6, 15, 3), torch.zeros(15, 3))


def test_pa_mpjpe_forgives_a_similarity_and_no_more():
    rng = np.random.default_rng(1)
    found, truth = poses()
    moved = np.stack([2.5 * pose @ random_rotation(rng).T + rng.normal(size=3) for pose in truth])
    assert cal_pa_mpjpe(moved, truth).item() < 1e-12
    assert cal_pa_mpjpe(found, truth) < cal_mpjpe(found, truth)


@pytest.mark.parametrize('mirrored', (False, True))
def test_pa_mpjpe_equals_horns_quaternions(mirrored):
    found, truth = poses(20)
    found = found * (-1, 1, 1) if mirrored else found
    expected = [slow_mpjpe([horn(a, b)], [b]) for a, b in zip(found, truth)]
    assert cal_pa_mpjpe(found, truth, avg=False).tolist() == pytest.approx(expected)
    assert not mirrored or min(expected) > .01  # a mirror image is no rotation


def test_pa_mpjpe_of_degenerate_poses():
    _, truth = poses(3)
    point, line, plane = np.ones((15, 3)), np.outer(np.arange(15.), (1, 2, 3)), truth[2] * (1, 1, 0)
    found = cal_pa_mpjpe(np.stack([point, line, plane]), truth, avg=False)
    at_centre = slow_mpjpe([np.tile(truth[0].mean(axis=0), (15, 1))], truth[:1])
    assert torch.isfinite(found).all()
    assert found[0].item() == pytest.approx(at_centre)
    assert cal_pa_mpjpe(truth, np.ones_like(truth)).item() < 1e-12  # all joints in one place


def test_n_mpjpe_forgives_a_scale_about_the_root():
    found, truth = poses()
    assert cal_n_mpjpe(ROOT + 3 * (truth - ROOT), truth).item() < 1e-12
    scales = np.linspace(.5, 1.5, 4001)
    for a, b, error in zip(found, truth, cal_n_mpjpe(found, truth, avg=False)):
        squared = [np.square(s * (a - ROOT) - (b - ROOT)).sum() for s in scales]
        best = ROOT + scales[np.argmin(squared)] * (a - ROOT)
        assert error.item() == pytest.approx(slow_mpjpe([best], [b]), rel=1e-3)


def test_n_mpjpe_never_turns_a_pose_inside_out():
    _, truth = poses()
    inside_out = ROOT - (truth - ROOT)
    assert cal_n_mpjpe(inside_out, truth).item() == pytest.approx(
        slow_mpjpe(np.zeros_like(truth) + ROOT, truth))


def test_pck_by_hand():
    truth = np.zeros((1, 4, 3))
    found = np.array([[[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 9]]], dtype=float)
    pck, area = cal_pck(found, truth, thresholds=[0, 1, 3])
    assert pck.tolist() == [.25, .5, .75]
    assert area.item() == pytest.approx(((.25 + .5) / 2 * 1 + (.5 + .75) / 2 * 2) / 3)
    assert cal_pck(truth, truth)[0].tolist() == [1] * 31


def test_gradient_is_right_and_zero_at_zero_error():
    found, truth = (torch.tensor(pose) for pose in poses(2, 3))
    assert torch.autograd.gradcheck(lambda pose: cal_mpjpe(pose, truth), found.requires_grad_())
    same = truth.clone().requires_grad_()
    cal_mpjpe(same, truth).backward()
    assert torch.equal(same.grad, torch.zeros_like(truth))


@pytest.mark.parametrize('metric', ALL)
def test_one_pose_many_and_flat_ones_have_the_same_errors(metric):
    found, truth = poses()
    expected = metric(found, truth, avg=False)
    for row in range(6):
        for one in (found[row], found[row].ravel(), found[row][None, None]):
            error = metric(one, truth[row] if one.ndim < 4 else truth[row][None, None])
            assert error.item() == pytest.approx(expected[row].item())
    for form in (found.reshape(6, 45), found.reshape(6, 1, 45), found.reshape(2, 3, 15, 3)):
        same = truth.reshape(form.shape) if form.ndim == 4 else truth
        assert metric(form, same, avg=False).flatten().tolist() == pytest.approx(expected.tolist())
    assert cal_joint_error(found[0], truth[0]).tolist() == pytest.approx(
        np.linalg.norm(found[0] - truth[0], axis=1).tolist())


@pytest.mark.parametrize('shape', ((), (4,), (6, 46), (6, 15, 2), (6, 3, 15), (6, 2, 45), (6, 0)))
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match='expected'):
        cal_mpjpe(np.zeros(shape), np.zeros(shape))
