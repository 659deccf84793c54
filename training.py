"""Train a LiftModel to lift 2D joints to 3D.

    python training.py                           # data_train_lift.pkl here, or synthetic people
    python training.py --data data_train.pkl --epochs 40
    python training.py --weak                    # from two views, without 3D
    python training.py --weak --focal 1.15       # if the file has no focal length
    python training.py --resume                  # continue an interrupted training
"""
import argparse
import math
import sys
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from common.augment import CROSSED, augment
from common.camera import NEAR, ROOT, both_frames, spread
from common.command import (Parser, add_device, bounded, exit_status, keep_inputs, pick_device,
                            pick_precision)
from common.files import errors_of, make_folder, write_csv
from common.poses import as_tensors, select
from common.skeleton import find_bones
from common.states import parse, restore, save_state, save_tensors, state_path, what_is_left
from common.views import TWO_VIEWS, prepare_views
from data import (SUPERVISED, TRAIN_FILE, WEAK_FILE, check, find_camera, load, make_people,
                  split_blocks)
from metrics import cal_mpjpe
from model import LiftModel

# ---- settings -----------------------------------------------------------------------------------

EPOCHS = 36        # more epochs lower the error further
BATCH_SIZE = 512   # 256 is as good, and 25 % slower in bfloat16; 1024 is 5 % worse
RATE = 8e-3        # peak of the learning rate; 6e-3 to 11e-3 are as good
BETAS = .9, .99    # of Adam; .99 forgets the large gradients of the first epochs sooner
FROZEN = .3        # fraction of the epochs after which the statistics of batch norm are frozen
N_BLOCKS, HIDDEN_LAYER = 2, 1024  # the handout's
DROPOUT = 0.       # augmentation leaves nothing to overfit; 0.1 is 6 % worse

COLUMNS = ('epoch', 'loss', 'val_loss', 'train_mpjpe', 'val_mpjpe', 'rate', 'poses_per_s')


# ---- losses -------------------------------------------------------------------------------------

def supervised_loss(model, poses: dict) -> Tensor:
    """Return the MPJPE of the lifted poses."""
    return cal_mpjpe(model(poses['joint_2d']), poses['joint_3d'])


def reprojection_loss(model, poses: dict) -> Tensor:
    """Lift both views, reproject each lift onto both images, and compare the lifts.

    E(lift of view 1) + (E(lift of view 2) + MPJPE between the lifts) / 2, where E is `image_error`.
    To save time view 2 is lifted for every other sample only.
    """
    half, root = select(poses, slice(None, None, 2)), poses['joint_3d'].new_tensor(ROOT)
    lifts = model(torch.cat([poses['joint_2d'], half['joint_2d_2']])) - root
    lift_1, lift_2 = lifts.tensor_split([len(poses['joint_2d'])])
    pose_1 = lift_1 @ poses['turn']  # both in the axes of view 1, about the root
    pose_2 = half['distance'][:, None, None] * lift_2 @ half['rot']
    return image_error(pose_1, poses) + .5 * (
        image_error(pose_2, half) + cal_mpjpe(pose_2, pose_1[::2]))


def image_error(pose: Tensor, poses: dict) -> Tensor:
    """Return the mean error in both images of joints (N, J, 3) in view 1's axes, about the root.

    Offsets in image 2 are multiplied by the distance of the root, so that all are lengths at the
    root. A joint counts with the norm of its four offsets, not its square: outliers weigh little.
    """
    frame_1, frame_2 = both_frames(pose, poses)
    offset_1 = normalised_image(frame_1) - poses['image_1']
    offset_2 = poses['distance'][:, None, None] * (normalised_image(frame_2) - poses['image_2'])
    return torch.linalg.vector_norm(torch.cat([offset_1, offset_2], dim=-1), dim=-1).mean()


def normalised_image(joint_3d: Tensor) -> Tensor:
    """Return x / depth and y / depth (N, J, 2) of joints in the frame of a camera."""
    depth = NEAR + softplus(-joint_3d[..., 2:] - NEAR, beta=20)  # smooth max(depth, NEAR)
    return joint_3d[..., :2] / depth


# ---- parts of a training ------------------------------------------------------------------------

