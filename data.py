"""The lab's dictionary of joints: load and check it, split it, find its camera.

The frame and the keys are those of common/camera.py and README.md: the camera is at the origin and
looks down -z, y is up, and the root of the skeleton is at (0, 0, -1).
"""
from pathlib import Path

import numpy as np

from common.axes import check_root, find_focal, some_rows, wrong_distance, wrong_people
from common.camera import project, spread
from common.files import errors_of, numbers, save_pickle
from common.people import sample
from common.pickles import read_pickle

TRAIN_FILE, TEST_FILE = 'data_train_lift.pkl', 'data_test_lift.pkl'
WEAK_FILE = 'data_train.pkl'
LAB_FILES = (TRAIN_FILE, TEST_FILE, WEAK_FILE, 'data_test.pkl')
N_TRAIN, N_TEST = 32_000, 5_000  # synthetic poses

# coordinates of a joint, or numbers of a sample; joint_2d_1 is first, the others must match it
WIDTHS = {'joint_2d_1': 2, 'joint_2d_2': 2, 'joint_3d': 3, 'joint_detected': 3, 'rot': 9,
          'transl': 3, 'focal_len_1': 2, 'focal_len_2': 2}
SUPERVISED = ('joint_2d_1', 'joint_3d')


# ---- the dictionary -----------------------------------------------------------------------------

def load(path, need=SUPERVISED) -> dict[str, np.ndarray]:
    """Read and check a pickled dictionary; return contiguous float32 arrays.

    joint_2d_1, joint_2d_2 (N, J, 2); joint_3d (N, J, 3); rot (N, 9); transl (N, 3); focal_len_1,
    focal_len_2 (N, 2); of synthetic people also joint_detected (N, 15, 3). Other keys are ignored;
    `need` begins with joint_2d_1. Raises OSError for a file that cannot be opened, and ValueError
    for a wrong one: a line with file, key, what was found and what was expected.
    """
    raw = read_pickle(path)
    with errors_of(path):
        return check(raw, need)


def check(raw: dict, need) -> dict[str, np.ndarray]:
    """Check a dictionary as `load` does; raises ValueError without the file's name."""
    for key in need:
        if key not in raw:
            hint = ''
            if key == 'joint_3d' and {'rot', 'transl'} <= set(raw):
                hint = '; --weak learns from two views'
            elif key.startswith('focal_len'):
                hint = '; or give --focal'
            raise ValueError(f'key {key} is missing: found {", ".join(map(str, raw)) or "none"}, '
                             f'expected {", ".join(need)}{hint}')
    data = {}
    for key in WIDTHS:
        if key in raw:
            array = numbers(key, raw[key])
            data[key] = array = _shape(key, array, len(data.get('joint_2d_1', array)))
            first = data['joint_2d_1']
            if len(array) != len(first):
                raise ValueError(f'key {key}: found {len(array)} samples, expected {len(first)} '
                                 f'as in joint_2d_1')
            if key.startswith('joint') and array.shape[1] != first.shape[1]:
                raise ValueError(f'key {key}: found {array.shape[1]} joints, expected '
                                 f'{first.shape[1]} as in joint_2d_1')
            if key.startswith('joint_2d') and np.ptp(array) == 0:
                raise ValueError(f'key {key}: found all points in one place, expected a pose')
            if key.startswith('focal_len') and not array.all():
                bad = ~array.all(axis=1)
                raise ValueError(f'key {key}: found 0 in {bad.sum()} of {len(bad)} rows, first in '
                                 f'row {bad.argmax()}, expected focal lengths')
    if 'rot' in data:
        rot = data['rot'].reshape(-1, 3, 3)
        bad = np.abs(rot @ rot.mT - np.eye(3)).max(axis=(1, 2)) > 1e-2
        bad |= np.linalg.det(rot) < 0
        if bad.any():
            raise ValueError(f'key rot: found no rotation in row {bad.argmax()}, expected '
                             f'R R^T = I and det R = 1')
    return data


