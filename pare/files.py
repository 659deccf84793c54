"""Files of the field: annotations and fits of SPIN, sequences of 3DPW.

    python -m pare.files sequenceFiles/train 3dpw_train.npz    # converts 3DPW to one set
"""
from pathlib import Path

import numpy as np
import torch

from common.command import Parser, exit_status, keep_inputs
from common.files import one_line
from pare.body import (EVALUATED, KEYPOINTS, N_BETAS, axis_angle_to_matrix, matrix_to_axis_angle)
from pare.checks import (GENDER_NAMES, check_radians, check_units, check_values, refuse_other_sets,
                         refuse_other_shapes)
from pare.formats import checked, keys_of, read_npy, read_npz, read_pickle, write_npz
from pare.spin import OPENPOSE, add_openpose

# ---- annotations --------------------------------------------------------------------------------

NUMBERS = {'center': (2,), 'scale': (), 'pose': (72,), 'shape': (N_BETAS,), 'part': (24, 3),
           'openpose': (len(OPENPOSE), 3), 'S': (24, 4), 'has_smpl': ()}  # shape of a row
OTHERS = 'imgname', 'images', 'labels', 'visible', 'gender'


def load_annotations(path, fits=None) -> dict[str, np.ndarray]:
    """Read and check a set of samples in the keys of SPIN; numbers are float32.

    center and scale are in pixels of the photograph as it is seen, turned by its EXIF tag. Missing
    numbers become zeros with confidence 0, a missing gender neutral. `openpose` fills in missing
    keypoints. `fits`, a file for `load_fits` with the same rows, fills in missing poses and shapes.
    has_smpl (N,) is True if pose and shape are known, otherwise shape is 0. has_joints (N,) is True
    if S has the pelvis and the 14 joints of 3DPW. Raises OSError or ValueError.
    """
    refuse_other_sets(path, keys_of(path))
    found = read_npz(path, (*NUMBERS, *OTHERS))
    for key in ('images' if 'images' in found else 'imgname', 'center', 'scale'):
        if not np.ndim(found.get(key, 0)) or not np.size(found[key]):
            raise ValueError(f'{path}: key {key} is missing or empty, expected imgname or images, '
                             f'center and scale')
    n = len(found['center'])
    for key, value in found.items():
        if key in NUMBERS:
            refuse_other_shapes(path, key, value.shape, n)
            found[key] = checked(f'{path}: key {key}', value, (n, *NUMBERS[key]))
        elif value.shape[:1] != (n,):
            raise ValueError(f'{path}: key {key}: found shape {value.shape}, expected {n} rows as '
                             f'in center')
        elif value.dtype.kind == 'S':
            found[key] = np.char.decode(value, 'latin1')
    check_values(path, found)
    check_units(path, found)
    if ('pose' in found) != ('shape' in found):
        raise ValueError(f'{path}: found only one of pose and shape, expected both or neither')
    found['has_smpl'] = (found.get('has_smpl', np.ones(n)) > 0) & ('pose' in found)
    found = {key: np.zeros((n, *shape), np.float32) for key, shape in NUMBERS.items()} | {
        'gender': np.full(n, 'neutral')} | found
    check_radians(path, found['pose'], found['has_smpl'])
    found['part'] = add_openpose(found['part'], found.pop('openpose'))
    if fits is not None:  # as SPIN does
        other, known = load_fits(fits, n), found['has_smpl'][:, None]
        for key in ('pose', 'shape'):
            found[key] = np.where(known, found[key], other[key])
        found['has_smpl'] = found['has_smpl'] | other['has_smpl']
    found['shape'][~found['has_smpl']] = 0
    rows = [KEYPOINTS.index(name) for name in ('Pelvis', *EVALUATED)]
    return found | {'has_joints': (found['S'][:, rows, 3] > 0).all(axis=1)}


def load_fits(path, n: int) -> dict[str, np.ndarray]:
    """Read pose (n, 72), shape (n, 10) and has_smpl (n,) that SPIN fitted to n samples.

    There are three forms: static fits, an .npy (n, 82); final fits, an .npz with pose, betas and
    valid_fit; fits of several views, an .npz with pose, shape and has_smpl. As in SPIN, a shape
    with a number beyond 3 is a failure and becomes zero. Raises OSError or ValueError.
    """
    if Path(path).suffix == '.npz':
        raw = read_npz(path, ('pose', 'shape', 'betas', 'valid_fit', 'has_smpl'))
        names = ('pose', 'betas', 'valid_fit') if 'betas' in raw else ('pose', 'shape', 'has_smpl')
        found = {}
        for key, name, shape in zip(('pose', 'shape', 'has_smpl'), names,
                                    ((n, 72), (n, N_BETAS), (n,))):
            if name not in raw:
                raise ValueError(f'{path}: key {name} is missing, expected pose, betas and '
                                 f'valid_fit, or pose, shape and has_smpl')
            found[key] = checked(f'{path}: key {name}', raw[name], shape)
    else:
        fits = checked(path, read_npy(path), (n, 82))
        found = {'pose': fits[:, :72], 'shape': fits[:, 72:], 'has_smpl': np.ones(n)}
    check_radians(path, found['pose'], found['has_smpl'] > 0)
    failed = (np.abs(found['shape']) > 3).any(axis=1)
    return found | {'shape': np.where(failed[:, None], np.float32(0), found['shape']),
                    'has_smpl': found['has_smpl'] > 0}


