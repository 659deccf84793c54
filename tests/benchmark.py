"""LiftModel beside what one would take instead of it, and its speed; run by hand.

    python -m tests.benchmark accuracy --data data_train.pkl --test data_test.pkl
    python -m tests.benchmark target --data data_train.pkl --test data_test.pkl
    python -m tests.benchmark speed              # 5 minutes; on a quiet machine
    python -m tests.benchmark pare               # speeds of pare/; 1 minute

The first two keep each training in plots/benchmark.csv as it ends, take from there what was cut,
and train on synthetic people without files. Delete lines of the file to measure them anew.
"""
import argparse
import csv
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import ExponentialLR, OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

import plots
from data import SUPERVISED, find_focal, load, project, sample, save, settle_views
from metrics import cal_mpjpe
from model import LiftModel
from training import (learn, make_optimiser, run_epoch, run_epoch_weak, split_batches,
                      virtual_views)

N_POSES, ROUNDS = 85_008, 8  # as many poses as the motion capture that README.md has results for
N_EPOCH = 3 * 4096           # of an epoch that is timed: whole batches of each size
NOISE = .005                 # added to the 2D joints of the test set
TABLE = Path(plots.__file__).parent / 'benchmark.csv'
COLUMNS = ('data', 'row', 'epochs', 'seed', 'epoch', 'seconds', 'mpjpe', 'noisy')
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


def distance(_, lifted: Tensor, joint_3d: Tensor) -> Tensor:
    return cal_mpjpe(lifted, joint_3d)


def square(_, lifted: Tensor, joint_3d: Tensor) -> Tensor:
    return (lifted - joint_3d).square().mean()


def standardised_square(model: LiftModel, lifted: Tensor, joint_3d: Tensor) -> Tensor:
    return ((lifted - joint_3d).flatten(1) / model.std_3d).square().mean()


@dataclass(frozen=True)
class Recipe:
    """All that differs between rows; as it stands it is what training.py does."""
    network: type = LiftModel
    dropout: float | None = 0.
    standardise: bool = True
    rays: bool = True
    virtual: bool = True
    crossed: bool = True
    noise: bool = True
    loss: object = distance
    rate: float = 2e-3
    one_cycle: bool = True
    batch_size: int = 256
    clip: float = float('inf')  # largest norm of the gradient
    decay: float = 1.           # of the rate in 100,000 steps
    beta: float = .99           # Adam's second


OURS, MARTINEZ = 'LiftModel', 'Martinez et al.'
RECIPES = {
    OURS: Recipe(),
    MARTINEZ: Recipe(Martinez, None, rays=False, virtual=False, loss=standardised_square, rate=1e-3,
                     one_cycle=False, batch_size=64, clip=1., decay=.96, beta=.999),
    'as students do it': Recipe(dropout=.1, standardise=False, rays=False, virtual=False,
                                rate=1e-3, one_cycle=False, batch_size=64, beta=.999),
    'without virtual views': Recipe(virtual=False),
    'without crossed poses': Recipe(crossed=False),
    'without noise': Recipe(noise=False),
    'without rays': Recipe(rays=False),
    'without standardisation': Recipe(standardise=False, rays=False),
    'without the one cycle': Recipe(one_cycle=False, rate=1e-3),
    'with squared error': Recipe(loss=square),
    'with dropout 0.1': Recipe(dropout=.1),
    'with batches of 64': Recipe(batch_size=64, rate=1e-3)}


def build(recipe: Recipe, joints: dict, epochs: int, seed: int) -> tuple:
    """Model, optimiser and scheduler of a recipe for training poses on a device."""
    torch.manual_seed(seed)
    joint_2d, joint_3d = joints['joint_2d_1'], joints['joint_3d']
    model = recipe.network() if recipe.dropout is None else recipe.network(dropout=recipe.dropout)
    model.to(joint_2d.device)
    if recipe.standardise:
        model.fit(joint_2d, joint_3d)
    if recipe.standardise and not recipe.rays:
        model.inverse_focal.zero_()
        model.mean_3d.copy_(joint_3d.flatten(1).mean(dim=0))
        model.std_3d.copy_(joint_3d.flatten(1).std(dim=0, correction=0))
    optimiser = make_optimiser(model, recipe.rate)
    optimiser.param_groups[0]['betas'] = (.9, recipe.beta)

    def clip(*_):
        clip_grad_norm_(model.parameters(), recipe.clip)

    if recipe.clip < float('inf'):
        optimiser.register_step_pre_hook(clip)
    steps = len(split_batches(joint_2d, recipe.batch_size))
    scheduler = (OneCycleLR(optimiser, recipe.rate, epochs * steps, cycle_momentum=False)
                 if recipe.one_cycle
                 else ExponentialLR(optimiser, recipe.decay ** (steps / 100_000)))
    return model, optimiser, scheduler


