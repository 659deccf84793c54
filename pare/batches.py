"""What a training learns from: sets of photographs in given shares, or rendered people."""
import argparse
import math
import os
from copy import copy

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, default_collate

from pare.body import GENDERS, Skeleton
from pare.data import People
from pare.metrics import mean_pose, to_device, true_joints
from pare.people import Rendered, rendered_samples, sample_bodies
from pare.smpl import STAND_IN

N_VAL, VAL_SEED = 1000, 2  # people rendered to validate; seed 1 is that of the test set
N_MEAN = 10_000            # bodies whose mean pose is taken


def prepare(args: argparse.Namespace, bodies: dict, skeleton: Skeleton) -> tuple:
    """Prepare batches to train on and to validate on, and the mean pose (K, 3), None without
    bodies. Raises ValueError or OSError."""
    device = skeleton.rows.device
    if not args.train:
        batches = Rendered(args.people, args.resolution, args.seed, args.batch_size, args.epochs,
                           device)
        return batches, rendered_val(args.resolution), rendered_mean(args.seed, skeleton)
    sets, shares = load_sets(args, bodies)
    if not args.body and any('images' not in part.set for part in sets):
        print(STAND_IN)
    val_set = held_out(args, bodies, sets[0])
    reading = {'num_workers': args.workers, 'pin_memory': device.type == 'cuda'}
    batches = Mixture(sets, shares, args.batch_size, args.seed, reading)
    return batches, Loader(val_set, 64, **reading), mean_of(sets, skeleton)