def prepare(path: Path, device: torch.device, weak: bool = False,
            focal: float | None = None) -> tuple[dict, dict]:
    """Load poses to train and to validate on; without data here, make synthetic people first.

    If `weak`, joint_3d of the file is read for the printed MPJPE alone, and `focal` is the focal
    length of both views if the file has none. Raises ValueError as load, prepare_views, find_camera
    and split_blocks do.
    """
    if path == Path(TRAIN_FILE):
        make_people()
    need = [key for key in (TWO_VIEWS if weak else SUPERVISED)
            if focal is None or not key.startswith('focal_len')]
    joints, views = load(path, need), None
    if focal is not None:
        given = np.full((len(joints['joint_2d_1']), 2), focal, np.float32)
        if 'focal_len_1' not in joints and not .01 < spread(joints['joint_2d_1']) / focal < 1:
            raise ValueError(f'--focal: found {focal:g} for points with a spread of '
                             f'{spread(joints["joint_2d_1"]):.2g}, expected the same unit')
        joints = {'focal_len_1': given, 'focal_len_2': given} | joints
    with errors_of(path):
        if weak:
            joints, views = prepare_views(joints)
        joints, camera = find_camera(joints)
        parts = split_blocks(joints)
    train_set, val_set = (as_tensors(part, device) for part in parts)
    n_poses, n_joints, _ = train_set['joint_2d'].shape
    print(f'data: {path}, {n_poses:,} poses of {n_joints} joints to train, '
          f'{len(val_set["joint_2d"]):,} to validate' + f'\nviews: {views}' * weak
          + f'\ncamera: {camera}')
    return train_set, val_set


def build(args: argparse.Namespace, train_set: dict) -> LiftModel:
    """Make a seeded model with the statistics of the training poses."""
    torch.manual_seed(args.seed)
    joint_2d, joint_3d = train_set['joint_2d'], train_set['joint_3d']
    model = LiftModel(args.n_blocks, args.hidden_layer, args.dropout,
                      joint_3d[0].numel()).to(joint_3d.device)
    model.set_statistics(joint_2d, joint_3d)
    model.in_bfloat16 = args.precision == 'bfloat16'
    if 'detected' in train_set:  # these points are off the rays, so x and y need corrections
        deviation = model.std_out.view(-1, 3)
        deviation[:, :2].clamp_(min=.1 * deviation[:, 2].mean().item())
    n_parameters = sum(weights.numel() for weights in model.parameters())
    print(f'model: {args.n_blocks} blocks of {args.hidden_layer}, {n_parameters:,} parameters\n')
    return model


def one_cycle(model: LiftModel, lr: float, poses: dict, epochs: int, batch_size: int) -> dict:
    """Return the `optimiser`, Adam, and the `scheduler`, one cycle: the rate rises to lr and falls
    to nearly zero, in straight lines (with cosines the error is 1 % higher under noise)."""
    n_steps = epochs * len(split_batches(poses['joint_2d'], batch_size))
    optimiser = torch.optim.Adam(model.parameters(), lr, betas=BETAS, fused=True)
    return {'optimiser': optimiser, 'scheduler': OneCycleLR(
        optimiser, lr, n_steps, anneal_strategy='linear', cycle_momentum=False)}