def train(recipe: Recipe, joints: dict, test: dict, epochs: int, seed: int):
    """Trains by a recipe; yields after each epoch the seconds of training, MPJPE on the test set,
    and MPJPE with noise in its points. Nothing is chosen by them."""
    model, optimiser, scheduler = build(recipe, joints, epochs, seed)
    noise = torch.randn(test['joint_2d_1'].shape, generator=torch.Generator().manual_seed(9))
    noisy = test['joint_2d_1'] + NOISE * noise.to(test['joint_2d_1'].device)
    seconds = 0.
    for epoch in range(epochs):
        start = time.perf_counter()
        with (nullcontext() if recipe.crossed else patch('training.cross', lambda pose: pose),
              nullcontext() if recipe.noise else patch('training.NOISE', 0)):
            views = virtual_views(joints) if recipe.virtual else joints

        def error(rows):
            joint_3d = views['joint_3d'][rows]
            loss = recipe.loss(model, model(views['joint_2d_1'][rows]), joint_3d)
            return loss, loss

        learn(epoch, error, len(joints['joint_3d']), model, optimiser, scheduler,
              recipe.batch_size)
        seconds += time.perf_counter() - start
        yield (seconds, *(cal_mpjpe(model.lift(points), test['joint_3d']).item()
                          for points in (test['joint_2d_1'], noisy)))


# ---- accuracy -----------------------------------------------------------------------------------

def measure(name: str, joints: dict, test: dict, plan: list) -> dict:
    """Trains those of the plan, (row, epochs, seed), that the table does not hold yet. Returns the
    epochs of each training: (row, epochs, seed) to [(seconds, mpjpe, noisy), ...]."""
    for row, epochs, seed in plan:
        if (row, epochs, seed) not in read_table(name):
            result = list(train(RECIPES[row], joints, test, epochs, seed))
            print(f'{row}, {epochs} epochs, seed {seed}: MPJPE {result[-1][1]:.5f}, '
                  f'{result[-1][0]:.0f} s', flush=True)
            write_table(name, row, epochs, seed, result)
    return read_table(name)


def read_poses(args: argparse.Namespace) -> tuple[dict, dict]:
    """All training poses with their cameras, and the test poses, as tensors."""
    joints = load(args.data) if args.data else sample(40_000, seed=0)
    test = load(args.test) if args.test else sample(5_000, seed=1)
    joints['focal_len_1'] = find_focal(joints)
    joints['offset'] = joints['joint_2d_1'] - project(joints['joint_3d'], joints['focal_len_1'])
    return tuple({key: torch.from_numpy(part[key]).to(args.device) for key in keys}
                 for part, keys in ((joints, (*SUPERVISED, 'focal_len_1', 'offset')),
                                    (test, SUPERVISED)))


def read_table(name: str) -> dict:
    if not TABLE.exists():
        TABLE.write_text(','.join(COLUMNS) + '\n')
    found = {}
    with open(TABLE, newline='') as file:
        for line in csv.DictReader(file):
            if line['data'] == name:
                key = line['row'], int(line['epochs']), int(line['seed'])
                found.setdefault(key, []).append(
                    tuple(float(line[column]) for column in ('seconds', 'mpjpe', 'noisy')))
    return found


def write_table(name: str, row: str, epochs: int, seed: int, result: list) -> None:
    with open(TABLE, 'a', newline='') as file:
        csv.writer(file, lineterminator='\n').writerows(
            (name, row, epochs, seed, epoch, f'{seconds:.2f}', f'{mpjpe:.6f}', f'{noisy:.6f}')
            for epoch, (seconds, mpjpe, noisy) in enumerate(result, start=1))


