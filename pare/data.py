"""Samples to learn from: rendered people, annotations of photographs, 3DPW.

    python -m pare.data render people.npz --n 6000 --size 64
    python -m pare.data convert-3dpw sequenceFiles/train 3dpw_train.npz

A set is an .npz in the keys of SPIN (Kolotouros et al., ICCV 2019): imgname, center, scale (side of
the box / 200) and of pose, shape, gender, has_smpl, part, S what there is. A rendered set has the
arrays images, labels of what is seen and whole, labels as if nothing hid the body, in place of
imgname.
"""
import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from pare.body import (KEYPOINTS, N_BETAS, Body, Skeleton, axis_angle_to_matrix,
                       matrix_to_axis_angle, read_npz, read_pickle, write_npz)
from pare.render import face_parts, rasterise, to_pixels

MEAN, STD = np.float32([.485, .456, .406]), np.float32([.229, .224, .225])  # of ImageNet, RGB
FLIP_JOINTS = [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22]
FLIP_LABELS = np.array([0, *(1 + joint for joint in FLIP_JOINTS)])
FLIP_KEYPOINTS = [5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, *range(12, 20), 21, 20, 23, 22]


# ---- annotations --------------------------------------------------------------------------------

def load_annotations(path, fits=None) -> dict[str, np.ndarray]:
    """Reads a set of samples and checks it; `fits` is a file of `load_fits` for its rows.

    Adds has_smpl (N,) where it is missing. Raises OSError, or ValueError with file and key.
    """
    found = read_npz(path)
    rendered = 'images' in found
    n = len(found.get('center', ()))
    expected = {'center': (n, 2), 'scale': (n,), 'pose': (n, 72), 'shape': (n, N_BETAS),
                'part': (n, 24, 3), 'S': (n, 24, 4), 'has_smpl': (n,), 'gender': (n,)}
    for key in ('images' if rendered else 'imgname', 'center', 'scale'):
        if key not in found or not len(found[key]):
            raise ValueError(f'{path}: key {key} is missing or empty, expected imgname or images, '
                             f'center and scale')
    if fits is not None:
        found |= load_fits(fits, n)
    for key, shape in expected.items():
        if key in found and found[key].shape != shape:
            raise ValueError(f'{path}: key {key}: found shape {found[key].shape}, expected {shape}')
        if key in found and found[key].dtype.kind == 'f' and not np.isfinite(found[key]).all():
            raise ValueError(f'{path}: key {key}: found NaN or infinity, expected finite numbers')
    if ('pose' in found) != ('shape' in found):
        raise ValueError(f'{path}: found only one of pose and shape, expected both or neither')
    if 'has_smpl' not in found:
        found['has_smpl'] = np.full(n, 'pose' in found)
    return found


def load_fits(path, n: int) -> dict[str, np.ndarray]:
    """Pose and shape that SPIN fitted to n samples: an .npy (n, 82), or its final fits, an .npz
    with pose, betas and valid_fit, which says which are good. Raises OSError or ValueError."""
    if Path(path).suffix == '.npz':
        found = read_npz(path)
        for key, expected in (('pose', (n, 72)), ('betas', (n, N_BETAS)), ('valid_fit', (n,))):
            shape = getattr(found.get(key), 'shape', 'none')
            if shape != expected:
                raise ValueError(f'{path}: key {key}: found {shape}, expected {expected}, as the '
                                 f'set has {n} samples')
        return {'pose': found['pose'], 'shape': found['betas'],
                'has_smpl': found['valid_fit'].astype(bool)}
    try:
        fits = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f'{path}: found no readable .npy ({error})') from error
    if fits.shape != (n, 82):
        raise ValueError(f'{path}: found shape {fits.shape}, expected {(n, 82)}, as the set has '
                         f'{n} samples')
    return {'pose': fits[:, :72], 'shape': fits[:, 72:]}


