"""The lab's dictionaries of joints: load and check them, find their camera, prepare two views.

The frame and the keys are those of common/camera.py and README.md: the camera is at the origin and
looks down -z, y is up, and the root of the skeleton is at (0, 0, -1).
"""
from pathlib import Path

import numpy as np

from common.camera import (ROOT, face_root, fit_focal, project, ray_angle, ray_gap, spread,
                           triangulate)
from common.files import numbers, one_line, save_pickle
from common.people import sample
from common.pickles import read_pickle

TRAIN_FILE, TEST_FILE = 'data_train_lift.pkl', 'data_test_lift.pkl'
WEAK_FILE = 'data_train.pkl'
LAB_FILES = (TRAIN_FILE, TEST_FILE, WEAK_FILE, 'data_test.pkl')
N_TRAIN, N_TEST = 32_000, 5_000  # synthetic poses

WIDTHS = {'joint_2d_1': 2, 'joint_2d_2': 2, 'joint_3d': 3, 'joint_detected': 3, 'rot': 9,
          'transl': 3, 'focal_len_1': 2, 'focal_len_2': 2}
SUPERVISED = ('joint_2d_1', 'joint_3d')
TWO_VIEWS = ('joint_2d_1', 'joint_2d_2', 'rot', 'transl', 'focal_len_1', 'focal_len_2')


# ---- the dictionary -----------------------------------------------------------------------------

def load(path, need=SUPERVISED) -> dict[str, np.ndarray]:
    """Read and check a pickled dictionary; return contiguous float32 arrays.

    joint_2d_1, joint_2d_2 (N, J, 2); joint_3d (N, J, 3); rot (N, 9); transl (N, 3); focal_len_1,
    focal_len_2 (N, 2). Other keys are ignored; `need` begins with joint_2d_1. Raises OSError for a
    file that cannot be opened, and ValueError for a wrong one: a line with file, key, what was
    found and what was expected.
    """
    raw = read_pickle(path)
    try:
        return check(raw, need)
    except ValueError as error:
        raise ValueError(f'{path}: {one_line(error)}') from error


def check(raw: dict, need) -> dict[str, np.ndarray]:
    """Check a dictionary as `load` does; raises ValueError without the file's name."""
    for key in need:
        if key not in raw:
            raise ValueError(f'key {key} is missing: found {", ".join(map(str, raw)) or "none"}, '
                             f'expected {", ".join(need)}')
    data = {}
    for key in WIDTHS:  # joint_2d_1 is the first
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
                             f'R R^T = 1 and det R = 1')
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
    """Split into training and validation: five whole blocks of the recording, 5 %, validate.

    Neighbouring frames are nearly equal; a random split would leak. Raises ValueError for fewer
    than 3 samples.
    """
    n_samples = len(data['joint_2d_1'])
    if n_samples < 3:
        raise ValueError(f'found {n_samples} samples, expected at least 3: two to train on and '
                         f'one to validate')
    n_blocks, every = min(n_samples, 100), min(n_samples, 20)
    held_out = np.arange(n_samples) * n_blocks // n_samples % every == every // 2
    return tuple({key: array[rows] for key, array in data.items()}
                 for rows in (~held_out, held_out))


# ---- the camera: which way the axes of a file point ---------------------------------------------

def find_sign(data: dict) -> np.ndarray:
    """Find the signs (2,) of the file's axes x and y.

    They are those that reproject joint_3d or, without it, those with which the rays of the two
    views meet.
    """
    if 'joint_3d' in data:
        return np.where(fit_focal(data['joint_3d'], data['joint_2d_1']) < 0, -1, 1)
    signs = np.array([(1, 1), (1, -1), (-1, 1), (-1, -1)])
    return min(signs, key=lambda sign: np.median(ray_gap(with_signs(data, sign))))


def with_signs(views: dict, sign: np.ndarray) -> dict:
    """Return the views with focal lengths of these signs (2,)."""
    return views | {key: views[key] * sign.astype(np.float32)
                    for key in ('focal_len_1', 'focal_len_2')}