# ---- 3DPW ---------------------------------------------------------------------------------------

COCO = ('Nose', 'Neck', 'RShoulder', 'RElbow', 'RWrist', 'LShoulder', 'LElbow', 'LWrist', 'RHip',
        'RKnee', 'RAnkle', 'LHip', 'LKnee', 'LAnkle', 'REye', 'LEye', 'REar', 'LEar')
PEOPLE = {'poses': (None, 72), 'betas': (None,), 'campose_valid': (None,), 'genders': None,
          'poses2d': (None, 3, 18)}  # lists with an entry a person


def convert_3dpw(folder) -> dict[str, np.ndarray]:
    """Join the sequences (.pkl) of 3DPW to one set, as SPIN does.

    It has the frames with a valid camera and valid points. The global rotation is in the camera's
    frame; boxes are 1.2 times as large as the points' extent. Raises OSError or ValueError.
    """
    paths = sorted(Path(folder).glob('*.pkl'))
    if not paths:
        raise ValueError(f'{folder}: found no .pkl, expected sequences of 3DPW')
    people = [person for path in paths for person in _sequence(path)]
    if not any(len(person['center']) for person in people):
        raise ValueError(f'{folder}: found no frame with a valid camera and 2D points')
    return {key: np.concatenate([person[key] for person in people]) for key in people[0]}


def _sequence(path) -> list[dict]:
    """Read the people of a sequence, each as a set."""
    raw = read_pickle(path)
    for one, other in (('genders', 'gender'), ('poses2d', 'poses2D')):  # both are in use
        raw[one] = raw.get(other) if raw.get(one) is None else raw[one]
    for key in ('sequence', 'cam_poses', *PEOPLE):
        if raw.get(key) is None:
            raise ValueError(f'{path}: key {key} is missing, expected a sequence of 3DPW')
    cameras = checked(f'{path}: key cam_poses', raw['cam_poses'], (None, 4, 4))
    n_people = len(raw['poses']) if isinstance(raw['poses'], list) else 1
    for key in PEOPLE:
        if not isinstance(raw[key], list) or len(raw[key]) != n_people:
            raise ValueError(f'{path}: key {key}: found no list of {n_people}, expected an entry '
                             f'for each person')
    return [_person(path, raw, cameras, person) for person in range(n_people)]


def _person(path, raw: dict, cameras: np.ndarray, person: int) -> dict:
    """Return one person of a sequence as a set; cameras are (F, 4, 4)."""
    part = {key: checked(f'{path}: key {key}', raw[key][person],
                         shape if key == 'betas' else (len(cameras), *shape[1:]))
            for key, shape in PEOPLE.items() if shape}
    if len(part['betas']) < N_BETAS:
        raise ValueError(f'{path}: key betas: found {len(part["betas"])} numbers, expected '
                         f'{N_BETAS} or more')
    gender = str(raw['genders'][person])
    if gender not in GENDER_NAMES:
        raise ValueError(f'{path}: key genders: found {one_line(gender)}, expected m or f')
    points, seen = part['poses2d'][:, :2], part['poses2d'][:, 2:] > 0             # (F, 2 or 1, 18)
    low = np.where(seen, points, np.inf).min(axis=2)
    high = np.where(seen, points, -np.inf).max(axis=2)
    frames = np.flatnonzero((part['campose_valid'] > 0) & ((high - low).max(axis=1) > 0))
    low, high, pose = low[frames], high[frames], part['poses'][frames].astype(float)
    turned = cameras[frames, :3, :3] @ axis_angle_to_matrix(torch.from_numpy(pose[:, :3])).numpy()
    pose[:, :3] = matrix_to_axis_angle(torch.from_numpy(turned)).numpy()
    keypoints = np.zeros((len(frames), 24, 3), np.float32)
    keypoints[:, [KEYPOINTS.index(name) for name in COCO]] = part['poses2d'][frames].mT
    return {'imgname': np.array([f'imageFiles/{one_line(raw["sequence"])}/image_{frame:05}.jpg'
                                 for frame in frames], dtype=str),
            'center': (low + high) / 2, 'scale': 1.2 * (high - low).max(axis=1) / 200,
            'pose': pose.astype(np.float32), 'part': keypoints,
            'shape': np.tile(part['betas'][:N_BETAS], (len(frames), 1)),
            'gender': np.full(len(frames), gender)}


# ---- the command line ---------------------------------------------------------------------------

def main(argv=None) -> None:
    """Convert sequences and print one line."""
    parser = Parser(prog='python -m pare.files',
                    description='Convert sequences of 3DPW to one set in the keys of SPIN.',
                    epilog='example: python -m pare.files sequenceFiles/train 3dpw_train.npz')
    parser.add_argument('source', type=Path, help='folder of the sequences, .pkl')
    parser.add_argument('out', type=Path, help='.npz to write')
    args = parser.parse_args(argv)
    with exit_status(parser):
        keep_inputs({path.name: path for path in args.source.glob('*.pkl')}, {'OUT': args.out})
        found = convert_3dpw(args.source)
        write_npz(args.out, found)
        print(f'wrote {args.out}: {len(found["center"])} samples')


if __name__ == '__main__':
    main()