def convert_3dpw(folder: Path) -> dict[str, np.ndarray]:
    """The sequences (.pkl) of 3DPW as one set, as SPIN makes it: frames whose camera and points are
    valid, the global rotation in the camera's frame, boxes 1.2 times the points."""
    samples = []
    paths = sorted(Path(folder).glob('*.pkl'))
    if not paths:
        raise ValueError(f'{folder}: found no .pkl, expected sequences of 3DPW')
    for path in paths:
        sequence = read_pickle(path)
        for one, other in (('genders', 'gender'), ('poses2d', 'poses2D')):  # both are in use
            sequence.setdefault(one, sequence.get(other))
        for key in ('sequence', 'poses', 'betas', 'campose_valid', 'cam_poses', 'genders',
                    'poses2d'):
            if sequence.get(key) is None:
                raise ValueError(f'{path}: key {key} is missing, expected a sequence of 3DPW')
        genders, points = sequence['genders'], sequence['poses2d']
        for person, pose in enumerate(sequence['poses']):
            for frame in np.flatnonzero(sequence['campose_valid'][person]):
                seen = points[person][frame][2] > 0
                if not seen.any():
                    continue
                xy = points[person][frame][:2, seen]
                low, high = xy.min(axis=1), xy.max(axis=1)
                rotation = sequence['cam_poses'][frame][:3, :3] @ axis_angle_to_matrix(
                    torch.from_numpy(np.array(pose[frame][:3], dtype=float))).numpy()
                vector = matrix_to_axis_angle(torch.from_numpy(rotation)).numpy()
                samples.append({
                    'imgname': f'imageFiles/{sequence["sequence"]}/image_{frame:05}.jpg',
                    'center': (low + high) / 2, 'scale': 1.2 * (high - low).max() / 200,
                    'pose': np.concatenate([vector, pose[frame][3:72]]),
                    'shape': np.asarray(sequence['betas'][person])[:N_BETAS],
                    'gender': genders[person], 'part': _from_coco(points[person][frame])})
    if not samples:
        raise ValueError(f'{folder}: found no frame with a valid camera and 2D points')
    stacked = {key: np.array([sample[key] for sample in samples]) for key in samples[0]}
    return {key: array.astype(np.float32) if array.dtype == float else array
            for key, array in stacked.items()}


COCO = ('Nose', 'Neck', 'RShoulder', 'RElbow', 'RWrist', 'LShoulder', 'LElbow', 'LWrist', 'RHip',
        'RKnee', 'RAnkle', 'LHip', 'LKnee', 'LAnkle', 'REye', 'LEye', 'REar', 'LEar')


def _from_coco(points: np.ndarray) -> np.ndarray:
    """Points (3, 18) with confidence as KEYPOINTS (24, 3)."""
    part = np.zeros((24, 3))
    for name, point in zip(COCO, points.T):
        part[KEYPOINTS.index(name)] = point
    return part


# ---- the crop -----------------------------------------------------------------------------------

def crop_matrix(centre, side: float, resolution: int, angle: float = 0.,
                flip: bool = False) -> np.ndarray:
    """Affine map (2, 3) from pixels of the photograph to pixels of the crop: the box of this centre
    and side, flipped, then turned by an angle in radians from x to y."""
    cos, sin = np.cos(angle), np.sin(angle)
    turn, mirror = np.array([[cos, -sin], [sin, cos]]), np.diag([-1 if flip else 1, 1])
    linear = resolution / side * turn @ mirror
    return np.column_stack([linear, resolution / 2 - linear @ np.asarray(centre)])


def warp(image: Image.Image, matrix: np.ndarray, resolution: int,
         how=Image.Resampling.BILINEAR) -> np.ndarray:
    """The crop of an image by `crop_matrix`; black outside."""
    inverse = np.linalg.inv(np.vstack([matrix, (0, 0, 1)]))
    return np.asarray(image.transform((resolution, resolution), Image.Transform.AFFINE,
                                      inverse[:2].ravel(), how))


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


