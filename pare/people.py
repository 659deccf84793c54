"""Rendered people of the stand-in body: what the default training sees.

    python -m pare.people people.npz --n 500 --size 64 --seed 1

A set has the keys of an annotation file (see pare.files). Instead of imgname it has the arrays
images, labels of the visible parts, and visible, the visible share of each body.
"""
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.command import Parser, bounded, exit_status
from pare.body import (FLIP_KEYPOINTS, FLIP_PARTS, N_BETAS, Body, Skeleton, axis_angle_to_matrix,
                       matrix_to_axis_angle, mirrored_rotations, on_device, project)
from pare.formats import write_npz
from pare.render import face_parts, scene
from pare.standin import make_body

YAW = 60.                         # largest turn of people from the camera, in degrees
MARGIN, ASIDE = (1.05, 1.3), .04  # side of crop / side of body; std of its place in -1 to 1
N_CLUTTER, N_OCCLUDERS = 3, 1     # shapes behind a person, and at most in front
PASSES = 3                        # how often an epoch shows each of its people
CHUNK = 500                       # people rendered at a time
GAIN = .3                         # largest difference of a channel's gain from 1
BLUR = 3.                         # largest std of the noise on places, in pixels of a crop of 64


# ---- poses --------------------------------------------------------------------------------------

def draw_turns(rng, n: int) -> np.ndarray:
    """Draw axis-angles (n, 25, 3) of standing people, up to YAW degrees from facing the camera.

    Rows 0 and 1 belong to the root: a turn about the vertical, then one to the camera's frame (y
    down) with a small tilt. Rows 2 to 24 belong to the other joints.
    """
    pose = rng.normal(0, .12, (n, 24, 3))
    pose[:, (10, 11, 22, 23)] = 0
    pose[:, (12, 15)] *= 1.6
    for side, (hip, knee, shoulder, elbow) in ((1, (1, 4, 16, 18)), (-1, (2, 5, 17, 19))):
        pose[:, hip] = rng.normal((-.25, 0, .1 * side), (.45, .2, .15), (n, 3))
        pose[:, hip, 0] = pose[:, hip, 0].clip(-1.8, .6)
        pose[:, knee, 0] = np.abs(rng.normal(0, .5, n)).clip(max=2.2)
        pose[:, shoulder, 0] = rng.normal(0, .3, n)
        pose[:, shoulder, 1] = rng.normal(-.25 * side, .4, n)
        pose[:, shoulder, 2] = -side * np.radians(rng.uniform(0, 75, n))
        pose[:, elbow, 1] = -side * np.abs(rng.normal(0, .7, n)).clip(max=2.3)
    root = np.zeros((n, 2, 3))
    root[:, 0, 1] = np.radians(rng.uniform(-YAW, YAW, n))
    root[:, 1, ::2] = rng.normal((np.pi, 0), .12, (n, 2))
    return np.concatenate([root, pose[:, 1:]], axis=1)


def sample_poses(rng, n: int) -> np.ndarray:
    """Draw axis-angles (n, 24, 3) of standing people in the camera's frame."""
    turns = draw_turns(rng, n)
    upright, tilted = axis_angle_to_matrix(torch.from_numpy(turns[:, :2])).unbind(dim=1)
    root = matrix_to_axis_angle(tilted @ upright).numpy()
    return np.concatenate([root[:, None], turns[:, 2:]], axis=1).astype(np.float32)


def sample_betas(rng, n: int) -> np.ndarray:
    """Draw shapes (n, 10)."""
    return rng.normal(0, 1, (n, N_BETAS)).clip(-2.5, 2.5).astype(np.float32)


def sample_bodies(rng, n: int, device='cpu') -> dict[str, Tensor]:
    """Draw rotations (n, 24, 3, 3), those of `sample_poses`, and betas (n, 10) of people."""
    turns = torch.from_numpy(draw_turns(rng, n)).float().to(device)
    betas = torch.from_numpy(sample_betas(rng, n)).to(device)
    upright, tilted, others = axis_angle_to_matrix(turns).split((1, 1, 23), dim=1)
    return {'rotations': torch.cat([tilted @ upright, others], dim=1), 'betas': betas}


def draw_aims(rng, n: int) -> Tensor:
    """Draw aims (n, 3) for `look_at`: the margin around a body, and its offset in the crop."""
    low, high = MARGIN
    draws = [(rng.random(), rng.standard_normal(), rng.standard_normal()) for _ in range(n)]
    return torch.from_numpy(np.array(draws) * (high - low, ASIDE, ASIDE) + (low, 0, 0))


