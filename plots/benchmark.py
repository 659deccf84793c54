"""LiftModel compared with other recipes, and its speed; run by hand.

    python -m plots.benchmark accuracy --data data_train.pkl --test data_test.pkl
    python -m plots.benchmark target --data data_train.pkl --test data_test.pkl
    python -m plots.benchmark speed              # 5 minutes; on a quiet machine

The first two add each finished training to plots/report/benchmark.csv and skip those that it holds.
Without --data and --test they use synthetic people. Delete lines of the .csv to measure them anew.
"""
import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import ExponentialLR

from common.augment import NOISE, augment
from common.command import has_bfloat16
from common.files import Table, save_pickle
from common.people import sample
from common.skeleton import find_bones
from common.views import prepare_views
from data import find_camera, load
from metrics import cal_mpjpe
from model import GAIN, LiftModel
from plots import REPORT
from training import (BATCH_SIZE, FROZEN, RATE, as_tensors, fit, one_cycle, reprojection_loss,
                      supervised_loss)

N_POSES, ROUNDS = 85_008, 8  # as many poses as the motion capture that README.md has results for
N_EPOCH = 3 * 4096           # poses in a timed epoch: whole batches of each size
TEST_NOISE = .005            # added to the 2D joints of the test set
FIRST_STEP = '''
import os, sys, time
start = time.perf_counter()
import training
from torch.optim.optimizer import register_optimizer_step_post_hook
def stop(*_):
    print(time.perf_counter() - start, file=sys.stderr, flush=True)
    os._exit(0)
register_optimizer_step_post_hook(stop)
training.main(['--data', 'poses.pkl'])
'''


# ---- recipes ------------------------------------------------------------------------------------

class Martinez(LiftModel):
    """The network of Martinez et al., ICCV 2017: its first layer is followed by batch norm, ReLU
    and dropout too, dropout is 0.5, and the weights begin as He et al. (ICCV 2015) propose."""

    def __init__(self):
        super().__init__(dropout=.5)
        self.first = nn.Sequential(self.first, nn.BatchNorm1d(1024), nn.ReLU(), nn.Dropout(.5))
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight)


def square(model: LiftModel, poses: dict) -> Tensor:
    return (model(poses['joint_2d']) - poses['joint_3d']).square().mean()


def standardised_square(model: LiftModel, poses: dict) -> Tensor:
    error = (model(poses['joint_2d']) - poses['joint_3d']).flatten(1) / model.std_out
    return error.square().mean()


@dataclass(frozen=True)
class Recipe:
    """The settings that differ between rows; the defaults are those of training.py."""
    network: type = partial(LiftModel, dropout=0.)
    standardise: bool = True
    rays: bool = True
    gain: float = GAIN
    virtual: bool = True        # virtual views
    crossed: bool = True        # crossed poses
    noise: float = NOISE        # in the virtual views
    loss: object = supervised_loss
    rate: float = RATE
    one_cycle: bool = True
    frozen: float = FROZEN      # fraction of the epochs after which batch norm is frozen
    batch_size: int = BATCH_SIZE
    clip: float = float('inf')  # largest norm of the gradient
    decay: float = 1.           # factor of the rate in 100,000 steps
    beta: float = .99           # Adam's second beta, used only if not one_cycle


OURS, MARTINEZ = 'LiftModel', 'Martinez et al.'
RECIPES = {
    OURS: Recipe(),
    MARTINEZ: Recipe(Martinez, rays=False, gain=1., virtual=False, loss=standardised_square,
                     rate=1e-3, one_cycle=False, frozen=1., batch_size=64, clip=1., decay=.96,
                     beta=.999),
    'as students do it': Recipe(LiftModel, standardise=False, rays=False, gain=1.,
                                virtual=False, rate=1e-3, one_cycle=False, frozen=1.,
                                batch_size=64, beta=.999),
    'without virtual views': Recipe(virtual=False),
    'without crossed poses': Recipe(crossed=False),
    'without noise': Recipe(noise=0.),
    'without rays': Recipe(rays=False),
    'without standardisation': Recipe(standardise=False, rays=False),
    'without the one cycle': Recipe(one_cycle=False, rate=1e-3),
    'without freezing': Recipe(frozen=1.),
    'with an initial gain of 1': Recipe(gain=1.),
    'with squared error': Recipe(loss=square),
    'with dropout 0.1': Recipe(partial(LiftModel, dropout=.1)),
    'with batches of 64': Recipe(batch_size=64, rate=1e-3)}


