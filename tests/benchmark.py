"""Speed of training and scoring against the matrix products that they cannot do without; run by hand, on a quiet machine.

    python -m tests.benchmark speed --batch-size 64 256 1024
"""
import argparse
import platform
import resource
import statistics
import subprocess
import sys
import time

import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from data import sample
from model import LiftModel
from training import run_epoch

POSES = 85_008  # of the motion capture that the figures in the README are for


def seconds(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def products(model: LiftModel, batch_size: int, n_poses: int, backward: bool) -> None:
    """Only the matrix products of a pass over n_poses: forward, and with backward those of both gradients too."""
    layers = [layer.weight.detach() for layer in model.modules() if isinstance(layer, nn.Linear)]
    shapes = [(weight, torch.ones(batch_size, weight.shape[1]), torch.ones(batch_size, weight.shape[0]),
               torch.empty_like(weight)) for weight in layers]
    for _ in range(n_poses // batch_size):
        for weight, x, y, gradient in shapes:
            torch.mm(x, weight.T, out=y)
        if backward:
            for weight, x, y, gradient in reversed(shapes):
                torch.mm(y.T, x, out=gradient)
                torch.mm(y, weight, out=x)


def spread(values: list[float]) -> str:
    return f'{statistics.median(values):5.2f} ({min(values):.2f} to {max(values):.2f})'


def speed(batch_sizes: list[int], rounds: int) -> None:
    """Ratio to the floor, both measured in turn in slices of the data, of training and of scoring."""
    n_poses = POSES // rounds
    joints = {key: torch.from_numpy(array) for key, array in sample(n_poses, seed=0).items()}
    print('batch  epoch / floor          poses/s  floor GFLOP/s')
    for batch_size in batch_sizes:
        torch.manual_seed(0)
        model = LiftModel()
        n_parameters = sum(weights.numel() for weights in model.parameters())
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        scheduler = OneCycleLR(optimiser, 1e-3, total_steps=(rounds + 1) * (n_poses // batch_size))
        def epoch():
            run_epoch(1, joints, model, optimiser, scheduler, batch_size)
        def floor():
            products(model, batch_size, n_poses, backward=True)
        epoch(), floor()
        pairs = [(seconds(epoch), seconds(floor)) for _ in range(rounds)]
        gflops = 6 * n_parameters * n_poses / statistics.median(pair[1] for pair in pairs) / 1e9
        print(f'{batch_size:5d}  {spread([a / b for a, b in pairs])}  {n_poses / statistics.median(pair[0] for pair in pairs):9,.0f}'
              f'  {gflops:13.0f}', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--batch-size', type=int, nargs='+', default=[64, 256, 1024])
    parser.add_argument('--rounds', type=int, default=5)
    args = parser.parse_args()
    print(f'{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads, {POSES:,} poses in {args.rounds} rounds')
    speed(args.batch_size, args.rounds)


if __name__ == '__main__':
    main()