def look_at(points: Tensor, aims: Tensor) -> Tensor:
    """Return cameras (B, 3), (s, tx, ty), that look at bodies (B, V, 3) as `draw_aims` says."""
    low, high = points[..., :2].aminmax(dim=1)
    scale = 2 / (aims[:, :1] * (high - low).amax(dim=1, keepdim=True))
    return torch.cat([scale, aims[:, 1:] / scale - (low + high) / 2], dim=1).float()


def sample_skeletons(rng, n: int, body: Body) -> dict[str, Tensor]:
    """Draw bodies without images: rotations (n, 24, 3, 3), betas (n, 10) and the `places`
    (n, 24, 2) of their joints in a crop, -1 to 1.

    `seen` are the places as a network would find them, with Gaussian noise, whose size differs
    between bodies and joints. Also returns the `joints` (n, 24, 3), all on the device of `body`.
    """
    device = body.template.device
    bodies = sample_bodies(rng, n, device)
    aims = draw_aims(rng, n).float().to(device)
    size = BLUR / 32 * rng.random((n, 1, 1)) * rng.random((n, 24, 1))
    noise = torch.from_numpy(size * rng.standard_normal((n, 24, 2))).float().to(device)
    joints = body.posed_joints(bodies['betas'], bodies['rotations'])
    places = project(joints, look_at(joints, aims))
    return bodies | {'joints': joints, 'places': places, 'seen': places + noise}


# ---- images -------------------------------------------------------------------------------------

def render_people(n: int, size: int, seed) -> dict[str, np.ndarray]:
    """Render n people as the arrays of a set; `seed` is a number or a tuple of numbers."""
    rng, arrays = np.random.default_rng(seed), make_body()
    body, skeleton = Body(arrays), Skeleton(arrays)
    faces = arrays['f'].astype(np.int64)
    parts = face_parts(arrays['weights'], faces)
    pose, betas, found = sample_poses(rng, n), sample_betas(rng, n), []
    for start in range(0, n, 64):
        rows = slice(start, start + 64)
        rotations = axis_angle_to_matrix(torch.from_numpy(pose[rows]))
        shape = torch.from_numpy(betas[rows])
        vertices = body(shape, rotations)[0]
        cameras = look_at(vertices, draw_aims(rng, len(vertices)))
        points = (project(skeleton(shape, rotations).keypoints, cameras) + 1) * size / 2
        for mesh, camera, keypoints in zip(vertices.numpy(), cameras.numpy(), points.numpy()):
            image, whole, hidden = scene(rng, mesh, faces, parts, camera, size, N_CLUTTER,
                                         rng.integers(N_OCCLUDERS + 1))
            labels = np.where(hidden, 0, whole).astype(np.uint8)
            visible = (labels > 0).sum() / max((whole > 0).sum(), 1)
            found.append((image, labels, visible, np.column_stack([keypoints, np.ones(24)])))
    images, labels, visible, part = (np.stack(column) for column in zip(*found))
    return {'images': images, 'labels': labels, 'visible': visible,
            'part': part.astype(np.float32), 'pose': pose.reshape(n, 72), 'shape': betas,
            'center': np.full((n, 2), size / 2, np.float32),
            'scale': np.full(n, size / 200, np.float32)}


