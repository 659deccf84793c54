"""Errors of a regressor: 3D joints, 2D keypoints, vertices, and places of the attention."""
import torch
from torch import Tensor, nn

from metrics import cal_mpjpe, cal_pa_mpjpe
from pare.body import EVALUATED, GENDERS, H36M, H36M_IN_S, Body, Points, Skeleton, project
from pare.losses import about_middle

ROWS = [H36M.index(name) for name in EVALUATED]


def to(device: torch.device, batch: dict) -> dict:
    """Copy the tensors of a batch to a device."""
    return {key: value.to(device, non_blocking=True) for key, value in batch.items()}


@torch.no_grad()
def evaluate(model: nn.Module, batches, skeleton: Skeleton, device: torch.device,
             measure=lambda output, batch: {}) -> dict[str, Tensor]:
    """Compare what a network finds with the truth.

    Returns joints of H36M or, without them, keypoints, `found` and `true` (N, K, 3), in metres from
    the pelvis. `off` (N, 24) are the distances of the projected keypoints, -1 to 1 being the crop,
    NaN if a keypoint is unknown or hidden. Adds what measure(output, batch) returns for a batch.
    """
    model.eval()
    parts = []
    for batch in batches:
        batch = to(device, batch)
        output = model(batch['image'])
        points = skeleton(output['betas'], output['rotations'])
        off = project(points.keypoints, output['camera']) - batch['keypoints'][..., :2]
        part = {'found': centred(points, skeleton), 'true': true_joints(batch, skeleton),
                'off': off.norm(dim=-1).where(visible(batch), torch.nan)}
        parts.append({key: value.cpu() for key, value in (part | measure(output, batch)).items()})
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def centred(points: Points, skeleton: Skeleton) -> Tensor:
    """Take joints of H36M (B, 17, 3) from the pelvis or, without them, keypoints (B, 24, 3) from
    their middle."""
    if not points.h36m.shape[1]:
        return about_middle(points.keypoints, skeleton)
    return points.h36m - points.h36m[:, :1]


def true_joints(batch: dict, skeleton: Skeleton) -> Tensor:
    """Return true joints (B, K, 3) as `centred`; without a true body those of S, or NaN."""
    joints = centred(skeleton(batch['betas'], batch['rotations']), skeleton)
    if joints.shape[1] != len(H36M_IN_S):
        return joints
    given, sure = batch['points_3d'][:, H36M_IN_S].split((3, 1), dim=-1)
    given = given.where(sure > 0, torch.nan)
    return torch.where(batch['has_smpl'][:, None, None] > 0, joints, given - given[:, :1])


def visible(batch: dict) -> Tensor:
    """Tell which keypoints (B, 24) are known and, if there are labels, on a part."""
    places, known = batch['keypoints'].split((2, 1), dim=-1)
    return (known[..., 0] > 0) & on_part(places, batch['labels'])


def on_part(places: Tensor, labels: Tensor) -> Tensor:
    """Tell which places (B, K, 2) of the crop have a part or an unknown label (B, h, w)."""
    side = labels.shape[1]
    column, row = ((places + 1) * side / 2).long().clamp(0, side - 1).unbind(dim=-1)
    return labels.flatten(1).gather(1, row * side + column) != 0


def complete(found: dict) -> tuple[Tensor, Tensor]:
    """Return joints found and true of those samples of `evaluate` whose true joints are known."""
    known = ~found['true'].isnan().any(dim=(1, 2))
    return found['found'][known], found['true'][known]


def validate(model, batches, skeleton, device, resolution: int) -> dict[str, float]:
    """Return MPJPE and PA-MPJPE in mm, and the error of visible keypoints in pixels of the crop."""
    found = evaluate(model, batches, skeleton, device)
    joints, truth = complete(found)
    return {'val_mpjpe': 1000 * cal_mpjpe(joints, truth).item(),
            'val_pa_mpjpe': 1000 * cal_pa_mpjpe(joints, truth).item(),
            'val_pixels': found['off'].nanmean().item() * resolution / 2}


@torch.no_grad()
def mean_pose(betas: Tensor, rotations: Tensor, skeleton: Skeleton) -> Tensor:
    """Return the constant that a regressor must beat: the mean joints (K, 3) of people (N, 10),
    (N, 24, 3, 3), in metres from the pelvis."""
    device, sums = skeleton.rows.device, 0.
    for rows in torch.arange(len(betas)).split(1000):
        points = skeleton(betas[rows].float().to(device), rotations[rows].to(device))
        sums = sums + centred(points, skeleton).sum(dim=0)
    return (sums / len(betas)).cpu()


