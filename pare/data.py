"""Samples to learn from: crops of photographs with what is known of who is in them.

A set is an .npz in the keys of SPIN (Kolotouros et al., ICCV 2019): imgname, center, scale (side of
the box / 200) and of pose, shape, gender, has_smpl, part, S what there is. Boxes and keypoints are
in pixels of the photograph as it is seen, turned by its EXIF tag. A rendered set (see
pare.people) has the arrays images and labels in place of imgname.
"""
import math
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import Dataset

from data import one_line
from pare.body import (FLIP_JOINTS, FLIP_KEYPOINTS, FLIP_PARTS, H36M, KEYPOINTS, N_BETAS, Body,
                       Skeleton, axis_angle_to_matrix, fit_camera)
from pare.files import load_annotations, load_body
from pare.render import face_parts, rasterise, to_pixels
from pare.standin import make_body

MEAN, STD = np.float32([.485, .456, .406]), np.float32([.229, .224, .225])  # of ImageNet, RGB
GENDERS = {'neutral': 'SMPL_NEUTRAL', 'm': 'SMPL_MALE', 'f': 'SMPL_FEMALE'}  # names of files
H36M_IN_S = [KEYPOINTS.index(name) for name in H36M]


# ---- the crop -----------------------------------------------------------------------------------

def crop_matrix(centre, side: float, resolution: int, angle: float = 0.,
                flip: bool = False) -> np.ndarray:
    """Affine map (2, 3) from pixels of the photograph to pixels of the crop: the box of this centre
    and side, flipped, then turned by an angle in radians from x to y."""
    cos, sin = np.cos(angle), np.sin(angle)
    turn, mirror = np.array([[cos, -sin], [sin, cos]]), np.diag([-1 if flip else 1, 1])
    linear = resolution / side * turn @ mirror
    return np.column_stack([linear, resolution / 2 - linear @ np.asarray(centre)])


def warp(image: Image.Image, matrix: np.ndarray, resolution: int) -> np.ndarray:
    """The crop of an image by `crop_matrix`; black outside.

    Pixels of a crop that is smaller than its box are means: the image is reduced by a whole number,
    then warped onto a finer crop, and that is reduced. Without means fine patterns alias.
    """
    inverse = np.linalg.inv(np.vstack([matrix, (0, 0, 1)]))[:2]
    pixels = math.sqrt(abs(np.linalg.det(inverse[:, :2])))  # of the image in one of the crop
    before = max(int(pixels / 2), 1)
    after = max(math.ceil(pixels / before - .1), 1)
    image = image.reduce(before) if before > 1 else image
    fine = image.transform((after * resolution, after * resolution), Image.Transform.AFFINE,
                           (inverse / before / (after, after, 1)).ravel(),
                           Image.Resampling.BILINEAR)
    return np.asarray(fine.reduce(after) if after > 1 else fine)


def warp_labels(labels: np.ndarray, matrix: np.ndarray, resolution: int) -> np.ndarray:
    """The crop of labels (H, W) by `crop_matrix`, each the nearest; 0 outside."""
    inverse = np.linalg.inv(np.vstack([matrix, (0, 0, 1)]))[:2]
    return np.asarray(Image.fromarray(labels).transform(
        (resolution, resolution), Image.Transform.AFFINE, inverse.ravel(),
        Image.Resampling.NEAREST)).astype(np.int64)


def augment(rng) -> dict:
    """A flip, turn, scale and colour gain as in SPIN and PARE."""
    return {'flip': rng.random() < .5,
            'angle': np.radians(np.clip(rng.normal(0, 30), -60, 60)) if rng.random() > .6 else 0.,
            'scale': np.clip(rng.normal(1, .25), .75, 1.25), 'gain': rng.uniform(.6, 1.4, 3)}


def turn_sample(rotations: np.ndarray, points_3d: np.ndarray, angle: float, flip: bool) -> tuple:
    """Rotations (24, 3, 3) and points (K, 3) of a body whose image is flipped, then turned."""
    mirror = np.diag([-1., 1, 1]) if flip else np.eye(3)
    if flip:
        rotations, points_3d = mirror @ rotations[FLIP_JOINTS] @ mirror, points_3d[FLIP_KEYPOINTS]
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0],
                     [0, 0, 1]])
    return (np.concatenate([turn @ rotations[:1], rotations[1:]]), points_3d @ mirror @ turn.T)


