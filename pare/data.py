"""Samples to learn from: crops of photographs and the bodies in them.

A set is an .npz in the keys of SPIN (Kolotouros et al., ICCV 2019): imgname, center, scale (side of
the box / 200) and any of pose, shape, gender, has_smpl, part, S. Boxes and keypoints are in pixels
of the photograph as it is seen, turned by its EXIF tag. A rendered set (see pare.people) has the
arrays images and labels instead of imgname.
"""
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from pare.body import (FLIP_JOINTS, FLIP_KEYPOINTS, FLIP_PARTS, GENDERS, KEYPOINTS, Body, Skeleton,
                       axis_angle_to_matrix, fit_camera)
from pare.crop import crop_matrix, read_reduced, readable, warp, warp_labels
from pare.files import load_annotations
from pare.formats import keys_of
from pare.render import face_parts, rasterise, to_pixels

PLAIN = {'flip': False, 'angle': 0., 'scale': 1., 'gain': np.ones(3)}  # no augmentation


# ---- augmentation -------------------------------------------------------------------------------

def augment(rng) -> dict:
    """Draw a flip, turn, scale and gain of the channels as in SPIN and PARE."""
    return {'flip': rng.random() < .5,
            'angle': np.radians(np.clip(rng.normal(0, 30), -60, 60)) if rng.random() > .6 else 0.,
            'scale': np.clip(rng.normal(1, .25), .75, 1.25), 'gain': rng.uniform(.6, 1.4, 3)}


def turn_sample(rotations: np.ndarray, points_3d: np.ndarray, angle: float, flip: bool) -> tuple:
    """Flip, then turn rotations (24, 3, 3) and points (24, 3) of a body with its image."""
    if flip:
        mirror = np.diag([-1., 1, 1])
        rotations = mirror @ rotations[FLIP_JOINTS] @ mirror
        points_3d = points_3d[FLIP_KEYPOINTS] @ mirror
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0],
                     [0, 0, 1]])
    return np.concatenate([turn @ rotations[:1], rotations[1:]]), points_3d @ turn.T


# ---- samples ------------------------------------------------------------------------------------

