"""Speed against the matrix products that no implementation can do without; run by hand.

    python -m tests.benchmark                    # on a quiet machine; about 5 minutes on 2 cores
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
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from data import SUPERVISED, find_focal, sample, save, settle_views
from metrics import cal_mpjpe
from model import LiftModel
from training import run_epoch, run_epoch_weak, virtual_views

N_POSES, ROUNDS = 85_008, 8  # as many poses as the motion capture that README.md has results for
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


def speed(batch_sizes: list[int]) -> None:
    """Training with virtual views as training.py does it, and scoring, against their floors;
    and an epoch without 3D against one with it."""
    n_poses = N_POSES // ROUNDS
    joints = sample(n_poses, seed=0)
    train_set = {key: torch.from_numpy(joints[key]) for key in SUPERVISED}
    train_set['focal_len_1'] = torch.from_numpy(find_focal(joints))
    train_set['offset'] = torch.zeros_like(train_set['joint_2d_1'])
    print('                   ratio to floor       poses/s  poses/s of the floor')
    for batch_size in batch_sizes:
        torch.manual_seed(0)
        model = LiftModel(dropout=0)
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        scheduler = OneCycleLR(optimiser, 1e-3, (ROUNDS + 1) * (n_poses // batch_size))
        print(f'train, batch {batch_size:4} ', compare(
            lambda: run_epoch(1, virtual_views(train_set), model, optimiser, scheduler, batch_size),
            lambda: products(model, batch_size, n_poses, backward=True), n_poses), flush=True)
    views = {key: torch.from_numpy(array) for key, array in settle_views(joints)[0].items()}
    views['offset'] = torch.zeros_like(views['joint_2d_1'])
    print('weak : supervised ', compare(
        lambda: run_epoch_weak(1, virtual_views(views), model, optimiser, None, 256),
        lambda: run_epoch(1, virtual_views(train_set), model, optimiser, None, 256),
        n_poses), flush=True)
    print('score, batch 4096 ', compare(
        lambda: cal_mpjpe(model.lift(train_set['joint_2d_1']), train_set['joint_3d']),
        lambda: products(model, 4096, n_poses, backward=False), n_poses // 4096 * 4096), flush=True)


def whole_process() -> None:
    """Time from the import to the first training step, and peak memory of an epoch."""
    with tempfile.TemporaryDirectory() as folder:
        save(f'{folder}/poses.pkl', sample(N_POSES, seed=0))
        root = str(Path(__file__).parent.parent)
        first = [float(subprocess.run([sys.executable, '-c', FIRST_STEP], cwd=folder, check=True,
                                      env=os.environ | {'PYTHONPATH': root},
                                      capture_output=True).stderr)
                 for _ in range(3)]
        print(f'import to first training step: {statistics.median(first):.1f} s')
        command = [sys.executable, f'{root}/training.py', '--data', 'poses.pkl', '--epochs', '1']
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f'peak memory of training: {peak:.0f} MB')


def main() -> None:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--batch-size', type=int, nargs='+', default=[64, 256, 1024])
    args = parser.parse_args()
    print(f'{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads, '
          f'{N_POSES:,} poses in {ROUNDS} rounds, median (least to most)\n')
    speed(args.batch_size)
    print()
    whole_process()


if __name__ == '__main__':
    main()
