"""Errors between 3D poses, in the unit of the poses.

Each function takes pose_1, the prediction, and pose_2, the ground truth: (N, J, 3) or (N, 3J), as
tensors or whatever torch.as_tensor takes, also one of each. It returns tensors, and raises
ValueError where the poses are not as many or not of as many joints. The root joint is not in the
poses, so it is never counted.
"""
import torch
from torch import Tensor


def _poses(pose_1, pose_2) -> tuple[Tensor, Tensor]:
    given = torch.as_tensor(pose_1), torch.as_tensor(pose_2)
    flat = [pose.ndim == 2 and pose.shape[1] % 3 == 0 for pose in given]
    pose_1, pose_2 = (pose.unflatten(1, (-1, 3)) if is_flat else pose
                      for pose, is_flat in zip(given, flat))
    if pose_1.shape != pose_2.shape:
        raise ValueError(f'found poses of shapes {tuple(given[0].shape)} and '
                         f'{tuple(given[1].shape)}, expected the same')
    return pose_1, pose_2


def _distances(pose_1, pose_2) -> Tensor:
    """Distance of each joint (N, J). Its gradient is zero, not NaN, where two joints coincide."""
    pose_1, pose_2 = _poses(pose_1, pose_2)
    return torch.linalg.vector_norm(pose_1 - pose_2, dim=-1)


def cal_mpjpe(pose_1, pose_2, avg: bool = True) -> Tensor:
    """Mean per-joint position error over all samples, or with avg=False of each sample (N,)."""
    error = _distances(pose_1, pose_2).mean(dim=-1)
    return error.mean() if avg else error


def cal_n_mpjpe(pose_1, pose_2, avg: bool = True, root=(0., 0., -1.)) -> Tensor:
    """MPJPE after the best scaling of pose_1 about the root (Rhodin et al., CVPR 2018).

    The scale is the least-squares one, and never negative: that would turn a pose inside out.
    """
    pose_1, pose_2 = _poses(pose_1, pose_2)
    root = torch.as_tensor(root, dtype=pose_1.dtype, device=pose_1.device)
    pose_1, pose_2 = pose_1 - root, pose_2 - root
    size = pose_1.square().sum(dim=(1, 2)).clamp(min=torch.finfo(pose_1.dtype).tiny)
    scale = ((pose_1 * pose_2).sum(dim=(1, 2)) / size).clamp(min=0)
    return cal_mpjpe(scale[:, None, None] * pose_1, pose_2, avg)


def cal_pa_mpjpe(pose_1, pose_2, avg: bool = True) -> Tensor:
    """MPJPE after Procrustes alignment: the best rotation, scale and translation of pose_1
    (Umeyama, PAMI 1991).

    A mirror image is no rotation and stays wrong. Where all joints of pose_1 coincide, they are
    put at the centre of pose_2.
    """
    pose_1, pose_2 = (pose.double() for pose in _poses(pose_1, pose_2))
    pose_1 = pose_1 - pose_1.mean(dim=1, keepdim=True)
    pose_2 = pose_2 - pose_2.mean(dim=1, keepdim=True)
    u, s, vh = torch.linalg.svd(pose_1.mT @ pose_2)  # (N, 3, 3), (N, 3), (N, 3, 3)
    sign = torch.ones_like(s)
    sign[:, 2] = torch.linalg.det(u @ vh).sign()     # -1 where the best fit is a reflection
    rotation = u * sign[:, None] @ vh
    size = pose_1.square().sum(dim=(1, 2)).clamp(min=torch.finfo(s.dtype).tiny)
    scale = (s * sign).sum(dim=1) / size
    return cal_mpjpe(scale[:, None, None] * pose_1 @ rotation, pose_2, avg)


def cal_joint_error(pose_1, pose_2) -> Tensor:
    """Mean error of each joint over the samples, (J,)."""
    return _distances(pose_1, pose_2).mean(dim=0)


def cal_pck(pose_1, pose_2, thresholds=None) -> tuple[Tensor, Tensor]:
    """Share of joints no farther off than each of T rising thresholds (T,), and the area under
    that curve as a share of its width.

    The default, 0 to 0.03, is at 5 m the 0 to 150 mm of Mehta et al., 3DV 2017.
    """
    distances = _distances(pose_1, pose_2).flatten()
    thresholds = torch.linspace(0, 0.03, 31) if thresholds is None else torch.as_tensor(thresholds)
    thresholds = thresholds.to(distances)
    pck = torch.stack([(distances <= most).to(distances.dtype).mean() for most in thresholds])
    return pck, torch.trapezoid(pck, thresholds) / (thresholds[-1] - thresholds[0])
