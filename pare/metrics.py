"""Errors of a regressor: 3D joints, 2D keypoints, vertices, and places of the attention."""
import torch
from torch import Tensor, nn

from metrics import cal_mpjpe, cal_pa_mpjpe
from pare.body import (EVALUATED, GENDERS, H36M, H36M_IN_S, KEYPOINTS, Body, Points, Skeleton,
                       project)
from pare.losses import about_middle
from pare.spin import Spin

ROWS = [H36M.index(name) for name in EVALUATED]


def to_device(device: torch.device, batch: dict) -> dict:
    """Copy the tensors of a batch to a device."""
    return {key: value.to(device, non_blocking=True) for key, value in batch.items()}


@torch.no_grad()
def evaluate(model: nn.Module, batches, skeleton: Skeleton, device: torch.device,
             measure=lambda output, batch: {}, genders: dict = {}) -> dict[str, Tensor]:
    """Compare the predictions of a network with the ground truth.

    Returns `found` and `true` (N, K, 3), the joints of `centred`, and `off` (N, 24), the error of
    the projected keypoints in units of half a crop, NaN if a keypoint is unknown or hidden. The
    result also has the values that measure(output, batch) returns. `genders` as in `true_joints`.
    """
    model.eval()
    parts = []
    for batch in batches:
        batch = to_device(device, batch)
        output = model(batch['image'])
        points = skeleton(output['betas'], output['rotations'])
        off = project(points.keypoints, output['camera']) - batch['keypoints'][..., :2]
        part = {'found': centred(points, skeleton), 'true': true_joints(batch, skeleton, genders),
                'off': off.norm(dim=-1).where(visible(batch), torch.nan)}
        parts.append({key: value.cpu() for key, value in (part | measure(output, batch)).items()})
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def centred(points: Points, skeleton: Skeleton) -> Tensor:
    """Return joints of H36M (B, 17, 3) relative to the pelvis; without their regressor return the
    known keypoints (B, K, 3) relative to their middle."""
    if not points.h36m.shape[1]:
        return about_middle(points.keypoints, skeleton)[:, skeleton.known]
    return points.h36m - points.h36m[:, :1]


def names_of(skeleton: Skeleton) -> list[str]:
    """Return the names of the joints of `centred`."""
    if len(skeleton.rows) > len(KEYPOINTS):
        return list(H36M)
    return [name for name, known in zip(KEYPOINTS, skeleton.known.tolist()) if known]


def describe_joints(skeleton: Skeleton) -> str:
    """Say which joints `centred` returns, and from where."""
    names = names_of(skeleton)
    if names == list(H36M):
        return f'{len(H36M)} joints of Human3.6M from the pelvis'
    middle = ' and '.join(KEYPOINTS[skeleton.centre])
    return f'{len(names)} keypoints of SPIN from the middle of {middle}'


def true_joints(batch: dict, skeleton: Skeleton, genders: dict = {}) -> Tensor:
    """Return the true joints (B, K, 3) as in `centred`; S, or NaN, if there are no SMPL parameters.

    `genders` maps m and f to their skeletons; a gender that it lacks has the neutral `skeleton`.
    """
    joints = centred(skeleton(batch['betas'], batch['rotations']), skeleton)
    for gender, other in genders.items():
        rows = batch['gender'] == GENDERS.index(gender)
        joints[rows] = centred(other(batch['betas'][rows], batch['rotations'][rows]), other)
    given = torch.full_like(joints, torch.nan)
    if names_of(skeleton) == list(H36M):
        given = given_joints(batch)
    return torch.where(batch['has_smpl'][:, None, None] > 0, joints, given - given[:, :1])


def given_joints(batch: dict) -> Tensor:
    """Return the joints of H36M (B, 17, 3) in S, NaN if unknown."""
    given, sure = batch['points_3d'][:, H36M_IN_S].split((3, 1), dim=-1)
    return given.where(sure > 0, torch.nan)


def visible(batch: dict) -> Tensor:
    """Tell which keypoints (B, 24) are known and, if there are labels, on a part."""
    places, known = batch['keypoints'].split((2, 1), dim=-1)
    return (known[..., 0] > 0) & on_part(places, batch['labels'])


def on_part(places: Tensor, labels: Tensor) -> Tensor:
    """Tell which places (B, K, 2) of the crop have a part or an unknown label (B, h, w)."""
    side = labels.shape[1]
    column, row = ((places + 1) * side / 2).long().clamp(0, side - 1).unbind(dim=-1)
    return labels.flatten(1).gather(1, row * side + column) != 0


def complete(found: dict, which: str = '') -> tuple[Tensor, Tensor]:
    """Return joints found and true of those samples of `evaluate` whose true joints are known.

    `which` is the end of their keys: _14 or _49 for those of `Meshes`.
    """
    known = ~found[f'true{which}'].isnan().any(dim=(1, 2))
    return found[f'found{which}'][known], found[f'true{which}'][known]


