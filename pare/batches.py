"""What a training learns from: sets of photographs in given shares, or rendered people."""
import argparse
import math
from copy import copy

import numpy as np
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset

from pare.body import Skeleton
from pare.data import People
from pare.metrics import mean_pose
from pare.people import Rendered, rendered_samples, sample_bodies

N_VAL, VAL_SEED = 1000, 2  # people who are rendered to validate; seed 1 is that of the test set
N_MEAN = 10_000            # bodies of whom the mean pose is taken


def prepare(args: argparse.Namespace, bodies: dict, skeleton: Skeleton, rank: int = 0,
            n_ranks: int = 1) -> tuple:
    """Batches to train on, for one of n_ranks processes, those to validate on, and the mean pose
    (K, 3), None without bodies. `args` are those of pare.training, `bodies` by gender. Raises
    ValueError or OSError."""
    per_process = args.batch_size // n_ranks
    if not args.train:
        batches = Rendered(args.people // n_ranks, args.resolution, args.seed + rank, per_process,
                           args.epochs)
        return batches, rendered_val(args.resolution), rendered_mean(args.seed, skeleton)
    sets, shares = [], []
    n_sets = len(args.train)
    folders = one_each('images', args.images, n_sets + bool(args.val))
    fits = one_each('fits', args.fits, n_sets)
    for (path, share), folder, fit in zip(map(share_of, args.train), folders, fits):
        sets.append(People(path, bodies['neutral'], folder, args.resolution, args.seed,
                           None if fit == '-' else fit))
        leave_out_unreadable(sets[-1], args.skip_unreadable)
        if len(bodies) > 1:
            sets[-1].take_genders(bodies)
        shares.append(share or len(sets[-1]))
    known = [[torch.from_numpy(part.set[key][part.set['has_smpl']]) for part in sets
              if part.set['has_smpl'].any()] for key in ('shape', 'rotations')]
    constant = mean_pose(*map(torch.cat, known), skeleton) if known[0] else None
    if args.val:
        val_set = People(args.val, bodies['neutral'], folders[-1], args.resolution)
        leave_out_unreadable(val_set, args.skip_unreadable)
    elif len(sets[0]) < 2:
        raise ValueError(f'{sets[0].path}: found 1 sample, expected more, to train on and to '
                         f'validate; --val names other samples to validate')
    else:  # the end of the first set
        val_set, n = copy(sets[0]), len(sets[0])
        val_set.seed, held_out = None, min(round(.95 * n), n - 1)  # not augmented
        val_set.keep(np.arange(n) >= held_out)
        sets[0] = Subset(sets[0], range(held_out))
    try:
        left_out = val_set.keep_scored()
    except ValueError as error:
        raise ValueError(f'{error}; --val names other samples to validate') from error
    if left_out:
        print(f'{val_set.path}: {left_out} samples without a true pose are not validated on')
    batches = Mixture(sets, shares, per_process, args.seed, args.workers, rank, n_ranks)
    return batches, DataLoader(val_set, 64, num_workers=args.workers), constant


def share_of(name: str) -> tuple[str, float | None]:
    """FILE[:SHARE] as a path and a number. Raises ValueError for a share that is none."""
    path, _, share = name.partition(':')
    try:
        if share and not 0 < float(share) < math.inf:
            raise ValueError
        return path, float(share) if share else None
    except ValueError:
        raise ValueError(f'--train: found share {share} of {path}, expected a number above '
                         f'0') from None


def one_each(name: str, given: list[str], n: int) -> list[str]:
    """The n values of an option that names one for all sets, or one each. Raises ValueError for
    another number."""
    if len(given) not in (1, n):
        raise ValueError(f'--{name}: found {len(given)}, expected 1 or {n}, one for each set')
    return given * n if len(given) == 1 else given


def rendered_mean(seed: int, skeleton: Skeleton) -> torch.Tensor:
    """The mean pose (17, 3) of people as they are rendered."""
    bodies = sample_bodies(np.random.default_rng(seed), N_MEAN)
    return mean_pose(bodies['betas'], bodies['rotations'], skeleton)


def rendered_val(resolution: int) -> DataLoader:
    """Batches of rendered people to validate on."""
    return DataLoader(rendered_samples(N_VAL, resolution, VAL_SEED)[0], 100)


def leave_out_unreadable(people: People, skip: bool) -> None:
    """Raises ValueError where photographs cannot be read, or with `skip` leaves them out."""
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

    Each of n_ranks processes gets every n_ranks-th sample of the same order.
    """

    def __init__(self, sets: list[People], shares, batch_size: int, seed: int, workers: int = 0,
                 rank: int = 0, n_ranks: int = 1):
        self.sets, self.batch_size, self.seed, self.workers = sets, batch_size, seed, workers
        self.rank, self.n_ranks = rank, n_ranks
        self.data, shares = ConcatDataset(sets), np.array(shares) / sum(shares)
        self.counts = np.floor(shares * len(self.data)).astype(int)
        self.n_batches = int(self.counts.sum()) // (batch_size * n_ranks)
        if not self.n_batches:
            raise ValueError(f'found {self.counts.sum()} samples, expected at least a batch of '
                             f'{batch_size * n_ranks}')

    def epoch(self, number: int) -> DataLoader:
        """The batches of an epoch."""
        rng = np.random.default_rng((self.seed, number))
        rows, start = [], 0
        for part, count in zip(self.sets, self.counts):
            whole, rest = divmod(count, len(part))
            rows.append(start + np.concatenate([np.tile(np.arange(len(part)), whole),
                                                rng.permutation(len(part))[:rest]]))
            start += len(part)
            getattr(part, 'dataset', part).epoch = number
        order = rng.permutation(np.concatenate(rows))
        order = order[:self.n_batches * self.batch_size * self.n_ranks]
        batches = order.reshape(self.n_batches, -1)[:, self.rank::self.n_ranks].tolist()
        return DataLoader(self.data, batch_sampler=batches, num_workers=self.workers)

    def close(self) -> None:
        """Nothing to end: workers live for an epoch."""
