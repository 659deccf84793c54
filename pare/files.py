"""Files of the field: SMPL models, annotations and fits of SPIN, sequences of 3DPW.

    python -m pare.files convert SMPL_NEUTRAL.pkl smpl.npz
    python -m pare.files convert-3dpw sequenceFiles/train 3dpw_train.npz
"""
import argparse
from pathlib import Path

import numpy as np
import torch

from data import one_line
from pare.body import (EVALUATED, EXTRA, FACE, H36M, KEYPOINTS, N_BETAS, PARENTS,
                       axis_angle_to_matrix, matrix_to_axis_angle)
from pare.command import command
from pare.formats import checked, read_npy, read_npz, read_pickle, write_npz
from training import Parser, status

# ---- bodies -------------------------------------------------------------------------------------

SHAPES = {'v_template': ('V', 3), 'shapedirs': ('V', 3, 'B'), 'posedirs': ('V', 3, 207),
          'J_regressor': (24, 'V'), 'weights': ('V', 24), 'kintree_table': (2, 24), 'f': ('F', 3)}
REGRESSORS = {'J_regressor_h36m': len(H36M), 'J_regressor_extra': len(EXTRA)}


def load_body(path) -> dict[str, np.ndarray]:
    """Reads and checks an SMPL model, .pkl or .npz: the arrays of SHAPES as float32 and int64.

    Regressors that lie beside it as J_regressor_h36m.npy and J_regressor_extra.npy are read too;
    `face`, the vertices of FACE, is there for a body of SMPL's 6,890. Raises OSError or ValueError.
    """
    path = Path(path)
    read, keys = read_npz if path.suffix == '.npz' else read_pickle, (*SHAPES, *REGRESSORS, 'face')
    raw, body, sizes = read(path, keys), {}, {}
    for key, shape in SHAPES.items():
        if raw.get(key) is None:
            raise ValueError(f'{path}: key {key} is missing, expected {", ".join(SHAPES)}')
        wanted = tuple(sizes.get(n) if isinstance(n, str) else n for n in shape)
        body[key] = checked(f'{path}: key {key}', raw[key], wanted,
                            np.int64 if key in ('kintree_table', 'f') else np.float32)
        sizes |= dict(zip(shape, body[key].shape))
    if sizes['B'] < N_BETAS or not np.array_equal(body['kintree_table'][0][1:], PARENTS[1:]):
        raise ValueError(f'{path}: found {sizes["B"]} shapes and another skeleton or too few of '
                         f'them, expected SMPL with at least {N_BETAS}')
    body['shapedirs'] = body['shapedirs'][..., :N_BETAS]
    face = raw.get('face', tuple(FACE.values()) if sizes['V'] == 6890 else None)
    if face is not None:
        body['face'] = checked(f'{path}: key face', face, (len(FACE),), np.int64)
    for key in ('f', 'face'):
        if key in body and not (0 <= body[key].min() and body[key].max() < sizes['V']):
            raise ValueError(f'{path}: key {key}: found vertices {body[key].min()} to '
                             f'{body[key].max()}, expected 0 to {sizes["V"] - 1}')
    for key, rows in REGRESSORS.items():
        beside = path.with_name(f'{key}.npy')
        if raw.get(key) is not None:
            body[key] = checked(f'{path}: key {key}', raw[key], (rows, sizes['V']))
        elif beside.exists():
            body[key] = checked(beside, read_npy(beside), (rows, sizes['V']))
    if 'J_regressor_h36m' in body and (body['J_regressor_h36m'][1] @ body['v_template'])[0] < 0:
        body['J_regressor_h36m'] = body['J_regressor_h36m'][  # a file with the right leg first
            [0, 4, 5, 6, 1, 2, 3, *range(7, 17)]]
    return body


# ---- annotations --------------------------------------------------------------------------------

SIDES = 1, 1e5  # of boxes, in pixels: the least and the most
GENDERS = {'m': 'm', 'male': 'm', '0': 'm', 'f': 'f', 'female': 'f', '1': 'f',
           'n': 'neutral', 'neutral': 'neutral', '-1': 'neutral'}  # of SPIN and of PARE


