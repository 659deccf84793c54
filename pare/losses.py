"""What the training minimises, after SPIN (Kolotouros et al., ICCV 2019) and PARE."""
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from pare.body import Points, Skeleton, fit_camera, project
from pare.model import N_PARTS

BACKGROUND = .2  # weight of pixels without a part


def losses(found: dict, batch: dict, skeleton: Skeleton, squared: bool) -> dict[str, Tensor]:
    """Compute the terms of the loss, without weights.

    Points are compared by distance or, if `squared`, by the mean square of their differences; both
    are weighted by confidence. 3D points are in metres, relative to their middle. Rotations are
    compared as matrices, parts by cross-entropy, places with the true 2D joints. A prior keeps the
    scale of the camera positive. Terms in 3D are means over the samples that have 3D, as in SPIN.
    """
    has_smpl, (places, weight) = batch['has_smpl'], batch['keypoints'].split((2, 1), dim=2)
    points, true = both_points(found, batch, skeleton, together=places.is_cuda)
    truth, sure = true_points(batch, true, skeleton)
    offset_2d = project(points, found['camera']) - places
    offset_3d = about_middle(points, skeleton) - truth
    pose_error = (found['rotations'] - batch['rotations']).square().mean(dim=(1, 2, 3))
    betas_error = (found['betas'] - batch['betas']).square().mean(dim=1)
    weight = weight.squeeze(2)  # (B, 24), 0 if the body has no such keypoint or it is unknown
    terms = {'keypoints': (weight * size(offset_2d, squared)).mean(),
             'points_3d': mean_of((sure * size(offset_3d, squared)).mean(dim=1),
                                  (sure > 0).any(dim=1)),
             'pose': mean_of(pose_error, has_smpl), 'betas': mean_of(betas_error, has_smpl),
             'camera': (-20 * found['camera'][:, 0]).exp().mean()}
    if 'parts' in found:
        joints = project(true.joints, fit_camera(true.keypoints, places, weight))
        known = has_smpl * ((weight > 0).sum(dim=1) > 2)  # enough keypoints to fit the camera
        terms['parts'] = part_loss(found['parts'], batch['labels'])
        terms['places'] = mean_of(size(found['places'] - joints, squared).mean(dim=1), known)
    return terms


def both_points(found: dict, batch: dict, skeleton: Skeleton,
                together: bool) -> tuple[Tensor, Points]:
    """Return keypoints (B, 24, 3) of the found bodies, and the points of the true ones.

    One call for both, `together`, has half the kernels, which counts on a GPU. On a CPU it is
    slower, since it computes gradients of the true bodies too.
    """
    if not together:
        with torch.no_grad():
            true = skeleton(batch['betas'], batch['rotations'])
        return skeleton(found['betas'], found['rotations']).keypoints, true
    both = skeleton(*(torch.cat([found[key], batch[key]]) for key in ('betas', 'rotations')))
    n = len(found['betas'])
    return both.keypoints[:n], Points(*(part[n:].detach() for part in both))


def about_middle(points: Tensor, skeleton: Skeleton) -> Tensor:
    """Subtract from keypoints (B, 24, 3) their middle: the mean of two, `skeleton.centre`."""
    return points - points[:, skeleton.centre].mean(dim=1, keepdim=True)


def size(offset: Tensor, squared: bool) -> Tensor:
    """Return lengths of offsets (..., C), or the mean squares of their coordinates."""
    return offset.square().mean(dim=-1) if squared else torch.linalg.vector_norm(offset, dim=-1)


def mean_of(values: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean; 0 without any weight."""
    return (weight * values).sum() / weight.sum().clamp(min=1)


def true_points(batch: dict, true: Points, skeleton: Skeleton) -> tuple[Tensor, Tensor]:
    """Return 3D keypoints (B, 24, 3) about their middle and their confidence (B, 24).

    As in SPIN, the keypoints S of the file replace those of the true body, if S has the keypoints
    of the middle.
    """
    given, sure = batch['points_3d'].split((3, 1), dim=2)
    has_s = (sure[:, skeleton.centre] > 0).all(dim=1, keepdim=True)          # (B, 1, 1)
    truth = torch.where(has_s, given, true.keypoints)
    of_body = batch['has_smpl'][:, None] * skeleton.known
    return about_middle(truth, skeleton), torch.where(has_s[..., 0], sure[..., 0], of_body)


def part_loss(parts: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of maps (B, 25, H, W) at labels (B, h, w); -1 is unknown."""
    labels = interpolate(labels[:, None].float(), parts.shape[2:], mode='nearest-exact')
    labels = labels[:, 0].long()
    weight = torch.ones(parts.shape[1], device=parts.device)
    weight[0] = BACKGROUND
    loss = cross_entropy(parts, labels, weight, ignore_index=-1, reduction='none')
    total = weight[labels.clamp(min=0)] * (labels >= 0)
    return (loss.sum(dim=(1, 2)) / total.sum(dim=(1, 2)).clamp(min=1)).mean()


def skeleton_loss(model: nn.Module, bodies: dict[str, Tensor], body: nn.Module) -> Tensor:
    """Return the loss of bodies without images.

    Each MLP gets the noisy places of all joints, and zeros instead of image features.
    """
    nothing = torch.zeros(len(bodies['seen']), N_PARTS, model.parts.in_channels
                          + model.reduce.out_channels, device=bodies['seen'].device)
    found = model.regress(nothing, bodies['seen'])
    joints, truth = body.posed_joints(found['betas'], found['rotations']), bodies['joints']
    offset_2d = project(joints, found['camera']) - bodies['places']
    offset_3d = joints - joints[:, :1] - (truth - truth[:, :1])
    return (size(offset_2d, False).mean() + 2 * size(offset_3d, False).mean()
            + (found['rotations'] - bodies['rotations']).square().mean())