def standardise(image: np.ndarray, gain=1.) -> np.ndarray:
    """An image (H, W, 3) of bytes, its channels by a gain, as networks expect it (3, H, W)."""
    mean, std, gain = (np.float32(value).reshape(-1, 1, 1) for value in (MEAN, STD, gain))
    image = np.ascontiguousarray(np.moveaxis(image, 2, 0), dtype=np.float32)
    return ((image * gain).clip(max=255) / 255 - mean) / std


def read_photo(path: Path, small: bool = False) -> Image.Image:
    """A photograph as it is seen: turned by its EXIF tag, RGB of 8 bits, white where it is clear.

    `small` decodes a JPEG at an eighth of its size, which is enough to tell whether it is whole.
    Raises ValueError, naming the file, where it cannot be read.
    """
    try:
        with Image.open(path) as image:
            if small:
                image.draft('RGB', (32, 32))
            image = ImageOps.exif_transpose(image)
            if image.mode == 'F':
                raise ValueError('of floating-point numbers, expected 8 or 16 bits')
            if image.mode.startswith('I'):  # grey of 16 bits
                image = Image.fromarray((np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
            if image.has_transparency_data:
                clear = image.convert('RGBA')
                image = Image.new('RGBA', image.size, 'white')
                image.alpha_composite(clear)
            return image.convert('RGB')
    except Exception as error:  # what is damaged can raise nearly anything
        raise ValueError(f'{path}: found no readable image ({one_line(error)})') from error


def _readable(path: Path) -> bool:
    try:
        read_photo(path, small=True)
    except ValueError:
        return False
    return True


def load_bodies(file: Path | None, folder: Path | None, genders=tuple(GENDERS)) -> dict[str, dict]:
    """Bodies by gender, .npz or .pkl in a folder; or neutral alone, of a file or the stand-in.
    Raises OSError or ValueError."""
    if not folder:
        return {'neutral': load_body(file) if file else make_body()}
    bodies = {}
    for gender in genders:
        paths = [folder / f'{GENDERS[gender]}{suffix}' for suffix in ('.npz', '.pkl')]
        found = [path for path in paths if path.exists()]
        if not found:
            raise ValueError(f'{folder}: found neither {paths[0].name} nor {paths[1].name}')
        bodies[gender] = load_body(found[0])
    return bodies


class People(Dataset):
    """Crops of one set with what is known of them, as tensors.

    image (3, R, R), standardised; labels (R / 4, R / 4) of parts, -1 where they are not known;
    keypoints (24, 3) in -1 to 1 with confidence; points_3d (24, 4) in metres with confidence, from
    S; rotations (24, 3, 3), betas (10,), has_smpl. Confidence is 0 for keypoints that the body does
    not have. With `seed` samples are augmented, by the epoch.
    """

    def __init__(self, path, arrays: dict, images: Path = Path(), resolution: int = 64,
                 seed: int | None = None, fits=None):
        self.path, self.images, self.resolution, self.seed = path, Path(images), resolution, seed
        self.epoch, self.set = 0, load_annotations(path, fits)
        poses = self.set.get('pose', np.zeros((len(self), 72)))
        self.set['rotations'] = axis_angle_to_matrix(
            torch.from_numpy(poses).float().view(-1, 24, 3)).numpy()
        self.body, self.skeleton = Body(arrays), Skeleton(arrays)
        self.faces = arrays['f'].astype(np.int64)
        self.parts = face_parts(arrays['weights'], self.faces)

    def __len__(self) -> int:
        return len(self.set['center'])

    def photo(self, row: int) -> Image.Image:
        """Raises ValueError, naming the file, where it cannot be read."""
        if 'images' in self.set:
            return Image.fromarray(self.set['images'][row])
        return read_photo(self.images / str(self.set['imgname'][row]))

    def unreadable(self) -> np.ndarray:
        """Which samples (N,) have no photograph that can be read to its end; prints progress."""
        if 'images' in self.set:
            return np.zeros(len(self), dtype=bool)
        names, of = np.unique(self.set['imgname'], return_inverse=True)
        print(f'reading the {len(names)} photographs of {self.path}', flush=True)
        good = []
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for one in pool.map(_readable, [self.images / str(name) for name in names]):
                good.append(one)
                if sys.stdout.isatty():
                    print(f'\r{len(good)} of {len(names)}',
                          end='' if len(good) < len(names) else '\n', flush=True)
        return ~np.array(good)[of]

    def keep(self, rows: np.ndarray) -> None:
        """Leaves out all samples but these (N,)."""
        self.set = {key: array[rows] for key, array in self.set.items()}

    def take_genders(self, bodies: dict[str, dict]) -> None:
        """Gives S to samples with a body but without S: the keypoints of the body of their gender,
        as in PARE. Those of 3DPW have shapes of such bodies."""
        points = self.set.setdefault('S', np.zeros((len(self), 24, 4), np.float32))
        without = self.set['has_smpl'] & ~(points[..., 3] > 0).any(axis=1)
        for gender in ('m', 'f'):
            rows = np.flatnonzero(without & (self.set.get('gender', 'neutral') == gender))
            skeleton = Skeleton(bodies[gender])
            for some in np.array_split(rows, len(rows) // 1000 + 1):
                found, _ = skeleton(*(torch.from_numpy(self.set[key][some])
                                      for key in ('shape', 'rotations')))
                points[some, :, :3], points[some, :, 3] = found, skeleton.known

    def keep_scored(self) -> int:
        """Leaves out samples without truth, neither pose and shape nor joints S; returns their
        number. Raises ValueError where no sample is left."""
        truth, has_regressor = self.set['has_smpl'], len(self.skeleton.rows) > len(KEYPOINTS)
        truth = truth | self.set['has_joints'] & has_regressor
        if not truth.any():
            raise ValueError(f'{self.path}: found neither pose and shape nor the 14 joints of 3DPW '
                             f'in S, expected one of them to score')
        self.keep(truth)
        return int((~truth).sum())

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        """Raises ValueError for a photograph that cannot be read and for a box beside it."""
        change = {'flip': False, 'angle': 0., 'scale': 1., 'gain': 1.}
        if self.seed is not None:
            change = augment(np.random.default_rng((self.seed, self.epoch, row)))
        has_smpl = self.set['has_smpl'][row] > 0
        side = 200 * self.set['scale'][row] * change['scale']
        matrix = crop_matrix(self.set['center'][row], side, self.resolution, change['angle'],
                             change['flip'])
        photo = self.photo(row)
        if (np.abs(self.set['center'][row] - np.array(photo.size) / 2) > (
                100 * self.set['scale'][row] + np.array(photo.size) / 2)).any():
            raise ValueError(f'{self.path}: row {row}: found a box beside its image of '
                             f'{photo.width} by {photo.height}, expected one that meets it')
        image = standardise(warp(photo, matrix, self.resolution), change['gain'])
        keypoints = self.set['part'][row].copy() if 'part' in self.set else np.zeros((24, 3))
        keypoints[:, :2] = keypoints[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        keypoints[:, :2] = keypoints[:, :2] * 2 / self.resolution - 1
        keypoints = keypoints[FLIP_KEYPOINTS] if change['flip'] else keypoints
        points = self.set['S'][row] if 'S' in self.set else np.zeros((24, 4))
        rotations, turned = turn_sample(self.set['rotations'][row], points[:, :3], change['angle'],
                                        change['flip'])
        confidence = points[FLIP_KEYPOINTS if change['flip'] else slice(None), 3:]
        known = self.skeleton.known.numpy()
        keypoints[:, 2] *= known
        confidence = confidence * known[:, None]
        sample = {'image': image, 'keypoints': keypoints,
                  'points_3d': np.concatenate([turned, confidence], axis=1),
                  'rotations': rotations,
                  'betas': self.set['shape'][row] if has_smpl else np.zeros(N_BETAS),
                  'has_smpl': has_smpl}
        sample = {key: torch.as_tensor(value, dtype=torch.float32)
                  for key, value in sample.items()}
        return sample | {'labels': torch.from_numpy(self.labels(row, matrix, sample))}

    def labels(self, row: int, matrix: np.ndarray, sample: dict) -> np.ndarray:
        """Parts (R / 4, R / 4) as the set has them, or else of the body drawn where its keypoints
        are, hidden or not, or -1 without."""
        size = self.resolution // 4
        if 'labels' in self.set:
            labels = warp_labels(self.set['labels'][row], matrix / 4, size)
            mirrored = matrix[0, 0] * matrix[1, 1] < matrix[0, 1] * matrix[1, 0]
            return np.array(FLIP_PARTS)[labels] if mirrored else labels
        places, weight = sample['keypoints'][None].split((2, 1), dim=-1)
        if not sample['has_smpl'] or (weight > 0).sum() < 3:
            return np.full((size, size), -1)
        betas, rotations = sample['betas'][None], sample['rotations'][None]
        camera = fit_camera(self.skeleton(betas, rotations)[0], places, weight[..., 0])[0].numpy()
        vertices = self.body(betas, rotations)[0][0].numpy()
        which, _ = rasterise(to_pixels(vertices, camera, size), vertices[:, 2], self.faces,
                             (size, size))
        return np.where(which >= 0, self.parts[which], 0)