def _shape(key: str, array: np.ndarray, n_samples: int) -> np.ndarray:
    """Bring an array to the one shape that `load` returns."""
    width, each = WIDTHS[key], array[0].size
    if key.startswith('joint'):
        expected = f'(N, J, {width}) or (N, {width}J)'
        if array.ndim == 2 and each % width == 0 or array.ndim == 3 and array.shape[2] == width:
            return array.reshape(len(array), -1, width)
    elif key.startswith('focal_len') and array.size <= width:  # one camera for all samples
        return np.tile(array.ravel(), (n_samples, width // array.size))
    else:
        expected = '(N, 3, 3) or (N, 9)' if key == 'rot' else f'(N, {width})'
        if array.ndim > 1 and each == width:
            return array.reshape(-1, width)
    raise ValueError(f'key {key}: found shape {array.shape}, expected {expected}')


def make_people() -> None:
    """Write synthetic people to train and to test on, unless the folder holds a file of the lab."""
    if any(Path(name).exists() for name in LAB_FILES):
        return
    save_pickle(TRAIN_FILE, sample(N_TRAIN, seed=0))
    save_pickle(TEST_FILE, sample(N_TEST, seed=1))
    print(f'no data here: wrote synthetic {TRAIN_FILE} and {TEST_FILE}, of different people')


def split_blocks(data: dict) -> tuple[dict, dict]:
    """Hold out five whole blocks of the recording, 5 %, for validation.

    Neighbouring frames are nearly equal; a random split would leak. Raises ValueError for fewer
    than 3 samples.
    """
    n_samples = len(data['joint_2d_1'])
    if n_samples < 3:
        raise ValueError(f'found {n_samples} samples, expected at least 3: two to train on and '
                         f'one to validate')
    n_blocks, every = min(n_samples, 100), min(n_samples, 20)
    block = np.arange(n_samples) * n_blocks // n_samples  # number of each sample's block
    held_out = block % every == every // 2
    return tuple({key: array[rows] for key, array in data.items()}
                 for rows in (~held_out, held_out))


# ---- the camera ---------------------------------------------------------------------------------

def find_camera(data: dict) -> tuple[dict, str]:
    """Find the signed focal lengths of camera 1; return the data with them, and a summary.

    Takes arrays of `load` or of `prepare_views`. Sets focal_len_1 and adds the `residual`
    (N, J, 2), joint_2d_1 minus the projected joints. Drops samples whose root is not at distance
    about 1. Drops samples whose residual exceeds half the spread of the points, unless they are
    more than 5 %: then no camera explains the points, and there is no `residual`. Raises ValueError
    as `check_root` does, if the root is wrong in more than 5 %, and for people who are upside down
    or mirrored.
    """
    joint_3d, joint_2d = data.get('triangulated', data.get('joint_3d')), data['joint_2d_1']
    with np.errstate(all='ignore'):  # bad samples overflow or divide by 0; they are dropped
        check_root(joint_3d)
        if 'triangulated' not in data:
            data = data | {'focal_len_1': find_focal(data)}
        residual = joint_2d - project(joint_3d, data['focal_len_1'])
        error = np.sqrt(np.square(residual).mean(axis=(1, 2)))
        good = error < .5 * spread(joint_2d)
        distance = np.linalg.norm(residual, axis=-1)
    far, (fx, fy) = wrong_distance(joint_3d), np.median(data['focal_len_1'], axis=0)
    if far.mean() > .05:
        raise ValueError(f'key joint_3d: found {far.sum()} of {len(far)} samples whose root is not '
                         f'at distance about 1, the first in row {far.argmax()}')
    wrong = wrong_people(joint_3d, (fx, fy))
    if wrong:
        raise ValueError(f'keys joint_3d, joint_2d_1: found {wrong}, expected x right and y up in '
                         f'joint_3d')
    explained = good.mean() >= .95
    keep = ~far & good if explained else ~far
    summary = (f'x = {fx:.4f} X / -Z, y = {fy:.4f} Y / -Z, mean reprojection error '
               f'{distance[keep].mean():.1e}')
    if not explained:
        summary += '; too large for any camera, so no augmentation'
    else:
        data = data | {'residual': residual}
    if not keep.all():
        rows = data.get('row', np.arange(len(keep)))[~keep]
        summary += f'; {len(rows)} samples left out that do not fit, rows {some_rows(rows)}'
    return {key: array[keep] for key, array in data.items()}, summary