def build(recipe: Recipe, poses: dict) -> LiftModel:
    """Make the network of a recipe with the statistics that it takes."""
    joint_2d, joint_3d = poses['joint_2d'], poses['joint_3d']
    model = recipe.network().to(joint_2d.device)
    model.in_bfloat16 = has_bfloat16(joint_2d.device)
    for block in model.blocks:
        nn.init.constant_(block.layers[-3].weight, recipe.gain)
    if recipe.standardise:
        model.set_statistics(joint_2d, joint_3d)
        if not recipe.rays:
            model.inverse_focal.zero_()
            model.mean_out.copy_(joint_3d.flatten(1).mean(dim=0))
            model.std_out.copy_(joint_3d.flatten(1).std(dim=0, correction=0))
    return model


def make_optimiser(recipe: Recipe, model: LiftModel, poses: dict, epochs: int) -> dict:
    """Return `optimiser` and `scheduler` of a recipe, for `fit`."""
    if recipe.one_cycle:
        return one_cycle(model, recipe.rate, poses, epochs, recipe.batch_size)
    optimiser = torch.optim.Adam(model.parameters(), recipe.rate, betas=(.9, recipe.beta),
                                 fused=True)

    def clip(*_):
        clip_grad_norm_(model.parameters(), recipe.clip)

    if recipe.clip < float('inf'):
        optimiser.register_step_pre_hook(clip)
    n_steps = len(poses['joint_2d']) // recipe.batch_size  # in an epoch
    return {'optimiser': optimiser,
            'scheduler': ExponentialLR(optimiser, recipe.decay ** (n_steps / 100_000))}


def train(recipe: Recipe, poses: dict, epochs: int, seed: int):
    """Train by a recipe; yield the model and the seconds so far after each epoch."""
    torch.manual_seed(seed)
    model, seconds = build(recipe, poses), 0.
    bones = find_bones(poses['joint_3d'].cpu().numpy()) if recipe.crossed else ()
    for row in fit(model, poses, **make_optimiser(recipe, model, poses, epochs), loss=recipe.loss,
                   augmentation=partial(augment, bones=bones, noise=recipe.noise)
                   if recipe.virtual else None, epochs=epochs, batch_size=recipe.batch_size,
                   frozen_after=recipe.frozen):
        seconds += len(poses['joint_2d']) / row['poses_per_s']
        yield model, seconds


# ---- accuracy -----------------------------------------------------------------------------------

def measure(args: argparse.Namespace, plan: list) -> dict:
    """Train the entries (row, epochs, seed) of the plan that the table lacks, and score each epoch
    on the test set; the scores choose nothing. Return for each entry an array (epochs, 3): seconds,
    MPJPE, MPJPE with noise in the points."""
    table = Table(args.table, ('data', 'row', 'epochs', 'seed', 'epoch'),
                  ('seconds', 'mpjpe', 'noisy'))
    for row, epochs, seed in plan:
        if (args.name, row, epochs, seed) not in table:
            results = [(seconds, *errors(model, args.test_set))
                       for model, seconds in train(RECIPES[row], args.train_set, epochs, seed)]
            for epoch, values in enumerate(results, start=1):
                table.add((args.name, row, epochs, seed, epoch), values)
            print(f'{row}, {epochs} epochs, seed {seed}: MPJPE {results[-1][1]:.5f}, '
                  f'{results[-1][0]:.0f} s', flush=True)
    rows = table.read()
    return {(row, epochs, seed): np.array([
        rows[args.name, row, str(epochs), str(seed), str(epoch)] for epoch in range(1, epochs + 1)])
        for row, epochs, seed in plan}


