"""Learn to regress the SMPL body from an image.

    python -m pare.training                      # learns from rendered people of a stand-in body
    python -m pare.training --resume             # continues the interrupted training
    python -m pare.training --resume --epochs 9  # with another number of epochs
    python -m pare.training --size full --body SMPL_NEUTRAL.pkl --init resnet50.pth \\
        --images /data --train 3dpw_train.npz:0.6 mpii_train.npz:0.4
"""
import argparse
import math
import sys
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

from common.command import exit_status, live, pick_device
from common.files import make_folder, write_csv
from common.states import parse, restore, save_state, save_tensors, state_path, what_is_left
from metrics import cal_mpjpe
from pare.batches import prepare, truth_of
from pare.body import Skeleton
from pare.losses import losses, skeleton_loss
from pare.metrics import complete, describe_joints, to_device, validate
from pare.model import build, load_backbone
from pare.muon import make_optimisers
from pare.options import COLUMNS, fill_in_defaults, make_parser, recipe_of
from pare.people import PASSES, sample_skeletons
from pare.recipes import Recipe
from pare.smpl import load_bodies, skeletons

N_SKELETONS = 256  # bodies without images in each step


# ---- the loop -----------------------------------------------------------------------------------

def fit(model: nn.Module, batches, skeleton: Skeleton, recipe: Recipe, state: dict | None = None,
        in_bfloat16: bool = False):
    """Train by a recipe; after each epoch yield its row of the history and the parts to save.

    `batches` is a Mixture, Rendered or anything with their attributes. A `state` resumes the
    training that saved it. With `in_bfloat16` images pass the network under autocast. Raises
    ValueError if the loss diverges.
    """
    device = skeleton.rows.device
    optimisers = make_optimisers(model, recipe.lr, recipe.muon)
    parts = {'model': model} | {type(part).__name__: part for part in optimisers}
    begun = len(restore(parts, state)) if state else 0
    schedulers = [make_scheduler(optimiser, recipe.epochs * batches.n_batches,
                                 begun * batches.n_batches, recipe.one_cycle)
                  for optimiser in optimisers]
    for epoch in range(begun + 1, recipe.epochs + 1):
        model.train()
        start, totals = time.perf_counter(), 0.
        rng = np.random.default_rng((batches.seed, epoch))
        with_parts = recipe.part_epochs is None or epoch <= recipe.part_epochs
        weights = recipe.weights | {'parts': recipe.weights['parts'] * with_parts}
        for batch in live(epoch, batches.epoch(epoch), batches.n_batches):
            terms = all_terms(model, to_device(device, batch), skeleton, recipe, rng, in_bfloat16)
            weighted = torch.stack([weights[key] * term for key, term in terms.items()])
            for optimiser in optimisers:
                optimiser.zero_grad()
            weighted.sum().backward()
            for part in (*optimisers, *schedulers):
                part.step()
            totals = totals + weighted.detach()  # read once an epoch: that waits for a GPU
        row = dict.fromkeys(weights, 0.) | dict(zip(terms, (totals / batches.n_batches).tolist()))
        row = {'epoch': epoch, 'loss': sum(row.values())} | row
        if not math.isfinite(row['loss']):
            raise ValueError(f'epoch {epoch}: found a loss of {row["loss"]}, expected a finite '
                             f'one; a smaller --lr may help')
        seconds = time.perf_counter() - start
        row['images_per_s'] = batches.n_batches * batches.batch_size / seconds
        yield row, parts


def make_scheduler(optimiser: torch.optim.Optimizer, n_steps: int, done: int, one_cycle: bool):
    """Return the schedule of the learning rate of a training, after the first `done` of its steps.

    The held rate depends only on the step and n_steps, so a resumed training may change its epochs.
    Only the ladder uses one cycle; it repeats an interrupted rung from the start.
    """
    if one_cycle:
        return OneCycleLR(optimiser, optimiser.param_groups[0]['lr'], n_steps, pct_start=.1,
                          cycle_momentum=False)
    return LambdaLR(optimiser, lambda step: held(step / n_steps), done - 1)


def held(done: float) -> float:
    """Return the share of the peak rate when this fraction of a training is done.

    It rises for a tenth of the training and falls to zero over the last quarter, in straight lines.
    """
    return min(done / .1, 1, (1 - done) / .25)


def all_terms(model: nn.Module, batch: dict, skeleton: Skeleton, recipe: Recipe, rng,
              in_bfloat16: bool) -> dict[str, Tensor]:
    """Compute the loss terms of a batch, and of bodies without images if their weight is not 0."""
    device = batch['image'].device
    with torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16):
        found = model(batch['image'], batch['gain'])
    found = {key: value.float() for key, value in found.items()}
    terms = losses(found, batch, skeleton, recipe.squared)
    if recipe.weights['skeletons'] and 'places' in found:
        bodies = sample_skeletons(rng, N_SKELETONS, skeleton.body)
        terms['skeletons'] = skeleton_loss(model, bodies, skeleton.body)
    return terms


# ---- the training -------------------------------------------------------------------------------