def accuracy(args: argparse.Namespace) -> None:
    """The table of rows, each at the same number of samples seen, and two at the same time."""
    seed, (joints, test) = args.seeds[0], read_poses(args)
    found = measure(args.name, joints, test,
                    [(row, args.epochs, seed) for seed in args.seeds for row in RECIPES]
                    + [(row, args.long, seed) for row in (OURS, MARTINEZ)])
    mean = joints['joint_3d'].mean(dim=0).expand_as(test['joint_3d'])
    print(f'\n{"MPJPE on the test set":24}  {args.epochs} epochs, seeds '
          f'{", ".join(map(str, args.seeds))}   points +- {NOISE}')
    print(f'{"the mean pose":24}  {cal_mpjpe(mean, test["joint_3d"]):.5f}')
    for row in RECIPES:
        ends = np.array([found[row, args.epochs, seed][-1] for seed in args.seeds])
        (_, mpjpe, noisy), (_, spread, _) = ends.mean(axis=0), ends.std(axis=0)
        print(f'{row:24}  {mpjpe:.5f} +- {spread:.5f}          {noisy:.5f}')
    print(f'\n{args.long} epochs, seed {seed}')
    for row in (OURS, MARTINEZ):
        seconds, mpjpe, noisy = found[row, args.long, seed][-1]
        print(f'{row:24}  {mpjpe:.5f}   points +- {NOISE}: {noisy:.5f}   {seconds:.0f} s')
    ours = found[OURS, args.epochs, seed][-1]
    theirs = min(found[MARTINEZ, args.long, seed], key=lambda epoch: abs(epoch[0] - ours[0]))
    print(f'after {ours[0]:.0f} s {OURS} {ours[1]:.5f}, after {theirs[0]:.0f} s {MARTINEZ} '
          f'{theirs[1]:.5f}')


def target(args: argparse.Namespace) -> None:
    """Time until the error with which the long training of Martinez et al. ends."""
    plan = [(MARTINEZ, args.long, args.seeds[0]), (OURS, args.epochs, args.seeds[0])]
    found = measure(args.name, *read_poses(args), plan)
    theirs, ours = (found[key] for key in plan)
    whole, error, _ = theirs[-1]
    print(f'{MARTINEZ}, {args.long} epochs: MPJPE {error:.5f} in {whole:.0f} s')
    for epoch, (seconds, mpjpe, _) in enumerate(ours, start=1):
        print(f'{OURS}, {epoch} of {args.epochs} epochs: MPJPE {mpjpe:.5f} in {seconds:.0f} s, '
              f'{seconds / whole:.3f} of the time')


# ---- speed --------------------------------------------------------------------------------------

