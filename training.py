"""Learns to lift 2D joints to 3D.

    python training.py                           # data_train_lift.pkl here, or synthetic people
    python training.py --data data_train.pkl --epochs 40
    python training.py --weak                    # from two views, without 3D
    python training.py --weak --focal 1.15       # where the file does not say the focal length
    python training.py --resume                  # goes on where the last training was stopped
"""
import argparse
import copy
import io
import math
import os
import signal
import sys
import tempfile
import time
import zipfile

if __name__ == '__main__':  # while torch is imported, Ctrl-C ends in a line too
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(os.write(2, b'interrupted\n') and 130))

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from textwrap import shorten

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from data import (JOINTS, SUPERVISED, TRAIN_FILE, TWO_VIEWS, WEAK_FILE, atomic, check,
                  find_bones, joints_of, load, make_people, project, settle_camera, settle_views,
                  split_blocks)
from metrics import cal_mpjpe
from model import LiftModel, pick_device, pick_precision

# ---- settings -----------------------------------------------------------------------------------

EPOCHS = 36        # more of them lower the error further
BATCH_SIZE = 512   # 256: as good, and 25 % slower in bfloat16; 1024 is 5 % worse
RATE = 8e-3        # the highest of the one cycle; between 6e-3 and 11e-3 it is as good
BETAS = .9, .99    # of Adam; .99 forgets the large gradients of the first epochs sooner
SETTLED = .3       # of the epochs, then batch norm keeps its statistics: the error is 4 % lower
N_BLOCKS, HIDDEN_LAYER = 2, 1024  # the handout's
DROPOUT = 0.       # augmentation leaves nothing to overfit; 0.1 is 6 % worse

TILT = 6.          # degrees by which the height of virtual cameras differs (standard deviation)
CROSSED = .7       # of the epochs, then poses are no longer crossed: 4 % better under noise
NOISY = .2         # of the virtual views have noise: 23 % better under noise, 10 % worse without
NOISE = .12        # of their 2D joints: the most, over the standard deviation of all 2D joints
DETECTED = .1      # of the synthetic people are shown as a detector shows them; with .3 they are
                   # lifted 4 % better from a detector's points, 2 % worse from exact joints
DETECTED_NOISY = .5  # of those have noise
NEAR = .1          # least depth that a projection divides by, and of joints in virtual views
DIVERGED = 100     # times the loss of the untrained network: a training that exceeds it is stopped

ROOT = torch.tensor([0., 0., -1.])
COLUMNS = ('epoch', 'loss', 'val_loss', 'train_mpjpe', 'val_mpjpe', 'rate', 'poses_per_s')
torch.zeros(1).sin()  # sets MKL up, which two threads at once may do otherwise in one of 60 runs


# ---- what is known of the poses -----------------------------------------------------------------

class Rows:
    """Tensors of the same N samples; an index takes those rows of each. None is not known."""

    def __getitem__(self, rows):
        return type(self)(*(None if part is None else part[rows] for part in vars(self).values()))


@dataclass(frozen=True)
class Camera(Rows):
    focal_len: Tensor   # (N, 2), with the signs of the axes
    residual: Tensor    # (N, J, 2), what it leaves unexplained of the 2D joints


@dataclass(frozen=True)
class TwoViews(Rows):
    image_1: Tensor     # (N, J, 2), 2D joints over the focal length
    image_2: Tensor     # (N, J, 2), the same of camera 2, which looks at the root
    joint_2d_2: Tensor  # (N, J, 2), as camera 1 would show them in the place of camera 2
    rot: Tensor         # (N, 3, 3), from view 1 to view 2
    distance: Tensor    # (N,), of the root from camera 2


@dataclass(frozen=True)
class Poses(Rows):
    joint_2d: Tensor    # (N, J, 2), what the network sees
    joint_3d: Tensor    # (N, J, 3), what it learns: ground truth or, without it, triangulated
    truth: Tensor       # (N, J, 3), to score by and nothing else; NaN without ground truth
    turn: Tensor        # (N, 3, 3), from view 1 to the virtual view that is seen
    camera: Camera | None = None
    views: TwoViews | None = None
    detected: Tensor | None = None  # (N, J + 1, 3), joints and root as a detector shows them

    def __len__(self) -> int:
        return len(self.joint_2d)


