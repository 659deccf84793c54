"""Learns to regress the SMPL body from an image.

    python -m pare.training                      # renders people of a stand-in body and learns them
    python -m pare.training --resume             # goes on where the last training was stopped
    python -m pare.training --size full --body SMPL_NEUTRAL.pkl --init resnet50.pth \\
        --images /data --train 3dpw_train.npz:0.6 mpii_train.npz:0.4
    torchrun --nproc-per-node 8 -m pare.training --size full ...
"""
from pare.command import command, end_at_once

if __name__ == '__main__':  # while torch is imported
    end_at_once()

import argparse
import os
import sys
import tempfile
import time
from contextlib import closing
from datetime import timedelta

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import OneCycleLR

from metrics import cal_mpjpe
from model import pick_device
from pare.batches import prepare
from pare.body import Skeleton
from pare.data import load_bodies
from pare.losses import losses, skeleton_loss
from pare.metrics import to, true_joints, validate
from pare.model import build, load_backbone
from pare.muon import make_optimisers
from pare.options import COLUMNS, N_RANKS, RANK, make_parser, settle
from pare.people import PASSES, sample_skeletons
from training import (DIVERGED, learnt_by, live, parse, restore, save_state, save_tensors,
                      state_path, status, unfinished)

# ---- settings -----------------------------------------------------------------------------------

N_SKELETONS = 256                    # bodies without images in each step
# The small network compares by distance. The full one is as SPIN: squares, and 24 of its 49
# keypoints have a weight in a mean over all.
WEIGHTS = {'small': {'keypoints': 1., 'points_3d': 2., 'pose': 1., 'betas': .001, 'camera': 1.,
                     'parts': .3, 'places': 1., 'skeletons': 1.},
           'full': {'keypoints': 5. * 24 / 49, 'points_3d': 5., 'pose': 1., 'betas': .001,
                    'camera': 1., 'parts': 1., 'places': 0., 'skeletons': 0.}}


# ---- the loop -----------------------------------------------------------------------------------

def fit(model: nn.Module, batches, skeleton: Skeleton, epochs: int, lr: float, weights: dict,
        part_epochs: int, squared: bool = False, muon: bool = True, state: dict | None = None,
        in_bfloat16: bool = False):
    """Trains by the weighted sum of `losses`; yields each epoch's row and what a state needs.

    `batches` is a Mixture, Rendered or what has their attributes. After part_epochs the part
    loss is left out. Goes on from a state of `load_state`. The products of images are in bfloat16
    if so wanted. Raises ValueError where the loss diverges.
    """
    device, learner = skeleton.rows.device, distributed(model)
    optimisers = make_optimisers(model, lr, muon)
    schedulers = [OneCycleLR(optimiser, optimiser.param_groups[0]['lr'],
                             epochs * batches.n_batches, pct_start=.1, cycle_momentum=False)
                  for optimiser in optimisers]
    parts = {'model': model} | {
        f'{name}_{number}': part for name, group in (('optimiser', optimisers),
                                                     ('scheduler', schedulers))
        for number, part in enumerate(group)}
    begun = restore(parts, state)['epoch'] if state else 0
    most = None
    for epoch in range(begun + 1, epochs + 1):
        model.train()
        start, totals = time.perf_counter(), dict.fromkeys(weights, 0.)
        rng = np.random.default_rng((batches.seed, epoch))
        weight = weights | {'parts': weights['parts'] * (epoch <= part_epochs)}
        for batch in live(epoch, batches.epoch(epoch), batches.n_batches):
            terms = all_terms(model, learner, to(device, batch), skeleton, squared,
                              rng if weight['skeletons'] else None, in_bfloat16)
            # also by weights of zero: DistributedDataParallel wants a gradient for all
            loss = sum(weight[key] * term for key, term in terms.items())
            most = DIVERGED * loss.item() if most is None else most
            for optimiser in optimisers:
                optimiser.zero_grad()
            loss.backward()
            for part in (*optimisers, *schedulers):
                part.step()
            for key, term in terms.items():
                totals[key] += weight[key] * term.detach() / batches.n_batches
        row = {key: float(value) for key, value in totals.items()}
        row = {'epoch': epoch, 'loss': sum(row.values())} | row
        if not row['loss'] < most:
            raise ValueError(f'epoch {epoch}: found a loss of {row["loss"]:.3g}, expected less '
                             f'than {most:.3g}, {DIVERGED} times that of the first batch; a '
                             f'smaller --lr may help')
        seconds = time.perf_counter() - start
        row['images_per_s'] = N_RANKS * batches.n_batches * batches.batch_size / seconds
        yield row, parts


def all_terms(model: nn.Module, learner: nn.Module, batch: dict, skeleton: Skeleton, squared: bool,
              rng, in_bfloat16: bool) -> dict[str, Tensor]:
    """The terms of the loss of a batch and, with `rng`, of bodies without images."""
    device = batch['image'].device
    with torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16):
        found = learner(batch['image'])
    found = {key: value.float() for key, value in found.items()}
    terms = losses(found, batch, skeleton, squared)
    if rng and 'places' in found:
        bodies = to(device, sample_skeletons(rng, N_SKELETONS, skeleton.body))
        terms['skeletons'] = skeleton_loss(model, bodies, skeleton.body)
    return terms


