"""Errors of a regressor over batches: 3D joints from the pelvis, and 2D keypoints in the crop."""
import torch
from torch import Tensor, nn

from metrics import cal_mpjpe, cal_pa_mpjpe
from pare.body import Skeleton, project
from pare.data import H36M_IN_S
from pare.losses import about_middle


def to(device: torch.device, batch: dict) -> dict:
    return {key: value.to(device, non_blocking=True) for key, value in batch.items()}


@torch.no_grad()
def evaluate(model: nn.Module, batches, skeleton: Skeleton, device: torch.device) -> dict:
    """Joints of H36M or, without them, keypoints: found and true (N, K, 3), in metres from the
    pelvis; and how far the keypoints fall off (N, 24), -1 to 1 being the crop, NaN where they are
    unknown or something hides them."""
    model.eval()
    result = {'found': [], 'true': [], 'off': []}
    for batch in batches:
        batch = to(device, batch)
        output = model(batch['image'])
        keypoints, joints = skeleton(output['betas'], output['rotations'])
        off = (project(keypoints, output['camera']) - batch['keypoints'][..., :2]).norm(dim=-1)
        result['found'].append(centred(keypoints, joints, skeleton).cpu())
        result['true'].append(true_joints(batch, skeleton).cpu())
        result['off'].append(off.where(visible(batch), torch.nan).cpu())
    return {key: torch.cat(parts) for key, parts in result.items()}


def centred(keypoints: Tensor, joints: Tensor, skeleton: Skeleton) -> Tensor:
    """Joints of H36M (B, 17, 3) from the pelvis or, where there are none, keypoints (B, 24, 3)
    about their middle."""
    return joints - joints[:, :1] if joints.shape[1] else about_middle(keypoints, skeleton)


def true_joints(batch: dict, skeleton: Skeleton) -> Tensor:
    """Joints (B, K, 3) as `centred`: of the true bodies or, without one, as S gives them, NaN where
    it does not."""
    joints = centred(*skeleton(batch['betas'], batch['rotations']), skeleton)
    if joints.shape[1] != len(H36M_IN_S):
        return joints
    given, sure = batch['points_3d'][:, H36M_IN_S].split((3, 1), dim=-1)
    given = given.where(sure > 0, torch.nan)
    return torch.where(batch['has_smpl'][:, None, None] > 0, joints, given - given[:, :1])


def visible(batch: dict) -> Tensor:
    """Which keypoints (B, 24) are known and lie on a part that is seen; all known ones where no
    part is labelled."""
    labels, xy = batch['labels'], batch['keypoints'][..., :2]
    side = labels.shape[1]
    column, row = ((xy + 1) * side / 2).long().clamp(0, side - 1).unbind(dim=-1)
    on_body = labels.flatten(1).gather(1, row * side + column) != 0
    return (batch['keypoints'][..., 2] > 0) & on_body


def complete(found: dict) -> tuple[Tensor, Tensor]:
    """Joints found and true of the samples of `evaluate` of which all are known."""
    known = ~found['true'].isnan().any(dim=(1, 2))
    return found['found'][known], found['true'][known]


def validate(model, batches, skeleton, device, resolution: int) -> dict[str, float]:
    """MPJPE and PA-MPJPE in mm; how far visible keypoints fall off, in pixels of the crop."""
    found = evaluate(model, batches, skeleton, device)
    joints, truth = complete(found)
    return {'val_mpjpe': 1000 * cal_mpjpe(joints, truth).item(),
            'val_pa_mpjpe': 1000 * cal_pa_mpjpe(joints, truth).item(),
            'val_pixels': found['off'].nanmean().item() * resolution / 2}


@torch.no_grad()
def mean_pose(betas: Tensor, rotations: Tensor, skeleton: Skeleton) -> Tensor:
    """The constant that a regressor must beat: the mean joints (K, 3) of people (N, 10),
    (N, 24, 3, 3), in metres from the pelvis."""
    device, sums = skeleton.rows.device, 0.
    for rows in torch.arange(len(betas)).split(1000):
        points, joints = skeleton(betas[rows].float().to(device), rotations[rows].to(device))
        sums = sums + centred(points, joints, skeleton).sum(dim=0)
    return (sums / len(betas)).cpu()