def as_poses(arrays: dict, device: torch.device) -> Poses:
    """Poses on the device, of what `load`, `settle_views` and `settle_camera` return."""
    joints = {key: torch.as_tensor(array, device=device) for key, array in arrays.items()}
    joint_2d, joint_3d = joints['joint_2d_1'], joints.get('joint_3d')
    truth, views, camera, detected = joint_3d, None, None, None
    if 'triangulated' in joints:
        joint_3d, focal_len = joints['triangulated'], joints['focal_len_1'][:, None]
        truth = torch.full_like(joint_3d, math.nan) if truth is None else truth
        views = TwoViews(joint_2d / focal_len, joints['joint_2d_2'] / focal_len,
                         joints['joint_2d_2'], joints['rot'].view(-1, 3, 3), joints['distance'])
    if 'residual' in joints:
        camera = Camera(joints['focal_len_1'], joints['residual'])
    if 'joint_detected' in arrays and views is None and joint_2d.shape[1] == len(JOINTS):
        detected = torch.as_tensor(joints_of(arrays['joint_detected']), device=device)
    no_turn = torch.eye(3, device=device).expand(len(joint_2d), 3, 3)
    return Poses(joint_2d, joint_3d, truth, no_turn, camera, views, detected)


# ---- losses -------------------------------------------------------------------------------------

def supervised_loss(model, batch: Poses) -> Tensor:
    """MPJPE of what the model lifts."""
    return cal_mpjpe(model(batch.joint_2d), batch.joint_3d)


def reprojection_loss(model, batch: Poses, error=None) -> Tensor:
    """What the model lifts of either view must reproject onto both, and both lifts must agree.

    E(lift of view 1) + (E(lift of view 2) + MPJPE between the lifts) / 2, where E is `image_error`
    or another error(pose, batch). To save time only every other sample has its view 2 lifted.
    """
    error, half, root = error or image_error, batch[::2], ROOT.to(batch.joint_2d.device)
    lifts = model(torch.cat([batch.joint_2d, half.views.joint_2d_2])) - root
    pose_1 = lifts[:len(batch)] @ batch.turn  # both in the axes of view 1, about the root
    pose_2 = half.views.distance[:, None, None] * lifts[len(batch):] @ half.views.rot
    return error(pose_1, batch) + .5 * (error(pose_2, half) + cal_mpjpe(pose_2, pose_1[::2]))


def image_error(pose: Tensor, batch: Poses) -> Tensor:
    """Mean distance of joints (N, J, 3) about the root, in view 1's axes, from both images.

    One norm is over the offsets in both images, each as long as it is at the root: a joint that one
    image shows in a wrong place then weighs little.
    """
    views, distance = batch.views, batch.views.distance[:, None, None]
    pose_2 = pose @ views.rot.mT / distance  # in the axes of view 2
    offset_1 = normalised_image(pose) - views.image_1
    offset_2 = distance * (normalised_image(pose_2) - views.image_2)
    return torch.linalg.vector_norm(torch.cat([offset_1, offset_2], dim=-1), dim=-1).mean()


def normalised_image(pose: Tensor) -> Tensor:
    """x and y over depth (N, J, 2) of joints about the root, which is at depth 1."""
    depth = 1 - pose[..., 2:]
    depth = NEAR + softplus(depth - NEAR, beta=20)  # smooth max(depth, NEAR): never zero
    return pose[..., :2] / depth


# ---- augmentation -------------------------------------------------------------------------------