def distributed(model: nn.Module) -> nn.Module:
    """The network, or under torchrun one that shares its gradients with the other processes."""
    if not torch.distributed.is_initialized():
        return model
    if next(model.parameters()).is_cuda:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return DistributedDataParallel(model)


# ---- the training -------------------------------------------------------------------------------

def train(args: argparse.Namespace, state: dict | None) -> None:
    """Trains from the start or from a state; writes weights, history and charts when it is done.

    Raises ValueError or OSError for what a user can mend: before the first epoch, but for a loss
    that diverges and a disk that is full.
    """
    device = pick_device(args.device)
    for folder in (args.out.parent, args.plots):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # is it writable?
    torch.manual_seed(args.seed)
    options = {'kind': 'pare', 'size': args.size, 'placed': args.size == 'small', 'shared': False}
    model = build(**options).to(device, memory_format=torch.channels_last)  # faster convolutions
    if args.init and not state:
        load_backbone(model, args.init)
    bodies = load_bodies(args.body, args.body_dir)
    skeleton = Skeleton(bodies['neutral']).to(device)
    batches, val_batches, constant = prepare(args, bodies, skeleton, RANK, N_RANKS)
    options |= {'resolution': args.resolution, 'rendered': not args.train}
    first = RANK == 0
    if first:
        say_what(args, model, val_batches, constant, skeleton)
    history = state['history'] if state else []
    with closing(batches):
        for row, parts in fit(model, batches, skeleton, args.epochs, args.lr, WEIGHTS[args.size],
                              args.part_epochs or args.epochs, args.size == 'full',
                              args.size == 'small', state, args.precision == 'bfloat16'):
            row |= validate(model, val_batches, skeleton, device, args.resolution)
            history.append([row[column] for column in COLUMNS])
            if first:
                save_state(state_path(args.out), parts, epoch=row['epoch'], history=history,
                           options=learnt_by(args))
                print_row(row, args.epochs, N_RANKS * batches.n_batches * batches.batch_size)
    if first:
        finish(args, {'options': options, 'mean_pose': constant, 'weights': model.state_dict()},
               history)


def say_what(args, model, val_batches, constant, skeleton) -> None:
    """Prints what is trained on what, and the error of the mean pose."""
    device = skeleton.rows.device
    truth = torch.cat([true_joints(to(device, batch), skeleton).cpu() for batch in val_batches])
    what = ', '.join(args.train) if args.train else (
        f'{args.people:,} people rendered for each epoch, each shown {PASSES} times')
    if skeleton.missing():
        print(skeleton.missing())
    n_parameters = sum(weights.numel() for weights in model.parameters())
    print(f'data: {what}; {len(truth):,} other people to validate\n'
          f'model: {args.size}, {n_parameters:,} parameters, on {device.type}, products in '
          f'{args.precision}')
    if constant is not None:
        error = 1000 * cal_mpjpe(constant.expand_as(truth), truth)
        print(f'mean pose: {error:.1f} mm, the error of a constant')
    print('\nepoch    loss  MPJPE mm  PA-MPJPE mm  keypoints px  images/s  time left')


def print_row(row: dict, epochs: int, n_images: int) -> None:
    left = timedelta(seconds=round((epochs - row['epoch']) * n_images / row['images_per_s']))
    start = '\r' if sys.stdout and sys.stdout.isatty() else ''  # over the live line
    print(f'{start}{row["epoch"]:5}  {row["loss"]:6.4f}  {row["val_mpjpe"]:8.1f}  '
          f'{row["val_pa_mpjpe"]:11.1f}  {row["val_pixels"]:12.2f}  {row["images_per_s"]:8.0f}  '
          f'{left!s:>9}', flush=True)


def finish(args: argparse.Namespace, weights: dict, history: list) -> None:
    """Writes the history as numbers and as a chart, then the weights; the state is done with."""
    import plots  # only now: with matplotlib the training would start later
    from pare.plots import draw_history

    plots.write_csv(args.plots / 'history.csv', COLUMNS, history)
    draw_history(dict(zip(COLUMNS, zip(*history))), args.plots / 'history.png')
    save_tensors(args.out, weights)
    state_path(args.out).unlink(missing_ok=True)
    print(f'\nwrote {args.out}, and charts to {args.plots}; its score: python -m pare.eval '
          f'{args.out}')


# ---- the command line ---------------------------------------------------------------------------

def main(argv=None) -> int:
    parser, argv = make_parser(), sys.argv[1:] if argv is None else list(argv)
    out = parser.parse_args(argv).out

    def work():
        args, state = parse(parser, argv, settle, COLUMNS)
        if N_RANKS > 1:
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ['LOCAL_RANK']))
            torch.distributed.init_process_group()
        train(args, state)
    return status(parser, work, lambda: unfinished(out, '-m pare.training'))


if __name__ == '__main__':
    command(main)
