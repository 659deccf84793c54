"""Errors between 3D poses, in the unit of the poses.

Each function takes pose_1, the prediction, and pose_2, the ground truth, as tensors or whatever
torch.as_tensor takes: one pose (J, 3), many (..., J, 3), or flat (3J,), (N, 3J), (N, 1, 3J).
As (..., J, 3) both must have the same shape. Other shapes raise ValueError. Results are tensors.
The root joint is not in the poses, so it is never counted.
"""
import torch
from torch import Tensor


def as_joints(pose) -> Tensor:
    """Bring a pose or many to joints (..., J, 3). Raises ValueError for another shape."""
    pose = torch.as_tensor(pose)
    pose = pose if pose.is_floating_point() else pose.float()
    shape = tuple(pose.shape)
    if shape[-1:] == (3,) and len(shape) > 1:
        return pose
    # (N, 3, 15) is refused: it is rather x, y, z of 15 joints than 3 flat poses of 5 joints
    flat = len(shape) in (1, 2) or len(shape) == 3 and shape[1] == 1
    if not flat or shape[-1] == 0 or shape[-1] % 3:
        raise ValueError(f'found a pose of shape {shape}, expected (..., J, 3) or flat (N, 3J)')
    return pose.reshape(-1, 3) if len(shape) == 1 else pose.reshape(shape[0], -1, 3)


def _poses(pose_1, pose_2) -> tuple[Tensor, Tensor]:
    joints = as_joints(pose_1), as_joints(pose_2)
    if joints[0].shape != joints[1].shape:
        raise ValueError(f'found poses of shapes {tuple(joints[0].shape)} and '
                         f'{tuple(joints[1].shape)}, expected the same')
    return joints


def _distances(pose_1, pose_2) -> Tensor:
    """Return the distance of each joint (..., J). Its gradient is zero if two joints coincide."""
    pose_1, pose_2 = _poses(pose_1, pose_2)
    return torch.linalg.vector_norm(pose_1 - pose_2, dim=-1)


def cal_mpjpe(pose_1, pose_2, avg: bool = True) -> Tensor:
    """Return the mean per-joint position error, or with avg=False that of each sample (...)."""
    error = _distances(pose_1, pose_2).mean(dim=-1)
    return error.mean() if avg else error


def cal_n_mpjpe(pose_1, pose_2, avg: bool = True, root=(0., 0., -1.)) -> Tensor:
    """Return MPJPE after the best scaling of pose_1 about the root (Rhodin et al., CVPR 2018).

    The scale is the least-squares one, and never negative: that would turn a pose inside out.
    """
    pose_1, pose_2 = _poses(pose_1, pose_2)
    root = torch.as_tensor(root, dtype=pose_1.dtype, device=pose_1.device)
    pose_1, pose_2 = pose_1 - root, pose_2 - root
    size = pose_1.square().sum(dim=(-2, -1), keepdim=True).clamp(min=torch.finfo(pose_1.dtype).tiny)
    scale = ((pose_1 * pose_2).sum(dim=(-2, -1), keepdim=True) / size).clamp(min=0)
    return cal_mpjpe(scale * pose_1, pose_2, avg)


def cal_pa_mpjpe(pose_1, pose_2, avg: bool = True) -> Tensor:
    """Return MPJPE after Procrustes alignment: the best rotation, scale and translation of pose_1
    (Umeyama, PAMI 1991).

    A mirror image is no rotation and stays wrong. If all joints of pose_1 coincide, they are put at
    the centre of pose_2.
    """
    pose_1, pose_2 = (pose.double() for pose in _poses(pose_1, pose_2))
    pose_1 = pose_1 - pose_1.mean(dim=-2, keepdim=True)
    pose_2 = pose_2 - pose_2.mean(dim=-2, keepdim=True)
    u, s, vh = torch.linalg.svd(pose_1.mT @ pose_2)  # (..., 3, 3), (..., 3), (..., 3, 3)
    sign = torch.ones_like(s)
    sign[..., 2] = torch.linalg.det(u @ vh).sign()   # -1 if the best fit is a reflection
    rotation = u * sign[..., None, :] @ vh
    size = pose_1.square().sum(dim=(-2, -1)).clamp(min=torch.finfo(s.dtype).tiny)
    scale = (s * sign).sum(dim=-1) / size
    return cal_mpjpe(scale[..., None, None] * pose_1 @ rotation, pose_2, avg)


def cal_joint_error(pose_1, pose_2) -> Tensor:
    """Return the mean error of each joint over the samples, (J,)."""
    distances = _distances(pose_1, pose_2)
    return distances.reshape(-1, distances.shape[-1]).mean(dim=0)


def cal_pck(pose_1, pose_2, thresholds=None) -> tuple[Tensor, Tensor]:
    """Return the fraction of joints within each of T rising thresholds (T,), and the area under
    that curve divided by its width.

    The default, 0 to 0.03, is at 5 m the 0 to 150 mm of Mehta et al., 3DV 2017.
    """
    return pck_of(_distances(pose_1, pose_2), thresholds)


def pck_of(distances: Tensor, thresholds=None) -> tuple[Tensor, Tensor]:
    """Return what `cal_pck` does, from the distances of the joints."""
    thresholds = torch.linspace(0, 0.03, 31) if thresholds is None else torch.as_tensor(thresholds)
    thresholds = thresholds.to(distances)
    pck = torch.stack([(distances <= most).to(distances.dtype).mean() for most in thresholds])
    return pck, torch.trapezoid(pck, thresholds) / (thresholds[-1] - thresholds[0])