def load_annotations(path, fits=None) -> dict[str, np.ndarray]:
    """Reads a set of samples in the keys of SPIN and checks it; numbers are float32.

    Adds has_smpl (N,), True where pose and shape are known, and has_joints (N,), True where S has
    the pelvis and the 14 joints of 3DPW. Where pose and shape are not known, those of `fits` are
    taken, a file of `load_fits` for the same rows. center and scale are in the pixels of the
    photograph as it is seen, turned by its EXIF tag. Raises OSError or ValueError.
    """
    found = read_npz(path, ('imgname', 'images', 'center', 'scale', 'pose', 'shape', 'part', 'S',
                            'has_smpl', 'gender', 'labels', 'whole'))
    for key in ('images' if 'images' in found else 'imgname', 'center', 'scale'):
        if not np.ndim(found.get(key, 0)) or not np.size(found[key]):
            raise ValueError(f'{path}: key {key} is missing or empty, expected imgname or images, '
                             f'center and scale')
    n = len(found['center'])
    for key, shape in (('center', (n, 2)), ('scale', (n,)), ('pose', (n, 72)),
                       ('shape', (n, N_BETAS)), ('part', (n, 24, 3)), ('S', (n, 24, 4)),
                       ('has_smpl', (n,))):
        if key in found:
            if found[key].shape == (n, 17, *shape[2:]):
                raise ValueError(f'{path}: key {key}: found the 17 joints of Human3.6M, as mmpose '
                                 f'writes part and S, expected the 24 keypoints of SPIN: sort them '
                                 f'into those, or rename the keys to go without')
            found[key] = checked(f'{path}: key {key}', found[key], shape)
    for key in {'imgname', 'images', 'labels', 'whole', 'visible', 'gender'} & found.keys():
        if found[key].shape[:1] != (n,):
            raise ValueError(f'{path}: key {key}: found shape {found[key].shape}, expected {n} '
                             f'rows as in center')
    for key in ('imgname', 'gender'):
        if key in found and found[key].dtype.kind == 'S':
            found[key] = np.char.decode(found[key], 'latin1')
    _check_values(path, found)
    if ('pose' in found) != ('shape' in found):
        raise ValueError(f'{path}: found only one of pose and shape, expected both or neither')
    nowhere = np.zeros(n, dtype=bool)
    found['has_smpl'] = found.get('has_smpl', np.ones(n)) > 0 if 'pose' in found else nowhere
    rows = [KEYPOINTS.index(name) for name in ('Pelvis', *EVALUATED)]
    found['has_joints'] = (found['S'][:, rows, 3] > 0).all(axis=1) if 'S' in found else nowhere
    return found if fits is None else found | _fill(found, load_fits(fits, n))


def _check_values(path, found: dict) -> None:
    """Raises ValueError for a box too small or too large, negative confidence, unknown gender."""
    least, most = (side / 200 for side in SIDES)
    good = {'scale': ((least <= found['scale']) & (found['scale'] <= most),
                      f'a side of the box / 200 from {least:g} to {most:g}')}
    for key in found.keys() & {'part', 'S'}:
        good[key] = (found[key][..., -1] >= 0).all(axis=1), 'no confidence below 0'
    for key, (rows, expected) in good.items():
        if not rows.all():
            row = rows.argmin()
            raise ValueError(f'{path}: key {key}: found {np.min(found[key][row]):g} in row {row}, '
                             f'expected {expected}')
    if 'gender' in found:
        genders = [str(gender) for gender in found['gender']]
        strange = sorted(set(genders) - set(GENDERS))
        if strange:
            raise ValueError(f'{path}: key gender: found {one_line(strange[0])}, expected m, f or '
                             f'neutral, or 0, 1 or -1')
        found['gender'] = np.array([GENDERS[gender] for gender in genders])