def train(args: argparse.Namespace, state: dict | None) -> None:
    """Train from the start or from a state; write history and charts after each epoch, weights at
    the end.

    Raises ValueError or OSError before the first epoch, later only for a loss that diverges, a box
    beside its photograph, and a full disk.
    """
    device, recipe = pick_device(args.device), recipe_of(args)
    for folder in (args.out.parent, args.plots):
        make_folder(folder)
    torch.manual_seed(args.seed)
    model = build(**recipe.network).to(device, memory_format=torch.channels_last)
    if args.init and not state:
        load_backbone(model, args.init)
    bodies = load_bodies(args.body)
    genders = skeletons(bodies, device)
    skeleton = genders.pop('neutral')
    batches, val_batches, constant = prepare(args, bodies, skeleton)
    print_setup(args, model, val_batches, constant, skeleton, genders)
    options = recipe.network | {'resolution': args.resolution, 'rendered': not args.train,
                                'vertices': len(bodies['neutral']['v_template'])}
    kept = {'options': options, 'mean_pose': constant}
    history = state['history'] if state else []
    with closing(batches):
        for row, parts in fit(model, batches, skeleton, recipe, state,
                              args.precision == 'bfloat16'):
            row |= validate(model, val_batches, skeleton, device, args.resolution, genders)
            history.append([row[column] for column in COLUMNS])
            save_state(args, parts, history, kept=kept)
            write_history(args.plots, history)
            print_row(row, args.epochs, batches.n_batches * batches.batch_size)
    finish(args, kept | {'weights': model.state_dict()})


def print_setup(args, model, val_batches, constant, skeleton, genders) -> None:
    """Print the data, the model, and the error of the mean pose."""
    device, truth = skeleton.rows.device, truth_of(val_batches.dataset, skeleton, genders)
    what = ', '.join(args.train) if args.train else (
        f'{args.people:,} people rendered for each epoch, each shown {PASSES} times')
    if skeleton.missing():
        print(skeleton.missing())
    n_parameters = sum(weights.numel() for weights in model.parameters())
    print(f'data: {what}; {len(truth):,} other people to validate\n'
          f'model: {args.kind}, {args.size}, {n_parameters:,} parameters, on {device.type}, '
          f'convolutions in {args.precision}')
    if constant is not None:
        both = {'found': constant.expand_as(truth), 'true': truth}
        error = 1000 * cal_mpjpe(*complete(both))
        print(f'mean pose: {error:.1f} mm, the error of a constant')
    source = 'bodies of the gender in the file' if genders else 'neutral bodies'
    print(f'MPJPE: {describe_joints(skeleton)}, truth: {source}')
    print('\nepoch    loss  MPJPE mm  PA-MPJPE mm  keypoints px  images/s  time left')


def print_row(row: dict, epochs: int, n_images: int) -> None:
    """Print a row of the history, and the time left at n_images an epoch."""
    left = timedelta(seconds=round((epochs - row['epoch']) * n_images / row['images_per_s']))
    pixels = '-' if math.isnan(row['val_pixels']) else f'{row["val_pixels"]:.2f}'
    start = '\r' if sys.stdout and sys.stdout.isatty() else ''  # over the live line
    print(f'{start}{row["epoch"]:5}  {row["loss"]:6.4f}  {row["val_mpjpe"]:8.1f}  '
          f'{row["val_pa_mpjpe"]:11.1f}  {pixels:>12}  {row["images_per_s"]:8.0f}  '
          f'{left!s:>9}', flush=True)


def write_history(folder: Path, history: list) -> None:
    """Write the history as numbers and as a chart, to watch a training by."""
    from pare.plots import draw_history  # imported late: matplotlib takes half a second

    write_csv(folder / 'history.csv', COLUMNS, history)
    draw_history(dict(zip(COLUMNS, zip(*history))), folder / 'history.png')


def finish(args: argparse.Namespace, weights: dict) -> None:
    """Write the weights, and remove the state."""
    save_tensors(args.out, weights)
    state_path(args.out).unlink(missing_ok=True)
    photos = ' --data SET.npz --images FOLDER' + f' --body {args.body}' * bool(args.body)
    print(f'\nwrote {args.out}; charts are in {args.plots}; its score: python -m pare.eval '
          f'{args.out}' + photos * bool(args.train))


# ---- the command line ---------------------------------------------------------------------------

def refuse_fewer_epochs(args: argparse.Namespace, state: dict | None) -> None:
    """Raise ValueError if a resumed training has finished more epochs than it should have."""
    finished = len(state['history']) if state else 0
    if args.epochs < finished:
        raise ValueError(f'--epochs: found {args.epochs}, expected at least the {finished} that '
                         f'{state_path(args.out)} has finished')


def main(argv=None) -> None:
    """Train as the command line says."""
    parser, argv = make_parser(), sys.argv[1:] if argv is None else list(argv)
    out = parser.parse_args(argv).out
    with exit_status(parser, interrupted=lambda: what_is_left(out, '-m pare.training')):
        args, state = parse(parser, argv, fill_in_defaults, may_change=('epochs',))
        refuse_fewer_epochs(args, state)
        train(args, state)


if __name__ == '__main__':
    main()