def augment(poses: Poses, done: float = 0, crossed: bool = True, noise: float = NOISE) -> Poses:
    """Crossed poses as virtual cameras see them: anywhere around the root, at the same distance.

    `done` is the share of the training that is over; in the end poses are no longer crossed.
    Without ground truth they must never be, but be those of the real views. What the camera leaves
    unexplained stays. We add Gaussian noise to the 2D joints of some poses (a little or much), so
    that the network also works on detections. Where it is known how a detector shows the joints,
    some poses are shown so; they are not crossed. A pose with a joint too near to its virtual
    camera keeps the view of the file. Where no camera explains the points nothing changes.
    """
    if poses.camera is None:
        return poses
    device = poses.joint_3d.device
    root, turn = ROOT.to(device), random_rotations(len(poses), device)
    pose = poses.joint_3d - root
    joint_3d = (cross(pose) if crossed and done < CROSSED else pose) @ turn.mT + root
    far = (joint_3d[..., 2:] < -NEAR).all(dim=1, keepdim=True)
    joint_3d, turn = joint_3d.where(far, poses.joint_3d), turn.where(far, poses.turn)
    shown, share = joint_3d, NOISY
    if poses.detected is not None:
        joint_3d, shown, share = as_detected(poses, joint_3d, turn)
    joint_2d = project(shown, poses.camera.focal_len) + poses.camera.residual
    noisy, amount = torch.rand(2, len(poses), 1, 1, device=device)
    deviation = (noisy < share) * amount * noise * joint_2d.std()
    joint_2d += deviation * torch.randn_like(joint_2d)
    return replace(poses, joint_2d=joint_2d, joint_3d=joint_3d, turn=turn)