def _fill(found: dict, fits: dict) -> dict:
    """pose, shape and has_smpl of a set with those of fits where it has none, as SPIN does."""
    known = found['has_smpl']
    filled = {key: np.where(known[:, None], found[key], fits[key]) if 'pose' in found else fits[key]
              for key in ('pose', 'shape')}
    return filled | {'has_smpl': known | fits['has_smpl']}


def load_fits(path, n: int) -> dict[str, np.ndarray]:
    """pose (n, 72), shape (n, 10) and has_smpl (n,) that SPIN fitted to n samples.

    In a form of three: static fits, an .npy (n, 82); final fits, an .npz with pose, betas and
    valid_fit; fits of several views, an .npz with pose, shape and has_smpl. As in SPIN a shape
    with a number beyond 3 is taken for a failure and set to zero. Raises OSError or ValueError.
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
    failed = (np.abs(found['shape']) > 3).any(axis=1)
    return found | {'shape': np.where(failed[:, None], np.float32(0), found['shape']),
                    'has_smpl': found['has_smpl'] > 0}


# ---- 3DPW ---------------------------------------------------------------------------------------

COCO = ('Nose', 'Neck', 'RShoulder', 'RElbow', 'RWrist', 'LShoulder', 'LElbow', 'LWrist', 'RHip',
        'RKnee', 'RAnkle', 'LHip', 'LKnee', 'LAnkle', 'REye', 'LEye', 'REar', 'LEar')
PEOPLE = {'poses': (None, 72), 'betas': (None,), 'campose_valid': (None,), 'genders': None,
          'poses2d': (None, 3, 18)}  # lists with an entry for each person


def convert_3dpw(folder) -> dict[str, np.ndarray]:
    """The sequences (.pkl) of 3DPW as one set, as SPIN makes it: frames whose camera and points are
    valid, the global rotation in the camera's frame, boxes 1.2 times the points."""
    paths = sorted(Path(folder).glob('*.pkl'))
    if not paths:
        raise ValueError(f'{folder}: found no .pkl, expected sequences of 3DPW')
    people = [person for path in paths for person in _sequence(path)]
    if not any(len(person['center']) for person in people):
        raise ValueError(f'{folder}: found no frame with a valid camera and 2D points')
    return {key: np.concatenate([person[key] for person in people]) for key in people[0]}


def _sequence(path) -> list[dict]:
    """The people of a sequence, each as a set. Raises ValueError."""
    raw = read_pickle(path, (*PEOPLE, 'sequence', 'cam_poses', 'gender', 'poses2D'))
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
    part = {key: checked(f'{path}: key {key}', raw[key][person],
                         shape if key == 'betas' else (len(cameras), *shape[1:]))
            for key, shape in PEOPLE.items() if shape}
    if len(part['betas']) < N_BETAS:
        raise ValueError(f'{path}: key betas: found {len(part["betas"])} numbers, expected '
                         f'{N_BETAS} or more')
    gender = str(raw['genders'][person])
    if gender not in GENDERS:
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

def main(argv=None) -> int:
    """Converts; prints one line. Exit status 0, or 2 for a mistake of the user."""
    parser = Parser(
        prog='python -m pare.files', description='Converts files of the field to plain .npz.',
        epilog='example: python -m pare.files convert-3dpw sequenceFiles/train 3dpw_train.npz')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, source, text in (
            ('convert', 'SMPL model, .pkl', 'an SMPL model with the regressors beside it'),
            ('convert-3dpw', 'folder of the sequences, .pkl', 'sequences of 3DPW to one set')):
        command = commands.add_parser(name, help=text)
        command.add_argument('source', type=Path, help=source)
        command.add_argument('out', type=Path, help='.npz to write')
    args = parser.parse_args(argv)
    return status(parser, lambda: convert(args))


def convert(args: argparse.Namespace) -> None:
    found = (load_body if args.command == 'convert' else convert_3dpw)(args.source)
    write_npz(args.out, found)
    what = f'{len(found["center"])} samples' if 'center' in found else (
        f'{len(found["v_template"])} vertices')
    print(f'wrote {args.out}: {what}')


if __name__ == '__main__':
    command(main)