class People(Dataset):
    """The samples of one set, as tensors.

    image (3, R, R), bytes; gain (3,) of its channels; labels (R / 4, R / 4) of parts, -1 if they
    are unknown; keypoints (24, 3) in -1 to 1 and points_3d (24, 4) in metres, both with confidence,
    which is 0 for keypoints that the body does not have; rotations (24, 3, 3), betas (10,),
    has_smpl; gender, an index of GENDERS. With a `seed` the samples of each `epoch` are augmented.
    """

    def __init__(self, path, arrays: dict, images: Path = Path(), resolution: int = 64,
                 seed: int | None = None, fits=None):
        self.path, self.images, self.resolution, self.seed = path, Path(images), resolution, seed
        self.epoch, self.set = 0, load_annotations(path, fits)
        self.body, self.skeleton = Body(arrays), Skeleton(arrays)
        self.faces = arrays['f'].astype(np.int64)
        self.parts = face_parts(arrays['weights'], self.faces)
        for key in ('part', 'S'):
            self.set[key][..., -1] *= self.skeleton.known.numpy()
        pose = torch.from_numpy(self.set['pose']).view(-1, 24, 3)
        self.set['rotations'] = axis_angle_to_matrix(pose).numpy()

    def __len__(self) -> int:
        return len(self.set['center'])

    def keep(self, rows: np.ndarray) -> None:
        """Leave out all samples except these (N,)."""
        self.set = {key: array[rows] for key, array in self.set.items()}

    def photos(self, names) -> dict[str, Path]:
        """Return the photographs whose files have one of these names, by their imgname."""
        return {f'photograph {name}': self.images / name for name in map(str, self.set.get(
            'imgname', ())) if Path(name).name in names}

    def check_learnable(self) -> None:
        """Raise ValueError if no sample has anything to learn from."""
        known = self.set['S'][:, self.skeleton.centre, 3] > 0  # S is used relative to these
        if not (self.set['has_smpl'].any() or (self.set['part'][..., 2] > 0).any()
                or known.all(axis=1).any()):
            raise ValueError(f'{self.path}: found nothing to learn in the keys '
                             f'{", ".join(sorted(keys_of(self.path)))}, expected pose and shape, '
                             f'or part, openpose or S with confidence')

    def scored(self) -> np.ndarray:
        """Tell which samples (N,) have a true body or the joints S that are scored."""
        has_regressor = len(self.skeleton.rows) > len(KEYPOINTS)
        return self.set['has_smpl'] | self.set['has_joints'] & has_regressor

    def keep_scored(self) -> int:
        """Leave out samples without truth; return their number, or raise ValueError if no sample
        is left."""
        truth = self.scored()
        if not truth.any():
            raise ValueError(f'{self.path}: found neither pose and shape nor the 14 joints of 3DPW '
                             f'in S, expected one of them to score')
        self.keep(truth)
        return int((~truth).sum())

    def unreadable(self) -> np.ndarray:
        """Tell which samples (N,) have no photograph that can be read."""
        if 'images' in self.set:
            return np.zeros(len(self), dtype=bool)
        names, inverse = np.unique(self.set['imgname'], return_inverse=True)
        print(f'reading the {len(names)} photographs of {self.path}', flush=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            good = list(pool.map(readable, [self.images / str(name) for name in names]))
        return ~np.array(good)[inverse]

    def take_genders(self, bodies: dict[str, dict]) -> None:
        """Give S to samples with a body but without S: the keypoints of the body of their gender.

        As in PARE; the shapes of 3DPW are those of gendered bodies.
        """
        points = self.set['S']
        without = self.set['has_smpl'] & ~(points[..., 3] > 0).any(axis=1)
        for gender in ('m', 'f'):
            rows = np.flatnonzero(without & (self.set['gender'] == gender))
            skeleton = Skeleton(bodies[gender])
            for some in np.array_split(rows, len(rows) // 1000 + 1):
                betas, rotations = (torch.from_numpy(self.set[key][some])
                                    for key in ('shape', 'rotations'))
                points[some, :, :3] = skeleton(betas, rotations).keypoints
                points[some, :, 3] = skeleton.known & self.skeleton.known

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        """Return a sample; raise ValueError for an unreadable photograph or a box beside it."""
        change = PLAIN if self.seed is None else augment(
            np.random.default_rng((self.seed, self.epoch, row)))
        flip, angle = change['flip'], change['angle']
        side = 200 * self.set['scale'][row] * change['scale']
        matrix = crop_matrix(self.set['center'][row], side, self.resolution, angle, flip)
        photo, k = self.photo(row, side / self.resolution)
        image = warp(photo, matrix @ np.diag([k, k, 1]), self.resolution)
        order = FLIP_KEYPOINTS if flip else slice(None)
        keypoints, points = self.set['part'][row][order], self.set['S'][row]
        pixels = keypoints[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        rotations, turned = turn_sample(self.set['rotations'][row], points[:, :3], angle, flip)
        places = pixels * 2 / self.resolution - 1
        sample = {'keypoints': np.column_stack([places, keypoints[:, 2]]),
                  'points_3d': np.column_stack([turned, points[order, 3]]),
                  'rotations': rotations, 'betas': self.set['shape'][row],
                  'has_smpl': self.set['has_smpl'][row], 'gain': change['gain']}
        sample = {key: torch.as_tensor(value, dtype=torch.float32)
                  for key, value in sample.items()}
        return sample | {'image': torch.from_numpy(image).permute(2, 0, 1),
                         'gender': torch.tensor(GENDERS.index(self.set['gender'][row])),
                         'labels': torch.from_numpy(self.labels(row, matrix, flip, sample))}

    def photo(self, row: int, most: float) -> tuple[Image.Image, int]:
        """Read the photograph of a sample at 1 / k of its size; also return k, at most `most`.

        Raises ValueError also if the box is beside it.
        """
        photo, k = ((Image.fromarray(self.set['images'][row]), 1) if 'images' in self.set else
                    read_reduced(self.images / str(self.set['imgname'][row]), most))
        half = k * np.array(photo.size) / 2
        if (np.abs(self.set['center'][row] - half) > 100 * self.set['scale'][row] + half).any():
            raise ValueError(f'{self.path}: row {row}: found a box beside its image of '
                             f'{k * photo.width} by {k * photo.height}, expected one that meets it')
        return photo, k

    def labels(self, row: int, matrix: np.ndarray, flip: bool, sample: dict) -> np.ndarray:
        """Return labels (R / 4, R / 4): those of the set, else of the true body, else -1.

        The true body is rendered at its 2D keypoints, without occlusion.
        """
        size = self.resolution // 4
        if 'labels' in self.set:
            labels = warp_labels(self.set['labels'][row], matrix / 4, size)
            return np.array(FLIP_PARTS)[labels] if flip else labels
        places, weight = sample['keypoints'][None].split((2, 1), dim=-1)
        if not sample['has_smpl'] or (weight > 0).sum() < 3:
            return np.full((size, size), -1)
        betas, rotations = sample['betas'][None], sample['rotations'][None]
        points = self.skeleton(betas, rotations).keypoints
        camera = fit_camera(points, places, weight[..., 0])[0].numpy()
        vertices = self.body(betas, rotations)[0][0].numpy()
        which, _ = rasterise(to_pixels(vertices, camera, size), vertices[:, 2], self.faces,
                             (size, size))
        return np.where(which >= 0, self.parts[which], 0)