# ---- the protocol of 3DPW, and places of the attention ------------------------------------------

class Meshes:
    """Measures whole bodies and the attention, as the `measure` of `evaluate`.

    The found body is of bodies['neutral'], the true one of the gender of each sample, if `bodies`
    has it. `attention` (24, H, W) is the sum of all maps.
    """

    def __init__(self, bodies: dict, device: torch.device):
        layers = {gender: Body(arrays).to(device) for gender, arrays in bodies.items()}
        self.layers = [layers.get(gender, layers['neutral']) for gender in GENDERS]
        self.regressor = torch.from_numpy(bodies['neutral']['J_regressor_h36m']).to(device)
        self.attention = 0.

    def __call__(self, output: dict, batch: dict) -> dict[str, Tensor]:
        """Return the 14 joints of 3DPW, found and true, and the mean errors of vertices (B,).

        Joints (B, 14, 3) are in metres from the pelvis. Without a body, S is the truth and the
        error of vertices NaN. With attention, also returns labels (B, h, w) of the parts at the
        size of the maps, and the cells (B, 24) of the peaks.
        """
        mesh, _ = self.layers[0](output['betas'], output['rotations'])
        truth = torch.empty_like(mesh)
        for number, layer in enumerate(self.layers):
            rows = batch['gender'] == number
            truth[rows], _ = layer(batch['betas'][rows], batch['rotations'][rows])
        has_smpl, given = batch['has_smpl'] > 0, batch['points_3d'][:, H36M_IN_S, :3]
        found, true = self.regressor @ mesh, self.regressor @ truth
        true = true.where(has_smpl[:, None, None], given)
        vertices = (mesh - truth).norm(dim=-1).mean(dim=1).where(has_smpl, torch.nan)
        result = {'found_14': found[:, ROWS] - found[:, :1], 'true_14': true[:, ROWS] - true[:, :1],
                  'vertices': vertices}
        if 'attention' in output:
            maps = output['attention']
            self.attention = self.attention + maps.sum(dim=0)
            result |= {'labels': shrunk(batch['labels'], maps),
                       'peaks': maps.flatten(2).argmax(dim=2)}
        return result


def shrunk(labels: Tensor, maps: Tensor) -> Tensor:
    """Return the nearest labels (B, h, w) at the size of maps (B, C, H, W), 0 if unknown."""
    labels = labels.clamp(min=0)[:, None].float()
    return nn.functional.interpolate(labels, maps.shape[2:], mode='nearest-exact')[:, 0].byte()


def pointing(peaks: Tensor, labels: Tensor) -> Tensor:
    """Compare cells (B, 24), counted row by row, with the parts in labels (B, H, W).

    Returns (B, 24): 1 if a cell is at most one from its part, 0 if not, -1 if the part is hidden.
    """
    width = labels.shape[2]
    corner = peaks // width * (width + 2) + peaks % width  # window in the padded labels
    window = torch.arange(3)[:, None] * (width + 2) + torch.arange(3)
    cells = (corner[..., None] + window.flatten()).flatten(1)                     # (B, 24 * 9)
    near = nn.functional.pad(labels, (1, 1, 1, 1)).flatten(1).gather(1, cells).unflatten(1, (24, 9))
    hits = (near == torch.arange(1, 25)[:, None]).any(dim=2).long()
    seen = torch.stack([(labels == part).flatten(1).any(dim=1) for part in range(1, 25)], dim=1)
    return hits.where(seen, -1)


def pointed(peaks: Tensor, labels: Tensor, attention: Tensor) -> list[float]:
    """Return the share of visible parts, in %, that have the peak of their attention on them.

    Then those of two that know nothing of the image: the mean map, of the sum (24, H, W) of all,
    and the map of another image. They are NaN if no part is visible.
    """
    mean = attention.flatten(1).argmax(dim=1).cpu().expand_as(peaks)
    hits = [pointing(cells, labels) for cells in (peaks, mean, peaks.roll(1, 0))]
    return [100 * one[one >= 0].float().mean().item() for one in hits]
