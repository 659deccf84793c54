"""Errors of a regressor: 3D joints from the pelvis, 2D keypoints in the crop, vertices, and where
the attention points."""
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from metrics import cal_mpjpe, cal_pa_mpjpe
from pare.body import EVALUATED, H36M, Body, Skeleton, project
from pare.data import H36M_IN_S
from pare.losses import about_middle

ROWS = [H36M.index(name) for name in EVALUATED]


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
    places, known = batch['keypoints'].split((2, 1), dim=-1)
    return (known[..., 0] > 0) & on_part(places, batch['labels'])


def on_part(places: Tensor, labels: Tensor) -> Tensor:
    """Which places (B, K, 2) of the crop lie on a part in labels (B, h, w), or where none is
    known."""
    side = labels.shape[1]
    column, row = ((places + 1) * side / 2).long().clamp(0, side - 1).unbind(dim=-1)
    return labels.flatten(1).gather(1, row * side + column) != 0


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


# ---- the protocol of 3DPW, and where the attention points --------------------------------------

@torch.no_grad()
def measure(model: nn.Module, samples, bodies: dict, genders, device: torch.device) -> dict:
    """The 14 joints of 3DPW from the pelvis, found and true (N, 14, 3), in metres; per-vertex error
    (N,); and for part attention labels (N, h, w) of the parts and the cells (N, 24) where it peaks,
    and the mean map's.

    The found body is of bodies['neutral'], the true one of each sample's gender (N,). Where a
    sample has no body, its joints S are the truth and its vertices have an error of NaN.
    """
    layers = {gender: Body(arrays).to(device) for gender, arrays in bodies.items()}
    regressor = torch.from_numpy(bodies['neutral']['J_regressor_h36m']).to(device)
    parts, start = {'found': [], 'true': [], 'vertices': [], 'labels': [], 'peaks': []}, 0
    total = 0.
    for batch in DataLoader(samples, 32):
        batch = to(device, batch)
        output = model(batch['image'])
        mesh, _ = layers['neutral'](output['betas'], output['rotations'])
        chosen, start = genders[start:start + len(mesh)], start + len(mesh)
        truth = torch.empty_like(mesh)
        for gender in set(chosen):
            rows = torch.tensor([other == gender for other in chosen], device=device)
            truth[rows] = layers[gender](batch['betas'][rows], batch['rotations'][rows])[0]
        has_smpl, given = batch['has_smpl'] > 0, batch['points_3d'][:, H36M_IN_S, :3]
        found, true = regressor @ mesh, regressor @ truth
        true = torch.where(has_smpl[:, None, None], true, given)
        for key, joints in (('found', found), ('true', true)):
            parts[key].append(joints[:, ROWS] - joints[:, :1])
        parts['vertices'].append((mesh - truth).norm(dim=-1).mean(dim=1).where(has_smpl, torch.nan))
        if 'attention' in output:
            parts['labels'].append(shrunk(batch['labels'], output['attention']))
            parts['peaks'].append(output['attention'].flatten(2).argmax(dim=2))
            total = total + output['attention'].sum(dim=0)
    result = {key: torch.cat(values).cpu() for key, values in parts.items() if values}
    return result | ({'mean_peak': total.flatten(1).argmax(dim=1).cpu()} if parts['peaks'] else {})


def shrunk(labels: Tensor, maps: Tensor) -> Tensor:
    """Labels (B, h, w) as bytes at the size of maps (B, C, H, W), each the nearest; 0 where they
    are not known."""
    labels = labels.clamp(min=0)[:, None].float()
    return nn.functional.interpolate(labels, maps.shape[2:], mode='nearest-exact')[:, 0].byte()


def pointing(peaks: Tensor, labels: Tensor) -> Tensor:
    """For each image and part (B, 24) 1 where a cell (B, 24), counted row by row, is at most one
    from the part in labels (B, H, W), 0 where it is not, -1 where the part is not seen."""
    width = labels.shape[2]
    corner = peaks // width * (width + 2) + peaks % width  # of the window, where labels are padded
    window = torch.arange(3)[:, None] * (width + 2) + torch.arange(3)
    cells = (corner[..., None] + window.flatten()).flatten(1)                     # (B, 24 * 9)
    near = nn.functional.pad(labels, (1, 1, 1, 1)).flatten(1).gather(1, cells).unflatten(1, (24, 9))
    hits = (near == torch.arange(1, 25)[:, None]).any(dim=2).long()
    seen = torch.stack([(labels == part).flatten(1).any(dim=1) for part in range(1, 25)], dim=1)
    return hits.where(seen, -1)


def pointed(found: dict) -> dict[str, float]:
    """Shares in % of visible parts at which the attention points, and two that know nothing of the
    image: the mean map of all images, and the map of another image."""
    peaks, shares = found['peaks'], {}
    for name, cells in (('attention', peaks), ('other map', peaks.roll(1, 0)),
                        ('mean map', found['mean_peak'].expand_as(peaks))):
        hits = pointing(cells, found['labels'])
        shares[name] = 100 * hits[hits >= 0].float().mean().item()
    return shares