def find_focal(data: dict) -> np.ndarray:
    """Return signed focal lengths (N, 2) of view 1.

    They are the file's own or, if it has none that reprojects about as well, fitted to all samples.
    """
    fitted = fit_focal(data['joint_3d'], data['joint_2d_1']).astype(np.float32)
    fitted = np.tile(fitted, (len(data['joint_3d']), 1))
    own = np.copysign(data.get('focal_len_1', fitted), fitted)

    def error(focal):
        return np.median(np.abs(project(data['joint_3d'], focal) - data['joint_2d_1']))

    return own if error(own) <= 1.1 * error(fitted) else fitted


def check_root(joint_3d: np.ndarray) -> None:
    """Raise ValueError if joints (N, J, 3) contain the root, or it is not at (0, 0, -1)."""
    joint_3d = joint_3d[::len(joint_3d) // 10_000 + 1]
    depth, extent = -np.median(joint_3d[..., 2]), np.ptp(joint_3d[..., :2], axis=1).mean()
    if not .75 < depth < 1.33:
        seems = ('in the frame of OpenCV (y down, z forward): multiply y and z by -1'
                 if -1.33 < depth < -.75 else
                 'about the root: divide by its distance from the camera, turn y up and z to the '
                 'camera, then add (0, 0, -1)'
                 if abs(depth) < extent else 'in another unit: divide by the distance of the root')
        raise ValueError(f'key joint_3d: found joints at a depth of {depth:.3g} (median), expected '
                         f'about 1, with the root at (0, 0, -1); they seem to be {seems}')
    at_root = np.quantile(np.linalg.norm(joint_3d - ROOT, axis=-1), .95, axis=0) < 1e-3
    if at_root.any():
        raise ValueError(f'found joint {at_root.argmax()} always at (0, 0, -1), it is the root: '
                         f'it has no error, expected it left out of all keys')


def find_camera(data: dict) -> tuple[dict, str]:
    """Find how camera 1 projects the joints; return the data with it, and a summary.

    Takes arrays of `load` or of `prepare_views`. Sets signed focal_len_1 and adds the `residual`
    (N, J, 2) that the camera leaves of joint_2d_1. Drops samples whose residual exceeds half the
    spread of the points, if they are at most 5 %; if there are more, no camera explains the points
    and there is no `residual`. Raises ValueError as `check_root` does.
    """
    joint_3d, joint_2d = data.get('triangulated', data.get('joint_3d')), data['joint_2d_1']
    with np.errstate(all='ignore'):  # joints in the plane of the camera, points at 1e20
        check_root(joint_3d)
        if 'triangulated' not in data:
            data = data | {'focal_len_1': find_focal(data)}
        residual = joint_2d - project(joint_3d, data['focal_len_1'])
        error = np.sqrt(np.square(residual).mean(axis=(1, 2)))
        good = error < .5 * spread(joint_2d)
        distance = np.linalg.norm(residual, axis=-1)
    explained, (fx, fy) = good.mean() >= .95, np.median(data['focal_len_1'], axis=0)
    summary = f'x = {fx:.4f} X / -Z, y = {fy:.4f} Y / -Z, mean reprojection error '
    if not explained:
        return data, f'{summary}{distance.mean():.1e}; too large, so there are no virtual views'
    summary += f'{distance[good].mean():.1e}'
    if not good.all():
        summary += (f'; {(~good).sum()} samples that it does not explain left out, the first in '
                    f'row {good.argmin()}')
    return {key: array[good] for key, array in (data | {'residual': residual}).items()}, summary


# ---- two views ----------------------------------------------------------------------------------

LEAST_ANGLE = 2.  # degrees between the views of a sample
MOST_GAP = .2     # between the rays of a joint, over the spread of the joints


@np.errstate(over='ignore', invalid='ignore')  # points at 1e20, which find_camera drops
def prepare_views(data: dict) -> tuple[dict, str]:
    """Normalise two-view data: signs, unit of transl, camera 2 facing the root.

    Takes TWO_VIEWS and any other key; never reads joint_3d. Returns the samples whose rays give
    depth, with their `triangulated` joints (N, J, 3) and camera 2 as in `face_root`, and a summary.
    Raises ValueError for views that are alike, that do not belong together, or of varying unit.
    """
    # 1. the signs of the axes with which rays meet, and the depth where they do, in some samples
    some = {key: data[key][::len(data['rot']) // 4000 + 1] for key in TWO_VIEWS}
    sign, gap, depths = meeting(some)
    data = with_signs(data, sign)
    # 2. refuse views that give no depth; drop a few such samples
    angle = ray_angle(data)
    check_views(some, np.median(angle), gap, depths)
    keep = angle > LEAST_ANGLE
    data = {key: array[keep] for key, array in data.items()}
    # 3. the root is at distance 1, so the depth of the joints is the unit of transl
    unit = np.median(depths)
    unit = 1 if abs(unit - 1) < .05 else unit
    data['transl'] = data['transl'] / np.float32(unit)
    # 4. joints are where the rays meet, and camera 2 looks at the root
    data = face_root(data | {'triangulated': triangulate(data)})

    summary = (f'{np.median(angle):.0f} degrees to each other, rays meet within {gap:.1g} of the '
               f'spread of the joints (medians), signs {sign[0]:+} {sign[1]:+}')
    summary += f'; transl divided by its unit, {unit:.4g}' if unit != 1 else ''
    summary += f'; {(~keep).sum()} samples of nearly parallel rays left out' * (not keep.all())
    return data, summary


def meeting(views: dict) -> tuple[np.ndarray, float, np.ndarray]:
    """Return the signs of the axes, the median gap between rays over the spread of the joints, and
    the mean depth (N,) at which rays meet."""
    sign = find_sign(views)
    views = with_signs(views, sign)
    depths = -triangulate(views)[..., 2].mean(axis=1)
    image = views['joint_2d_1'] / views['focal_len_1'][:, None]
    size = spread(image) * abs(np.median(depths))
    return sign, np.median(ray_gap(views)) / max(size, 1e-12), depths


def check_views(views: dict, angle: float, gap: float, depths: np.ndarray) -> None:
    """Raise ValueError for views that give no depth, do not meet, or are of varying unit."""
    low, middle, high = np.quantile(depths, (.25, .5, .75))
    if angle <= LEAST_ANGLE:
        raise ValueError(f'keys rot, transl: found rays at {angle:.2g} degrees to each other '
                         f'(median), expected more than {LEAST_ANGLE:g}: rays so nearly parallel '
                         f'give no depth')
    if gap > MOST_GAP or not middle > 0:
        where = ('behind the camera or in it' if gap <= MOST_GAP else
                 f'only within {gap:.2g} times the spread of the joints (median)')
        raise ValueError(f'keys rot, transl: found rays of the two views that meet {where}, '
                         f'expected V2 = R V1 + t{other_reading(views)}')
    if high - low > .1 * middle:
        raise ValueError(f'key transl: found joints {low:.3g} to {high:.3g} from the camera (half '
                         f'of the samples), expected the distance of the root as unit in each')


def other_reading(views: dict) -> str:
    """Name a way to read rot and transl with which rays would meet before the camera, if any."""
    rot, transl = views['rot'].reshape(-1, 3, 3), views['transl']
    transposed, down = rot.mT.reshape(-1, 9), np.float32([1, -1, -1])
    opencv = (down[:, None] * rot * down).reshape(-1, 9), down * transl
    for name, r, t in (('rot transposed', transposed, transl),
                       ('transl of the other sign', views['rot'], -transl),
                       ('both from the frame of OpenCV (y and z times -1)', *opencv),
                       ('rot and transl from view 2 to view 1', transposed,
                        -np.vecmat(transl, rot)),
                       ('transl from view 2 to view 1', views['rot'], -np.matvec(rot, transl))):
        (mirrored, _), gap, depths = meeting(views | {'rot': r, 'transl': t})
        if gap <= MOST_GAP and np.median(depths) > 0 and mirrored > 0:
            return f'; with {name} they would meet within {gap:.1g}'
    return ''