def validate(model, batches, skeleton, device, resolution: int,
             genders: dict = {}) -> dict[str, float]:
    """Return MPJPE and PA-MPJPE in mm, and the error of visible keypoints in pixels of the crop,
    NaN if no keypoint is known."""
    found = evaluate(model, batches, skeleton, device, genders=genders)
    joints, truth = complete(found)
    return {'val_mpjpe': 1000 * cal_mpjpe(joints, truth).item(),
            'val_pa_mpjpe': 1000 * cal_pa_mpjpe(joints, truth).item(),
            'val_pixels': found['off'].nanmean().item() * resolution / 2}


@torch.no_grad()
def mean_pose(betas: Tensor, rotations: Tensor, skeleton: Skeleton) -> Tensor:
    """Return the baseline: the mean joints (K, 3), in metres, as in `centred`, of people with betas
    (N, 10) and rotations (N, 24, 3, 3)."""
    device, sums = skeleton.rows.device, 0.
    for rows in torch.arange(len(betas)).split(1000):
        points = skeleton(betas[rows].float().to(device), rotations[rows].to(device))
        sums = sums + centred(points, skeleton).sum(dim=0)
    return (sums / len(betas)).cpu()


# ---- the measures of the field, and places of the attention --------------------------------------

class Mesh(Body):
    """Computes the vertices of a body, without its joints."""

    def forward(self, betas: Tensor, rotations: Tensor) -> Tensor:
        """Return vertices (B, V, 3) as Body."""
        return super().forward(betas, rotations)[0]


class Meshes:
    """Measures whole bodies and the attention, as the `measure` of `evaluate`.

    The found body is of bodies['neutral'], the true one of the gender of each sample, if `bodies`
    has it. `attention` (24, H, W) is the sum of all maps.
    """

    def __init__(self, bodies: dict, device: torch.device):
        self.attention = 0.
        layers, joints = ({gender: kind(arrays).to(device) for gender, arrays in bodies.items()}
                          for kind in (Mesh, Spin))
        self.layers, self.spin = ([by.get(gender, by['neutral']) for gender in GENDERS]
                                  for by in (layers, joints))
        regressor = bodies['neutral'].get('J_regressor_h36m')
        self.regressor = None if regressor is None else torch.from_numpy(regressor).to(device)

    def __call__(self, output: dict, batch: dict) -> dict[str, Tensor]:
        """Return joints found and true, and the mean errors of vertices (B,).

        The 14 joints of 3DPW (B, 14, 3) are in metres from the pelvis, the 49 of SPIN (B, 49, 3)
        from the nose; they are left out if the body has no regressors for them. If a sample has no
        SMPL parameters, S is the truth of the 14, and the rest is NaN. With attention, also returns
        labels (B, h, w) of the parts at the size of the maps, and the cells (B, 24) of the peaks.
        """
        has_smpl = batch['has_smpl'][:, None, None] > 0
        mesh, truth = self.both(self.layers, output, batch)
        vertices = (mesh - truth).norm(dim=-1).mean(dim=1)
        result = {'vertices': vertices.where(has_smpl[:, 0, 0], torch.nan)}
        if self.regressor is not None:
            found, true = self.regressor @ mesh, self.regressor @ truth
            true = true.where(has_smpl, given_joints(batch))
            result |= {'found_14': found[:, ROWS] - found[:, :1],
                       'true_14': true[:, ROWS] - true[:, :1]}
        if self.spin[0].complete:
            found, true = self.both(self.spin, output, batch)
            true = true.where(has_smpl, torch.nan)
            result |= {'found_49': found - found[:, :1], 'true_49': true - true[:, :1]}
        if 'attention' in output:
            maps = output['attention']
            self.attention = self.attention + maps.sum(dim=0)
            result |= {'labels': shrunk(batch['labels'], maps),
                       'peaks': maps.flatten(2).argmax(dim=2)}
        return result

    def both(self, layers: list, output: dict, batch: dict) -> tuple[Tensor, Tensor]:
        """Return points (B, V, 3) of the found body, and of the true one by the layer of its
        gender."""
        found = layers[0](output['betas'], output['rotations'])
        true = torch.empty_like(found)
        for number, layer in enumerate(layers):
            rows = batch['gender'] == number
            true[rows] = layer(batch['betas'][rows], batch['rotations'][rows])
        return found, true


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
    """Return the share of visible parts, in %, whose attention peaks at most a cell off them.

    Then the shares of two baselines that do not see the image: the mean map, from `attention`
    (24, H, W), the sum of all maps, and the map of another image. NaN if no part is visible.
    """
    mean = attention.flatten(1).argmax(dim=1).cpu().expand_as(peaks)
    hits = [pointing(cells, labels) for cells in (peaks, mean, peaks.roll(1, 0))]
    return [100 * one[one >= 0].float().mean().item() for one in hits]