def as_detected(poses: Poses, joint_3d: Tensor, turn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Some poses as a detector shows them: it puts neck, spine, head and root elsewhere.

    Returns the joints (N, J, 3) about that root, the same as they are shown, and the share of noisy
    views (N, 1, 1). Of all other poses both are `joint_3d`.
    """
    some = torch.rand(len(poses), 1, 1, device=turn.device) < DETECTED
    about, root = poses.detected[:, -1:], ROOT.to(turn.device)

    def turned(joints):
        return ((joints - about) @ turn.mT + root).where(some, joint_3d)

    share = torch.where(some, DETECTED_NOISY, NOISY)
    return turned(poses.joint_3d), turned(poses.detected[:, :-1]), share


def random_rotations(n: int, device: torch.device) -> Tensor:
    """Rotations (n, 3, 3): about y by any angle, then about x by a few degrees."""
    yaw = 2 * math.pi * torch.rand(n, device=device)
    pitch = math.radians(TILT) * torch.randn(n, device=device)
    (sin, cos), (up, level) = ((angle.sin(), angle.cos()) for angle in (yaw, pitch))
    rows = (cos, 0 * cos, sin, up * sin, level, -up * cos, -level * sin, up, level * cos)
    return torch.stack(rows, dim=-1).view(n, 3, 3)


def cross(pose: Tensor) -> Tensor:
    """Poses (N, J, 3) about the root, most of them with a limb, or more, as in another pose.

    What lies beyond a random joint takes the directions of its bones from the other pose; lengths
    stay. After Li et al., "Cascaded deep monocular 3D human pose estimation with evolutionary
    training data", CVPR 2020.
    """
    # 1. joints to bones: joint = the sum of the bones on its path from the root
    (n_poses, n_joints, _), device = pose.shape, pose.device
    paths = torch.eye(n_joints)  # (joint, bone), each bone named by its outer joint
    for parent, child in find_bones((pose.cpu() + ROOT).numpy()):  # from the root outwards
        paths[child] += paths[parent] if parent < n_joints else 0
    paths = paths.to(device)
    bones = torch.einsum('jk,nkc->njc', torch.linalg.inv(paths), pose)
    # 2. another pose, turned about the vertical until it is most alike, its bones as long
    other = bones[torch.randperm(n_poses, device=device)]
    flat, other_flat = (torch.view_as_complex(part[..., [0, 2]]) for part in (bones, other))
    yaw = torch.sgn((flat * other_flat.conj()).sum(dim=1, keepdim=True))
    other[..., [0, 2]] = torch.view_as_real(yaw * other_flat)
    other *= bones.norm(dim=-1, keepdim=True) / other.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    # 3. swap the bones beyond a random joint, and back to joints
    beyond = paths.mT.bool() & ~torch.eye(n_joints, dtype=bool, device=device)  # (joint, bone)
    swapped = beyond[torch.randint(n_joints, (n_poses, 1), device=device)].mT
    return torch.einsum('jk,nkc->njc', paths, other.where(swapped, bones))


# ---- the loop -----------------------------------------------------------------------------------

def fit(model: LiftModel, poses: Poses, epochs: int, batch_size: int, lr: float, loss, augment,
        state: dict | None = None, optimise=None, settled: float = SETTLED):
    """Trains a model that has its statistics; yields each epoch's row and what a state needs.

    loss(model, batch) and augment(poses, done) are as above; optimise(model, lr, n_steps) gives
    optimiser and scheduler, as `one_cycle` does. After a share of the epochs, `settled`, batch norm
    no longer takes the statistics of batches. Goes on from a state of `load_state`. Raises
    ValueError where the loss diverges, and for what `restore` refuses.
    """
    n_batches = len(split_batches(poses.joint_2d, batch_size))
    optimiser, scheduler = (optimise or one_cycle)(model, lr, epochs * n_batches)
    parts = {'model': model, 'optimiser': optimiser, 'scheduler': scheduler}
    with torch.no_grad():
        most = DIVERGED * loss(model.eval(), poses[:batch_size]).item()
    begun = restore(parts, state)['epoch'] if state else 0
    for epoch in range(begun + 1, epochs + 1):
        start, done = time.perf_counter(), (epoch - 1) / epochs
        rate = float(optimiser.param_groups[0]['lr'])
        mean_loss = learn(epoch, augment(poses, done), model, optimiser, scheduler, batch_size,
                          loss, settled=done >= settled)
        speed = len(poses) / (time.perf_counter() - start)
        if not mean_loss < most:
            raise ValueError(f'epoch {epoch}: found a loss of {mean_loss:.3g}, expected less than '
                             f'{most:.3g}, {DIVERGED} times that of the untrained network; a '
                             f'smaller --lr may help')
        yield {'epoch': epoch, 'loss': mean_loss, 'rate': rate, 'poses_per_s': speed}, parts


def learn(epoch_no: int, poses: Poses, model, optimiser, scheduler, batch_size: int, loss,
          settled: bool = False) -> float:
    """Trains once on all poses, in random order; returns the mean loss over samples. Where batch
    norm has settled it does as in evaluation: batches differ, and what it makes of a pose does not.
    """
    model.train()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.train(not settled)
    every_batch = isinstance(scheduler, (OneCycleLR, CyclicLR))
    order = torch.randperm(len(poses), device=poses.joint_2d.device)
    total = torch.zeros((), device=order.device)
    batches = split_batches(order, batch_size)
    for rows in live(epoch_no, batches, len(batches)):
        batch_loss = loss(model, poses[rows])
        optimiser.zero_grad()
        batch_loss.backward()
        optimiser.step()
        if every_batch:
            scheduler.step()
        total += len(rows) * batch_loss.detach()
    if scheduler is not None and not every_batch:
        scheduler.step()
    return total.item() / len(poses)


def one_cycle(model: LiftModel, lr: float, n_steps: int) -> tuple:
    """Adam in one kernel, whose rate rises to lr and falls to nearly zero within n_steps, in
    straight lines: with cosines the error is as low, and 1 % higher under noise."""
    optimiser = torch.optim.Adam(model.parameters(), lr, betas=BETAS, fused=True)
    return optimiser, OneCycleLR(optimiser, lr, n_steps, anneal_strategy='linear',
                                 cycle_momentum=False)


def split_batches(rows: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """Cuts rows into batches of batch_size or a little more, so that no sample is left alone.

    Batch normalisation cannot train on one sample: raises ValueError where there is no other way.
    """
    if min(batch_size, len(rows)) < 2:
        raise ValueError(f'found {len(rows)} samples in batches of {batch_size}, expected at least '
                         f'2 of either: batch normalisation cannot train on one')
    return rows.tensor_split(max(1, len(rows) // batch_size))


def live(epoch_no: int, batches, n_batches: int):
    """The batches of an epoch; a terminal shows how many are done, and when it ends."""
    start = shown = time.perf_counter()
    for number, batch in enumerate(batches, start=1):
        yield batch
        now = time.perf_counter()
        if sys.stdout and sys.stdout.isatty() and now - shown > .2:
            shown, left = now, (n_batches - number) * (now - start) / number
            print(f'\r{epoch_no:5}  batch {number} of {n_batches}, epoch ends in '
                  f'{timedelta(seconds=round(left))} ', end='', flush=True)


@torch.no_grad()
def score(model: LiftModel, poses: Poses, loss) -> tuple[float, float]:
    """Loss and MPJPE in evaluation mode, means over samples; MPJPE is NaN without ground truth."""
    return (loss(model.lift, poses).item(),
            cal_mpjpe(model.lift(poses.joint_2d), poses.truth).item())


# ---- one epoch, as the handouts call it ---------------------------------------------------------

def run_epoch(epoch_no, data, model, optimiser, scheduler, batch_size=64,
              split='train') -> tuple[float, float]:
    """One pass over data['joint_2d_1'] (N, J, 2) and data['joint_3d'] (N, J, 3).

    These are arrays or tensors, or both flat. With split='train' the model learns; any other split
    is only scored, without optimiser and scheduler. A model without statistics takes them from the
    first data that it trains on. A scheduler steps once an epoch, but once a batch where it is a
    OneCycleLR or CyclicLR; it may be None. Returns loss and MPJPE, means over samples in the unit
    of joint_3d (here they are the same). Raises ValueError for what `check` refuses, another number
    of joints than the model's, and fewer than 2 samples to train on.
    """
    joints = as_arrays({key: data[key] for key in SUPERVISED if key in data}, SUPERVISED, model)
    return one_pass(epoch_no, joints, model, optimiser, scheduler, batch_size, split,
                    supervised_loss)


def run_epoch_weak(epoch_no, data, model, optimiser, scheduler, batch_size=64,
                   split='train') -> tuple[float, float]:
    """As run_epoch, but learns from two views: joint_2d_1, joint_2d_2, rot, transl, focal lengths.

    The loss is `reprojection_loss`. Samples whose rays are nearly parallel are left out. joint_3d
    is read for the returned MPJPE only, of view 1 after the pass, which is nan without it. Raises
    ValueError too for what `check` and `settle_views` refuse.
    """
    views, _ = settle_views(as_arrays(data, TWO_VIEWS, model))
    return one_pass(epoch_no, views, model, optimiser, scheduler, batch_size, split,
                    reprojection_loss)


def one_pass(epoch_no, arrays: dict, model, optimiser, scheduler, batch_size, split,
             loss) -> tuple[float, float]:
    """Learns from arrays as in `as_poses` once, or with another split scores them."""
    poses = as_poses(arrays, model.mean_2d.device)
    if split != 'train':
        return score(model, poses, loss)
    if not model.fitted:
        model.fit(poses.joint_2d, poses.joint_3d)
    mean_loss = learn(epoch_no, poses, model, optimiser, scheduler, batch_size, loss)
    return mean_loss, mean_loss if loss is supervised_loss else score(model, poses, loss)[1]


def as_arrays(data: dict, need, model: LiftModel) -> dict:
    """What `check` makes of arrays or tensors, which must have the model's number of joints."""
    arrays = check({key: value.cpu() if torch.is_tensor(value) else value
                    for key, value in data.items()}, need)
    found, expected = arrays['joint_2d_1'].shape[1], model.mean_2d.numel() // 2
    if found != expected:
        raise ValueError(f'key joint_2d_1: found {found} joints, expected {expected} as in the '
                         f'model')
    return arrays


# ---- the training -------------------------------------------------------------------------------

def train(args: argparse.Namespace, state: dict | None) -> None:
    """Trains from the start or from a state; writes weights, history and charts when it is done.

    Raises ValueError or OSError for what a user can mend: before the first epoch, but for a loss
    that diverges and a disk that is full.
    """
    device = pick_device(args.device)
    print(f'device: {device.type}, hidden products in {args.precision}')
    train_set, val_set = prepare(args.data, device, args.weak, args.focal)
    probe = train_set[::20]  # about as many as val_set
    for folder in (args.out.parent, args.plots):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # is it writable?
    model = build(args, train_set)
    history = state['history'] if state else []
    if state:
        begun = copy.deepcopy(model)
        restore({'model': begun}, state)
        if not torch.equal(begun.mean_out, model.mean_out):
            raise ValueError('--data: found other poses than this training began with, expected '
                             'the same; start anew without --resume')
    loss, change = ((reprojection_loss, partial(augment, crossed=False)) if args.weak else
                    (supervised_loss, augment))
    print('epoch     loss  train MPJPE  val MPJPE      rate  poses/s  time left')
    for row, parts in fit(model, train_set, args.epochs, args.batch_size, args.lr, loss, change,
                          state):
        _, row['train_mpjpe'] = score(model, probe, loss)
        row['val_loss'], row['val_mpjpe'] = score(model, val_set, loss)
        history.append([row[column] for column in COLUMNS])
        save_state(state_path(args.out), parts, epoch=row['epoch'], history=history,
                   options=learnt_by(args))
        print_row(row, args.epochs, len(train_set))
    finish(args, model, history)


def prepare(path: Path, device: torch.device, weak: bool = False,
            focal: float | None = None) -> tuple[Poses, Poses]:
    """Poses to train and to validate on; where no data lies, synthetic people are made first.

    Without 3D, joint_3d of a file only validates, and `focal` is that of both views where the file
    has none. Raises what `load`, `settle_views`, `settle_camera` and `split_blocks` raise.
    """
    if path == Path(TRAIN_FILE):
        make_people()
    need = [key for key in (TWO_VIEWS if weak else SUPERVISED)
            if focal is None or not key.startswith('focal_len')]
    joints, views = load(path, need), None
    if focal is not None:
        given = torch.full((len(joints['joint_2d_1']), 2), focal).numpy()
        joints = {'focal_len_1': given, 'focal_len_2': given} | joints
    try:
        if weak:
            joints, views = settle_views(joints)
        joints, camera = settle_camera(joints)
        train_set, val_set = (as_poses(part, device) for part in split_blocks(joints))
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    print(f'data: {path}, {len(train_set):,} poses of {train_set.joint_2d.shape[1]} joints to '
          f'train, {len(val_set):,} to validate' + f'\nviews: {views}' * weak
          + f'\ncamera: {camera}')
    return train_set, val_set


def build(args: argparse.Namespace, train_set: Poses) -> LiftModel:
    """A seeded model with the statistics of the training poses."""
    torch.manual_seed(args.seed)
    model = LiftModel(args.n_blocks, args.hidden_layer, args.dropout,
                      train_set.joint_3d[0].numel()).to(train_set.joint_3d.device)
    model.fit(train_set.joint_2d, train_set.joint_3d)
    model.in_bfloat16 = args.precision == 'bfloat16'
    if train_set.detected is not None:  # its points lie beside the rays of the joints
        deviation = model.std_out.view(-1, 3)
        deviation[:, :2].clamp_(min=.1 * deviation[:, 2].mean().item())
    n_parameters = sum(weights.numel() for weights in model.parameters())
    print(f'model: {args.n_blocks} blocks of {args.hidden_layer}, {n_parameters:,} parameters\n')
    return model


def print_row(row: dict, epochs: int, n_poses: int) -> None:
    train_mpjpe, val_mpjpe = ('-' if math.isnan(row[key]) else f'{row[key]:.5f}'
                              for key in ('train_mpjpe', 'val_mpjpe'))
    left = timedelta(seconds=round((epochs - row['epoch']) * n_poses / row['poses_per_s']))
    start = '\r' if sys.stdout and sys.stdout.isatty() else ''  # over the live line
    print(f'{start}{row["epoch"]:5}  {row["loss"]:.5f}  {train_mpjpe:>11}  {val_mpjpe:>9}  '
          f'{row["rate"]:.2e}  {row["poses_per_s"]:7,.0f}  {left!s:>9}', flush=True)


def finish(args: argparse.Namespace, model: LiftModel, history: list) -> None:
    """Writes the history as numbers and as a chart, then the weights; the state is done with."""
    import plots  # only now: with matplotlib the training would start half a second later

    plots.write_csv(args.plots / 'history.csv', COLUMNS, history)
    plots.draw_history(dict(zip(COLUMNS, zip(*history))), args.plots / 'history.png')
    save_tensors(args.out, model.state_dict())
    state_path(args.out).unlink(missing_ok=True)
    print(f'\nwrote {args.out}, and charts to {args.plots}')


# ---- states of unfinished trainings -------------------------------------------------------------

def save_tensors(path, values) -> None:
    """torch.save, whole or not at all; raises OSError that names the path."""
    buffer = io.BytesIO()  # torch.save itself would raise RuntimeError where the disk is full
    torch.save(values, buffer)
    with atomic(path) as file:
        file.write(buffer.getbuffer())


def state_path(out) -> Path:
    """Where the state of an unfinished training lies."""
    return Path(f'{out}.state')


def save_state(path, parts: dict, **values) -> None:
    """Writes all that --resume needs to end where an uninterrupted training ends, bit by bit.

    `parts` have a state_dict (model, optimiser, ...); `values` are numbers, text, lists, dicts.
    """
    save_tensors(path, values | {
        'parts': {name: part.state_dict() for name, part in parts.items()},
        'random': torch.get_rng_state(), 'random_cuda': torch.cuda.get_rng_state_all()})


def load_state(path, columns) -> dict:
    """What `save_state` wrote with epoch, options, and a history of these columns; nothing is put
    in place. Raises ValueError where there is no such state, or a damaged one."""
    if not Path(path).exists():
        raise ValueError(f'--resume: found no {path}, expected the state of an unfinished training')
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
        n_epochs, row = len(state['history']), [1] + [.5] * (len(columns) - 1)
        like = {'epoch': 1, 'history': n_epochs * [row], 'options': len(state['options']) * ['']}
        whole = (form({key: state[key] for key in like}) == form(like)
                 and state['epoch'] == n_epochs and isinstance(state['parts'], dict)
                 and zipfile.ZipFile(path).testzip() is None)  # torch does not compare checksums
    except Exception:  # what is no state can raise nearly anything
        whole = False
    if not whole:
        raise ValueError(f'{path}: found a damaged state, or that of another training, expected '
                         f'what --resume needs; start anew without it')
    return state


def restore(parts: dict, state: dict) -> dict:
    """Puts parts and random numbers where they were; returns the state. Raises ValueError where
    the state is damaged or not one of these parts."""
    try:
        for name, part in parts.items():
            fresh, saved = part.state_dict(), state['parts'][name]
            if isinstance(part, torch.optim.Adam):  # reads memory beyond moments that are too small
                fresh['state'] = {row: {'step': torch.tensor(0.), 'exp_avg': weights,
                                        'exp_avg_sq': weights}
                                  for row, weights in enumerate(part.param_groups[0]['params'])}
            if form(saved) != form(fresh) or form(state['random']) != form(torch.get_rng_state()):
                raise ValueError(name)
            part.load_state_dict(saved)
        torch.set_rng_state(state['random'])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state['random_cuda'])
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f'--resume: found a damaged state, or that of another training '
                         f'({shorten(str(error), 99)}); start anew without it') from error
    return state