def fit_camera(points_3d: np.ndarray, points_2d: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Camera (s, tx, ty) with which points (K, 3) fall on points (K, 2): weighted least squares."""
    weight = weight[:, None] / max(weight.sum(), 1e-9)
    centre_3d, centre_2d = (weight * points_3d[:, :2]).sum(0), (weight * points_2d).sum(0)
    offset = points_3d[:, :2] - centre_3d
    scale = (weight * offset * (points_2d - centre_2d)).sum()
    scale /= max((weight * offset ** 2).sum(), 1e-9)
    return np.float32([scale, *(centre_2d / max(scale, 1e-3) - centre_3d)])


def standardise(image: np.ndarray, gain=1.) -> np.ndarray:
    """An image (H, W, 3) of bytes, its channels by a gain, as networks expect it (3, H, W)."""
    mean, std, gain = (np.float32(value).reshape(-1, 1, 1) for value in (MEAN, STD, gain))
    image = np.ascontiguousarray(np.moveaxis(image, 2, 0), dtype=np.float32)
    return ((image * gain).clip(max=255) / 255 - mean) / std


def _readable(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.draft('RGB', (32, 32))  # a JPEG is read to its end, but small
            image.load()
    except OSError:
        return False
    return True


class People(Dataset):
    """Crops of one set with what is known of them, as tensors.

    image (3, R, R), standardised; labels (R / 4, R / 4) of parts, -1 where they are not known;
    keypoints (24, 3) in -1 to 1 with confidence; points_3d (24, 4) in metres with confidence, from
    S; rotations (24, 3, 3), betas (10,), has_smpl. With `seed` samples are augmented, by the epoch;
    where `amodal` is set labels are of hidden parts too.
    """

    def __init__(self, path, arrays: dict, images: Path = Path(), resolution: int = 64,
                 seed: int | None = None, fits=None):
        self.path, self.images, self.resolution, self.seed = path, Path(images), resolution, seed
        self.epoch, self.amodal, self.set = 0, False, load_annotations(path, fits)
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
        path = self.images / str(self.set['imgname'][row])
        try:
            with Image.open(path) as image:
                return image.convert('RGB')
        except OSError as error:
            raise ValueError(f'{path}: found no readable image ({error})') from error

    def unreadable(self) -> np.ndarray:
        """Which samples (N,) have no photograph that can be read to its end."""
        if 'images' in self.set:
            return np.zeros(len(self), dtype=bool)
        names, of = np.unique(self.set['imgname'], return_inverse=True)
        return np.array([not _readable(self.images / str(name)) for name in names])[of]

    def keep(self, rows: np.ndarray) -> None:
        """Leaves out all samples but these (N,)."""
        self.set = {key: array[rows] for key, array in self.set.items()}

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
        size, key = self.resolution // 4, 'whole' if self.amodal else 'labels'
        if key in self.set:
            labels = warp(Image.fromarray(self.set[key][row]), matrix / 4, size,
                          Image.Resampling.NEAREST).astype(np.int64)
            mirrored = matrix[0, 0] * matrix[1, 1] < matrix[0, 1] * matrix[1, 0]
            return FLIP_LABELS[labels] if mirrored else labels
        weight = sample['keypoints'][:, 2].numpy() * self.skeleton.known.numpy()
        if not sample['has_smpl'] or (weight > 0).sum() < 3:
            return np.full((size, size), -1)
        betas, rotations = sample['betas'][None], sample['rotations'][None]
        points = self.skeleton(betas, rotations)[0][0].numpy()
        camera = fit_camera(points, sample['keypoints'][:, :2].numpy(), weight)
        vertices = self.body(betas, rotations)[0][0].numpy()
        which, _ = rasterise(to_pixels(vertices, camera, size), vertices[:, 2], self.faces,
                             (size, size))
        return np.where(which >= 0, self.parts[which], 0)


# ---- mixtures ---------------------------------------------------------------------------------

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


# ---- the command line ---------------------------------------------------------------------------

def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description='Makes and converts sets of samples.')
    parser.error = lambda message: parser.exit(2, f'pare.data: {message}\n')
    commands = parser.add_subparsers(dest='command', required=True)
    render = commands.add_parser('render', help='people of the stand-in body',
                                 formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    render.add_argument('out', type=Path)
    for name, default, text in (('n', 6000, 'people'), ('size', 64, 'pixels'), ('seed', 0, 'seed')):
        render.add_argument(f'--{name}', type=int, default=default, help=text)
    convert = commands.add_parser('convert-3dpw', help='sequences of 3DPW')
    convert.add_argument('folder', type=Path)
    convert.add_argument('out', type=Path)
    args = parser.parse_args(argv)
    try:
        if args.command == 'render':
            render_set(args.out, args.n, args.size, args.seed)
        else:
            found = convert_3dpw(args.folder)
            write_npz(args.out, found)
            print(f'wrote {args.out}: {len(found["center"])} samples')
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return 0


if __name__ == '__main__':
    sys.exit(main())