def errors(model: LiftModel, test_set: dict) -> list[float]:
    """Return MPJPE of exact points and of points with noise."""
    joint_2d = test_set['joint_2d']
    noise = torch.randn(joint_2d.shape, generator=torch.Generator().manual_seed(9))
    noisy = joint_2d + TEST_NOISE * noise.to(joint_2d.device)
    return [cal_mpjpe(model.lift(points), test_set['truth']).item()
            for points in (joint_2d, noisy)]


def read_poses(args: argparse.Namespace) -> tuple[dict, dict]:
    """Return all training poses with their cameras, and the test poses."""
    joints = load(args.data) if args.data else sample(40_000, seed=0)
    test = load(args.test) if args.test else sample(5_000, seed=1)
    joints, _ = find_camera(joints)
    return tuple(as_tensors(part, torch.device(args.device)) for part in (joints, test))


def accuracy(args: argparse.Namespace) -> None:
    """Print the MPJPE of all rows after args.epochs epochs, and of two rows after args.long."""
    args.train_set, args.test_set = read_poses(args)
    seed = args.seeds[0]
    runs = measure(args, [(row, args.epochs, seed) for seed in args.seeds for row in RECIPES]
                   + [(row, args.long, seed) for row in (OURS, MARTINEZ)])
    truth = args.test_set['truth']
    mean = cal_mpjpe(args.train_set['joint_3d'].mean(dim=0).expand_as(truth), truth)
    print(f'\n{"MPJPE on the test set":24}  {args.epochs} epochs, seeds '
          f'{", ".join(map(str, args.seeds))}   points +- {TEST_NOISE}')
    print(f'{"the mean pose":24}  {mean:.5f}')
    for row in RECIPES:
        ends = np.array([runs[row, args.epochs, seed][-1] for seed in args.seeds])
        (_, mpjpe, noisy), (_, spread, _) = ends.mean(axis=0), ends.std(axis=0)
        print(f'{row:24}  {mpjpe:.5f} +- {spread:.5f}          {noisy:.5f}')
    print(f'\n{args.long} epochs, seed {seed}')
    for row in (OURS, MARTINEZ):
        seconds, mpjpe, noisy = runs[row, args.long, seed][-1]
        print(f'{row:24}  {mpjpe:.5f}   points +- {TEST_NOISE}: {noisy:.5f}   {seconds:.0f} s')


def target(args: argparse.Namespace) -> None:
    """Print error and time of each epoch of OURS, beside the end of MARTINEZ's long training."""
    args.train_set, args.test_set = read_poses(args)
    theirs, ours = measure(args, [(MARTINEZ, args.long, args.seeds[0]),
                                  (OURS, args.epochs, args.seeds[0])]).values()
    whole, error, _ = theirs[-1]
    print(f'{MARTINEZ}, {args.long} epochs: MPJPE {error:.5f} in {whole:.0f} s')
    for epoch, (seconds, mpjpe, _) in enumerate(ours, start=1):
        print(f'{OURS}, {epoch} of {args.epochs} epochs: MPJPE {mpjpe:.5f} in {seconds:.0f} s, '
              f'{seconds / whole:.3f} of the time')


# ---- speed --------------------------------------------------------------------------------------