def _start_worker() -> None:
    """Leave Ctrl-C to the process that trains, and end when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()
    torch.set_num_threads(1)


class Rendered:
    """Batches of people whom another process renders anew for each epoch.

    So a network sees nobody in two epochs. An epoch brings `n` people to the `device` and shows
    each PASSES times, half mirrored, with random gains of the channels. It depends on `seed` and
    its number alone.
    """

    def __init__(self, n: int, size: int, seed: int, batch_size: int, epochs: int, device='cpu'):
        self.n, self.size, self.seed, self.batch_size = n, size, seed, batch_size
        self.epochs, self.device = epochs, device
        self.n_batches = n * PASSES // batch_size
        if not self.n_batches:
            raise ValueError(f'found {n} people, each shown {PASSES} times, expected at least a '
                             f'batch of {batch_size}')
        self.renderer = ProcessPoolExecutor(1, get_context('spawn'), _start_worker)
        self.pending = {}

    def prefetch(self, number: int) -> None:
        """Start to render the people of an epoch, unless that is done already."""
        if number not in self.pending:
            self.pending[number] = [
                self.renderer.submit(render_people, min(CHUNK, self.n - start), self.size,
                                     (self.seed, number, start))
                for start in range(0, self.n, CHUNK)]

    def people(self, number: int) -> dict[str, Tensor]:
        """Wait until the people of an epoch are rendered, and return them as tensors."""
        self.prefetch(number)
        chunks = [chunk.result() for chunk in self.pending.pop(number)]
        arrays = {key: np.concatenate([chunk[key] for chunk in chunks]) for key in chunks[0]}
        return as_tensors(arrays)

    def epoch(self, number: int):
        """Yield the n_batches batches of an epoch, while the next epoch is rendered."""
        people = {key: value.to(self.device) for key, value in self.people(number).items()}
        if number < self.epochs:
            self.prefetch(number + 1)
        n, random = self.batch_size, torch.Generator().manual_seed(1_000_003 * self.seed + number)
        order = torch.cat([torch.randperm(self.n, generator=random) for _ in range(PASSES)])
        draws = torch.rand(self.n_batches, 4 * n, generator=random).to(self.device)
        gains = 1 + GAIN * (2 * draws[:, :3 * n].unflatten(1, (n, 3)) - 1)
        flips = draws[:, 3 * n:] < .5
        for rows, gain, which in zip(order.to(self.device).split(n), gains, flips):
            batch = {key: select(value, rows) for key, value in people.items()}
            yield mirrored(batch | {'gain': gain}, which)

    def close(self) -> None:
        """End the other process."""
        self.renderer.shutdown(wait=True, cancel_futures=True)


def as_tensors(arrays: dict) -> dict[str, Tensor]:
    """Turn a rendered set into the tensors of a batch, see pare.data.People."""
    n, size = arrays['labels'].shape[:2]
    keypoints = torch.from_numpy(arrays['part']).clone()
    keypoints[..., :2] = keypoints[..., :2] * 2 / size - 1
    pose = torch.from_numpy(arrays['pose']).view(n, 24, 3)
    return {'image': torch.from_numpy(arrays['images']).permute(0, 3, 1, 2),
            'labels': torch.from_numpy(arrays['labels']), 'keypoints': keypoints,
            'rotations': axis_angle_to_matrix(pose), 'betas': torch.from_numpy(arrays['shape']),
            'has_smpl': torch.ones(n), 'points_3d': torch.zeros(n, 24, 4),
            'gain': torch.ones(n, 3), 'gender': torch.zeros(n, dtype=torch.long)}


def rendered_samples(n: int, size: int, seed) -> tuple[list[dict[str, Tensor]], np.ndarray]:
    """Render n people as samples like those of pare.data.People, and the visible shares (n,)."""
    arrays = render_people(n, size, seed)
    people = as_tensors(arrays)
    samples = [{key: value[row] for key, value in people.items()} for row in range(n)]
    return samples, arrays['visible']


def mirrored(batch: dict[str, Tensor], which: Tensor) -> dict[str, Tensor]:
    """Mirror the samples `which` (B,) of a batch: left becomes right."""
    parts, order, signs = (on_device(values, which.device) for values in (
        tuple(FLIP_PARTS), tuple(FLIP_KEYPOINTS), (-1., 1., 1.)))
    flipped = {'image': batch['image'].flip(3),
               'labels': parts.byte()[batch['labels'].flip(2).int()],
               'keypoints': batch['keypoints'].index_select(1, order) * signs,
               'rotations': mirrored_rotations(batch['rotations'])}
    rows = torch.arange(len(which), device=which.device) + len(which) * which
    return batch | {key: select(torch.cat([batch[key], value]), rows)
                    for key, value in flipped.items()}


def select(values: Tensor, rows: Tensor) -> Tensor:
    """Return values[rows]; images in channels_last memory format stay in it."""
    if values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last):
        return values.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)
    return values.index_select(0, rows)


# ---- the command line ---------------------------------------------------------------------------

def main(argv=None) -> None:
    """Render a set and print one line."""
    parser = Parser(prog='python -m pare.people',
                    description='Render people of the stand-in body.')
    parser.add_argument('out', type=Path, help='a set of samples, .npz')
    for name, default, least, text in (('n', 500, 1, 'people'), ('size', 64, 16, 'pixels'),
                                       ('seed', 1, 0, 'seed of poses, clothes and places')):
        parser.add_argument(f'--{name}', type=bounded(int, least), default=default, metavar='N',
                            help=text)
    args = parser.parse_args(argv)
    with exit_status(parser):
        write_npz(args.out, render_people(args.n, args.size, args.seed))
        print(f'wrote {args.out}: {args.n} people of {args.size} pixels')


if __name__ == '__main__':
    main()
