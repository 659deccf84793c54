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
from torch.nn.functional import softplus
from torch.optim.lr_scheduler import OneCycleLR

import plots
from data import TWO_VIEWS, load, project, sample, second_view, settle_views, triangulate
from metrics import cal_mpjpe
from model import LiftModel
from training import split_batches, virtual_views

NOISES = (0., .002, .005, .01)
EPOCHS, BATCH_SIZE, RATE = 8, 256, 2e-3
WAYS = ('classic, two views at test time', 'supervised, virtual views',
        'triangulation, virtual views', 'supervised', 'triangulation', 'reprojection', 'both',
        'triangulation, agreement', 'reprojection, agreement', 'both, agreement')
TABLE = Path(plots.__file__).parent / 'weak.csv'
COLUMNS = ('data', 'every', 'way', 'noise', 'seed', 'mpjpe')


def noisy(joints: dict, noise: float, seed: int) -> dict:
    """Both views with normal noise on each coordinate."""
    rng = np.random.default_rng(seed)
    return joints | {key: (joints[key] + rng.normal(0, noise, joints[key].shape)).astype(np.float32)
                     for key in ('joint_2d_1', 'joint_2d_2')}


def image_error(joint_3d: Tensor, joint_2d: Tensor, focal_len: Tensor) -> Tensor:
    """Mean distance of the image of joint_3d, in ray units, with the depth kept off zero."""
    depth = .1 + softplus(-joint_3d[..., 2:] - .1, beta=20)
    seen = torch.cat([joint_3d[..., :2], -depth], dim=-1)
    offset = (project(seen, focal_len) - joint_2d) / focal_len[:, None]
    return torch.linalg.vector_norm(offset, dim=-1).mean()


def weak_loss(way: str, model: LiftModel, batch: dict) -> Tensor:
    """The loss of one of WAYS without 3D, of two views whose cameras look at the root."""
    rot, transl = batch['rot'], batch['transl']
    lifts, loss = [model(batch['joint_2d_1'])], 0
    if way != 'triangulation':
        root = torch.tensor([[[0, 0, -1.]]]).expand(len(rot), 1, 3)
        distance = second_view(root, rot, transl).norm(dim=-1, keepdim=True)
        two = distance * model(batch['joint_2d_2'])  # the model knows the root at distance 1
        lifts.append((two - transl[:, None]) @ rot.view(-1, 3, 3))
    if 'triangulation' in way or 'both' in way:
        loss = loss + cal_mpjpe(lifts[0], batch['triangulated'])
    if 'reprojection' in way or 'both' in way:
        for lift in lifts:
            loss = loss + .5 * image_error(lift, batch['joint_2d_1'], batch['focal_len_1'])
            loss = loss + .5 * image_error(second_view(lift, rot, transl), batch['joint_2d_2'],
                                           batch['focal_len_2'])
    return loss + cal_mpjpe(*lifts) if 'agreement' in way else loss


def learn(way: str, joints: dict, seed: int) -> LiftModel:
    """Trains a LiftModel on a dictionary of `settle_views` in one of WAYS."""
    torch.manual_seed(seed)
    target = 'joint_3d' if 'supervised' in way else 'triangulated'
    train_set = {key: torch.from_numpy(array) for key, array in joints.items()}
    if 'virtual' in way:
        offset = joints['joint_2d_1'] - project(joints[target], joints['focal_len_1'])
        train_set = {'joint_2d_1': train_set['joint_2d_1'], target: train_set[target],
                     'focal': train_set['focal_len_1'], 'offset': torch.from_numpy(offset)}
    model = LiftModel(dropout=0)
    model.fit(train_set['joint_2d_1'], train_set[target])
    n_samples = len(train_set[target])
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    n_steps = EPOCHS * len(split_batches(torch.arange(n_samples), BATCH_SIZE))
    scheduler = OneCycleLR(optimiser, RATE, n_steps)
    for _ in range(EPOCHS):
        views = virtual_views(train_set) if 'virtual' in way else train_set
        for rows in split_batches(torch.randperm(n_samples), BATCH_SIZE):
            batch = {key: tensor[rows] for key, tensor in views.items()}
            if 'virtual' in way or 'supervised' in way:
                loss = cal_mpjpe(model(batch['joint_2d_1']), batch[target])
            else:
                loss = weak_loss(way, model, batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            scheduler.step()
    return model


def compare(args: argparse.Namespace, train: dict, test: dict) -> None:
    """Adds to the table what is not there yet, one line for each way and noise."""
    done = read()
    for noise in NOISES:
        train_set, _ = settle_views(noisy(train, noise, seed=1))
        test_set = noisy(test, noise, seed=2)
        for way in WAYS:
            if (args.name, args.every, way, noise, args.seed) in done:
                continue
            if 'classic' in way:
                lifted = triangulate(test_set)
            else:
                model = learn(way, train_set, args.seed)
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
    train = load(args.data, need) if args.data else sample(10_000, seed=0)
    test = load(args.test, need) if args.test else sample(5_000, seed=1)
    train = {key: array[::args.every] for key, array in train.items()}
    compare(args, train, test)
    errors = {}
    for (data, every, way, noise, seed), mpjpe in read().items():
        if (data, every, seed) == (args.name, args.every, args.seed):
            errors.setdefault(way, {})[noise] = mpjpe
    plots.draw_weak(errors, TABLE.with_suffix('.png'))


if __name__ == '__main__':
    main()
