"""Rendered people of the stand-in body: what the default training sees.

    python -m pare.people people.npz --n 500 --size 64 --seed 1

A set has the keys of an annotation file (see pare.files), and in place of imgname the arrays
images, labels of the parts that are seen, and whole, labels as if nothing hid the body.
"""
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pare.body import (FLIP_KEYPOINTS, FLIP_PARTS, N_BETAS, Body, Skeleton, axis_angle_to_matrix,
                       matrix_to_axis_angle, mirrored_rotations, project)
from pare.command import command, held_back
from pare.data import MEAN, STD
from pare.formats import write_npz
from pare.render import face_parts, scene
from pare.standin import make_body
from training import Parser, bounded, status

YAW = 60.                         # degrees that people are turned from the camera, at most
N_CLUTTER, N_OCCLUDERS = 3, 1     # shapes behind a person, and at most before it
PASSES = 3                        # how often an epoch shows each of its people
CHUNK = 500                       # people that are rendered at a time
GAIN = .3                         # the most by which the gain of a channel differs from 1
BLUR = 3.                         # pixels of 64: the most noise of places without an image


# ---- poses --------------------------------------------------------------------------------------

def sample_poses(rng, n: int, yaw: float = YAW) -> np.ndarray:
    """Axis-angle (n, 24, 3) of people who stand about, up to yaw degrees from facing the camera.

    The first joint turns to the camera's frame, where y is down.
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
    turn = np.zeros((2, n, 3))
    turn[0, :, 1] = np.radians(rng.uniform(-yaw, yaw, n))
    turn[1, :, (0, 2)] = rng.normal((np.pi, 0), .12, (n, 2)).T
    upright, tilted = axis_angle_to_matrix(torch.from_numpy(turn))
    pose[:, 0] = matrix_to_axis_angle(tilted @ upright).numpy()
    return pose.astype(np.float32)


def sample_betas(rng, n: int) -> np.ndarray:
    return rng.normal(0, 1, (n, N_BETAS)).clip(-2.5, 2.5).astype(np.float32)


def sample_bodies(rng, n: int) -> dict[str, Tensor]:
    """Rotations (n, 24, 3, 3) and betas (n, 10) of people."""
    return {'rotations': axis_angle_to_matrix(torch.from_numpy(sample_poses(rng, n))),
            'betas': torch.from_numpy(sample_betas(rng, n))}


def look_at(rng, points: np.ndarray) -> np.ndarray:
    """Cameras (B, 3), (s, tx, ty), that see bodies (B, V, 3), each a little beside its middle."""
    low, high = points[..., :2].min(axis=1), points[..., :2].max(axis=1)
    draws = np.array([(rng.uniform(1.05, 1.3), *rng.normal(0, .04, 2)) for _ in points])
    scale = 2 / (draws[:, 0] * (high - low).max(axis=1))
    shift = draws[:, 1:] / scale[:, None] - (low + high) / 2
    return np.column_stack([scale, shift]).astype(np.float32)


def sample_skeletons(rng, n: int, body: Body) -> dict[str, Tensor]:
    """Bodies without images: rotations (n, 24, 3, 3), betas (n, 10), and the places (n, 24, 2) of
    their joints in a crop, -1 to 1, exact and as `seen`, with noise as a network would find them.

    The noise is Gaussian; its size differs from body to body and from joint to joint.
    """
    bodies = sample_bodies(rng, n)
    device = body.template.device
    joints = body.posed_joints(bodies['betas'].to(device), bodies['rotations'].to(device)).cpu()
    places = project(joints, torch.from_numpy(look_at(rng, joints.numpy())))
    size = BLUR / 32 * rng.random((n, 1, 1)) * rng.random((n, 24, 1))
    noise = torch.from_numpy(size * rng.standard_normal(places.shape)).float()
    return bodies | {'places': places, 'seen': places + noise}


# ---- images -------------------------------------------------------------------------------------

def render_people(n: int, size: int, seed) -> dict[str, np.ndarray]:
    """n rendered people, as the arrays of a set; `seed` is a number or a tuple of them."""
    rng, arrays = np.random.default_rng(seed), make_body()
    body, skeleton = Body(arrays), Skeleton(arrays)
    faces = arrays['f'].astype(np.int64)
    parts = face_parts(arrays['weights'], faces)
    pose, betas, found = sample_poses(rng, n), sample_betas(rng, n), []
    for start in range(0, n, 64):
        rows = slice(start, start + 64)
        rotations = axis_angle_to_matrix(torch.from_numpy(pose[rows]))
        shape = torch.from_numpy(betas[rows])
        vertices, points = body(shape, rotations)[0].numpy(), skeleton(shape, rotations)[0]
        cameras = look_at(rng, vertices)
        points = ((project(points, torch.from_numpy(cameras)) + 1) * size / 2).numpy()
        for mesh, camera, keypoints in zip(vertices, cameras, points):
            image, whole, hidden = scene(rng, mesh, faces, parts, camera, size, N_CLUTTER,
                                         rng.integers(N_OCCLUDERS + 1))
            found.append((image, whole, np.where(hidden, 0, whole),
                          np.column_stack([keypoints, np.ones(24)])))
    images, whole, labels, part = (np.stack(column) for column in zip(*found))
    visible = (labels > 0).sum(axis=(1, 2)) / (whole > 0).sum(axis=(1, 2)).clip(min=1)
    return {'images': images, 'labels': labels.astype(np.uint8), 'whole': whole,
            'part': part.astype(np.float32), 'pose': pose.reshape(n, 72), 'shape': betas,
            'visible': visible, 'center': np.full((n, 2), size / 2, np.float32),
            'scale': np.full(n, size / 200, np.float32)}


def _start_worker() -> None:
    """Ends when the process that trains is no more."""
    threading.Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()
    torch.set_num_threads(1)


class Rendered:
    """Batches of people who are rendered anew for each epoch, by another process, so that a network
    meets nobody in two epochs.

    An epoch shows `n` people PASSES times each, half of them mirrored, with gains of the channels.
    What an epoch holds follows from `seed` and its number alone.
    """

    def __init__(self, n: int, size: int, seed: int, batch_size: int, epochs: int):
        self.n, self.size, self.seed, self.batch_size = n, size, seed, batch_size
        self.epochs = epochs
        self.n_batches = n * PASSES // batch_size
        if not self.n_batches:
            raise ValueError(f'found {n} people, each shown {PASSES} times, expected at least a '
                             f'batch of {batch_size}')
        self.renderer = ProcessPoolExecutor(1, get_context('spawn'), _start_worker)
        with held_back():  # the process that trains is interrupted, and ends this one
            self.renderer.submit(int)
        self.coming = {}

    def order(self, number: int) -> None:
        """Has the people of an epoch rendered, unless they are already."""
        if number not in self.coming:
            self.coming[number] = [
                self.renderer.submit(render_people, min(CHUNK, self.n - start), self.size,
                                     (self.seed, number, start))
                for start in range(0, self.n, CHUNK)]

    def people(self, number: int) -> dict[str, Tensor]:
        """The people of an epoch, as tensors; waits until they are rendered."""
        self.order(number)
        chunks = [chunk.result() for chunk in self.coming.pop(number)]
        arrays = {key: np.concatenate([chunk[key] for chunk in chunks]) for key in chunks[0]}
        return as_tensors(arrays)

    def epoch(self, number: int):
        """The batches of an epoch, n_batches of them; meanwhile the next is rendered."""
        people = self.people(number)
        if number < self.epochs:
            self.order(number + 1)
        random = torch.Generator().manual_seed(1_000_003 * self.seed + number)
        order = torch.cat([torch.randperm(self.n, generator=random) for _ in range(PASSES)])
        for rows in order.split(self.batch_size)[:self.n_batches]:
            batch = {key: value[rows] for key, value in people.items()}
            gain = 1 + GAIN * (2 * torch.rand(len(rows), 3, 1, 1, generator=random) - 1)
            yield standardised(mirrored(batch, torch.rand(len(rows), generator=random) < .5), gain)

    def close(self) -> None:
        self.renderer.shutdown(wait=True, cancel_futures=True)


def as_tensors(arrays: dict) -> dict[str, Tensor]:
    """A rendered set as the tensors of a batch, with images (N, 3, R, R) of bytes."""
    tensors = {key: torch.from_numpy(arrays[key]) for key in ('images', 'labels', 'part', 'shape')}
    n, size = len(tensors['images']), tensors['images'].shape[1]
    keypoints = tensors['part'].clone()
    keypoints[..., :2] = keypoints[..., :2] * 2 / size - 1
    pose = torch.from_numpy(arrays['pose']).view(n, 24, 3)
    return {'image': tensors['images'].permute(0, 3, 1, 2), 'labels': tensors['labels'],
            'keypoints': keypoints, 'rotations': axis_angle_to_matrix(pose),
            'betas': tensors['shape'], 'has_smpl': torch.ones(n),
            'points_3d': torch.zeros(n, 24, 4)}


def rendered_samples(n: int, size: int, seed) -> tuple[list[dict[str, Tensor]], np.ndarray]:
    """n rendered people as samples like those of pare.data.People, and the share of each that is
    seen (n,)."""
    arrays = render_people(n, size, seed)
    people = standardised(as_tensors(arrays))
    samples = [{key: value[row] for key, value in people.items()} for row in range(n)]
    return samples, arrays['visible']


def mirrored(batch: dict[str, Tensor], which: Tensor) -> dict[str, Tensor]:
    """The batch with those of `which` (B,) as in a mirror: left is right."""
    flipped = {'image': batch['image'].flip(3),
               'labels': torch.tensor(FLIP_PARTS).byte()[batch['labels'].int().flip(2)],
               'keypoints': batch['keypoints'][:, FLIP_KEYPOINTS] * torch.tensor([-1., 1, 1]),
               'rotations': mirrored_rotations(batch['rotations'])}
    return batch | {key: torch.where(which.view(-1, *(1,) * (value.ndim - 1)), value, batch[key])
                    for key, value in flipped.items()}


def standardised(batch: dict[str, Tensor], gain: Tensor | float = 1.) -> dict[str, Tensor]:
    """The batch with images as a network expects them, the channels of bytes by a gain."""
    mean, std = (torch.from_numpy(value).view(3, 1, 1) for value in (MEAN, STD))
    image = ((batch['image'] * gain).clamp(max=255) / 255 - mean) / std
    return batch | {'image': image.contiguous(memory_format=torch.channels_last)}


# ---- the command line ---------------------------------------------------------------------------

def main(argv=None) -> int:
    parser = Parser(prog='python -m pare.people',
                    description='Renders people of the stand-in body.')
    parser.add_argument('out', type=Path, help='a set of samples, .npz')
    for name, default, least, text in (('n', 500, 1, 'people'), ('size', 64, 16, 'pixels'),
                                       ('seed', 1, 0, 'of poses, clothes and places')):
        parser.add_argument(f'--{name}', type=bounded(int, least), default=default, metavar='N',
                            help=text)
    args = parser.parse_args(argv)

    def work():
        write_npz(args.out, render_people(args.n, args.size, args.seed))
        print(f'wrote {args.out}: {args.n} people of {args.size} pixels')
    return status(parser, work)


if __name__ == '__main__':
    command(main)