def form(value):
    """Keys, types and shapes of nested values, to compare."""
    if isinstance(value, dict):
        return {key: form(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [form(part) for part in value]
    return (value.shape, value.dtype) if torch.is_tensor(value) else type(value)


# ---- the command line ---------------------------------------------------------------------------

def bounded(kind, least, below=math.inf):
    """A type for argparse: a number of its kind, at least the one and below the other."""
    def number(text):
        if not least <= kind(text) < below:
            raise argparse.ArgumentTypeError(f'found {text}, expected at least {least}' + (
                f' and less than {below}' if below < math.inf else ''))
        return kind(text)
    number.__name__ = kind.__name__  # argparse names it where the text is no number
    return number


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults of options that have one."""

    def _get_help_string(self, action):
        none = action.default is None or action.default is False
        return action.help if none else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Ends the process in one line, with status 2, at a mistake."""

    def __init__(self, **options):
        super().__init__(formatter_class=Help, **options)

    def error(self, message):
        self.exit(2, f'{self.prog.removeprefix("python -m ")}: {message}\n')


def make_parser() -> Parser:
    parser = Parser(prog='training.py',
                    description='Trains a LiftModel on pickled 2D and 3D joints.')
    option = parser.add_argument
    option('--data', type=Path, metavar='FILE',
           help=f'dictionary with joint_2d_1 and joint_3d, or both views (default: {TRAIN_FILE}; '
                f'with --weak {WEAK_FILE} where there is one)')
    option('--weak', action='store_true', help='learn from two views, without joint_3d')
    option('--focal', type=bounded(float, 1e-9), metavar='F',
           help='with --weak: the focal length of both views, where the file has none')
    for name, kind, default, text in (
            ('epochs', bounded(int, 1), EPOCHS, 'passes over the data'),
            ('batch-size', bounded(int, 2), BATCH_SIZE, 'poses a step'),
            ('lr', bounded(float, 1e-9), RATE, 'highest learning rate of the one cycle'),
            ('n-blocks', bounded(int, 1), N_BLOCKS, 'residual blocks'),
            ('hidden-layer', bounded(int, 1), HIDDEN_LAYER, 'width of each layer'),
            ('dropout', bounded(float, 0, 1), DROPOUT, 'share of nodes left out while learning'),
            ('seed', bounded(int, 0, 2 ** 63), 0, 'of weights, order, augmentation and dropout')):
        option(f'--{name}', type=kind, default=default, metavar=kind.__name__[0].upper(), help=text)
    option('--device', choices=('auto', 'cpu', 'cuda'), default='auto', help='auto: a GPU if any')
    option('--precision', choices=('auto', 'float32', 'bfloat16'), default='auto',
           help='of products in the blocks; auto: bfloat16 if the device multiplies in it')
    option('--out', type=Path, default='liftModel', metavar='FILE', help='file for the weights')
    option('--plots', type=Path, default='plots', metavar='FOLDER',
           help='folder for charts and history.csv')
    option('--resume', action='store_true',
           help='go on with the unfinished training of --out, by its own options')
    return parser


def parse(parser: Parser, argv: list, settle, columns) -> tuple:
    """The options, and None or with --resume the state from which those of the training are taken.

    settle(args) checks them and puts in what is not given; columns are those of the history. Raises
    ValueError for a state that is not there, and for options that are not its own.
    """
    args, state = parser.parse_args(argv), None
    path = state_path(args.out)
    if args.out.is_dir():
        raise ValueError(f'--out: found the folder {args.out}, expected a file')
    if args.resume:
        state = load_state(path, columns)
        beside = [f'--{name}={getattr(args, name)}' for name in ('out', 'plots', 'device')]
        args = parser.parse_args([*state['options'], *argv, *beside])
    elif path.exists() and os.environ.get('RANK', '0') == '0':
        print(f'note: {path} of an unfinished training will be replaced; --resume goes on')
    settle(args)
    if state and learnt_by(args) != state['options']:
        raise ValueError(f'--resume: found options that are not those of {path}, expected '
                         f'{" ".join(state["options"])}')
    return args, state


def learnt_by(args: argparse.Namespace) -> list[str]:
    """The options that decide what is learnt, as on a command line."""
    words, beside = [], ('out', 'plots', 'device', 'resume', 'workers')
    for name, value in sorted(vars(args).items()):
        if value is not None and value is not False and name not in beside:
            values = value if isinstance(value, list) else [] if value is True else [value]
            words += [f'--{name.replace("_", "-")}', *map(str, values)]
    return words


def settle(args: argparse.Namespace) -> None:
    """Puts in the data and the precision. Raises ValueError for options that do not fit."""
    if args.focal and not args.weak:
        raise ValueError('--focal: found no --weak, expected both; with joint_3d it is fitted')
    if not args.data:
        args.data = Path(WEAK_FILE if args.weak and Path(WEAK_FILE).exists() else TRAIN_FILE)
    args.precision = pick_precision(args.precision, pick_device(args.device))


def unfinished(out: Path, script: str = 'training.py') -> str:
    """What an interrupted training leaves, in a line."""
    if state_path(out).exists():
        return (f'{state_path(out)} holds all finished epochs, to go on: python {script} '
                f'--resume --out {out}')
    return f'no epoch is kept; {out} is written by finished trainings alone'


def status(parser: Parser, work, left=lambda: 'no file is half written') -> int:
    """The exit status of work(): 0; 130 where it is interrupted or nobody reads what it prints,
    with left() in a line; ValueError and OSError end the process by the parser's error."""
    try:
        work()
        print(end='', flush=True)
    except (KeyboardInterrupt, BrokenPipeError) as error:
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f'\ninterrupted: {left()}', file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return 0


def main(argv=None) -> int:
    parser, argv = make_parser(), sys.argv[1:] if argv is None else list(argv)
    out = parser.parse_args(argv).out
    return status(parser, lambda: train(*parse(parser, argv, settle, COLUMNS)),
                  lambda: unfinished(out))


if __name__ == '__main__':
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