def split_batches(rows: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """Cut rows into batches of batch_size or a little more, so that no batch has one sample.

    Fewer rows than two such batches stay one batch. Batch normalisation cannot train on one sample:
    raises ValueError if there is no other way.
    """
    if min(batch_size, len(rows)) < 2:
        raise ValueError(f'found {len(rows)} samples in batches of {batch_size}, expected at least '
                         f'2 of either: batch normalisation cannot train on one')
    return rows.tensor_split(max(1, len(rows) // batch_size))


def set_training(model: nn.Module, frozen: bool) -> None:
    """Put the model into training mode.

    With frozen statistics batch norm works as in evaluation: the output for a pose does not depend
    on its batch, and the error is 4 % lower.
    """
    model.train()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.train(not frozen)


@torch.no_grad()
def score(model: LiftModel, poses: dict, loss) -> tuple[float, float]:
    """Return loss and MPJPE in evaluation mode, means over samples. Without ground truth the MPJPE
    is NaN."""
    return (loss(model.lift, poses).item(),
            cal_mpjpe(model.lift(poses['joint_2d']), poses['truth']).item())


def print_row(row: dict, epochs: int, n_poses: int) -> None:
    train_mpjpe, val_mpjpe = ('-' if math.isnan(row[key]) else f'{row[key]:.5f}'
                              for key in ('train_mpjpe', 'val_mpjpe'))
    left = timedelta(seconds=round((epochs - row['epoch']) * n_poses / row['poses_per_s']))
    print(f'{row["epoch"]:5}  {row["loss"]:.5f}  {train_mpjpe:>11}  {val_mpjpe:>9}  '
          f'{row["rate"]:.2e}  {row["poses_per_s"]:7,.0f}  {left!s:>9}', flush=True)


def finish(args: argparse.Namespace, model: LiftModel, history: list, crossed: float) -> None:
    """Write the weights, then the history as numbers and as a chart; delete the state."""
    from common.charts import draw_history  # imported late: matplotlib takes half a second

    save_tensors(args.out, model.state_dict())
    write_csv(args.plots / 'history.csv', COLUMNS, history)
    draw_history(dict(zip(COLUMNS, zip(*history))), args.plots / 'history.png', crossed)
    state_path(args.out).unlink(missing_ok=True)
    print(f'\nwrote {args.out}, and charts to {args.plots}')


# ---- the training -------------------------------------------------------------------------------

def fit(model: LiftModel, poses: dict, optimiser, scheduler, loss, augmentation=None,
        epochs: int = 1, batch_size: int = BATCH_SIZE, frozen_after: float = FROZEN,
        n_done: int = 0):
    """Train; yield the row of each epoch: epoch, rate at its start, mean loss, poses_per_s.

    loss(model, batch) and augmentation(poses, done) take dictionaries of `as_tensors`; done is the
    fraction of the training that is over. After the fraction `frozen_after` of the epochs the
    statistics of batch norm are frozen. A OneCycleLR or CyclicLR steps once a batch, another
    scheduler once an epoch. The first `n_done` epochs are skipped. Raises ValueError if the loss is
    not finite.
    """
    every_batch, n_poses = isinstance(scheduler, (OneCycleLR, CyclicLR)), len(poses['joint_2d'])
    for epoch in range(n_done + 1, epochs + 1):
        start, done = time.perf_counter(), (epoch - 1) / epochs
        row = {'epoch': epoch, 'rate': float(optimiser.param_groups[0]['lr'])}
        # what this epoch sees: new virtual cameras, limbs of other poses, noise
        seen = augmentation(poses, done) if augmentation else poses
        set_training(model, frozen=done >= frozen_after)
        order = torch.randperm(n_poses, device=seen['joint_2d'].device)
        total = 0.
        for rows in split_batches(order, batch_size):
            # forward, backward, step
            batch_loss = loss(model, select(seen, rows))
            optimiser.zero_grad()
            batch_loss.backward()
            optimiser.step()
            if every_batch:
                scheduler.step()
            total += len(rows) * batch_loss.detach()
        if scheduler is not None and not every_batch:
            scheduler.step()
        row |= {'loss': float(total) / n_poses,
                'poses_per_s': n_poses / (time.perf_counter() - start)}
        if not math.isfinite(row['loss']):
            raise ValueError(f'epoch {epoch}: found a loss of {row["loss"]}, expected a finite '
                             f'one; a smaller --lr may help')
        yield row


def train(args: argparse.Namespace, state: dict | None) -> None:
    """Train from the start or from a state; write weights, history and charts when it is done.

    Raises ValueError or OSError for a user's mistake, before the first epoch if possible.
    """
    device = pick_device(args.device)
    print(f'device: {device.type}, hidden layers in {args.precision}')
    train_set, val_set = prepare(args.data, device, args.weak, args.focal)
    for folder in (args.out.parent, args.plots):
        make_folder(folder)
    model = build(args, train_set)
    parts = {'model': model} | one_cycle(model, args.lr, train_set, args.epochs, args.batch_size)
    history = []
    if state:
        mean_out = model.mean_out.clone()
        history = restore(parts, state)  # which replaces mean_out
        if not torch.allclose(model.mean_out, mean_out, atol=1e-5):  # devices differ by rounding
            raise ValueError('--data: found other poses than this training began with, expected '
                             'the same; start anew without --resume')
    loss = reprojection_loss if args.weak else supervised_loss
    bones = find_bones(train_set['joint_3d'].cpu().numpy())
    probe = select(train_set, slice(None, None, 20))  # about as many as val_set
    print('epoch     loss  train MPJPE  val MPJPE      rate  poses/s  time left')
    for row in fit(model, train_set, parts['optimiser'], parts['scheduler'], loss,
                   partial(augment, bones=bones), args.epochs, args.batch_size,
                   n_done=len(history)):
        _, row['train_mpjpe'] = score(model, probe, loss)
        row['val_loss'], row['val_mpjpe'] = score(model, val_set, loss)
        history.append([row[column] for column in COLUMNS])
        save_state(args, parts, history)
        print_row(row, args.epochs, len(train_set['joint_2d']))
    finish(args, model, history, crossed=CROSSED * ('residual' in train_set))


# ---- one epoch, by the names of the handouts ----------------------------------------------------

def run_epoch(epoch_no, data, model, optimiser, scheduler, batch_size=64,
              split='train') -> tuple[float, float]:
    """Pass once over data['joint_2d_1'] (N, J, 2) and data['joint_3d'] (N, J, 3).

    Takes arrays or tensors, flat or not; epoch_no is not used. With split='train' the model learns;
    with any other it is only scored, without optimiser and scheduler. A model without statistics
    takes them from the first data that it trains on. A OneCycleLR or CyclicLR steps once a batch,
    another scheduler once an epoch; it may be None. Returns loss and MPJPE, means over samples in
    the unit of joint_3d (here they are the same). Raises ValueError as `data.check` does, for
    another number of joints than the model's, and for fewer than 2 samples to train on.
    """
    joints = as_arrays({key: data[key] for key in SUPERVISED if key in data}, SUPERVISED, model)
    return one_pass(joints, model, optimiser, scheduler, batch_size, split, supervised_loss)


def run_epoch_weak(epoch_no, data, model, optimiser, scheduler, batch_size=64,
                   split='train') -> tuple[float, float]:
    """As run_epoch, but learn from two views: joint_2d_1, joint_2d_2, rot, transl, focal lengths.

    The loss is `reprojection_loss`. Samples with nearly parallel rays are left out. joint_3d is
    read only for the returned MPJPE of view 1 after the pass; without it the MPJPE is NaN. Raises
    ValueError as `run_epoch` and `prepare_views` do.
    """
    views, _ = prepare_views(as_arrays(data, TWO_VIEWS, model))
    return one_pass(views, model, optimiser, scheduler, batch_size, split, reprojection_loss)


def one_pass(arrays: dict, model, optimiser, scheduler, batch_size, split,
             loss) -> tuple[float, float]:
    """Train once on arrays as in `as_tensors`, or only score them if split is not 'train'."""
    poses = as_tensors(arrays, model.mean_2d.device)
    if split != 'train':
        return score(model, poses, loss)
    if not model.fitted:
        model.set_statistics(poses['joint_2d'], poses['joint_3d'])
    [row] = fit(model, poses, optimiser, scheduler, loss, batch_size=batch_size)
    if loss is supervised_loss:
        return row['loss'], row['loss']  # the loss is the MPJPE
    return row['loss'], score(model, poses, loss)[1]


def as_arrays(data: dict, need, model: LiftModel) -> dict:
    """Check arrays or tensors as `data.check` does; they must have the model's number of joints."""
    arrays = check({key: value.cpu() if torch.is_tensor(value) else value
                    for key, value in data.items()}, need)
    found = arrays['joint_2d_1'].shape[1]
    if found != model.n_joints:
        raise ValueError(f'key joint_2d_1: found {found} joints, expected {model.n_joints} as in '
                         f'the model')
    return arrays


# ---- the command line ---------------------------------------------------------------------------

def make_parser() -> Parser:
    parser = Parser(prog='training.py',
                    description='Trains a LiftModel on pickled 2D and 3D joints.')
    option = parser.add_argument
    option('--data', type=Path, metavar='FILE',
           help=f'dictionary with joint_2d_1 and joint_3d, or both views (default: {TRAIN_FILE}; '
                f'with --weak, or without that file, {WEAK_FILE} if it exists)')
    option('--weak', action='store_true', help='learn from two views, without joint_3d')
    option('--focal', type=bounded(float, 1e-9), metavar='F',
           help='with --weak: the focal length of both views, if the file has none')
    for name, kind, default, text in (
            ('epochs', bounded(int, 1), EPOCHS, 'passes over the data'),
            ('batch-size', bounded(int, 2), BATCH_SIZE, 'poses a step'),
            ('lr', bounded(float, 1e-9), RATE, 'peak of the learning rate'),
            ('n-blocks', bounded(int, 1), N_BLOCKS, 'residual blocks'),
            ('hidden-layer', bounded(int, 1), HIDDEN_LAYER, 'width of each layer'),
            ('dropout', bounded(float, 0, 1), DROPOUT, 'probability to drop a node'),
            ('seed', bounded(int, 0, 2 ** 63), 0, 'random seed')):
        option(f'--{name}', type=kind, default=default, help=text,
               metavar='F' if kind.__name__ == 'float' else 'N')
    add_device(parser, precision=True)
    option('--out', type=Path, default='liftModel', metavar='FILE', help='file for the weights')
    option('--plots', type=Path, default='plots', metavar='FOLDER',
           help='folder for charts and history.csv')
    option('--resume', action='store_true',
           help='continue the interrupted training of --out, with its own options')
    return parser


def fill_in_defaults(args: argparse.Namespace) -> None:
    """Fill in data and precision. Raises ValueError for options that do not go together."""
    if args.focal and not args.weak:
        raise ValueError('--focal: found no --weak, expected both; with joint_3d it is fitted')
    if not args.data:  # the two-view file is the default with --weak, and if there is no other
        other = Path(WEAK_FILE).exists() and (args.weak or not Path(TRAIN_FILE).exists())
        args.data = Path(WEAK_FILE if other else TRAIN_FILE)
    keep_inputs({'--data': args.data},
                {'--out': args.out, 'the state of --out': state_path(args.out)})
    args.precision = pick_precision(args.precision, pick_device(args.device))


def main(argv=None) -> None:
    parser, argv = make_parser(), sys.argv[1:] if argv is None else list(argv)
    out = parser.parse_args(argv).out
    with exit_status(parser, interrupted=lambda: what_is_left(out)):
        train(*parse(parser, argv, fill_in_defaults))


if __name__ == '__main__':
    main()