def products(model: LiftModel, batch_size: int, n_poses: int, backward: bool,
             dtype: torch.dtype = torch.float32) -> None:
    """Compute only the matrix products of a pass over n_poses, in memory allocated before."""
    weights = [layer.weight.detach().to(dtype) for layer in model.modules()
               if isinstance(layer, nn.Linear)]
    layers = [(weight, weight.new_ones(batch_size, weight.shape[1]),
               weight.new_ones(batch_size, weight.shape[0]), torch.empty_like(weight))
              for weight in weights]
    for _ in range(n_poses // batch_size):
        for weight, x, y, _ in layers:
            torch.mm(x, weight.T, out=y)
        if backward:
            for weight, x, y, gradient in reversed(layers):
                torch.mm(y.T, x, out=gradient)
                if x is not layers[0][1]:  # nobody needs the gradient of the points
                    torch.mm(y, weight, out=x)


def compare(work, floor) -> str:
    """Call two functions in turn; return median and range of the ratio of times, and speeds."""
    def seconds(function):
        start = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - start

    seconds(work), seconds(floor)  # warm up
    times = np.array([(seconds(work), seconds(floor)) for _ in range(ROUNDS)])
    ratios = times[:, 0] / times[:, 1]
    speeds = N_EPOCH / np.median(times, axis=0)
    return (f'{np.median(ratios):5.2f} ({ratios.min():.2f} to {ratios.max():.2f})'
            f'  {speeds[0]:9,.0f}  {speeds[1]:9,.0f}')


def speed(args: argparse.Namespace) -> None:
    """Compare training and scoring with the floor: their matrix products alone, in float32. If the
    device has bfloat16, training is in that; its floor is then computed in both. Compare an epoch
    without 3D and one of Martinez et al. with one of LiftModel."""
    joints = sample(N_EPOCH, seed=0)
    views, _ = prepare_views(joints)
    (joints, _), (views, _) = find_camera(joints), find_camera(views)
    device = torch.device(args.device)
    poses, two_views = (as_tensors(part, device) for part in (joints, views))
    joint_2d, truth = poses['joint_2d'], poses['truth']
    model, ours = LiftModel(dropout=0).to(device), RECIPES[OURS]
    weak = replace(ours, loss=reprojection_loss)

    def epoch(recipe, poses=poses):
        return lambda: list(train(recipe, poses, 1, seed=0))

    print('                   ratio to floor       poses/s  poses/s of the floor')
    floors = [torch.float32] + [torch.bfloat16] * has_bfloat16(device)
    for size, dtype in product(args.batch_size, floors):
        print(f'train, batch {size:4} ', compare(
            epoch(replace(ours, batch_size=size)),
            lambda: products(model, size, N_EPOCH, backward=True, dtype=dtype)), dtype, flush=True)
    print('score, batch 4096 ', compare(
        lambda: cal_mpjpe(model.lift(joint_2d), truth),
        lambda: products(model, 4096, N_EPOCH, backward=False)), flush=True)
    print('\n                   ratio to LiftModel   poses/s  poses/s of LiftModel')
    print('without 3D        ', compare(epoch(weak, two_views), epoch(ours)), flush=True)
    print('Martinez et al.   ', compare(epoch(RECIPES[MARTINEZ]), epoch(ours)), flush=True)
    whole_process()


def whole_process() -> None:
    """Print the time from the import to the first training step, and an epoch's peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        save_pickle(f'{folder}/poses.pkl', sample(N_POSES, seed=0))
        root = str(Path(__file__).parent.parent)
        first = [float(subprocess.run([sys.executable, '-c', FIRST_STEP], cwd=folder, check=True,
                                      env=os.environ | {'PYTHONPATH': root},
                                      capture_output=True).stderr)
                 for _ in range(3)]
        print(f'\nimport to first training step: {statistics.median(first):.1f} s')
        command = [sys.executable, f'{root}/training.py', '--data', 'poses.pkl', '--epochs', '1']
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f'peak memory of training: {peak:.0f} MB')


def main() -> None:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('what', choices=('accuracy', 'target', 'speed'))
    parser.add_argument('--data', help='poses to train on; if missing, synthetic people')
    parser.add_argument('--test', help='poses to score')
    parser.add_argument('--epochs', type=int, default=8, help='of each row')
    parser.add_argument('--long', type=int, default=40, help='epochs of the long training')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--table', type=Path, default=REPORT / 'benchmark.csv', help='of results')
    parser.add_argument('--batch-size', type=int, nargs='+', default=[64, 256, 512, 1024, 4096])
    parser.error = lambda message: parser.exit(2, f'benchmark: {message}\n')
    args = parser.parse_args()
    if bool(args.data) != bool(args.test):
        parser.error('found only one of --data and --test, expected both or neither')
    args.name = Path(args.data).name if args.data else 'synthetic'
    print(f'{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, '
          f'{args.device}, {torch.get_num_threads()} threads\n')
    try:
        {'accuracy': accuracy, 'target': target, 'speed': speed}[args.what](args)
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
