"""Ways to learn without 3D, side by side; run by hand.

    python -m tests.experiments                  # on synthetic people
    python -m tests.experiments --data data_train.pkl --test data_test.pkl --every 8

Results are kept in plots/weak.csv as they come, and the chart is drawn from them; a run that was
cut goes on where it was. Delete the file to start anew.
"""
import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

import plots
from data import TWO_VIEWS, load, project, sample, settle_views, triangulate
from metrics import cal_mpjpe
from model import LiftModel
from training import ROOT, image_error, learn, split_batches, virtual_views

NOISES = (0., .002, .005, .01)
LIFTS, BATCH_SIZE, RATE = 12, 256, 2e-3  # of each sample, whichever view
WAYS = ('classic, two views at test time', 'supervised', 'triangulation', 'reprojection', 'both',
        'triangulation, agreement', 'reprojection, agreement', 'both, agreement')
TABLE = Path(plots.__file__).parent / 'weak.csv'
COLUMNS = ('data', 'every', 'way', 'noise', 'seed', 'mpjpe')


def noisy(joints: dict, noise: float, seed: int) -> dict:
    """Both views with normal noise on each coordinate."""
    rng = np.random.default_rng(seed)
    return joints | {key: (joints[key] + rng.normal(0, noise, joints[key].shape)).astype(np.float32)
                     for key in ('joint_2d_1', 'joint_2d_2')}


def loss_of(way: str, model: LiftModel, views: dict) -> Tensor:
    """The loss of one of WAYS without 3D; that of training.py is 'reprojection, agreement'."""
    def error(pose, views):
        loss = image_error(pose, views) if way.startswith(('reprojection', 'both')) else 0
        if way.startswith(('triangulation', 'both')):
            loss = loss + cal_mpjpe(pose + ROOT, views['triangulated'])
        return loss

    seen = views['virtual_2d']
    half = {key: value[::2] for key, value in views.items()}
    if 'agreement' not in way:
        return error((model(seen) - ROOT) @ views['turn'], views)
    lifts = model(torch.cat([seen, half['joint_2d_2']])) - ROOT
    one = lifts[:len(seen)] @ views['turn']
    two = half['distance'][:, None, None] * lifts[len(seen):] @ half['rot'].view(-1, 3, 3)
    return error(one, views) + .5 * (error(two, half) + cal_mpjpe(two, one[::2]))


def train(way: str, joints: dict, seed: int) -> LiftModel:
    """Trains a LiftModel on a dictionary of `settle_views` in one of WAYS."""
    torch.manual_seed(seed)
    target = 'joint_3d' if way == 'supervised' else 'triangulated'
    joints = {key: array for key, array in joints.items()
              if key not in ('joint_3d', 'triangulated') or key == target}
    joints['offset'] = joints['joint_2d_1'] - project(joints[target], joints['focal_len_1'])
    train_set = {key: torch.from_numpy(array) for key, array in joints.items()}
    model = LiftModel(dropout=0)
    model.fit(train_set['joint_2d_1'], train_set[target])
    n_samples = len(train_set[target])
    epochs = round(LIFTS / 1.5) if 'agreement' in way else LIFTS
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    n_steps = epochs * len(split_batches(torch.arange(n_samples), BATCH_SIZE))
    scheduler = OneCycleLR(optimiser, RATE, n_steps)

    def measure(rows):
        batch = {key: value[rows] for key, value in views.items()}
        loss = (cal_mpjpe(model(batch['joint_2d_1']), batch['joint_3d']) if way == 'supervised'
                else loss_of(way, model, batch))
        return loss, loss

    for epoch in range(epochs):
        views = virtual_views(train_set)
        learn(epoch, measure, n_samples, model, optimiser, scheduler, BATCH_SIZE)
    return model


def compare(args: argparse.Namespace, joints: dict, test: dict) -> None:
    """Adds to the table what is not there yet, one line for each way and noise."""
    done = read()
    for noise in NOISES:
        train_set, _ = settle_views(noisy(joints, noise, seed=1))
        test_set = noisy(test, noise, seed=2)
        for way in WAYS:
            if (args.name, args.every, way, noise, args.seed) in done:
                continue
            if 'classic' in way:
                lifted = triangulate(test_set)
            else:
                model = train(way, train_set, args.seed)
                lifted = model.lift(torch.from_numpy(test_set['joint_2d_1']))
            mpjpe = cal_mpjpe(lifted, test_set['joint_3d']).item()
            print(f'noise {noise:<5}  {way:32}  MPJPE {mpjpe:.5f}', flush=True)
            with open(TABLE, 'a', newline='') as file:
                csv.writer(file).writerow(
                    (args.name, args.every, way, noise, args.seed, f'{mpjpe:.6f}'))


def read() -> dict[tuple, float]:
    """The table, begun where there is none: (data, every, way, noise, seed) to MPJPE."""
    if not TABLE.exists():
        TABLE.write_text(','.join(COLUMNS) + '\n')
    with open(TABLE, newline='') as file:
        return {(row['data'], int(row['every']), row['way'], float(row['noise']),
                 int(row['seed'])): float(row['mpjpe']) for row in csv.DictReader(file)}


def main() -> None:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--data', help='two views to train on; synthetic people without')
    parser.add_argument('--test', help='two views of others, to score')
    parser.add_argument('--every', type=int, default=1, help='train on every n-th sample')
    parser.add_argument('--seed', type=int, default=0, help='of weights and order')
    args = parser.parse_args()
    args.name = Path(args.data).name if args.data else 'synthetic'
    need = (*TWO_VIEWS, 'joint_3d')
    joints = load(args.data, need) if args.data else sample(10_000, seed=0)
    test = load(args.test, need) if args.test else sample(5_000, seed=1)
    compare(args, {key: array[::args.every] for key, array in joints.items()}, test)
    errors = {}
    for (data, every, way, noise, seed), mpjpe in read().items():
        if (data, every, seed) == (args.name, args.every, args.seed):
            errors.setdefault(way, {})[noise] = mpjpe
    plots.draw_weak(errors, TABLE.with_suffix('.png'))


if __name__ == '__main__':
    main()