def products(model: LiftModel, batch_size: int, n_poses: int, backward: bool) -> None:
    """The matrix products of a pass over n_poses and nothing else, into memory that is there."""
    weights = [layer.weight.detach() for layer in model.modules() if isinstance(layer, nn.Linear)]
    layers = [(weight, torch.ones(batch_size, weight.shape[1]),
               torch.ones(batch_size, weight.shape[0]), torch.empty_like(weight))
              for weight in weights]
    for _ in range(n_poses // batch_size):
        for weight, x, y, _ in layers:
            torch.mm(x, weight.T, out=y)
        if backward:
            for weight, x, y, gradient in reversed(layers):
                torch.mm(y.T, x, out=gradient)
                if x is not layers[0][1]:  # nobody needs the gradient of the points
                    torch.mm(y, weight, out=x)


def compare(work, floor, n_poses: int) -> str:
    """Ratio of the times of two functions, called in turn; its median and range, and the speeds."""
    def seconds(function):
        start = time.perf_counter()
        function()
        return time.perf_counter() - start

    seconds(work), seconds(floor)  # warm up
    times = np.array([(seconds(work), seconds(floor)) for _ in range(ROUNDS)])
    ratios = times[:, 0] / times[:, 1]
    speeds = n_poses / np.median(times, axis=0)
    return (f'{np.median(ratios):5.2f} ({ratios.min():.2f} to {ratios.max():.2f})'
            f'  {speeds[0]:9,.0f}  {speeds[1]:9,.0f}')


def speed(args: argparse.Namespace) -> None:
    """Epochs of training and scoring against the matrix products that nobody can do without, an
    epoch without 3D against one with it, and against that of Martinez et al. as it is ported."""
    n_poses = N_EPOCH
    print('                   ratio to floor       poses/s  poses/s of the floor')
    joints = sample(n_poses, seed=0)
    train_set = {key: torch.from_numpy(joints[key]) for key in SUPERVISED}
    train_set |= {'focal_len_1': torch.from_numpy(find_focal(joints)),
                  'offset': torch.zeros_like(train_set['joint_2d_1'])}
    views = {key: torch.from_numpy(array) for key, array in settle_views(joints)[0].items()}
    views['offset'] = torch.zeros_like(views['joint_2d_1'])

    def epoch(batch_size, run=run_epoch, poses=train_set):
        model, optimiser, _ = build(RECIPES[OURS], train_set, 1, seed=0)
        return lambda: run(1, virtual_views(poses), model, optimiser, None, batch_size)

    for batch_size in args.batch_size:
        model = LiftModel(dropout=0)
        print(f'train, batch {batch_size:4} ', compare(
            epoch(batch_size), lambda: products(model, batch_size, n_poses, backward=True),
            n_poses), flush=True)
    print('score, batch 4096 ', compare(
        lambda: cal_mpjpe(model.lift(train_set['joint_2d_1']), train_set['joint_3d']),
        lambda: products(model, 4096, n_poses, backward=False), n_poses), flush=True)
    print('\n                   ratio to LiftModel   poses/s  poses/s of LiftModel, batches of 256')
    print('without 3D        ', compare(epoch(256, run_epoch_weak, views), epoch(256), n_poses))
    print('Martinez et al.   ', compare(ported_epoch(train_set), epoch(256), n_poses), flush=True)
    whole_process()


def ported_epoch(train_set: dict):
    """An epoch of Martinez et al. with the DataLoader of its port to PyTorch."""
    model, optimiser, _ = build(RECIPES[MARTINEZ], train_set, 1, seed=0)
    loader = DataLoader(TensorDataset(train_set['joint_2d_1'], train_set['joint_3d']), 64,
                        shuffle=True)

    def epoch():
        model.train()
        for joint_2d, joint_3d in loader:
            loss = standardised_square(model, model(joint_2d), joint_3d)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    return epoch


def whole_process() -> None:
    """Time from the import to the first training step, and peak memory of an epoch."""
    with tempfile.TemporaryDirectory() as folder:
        save(f'{folder}/poses.pkl', sample(N_POSES, seed=0))
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


def pare(args: argparse.Namespace) -> None:
    """Pictures rendered a second, and bodies skinned for a loss of joints and back."""
    from pare.body import Skeleton, axis_angle_to_matrix, make_body
    from pare.data import render_set, sample_poses

    with tempfile.TemporaryDirectory() as folder:
        for size, n in ((64, 1000), (224, 300)):
            start = time.perf_counter()
            render_set(Path(folder) / 'people.npz', n, size, seed=0)
            print(f'{n / (time.perf_counter() - start):7,.0f} images/s', flush=True)
    skeleton = Skeleton(make_body())
    pose = torch.from_numpy(sample_poses(np.random.default_rng(0), 64, 180))
    rotations = axis_angle_to_matrix(pose).requires_grad_()
    betas = torch.randn(64, 10, requires_grad=True)
    times = []
    for _ in range(100):
        start = time.perf_counter()
        points, joints = skeleton(betas, rotations)
        (points.square().mean() + joints.square().mean()).backward()
        times.append(time.perf_counter() - start)
    print(f'{64 / np.median(times):7,.0f} bodies/s forward and backward, in batches of 64')


def main() -> None:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('what', choices=('accuracy', 'target', 'speed', 'pare'))
    parser.add_argument('--data', help='poses to train on; synthetic people without')
    parser.add_argument('--test', help='poses of others, to score')
    parser.add_argument('--epochs', type=int, default=8, help='of each row')
    parser.add_argument('--long', type=int, default=40, help='epochs of the long training')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--batch-size', type=int, nargs='+', default=[64, 256, 1024, 4096])
    parser.error = lambda message: parser.exit(2, f'benchmark: {message}\n')
    args = parser.parse_args()
    if bool(args.data) != bool(args.test):
        parser.error('found only one of --data and --test, expected both or neither')
    args.name = Path(args.data).name if args.data else 'synthetic'
    print(f'{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, '
          f'{args.device}, {torch.get_num_threads()} threads\n')
    try:
        {'accuracy': accuracy, 'target': target, 'speed': speed, 'pare': pare}[args.what](args)
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
