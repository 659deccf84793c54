"""What the training minimises, after SPIN (Kolotouros et al., ICCV 2019) and PARE."""
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from pare.body import Skeleton, fit_camera, project
from pare.model import N_PARTS

BACKGROUND = .2  # weight of pixels without a part


def losses(found: dict, batch: dict, skeleton: Skeleton, squared: bool) -> dict[str, Tensor]:
    """The terms of the loss, without weights.

    Points of both kinds by their distance, or `squared` by the mean square of their coordinates,
    weighted by confidence, 3D from the middle of the hips in metres; rotations as matrices; parts
    by cross-entropy; places where the joints of the true body are; a prior keeps the scale
    positive. All in 3D are means over the samples that have it, as in SPIN.
    """
    has_smpl = batch['has_smpl']
    points, _ = skeleton(found['betas'], found['rotations'])
    with torch.no_grad():
        truth, sure, places = true_points(batch, skeleton)
    seen = batch['keypoints'][..., 2]  # 0 where the body has no such keypoint
    offset_2d = project(points, found['camera']) - batch['keypoints'][..., :2]
    offset_3d = about_middle(points, skeleton) - truth
    turned = (found['rotations'] - batch['rotations']).square().mean(dim=(1, 2, 3))
    shaped = (found['betas'] - batch['betas']).square().mean(dim=1)
    terms = {'keypoints': (seen * size(offset_2d, squared)).mean(),
             'points_3d': mean_of((sure * size(offset_3d, squared)).mean(dim=1),
                                  (sure > 0).any(dim=1)),
             'pose': mean_of(turned, has_smpl), 'betas': mean_of(shaped, has_smpl),
             'camera': (-20 * found['camera'][:, 0]).exp().mean()}
    if 'parts' in found:
        terms['parts'] = part_loss(found['parts'], batch['labels'])
        placed = has_smpl * ((seen > 0).sum(dim=1) > 2)  # the camera is known
        terms['places'] = mean_of(size(found['places'] - places, squared).mean(dim=1), placed)
    return terms


def about_middle(points: Tensor, skeleton: Skeleton) -> Tensor:
    """Keypoints (B, 24, 3) from the middle of the hips, or of the joints of `skeleton.centre`."""
    return points - points[:, skeleton.centre].mean(dim=1, keepdim=True)


def size(offset: Tensor, squared: bool) -> Tensor:
    """Lengths of offsets (..., C), or the mean squares of their coordinates."""
    return offset.square().mean(dim=-1) if squared else torch.linalg.vector_norm(offset, dim=-1)


def mean_of(values: Tensor, weight: Tensor) -> Tensor:
    return (weight * values).sum() / weight.sum().clamp(min=1)


def true_points(batch: dict, skeleton: Skeleton) -> tuple[Tensor, Tensor, Tensor]:
    """3D keypoints (B, 24, 3) about their middle, how sure they are (B, 24), and where the joints
    are in the crop (B, 24, 2).

    As in SPIN keypoints that are given go before those of the body; there must be the middle.
    """
    given = batch['points_3d']
    has_s = (given[:, skeleton.centre, 3:] > 0).all(dim=1, keepdim=True)         # (B, 1, 1)
    points, _ = skeleton(batch['betas'], batch['rotations'])
    joints = skeleton.body.posed_joints(batch['betas'], batch['rotations'])
    camera = fit_camera(points, batch['keypoints'][..., :2], batch['keypoints'][..., 2])
    truth = torch.where(has_s, given[..., :3], points)
    sure = torch.where(has_s[..., 0], given[..., 3], batch['has_smpl'][:, None] * skeleton.known)
    return about_middle(truth, skeleton), sure, project(joints, camera)


def part_loss(parts: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of maps (B, 25, H, W) at labels (B, h, w), where they are known, not -1."""
    labels = interpolate(labels[:, None].float(), parts.shape[2:], mode='nearest-exact')
    labels = labels[:, 0].long()
    weight = torch.ones(parts.shape[1], device=parts.device)
    weight[0] = BACKGROUND
    loss = cross_entropy(parts, labels, weight, ignore_index=-1, reduction='none')
    total = weight[labels.clamp(min=0)] * (labels >= 0)
    return (loss.sum(dim=(1, 2)) / total.sum(dim=(1, 2)).clamp(min=1)).mean()


def skeleton_loss(model: nn.Module, bodies: dict[str, Tensor], body: nn.Module) -> Tensor:
    """The loss of bodies without images: each part is told the noisy places of all joints, and
    nothing of what it looks like."""
    nothing = torch.zeros(len(bodies['seen']), N_PARTS, model.parts.in_channels
                          + model.reduce.out_channels, device=bodies['seen'].device)
    found = model.regress(nothing, bodies['seen'])
    joints, truth = (body.posed_joints(each['betas'], each['rotations'])
                     for each in (found, bodies))
    offset_2d = project(joints, found['camera']) - bodies['places']
    offset_3d = joints - joints[:, :1] - (truth - truth[:, :1])
    return (size(offset_2d, False).mean() + 2 * size(offset_3d, False).mean()
            + (found['rotations'] - bodies['rotations']).square().mean())