def default_workers(photographs) -> int:
    """Return how many processes read photographs, if there are any: one a core, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    return min(8, cores) if photographs else 0


class Loader(DataLoader):
    """A DataLoader that raises the ValueError of a sample unchanged, also if a worker raised it."""

    def __iter__(self):
        try:
            yield from super().__iter__()
        except ValueError as error:  # a worker sends a traceback, which ends with the error
            *_, last = str(error).strip().splitlines()
            raise ValueError(last.removeprefix('ValueError: ')) from error


def load_sets(args: argparse.Namespace, bodies: dict) -> tuple[list[People], list[float]]:
    """Load the sets of --train and their shares, by default their sizes."""
    paths, shares = zip(*map(share_of, args.train))
    if None in shares and any(shares):
        raise ValueError('--train: found shares of some sets, expected one of each set, or none')
    sets, images, n = [], args.images, len(paths)
    if args.val and len(images) == n:
        images = [*images, images[-1]]
    folders = one_each('images', images, n + bool(args.val))
    for path, folder, fit in zip(paths, folders, one_each('fits', args.fits, n)):
        people = People(path, bodies['neutral'], folder, args.resolution, args.seed,
                        None if fit == '-' else fit)
        people.check_learnable()
        leave_out_unreadable(people, args.skip_unreadable)
        if len(bodies) > 1:
            people.take_genders(bodies)
        sets.append(people)
    return sets, list(shares) if all(shares) else [len(people) for people in sets]


def held_out(args: argparse.Namespace, bodies: dict, first: People) -> People:
    """Load the set of --val, or take the end of the first set away from the training."""
    if args.val:
        val_set = People(args.val, bodies['neutral'], args.images[-1], args.resolution)
        leave_out_unreadable(val_set, args.skip_unreadable)
    elif len(first) < 2:
        raise ValueError(f'{first.path}: found 1 sample, expected more, to train on and to '
                         f'validate; --val names other samples to validate')
    else:
        val_set, rows, n = copy(first), np.arange(len(first)), len(first)
        val_set.seed, end = None, min(round(.95 * n), n - 1)  # not augmented
        val_set.keep(rows >= end)
        first.keep(rows < end)
    try:
        left_out = val_set.keep_scored()
    except ValueError as error:
        raise ValueError(f'{error}; --val names other samples to validate') from error
    if left_out:
        print(f'{val_set.path}: {left_out} samples without truth are not validated on')
    return val_set


def mean_of(sets: list[People], skeleton: Skeleton) -> Tensor | None:
    """Return the mean pose (K, 3) of the bodies of sets, None if they have none."""
    betas, rotations = (torch.from_numpy(np.concatenate(
        [part.set[key][part.set['has_smpl']] for part in sets])) for key in ('shape', 'rotations'))
    return mean_pose(betas, rotations, skeleton) if len(betas) else None


def share_of(name: str) -> tuple[str, float | None]:
    """Split FILE[:SHARE] into a path and a number, or None."""
    path, _, share = name.partition(':')
    try:
        if share and not 0 < float(share) < math.inf:
            raise ValueError
        return path, float(share) if share else None
    except ValueError:
        raise ValueError(f'--train: found share {share} of {path}, expected a number above '
                         f'0') from None


def one_each(name: str, given: list[str], n: int) -> list[str]:
    """Return the n values of an option that has one for all sets, or one each."""
    if len(given) not in (1, n):
        raise ValueError(f'--{name}: found {len(given)}, expected 1 or {n}, one for each set')
    return given * n if len(given) == 1 else given


def rendered_mean(seed: int, skeleton: Skeleton) -> Tensor:
    """Return the mean pose (17, 3) of rendered people."""
    bodies = sample_bodies(np.random.default_rng(seed), N_MEAN)
    return mean_pose(bodies['betas'], bodies['rotations'], skeleton)


def rendered_val(resolution: int) -> DataLoader:
    """Render people to validate on; return their batches."""
    samples, _ = rendered_samples(N_VAL, resolution, VAL_SEED)
    return DataLoader(samples, 100)


def truth_of(samples, skeleton: Skeleton, genders: dict) -> Tensor:
    """Return the true joints (N, K, 3) of all samples as `true_joints`, but read no images."""
    if isinstance(samples, People):
        names = {'betas': 'shape', 'rotations': 'rotations', 'points_3d': 'S',
                 'has_smpl': 'has_smpl'}
        truth = {key: torch.from_numpy(samples.set[name]).float() for key, name in names.items()}
        truth['gender'] = torch.tensor([GENDERS.index(name) for name in samples.set['gender']])
    else:
        truth = default_collate([{key: value for key, value in sample.items()
                                  if key not in ('image', 'labels')} for sample in samples])
    return torch.cat([true_joints(to_device(skeleton.rows.device, part), skeleton, genders).cpu()
                      for part in ({key: value[rows] for key, value in truth.items()}
                                   for rows in torch.arange(len(samples)).split(1000))])


def leave_out_unreadable(people: People, skip: bool) -> None:
    """Raise ValueError if photographs cannot be read, or with `skip` leave them out."""
    bad = people.unreadable()
    if not bad.any():
        return
    first = people.images / str(people.set['imgname'][bad.argmax()])
    found = f'{people.path}: found {bad.sum()} of {len(bad)} images unreadable, the first {first}'
    if not skip or bad.all():
        raise ValueError(f'{found}, expected all; --skip-unreadable leaves them out')
    print(f'{found}; they are left out')
    people.keep(~bad)


class Mixture:
    """Batches of several sets in given shares; order and augmentation follow from seed and epoch.

    `reading` are options of the DataLoader.
    """

    def __init__(self, sets: list[People], shares, batch_size: int, seed: int, reading: dict = {}):
        self.sets, self.batch_size, self.seed, self.reading = sets, batch_size, seed, reading
        self.data, shares = ConcatDataset(sets), np.array(shares) / sum(shares)
        self.counts = np.floor(shares * len(self.data)).astype(int)
        self.n_batches = int(self.counts.sum()) // batch_size
        if not self.n_batches:
            raise ValueError(f'found {self.counts.sum()} samples, expected at least the '
                             f'{batch_size} of a batch')

    def epoch(self, number: int) -> DataLoader:
        """Return the batches of an epoch."""
        rng = np.random.default_rng((self.seed, number))
        rows, start = [], 0
        for part, count in zip(self.sets, self.counts):
            whole, rest = divmod(count, len(part))
            rows.append(start + np.concatenate([np.tile(np.arange(len(part)), whole),
                                                rng.permutation(len(part))[:rest]]))
            start += len(part)
            part.epoch = number
        order = rng.permutation(np.concatenate(rows))[:self.n_batches * self.batch_size]
        batches = order.reshape(self.n_batches, -1).tolist()
        return Loader(self.data, batch_sampler=batches, **self.reading)

    def close(self) -> None:
        """Do nothing: workers live for an epoch."""
