"""The data: dictionaries of joints, the camera that relates 2D and 3D, and the embedded default.

Frame: the camera is at the origin, looks down -z, y is up; the root of the skeleton is at
(0, 0, -1), so the unit is the distance from the camera to the root. x = fx X / -Z, y = fy Y / -Z.
The second view is V2 = R V1 + t.
"""
import io
import math
import os
import pickle
import pickletools
import re
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import numpy as np

# ---- the dictionary -----------------------------------------------------------------------------

TRAIN_FILE, TEST_FILE = 'data_train_lift.pkl', 'data_test_lift.pkl'
WEAK_FILE = 'data_train.pkl'
LAB_FILES = (TRAIN_FILE, TEST_FILE, WEAK_FILE, 'data_test.pkl')
WIDTHS = {'joint_2d_1': 2, 'joint_2d_2': 2, 'joint_3d': 3, 'joint_detected': 3, 'rot': 9,
          'transl': 3, 'focal_len_1': 2, 'focal_len_2': 2}
SUPERVISED = ('joint_2d_1', 'joint_3d')
TWO_VIEWS = ('joint_2d_1', 'joint_2d_2', 'rot', 'transl', 'focal_len_1', 'focal_len_2')


def load(path, need=SUPERVISED) -> dict[str, np.ndarray]:
    """Reads and checks a pickled dictionary; returns contiguous float32 arrays.

    joint_2d_1, joint_2d_2 (N, J, 2); joint_3d (N, J, 3); rot (N, 9); transl (N, 3); focal_len_1,
    focal_len_2 (N, 2). Unknown keys are left out; `need` begins with joint_2d_1. Raises OSError for
    a file that cannot be opened, and ValueError for one that is wrong: a line with file, key, what
    was found and what was expected.
    """
    raw = read_pickle(path, WIDTHS)
    try:
        return check(raw, need)
    except ValueError as error:
        raise ValueError(f'{path}: {one_line(error)}') from error


def check(raw: dict, need) -> dict[str, np.ndarray]:
    """What `load` does with the dictionary of a file; raises ValueError without the file's name."""
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


def numbers(key: str, value) -> np.ndarray:
    """Arrays, lists of arrays and arrays of arrays as float32, all finite, at least one sample."""
    try:
        array = np.asarray(value)
        if array.dtype.kind not in 'biuf':  # strings, dates, complex numbers, None, objects
            raise TypeError(array.dtype)
        with np.errstate(over='ignore'):  # what overflows is infinite, and refused below
            array = np.ascontiguousarray(array, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f'key {key}: found a {type(value).__name__} that makes no array, expected '
                         f'numbers, as many for each sample') from error
    if array.size == 0:
        raise ValueError(f'key {key}: found shape {array.shape}, expected at least one sample')
    bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if bad.any():
        raise ValueError(f'key {key}: found NaN or infinity in {bad.sum()} of {len(bad)} rows, '
                         f'first in row {bad.argmax()}, expected finite numbers')
    return array


def _shape(key: str, array: np.ndarray, n_samples: int) -> np.ndarray:
    """The array in the one shape that `load` returns."""
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


def save(path, data: dict) -> None:
    """Pickles a dictionary; the file is whole or not there."""
    with atomic(path) as file:
        pickle.dump(data, file)


@contextmanager
def atomic(path, mode: str = 'wb', **options):
    """A file open to write, beside path; it takes path's place only when all went well.

    A path that is a link stays one. Raises OSError that names the path, for a full disk too.
    """
    target = Path(os.path.realpath(path))
    temporary = Path(f'{target}.{os.getpid()}.tmp')
    try:
        with open(temporary, mode, **options) as file:
            yield file
        temporary.replace(target)
    except OSError as error:
        raise type(error)(f'{path}: {error.strerror}; what was there before is whole') from error
    finally:
        if temporary.exists():
            temporary.unlink()


def split_blocks(data: dict) -> tuple[dict, dict]:
    """Training and validation: five whole blocks, 5 % of the recording, go to validation.

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


# ---- the camera and two views -------------------------------------------------------------------

LEAST_ANGLE = 2.  # degrees between the views of a sample
MOST_GAP = .2     # between the rays of a joint, over the spread of the joints


def project(joint_3d: np.ndarray, focal_len: np.ndarray) -> np.ndarray:
    """Joints (N, J, 3) in a camera's frame to its image (N, J, 2); focal_len (N, 2) or (2,).

    Of arrays or tensors. A negative focal length is an axis that points the other way.
    """
    return focal_len[..., None, :] * joint_3d[..., :2] / -joint_3d[..., 2:]


def second_view(joint_3d: np.ndarray, rot: np.ndarray, transl: np.ndarray) -> np.ndarray:
    """Joints (N, J, 3) from camera 1's frame to camera 2's: V2 = R V1 + t; (N, 9) and (N, 3)."""
    return joint_3d @ rot.reshape(-1, 3, 3).mT + transl[:, None]


def fit_focal(joint_3d: np.ndarray, joint_2d: np.ndarray) -> np.ndarray:
    """Focal lengths (2,) with which joint_3d (N, J, 3) reprojects onto joint_2d (N, J, 2).

    Least squares in each sample, then the median over samples, so that a few wrong ones do not
    matter; the signs are those of the file's axes.
    """
    with np.errstate(all='ignore'):  # joints in the plane of the camera
        ray = project(joint_3d, np.ones(2, dtype=joint_3d.dtype))
        focal = (ray * joint_2d).sum(axis=1, dtype=float) / np.square(ray).sum(axis=1, dtype=float)
    return np.nanmedian(focal, axis=0)


def _rays(data: dict) -> tuple[np.ndarray, np.ndarray]:
    """Directions (N, J, 3) from both cameras to each joint, in view 2's frame."""
    def rays(view):
        plane = data[f'joint_2d_{view}'] / data[f'focal_len_{view}'][:, None]
        return np.concatenate([plane, np.full_like(plane[..., :1], -1)], axis=-1)

    return second_view(rays(1), data['rot'], np.zeros_like(data['transl'])), rays(2)


def ray_gap(data: dict) -> np.ndarray:
    """Distance (N, J) between the rays of each joint from both views, in the unit of transl.

    It is zero for exact views, and needs no joint_3d.
    """
    normal = np.cross(*_rays(data))
    offset = np.abs(np.vecdot(normal, data['transl'][:, None]))
    return offset / np.linalg.norm(normal, axis=-1).clip(min=1e-12)


def ray_angle(data: dict) -> np.ndarray:
    """Angle (N,) between the rays of both views, the median over joints, 0 to 90 degrees."""
    one, two = (ray / np.linalg.norm(ray, axis=-1, keepdims=True) for ray in _rays(data))
    sine = np.linalg.norm(np.cross(one, two), axis=-1)
    return np.degrees(np.arcsin(np.median(sine, axis=1).clip(max=1)))


def _signed(views: dict, sign: np.ndarray) -> dict:
    """The views with focal lengths of these signs (2,)."""
    return views | {key: views[key] * sign.astype(np.float32)
                    for key in ('focal_len_1', 'focal_len_2')}


def find_sign(data: dict) -> np.ndarray:
    """Signs (2,) of the file's axes x and y: those that reproject joint_3d, or without it those
    with which the rays of the two views meet."""
    if 'joint_3d' in data:
        return np.where(fit_focal(data['joint_3d'], data['joint_2d_1']) < 0, -1, 1)
    signs = np.array([(1, 1), (1, -1), (-1, 1), (-1, -1)])
    return min(signs, key=lambda sign: np.median(ray_gap(_signed(data, sign))))


def find_focal(data: dict) -> np.ndarray:
    """Signed focal lengths (N, 2) of view 1: the file's own, or one fitted to all samples where the
    file has none or none that reprojects about as well."""
    fitted = fit_focal(data['joint_3d'], data['joint_2d_1']).astype(np.float32)
    fitted = np.tile(fitted, (len(data['joint_3d']), 1))
    own = np.copysign(data.get('focal_len_1', fitted), fitted)

    def error(focal):
        return np.median(np.abs(project(data['joint_3d'], focal) - data['joint_2d_1']))

    return own if error(own) <= 1.1 * error(fitted) else fitted


def check_root(joint_3d: np.ndarray) -> None:
    """Raises ValueError where joints (N, J, 3) hold the root, or it is not at (0, 0, -1)."""
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
    distance = np.linalg.norm(joint_3d - np.float32([0, 0, -1]), axis=-1)
    at_root = np.quantile(distance, .95, axis=0) < 1e-3
    if at_root.any():
        raise ValueError(f'found joint {at_root.argmax()} always at (0, 0, -1), it is the root: '
                         f'it has no error, expected it left out of all keys')


def settle_camera(data: dict) -> tuple[dict, str]:
    """Settles how the camera of view 1 projects the joints, and says what it explains.

    Takes arrays of `load` or of `settle_views`. Sets signed focal_len_1 and adds the `residual`
    (N, J, 2) that the camera leaves of joint_2d_1. Up to 5 % of samples of which it leaves half
    are left out; where there are more, no camera explains the points, and there is no `residual`.
    Raises ValueError for what `check_root` refuses.
    """
    joint_3d, joint_2d = data.get('triangulated', data.get('joint_3d')), data['joint_2d_1']
    with np.errstate(all='ignore'):  # joints in the plane of the camera, points at 1e20
        check_root(joint_3d)
        if 'triangulated' not in data:
            data = data | {'focal_len_1': find_focal(data)}
        residual = joint_2d - project(joint_3d, data['focal_len_1'])
        error = np.sqrt(np.square(residual).mean(axis=(1, 2)))
        good = error < .5 * _spread(joint_2d)
        distance = np.linalg.norm(residual, axis=-1)
    explained, (fx, fy) = good.mean() >= .95, np.median(data['focal_len_1'], axis=0)
    report = f'x = {fx:.4f} X / -Z, y = {fy:.4f} Y / -Z, mean reprojection error '
    if not explained:
        return data, f'{report}{distance.mean():.1e}; too large, so there are no virtual views'
    report += f'{distance[good].mean():.1e}'
    if not good.all():
        report += (f'; {(~good).sum()} samples that it does not explain left out, the first in row '
                   f'{good.argmin()}')
    return {key: array[good] for key, array in (data | {'residual': residual}).items()}, report


def _spread(points: np.ndarray) -> float:
    """Standard deviation of points (N, J, 2), by their median deviation: outliers do not matter."""
    return np.median(np.abs(points - np.median(points, axis=(0, 1)))) / .6745


def triangulate(data: dict) -> np.ndarray:
    """Joints (N, J, 3) in view 1's frame, in the middle where the rays of both views are closest.

    No point has a smaller sum of squared distances to the two. In closed form: seen from camera 2,
    c + a r1 and b r2 are closest with a n.n = (r2 x c).n, b n.n = (r1 x c).n, n = r1 x r2. On
    parallel rays the joint is put on the first, as far away as the root.
    """
    one, two = (ray.astype(float) for ray in _rays(data))
    transl = data['transl'][:, None].astype(float)  # where view 2 sees the camera of view 1
    normal = np.cross(one, two)
    square = np.vecdot(normal, normal)[..., None]
    a, b = (np.vecdot(np.cross(ray, transl), normal)[..., None] / square.clip(min=1e-12)
            for ray in (two, one))
    middle = (transl + a * one + b * two) / 2
    middle = np.where(square > 1e-10, middle, transl + one)
    return ((middle - transl) @ data['rot'].reshape(-1, 3, 3)).astype(np.float32)


def face_root(data: dict) -> dict:
    """The data with camera 2 rotated to look at the root, its focal lengths those of view 1.

    A rotation about the camera's centre changes the image alone and needs no depth, so this is
    exact; after it a network of view 1 knows view 2. Adds the `distance` (N,) of the root from
    camera 2.
    """
    root, rot = np.float32([0, 0, -1]), data['rot'].reshape(-1, 3, 3)
    centre = rot @ root + data['transl']
    distance = np.linalg.norm(centre, axis=-1, keepdims=True)
    turn = smallest_rotation(centre / distance, root)
    _, rays = _rays(data)
    return data | {'joint_2d_2': project(rays @ turn.mT, data['focal_len_1']),
                   'focal_len_2': data['focal_len_1'], 'rot': (turn @ rot).reshape(-1, 9),
                   'transl': np.matvec(turn, data['transl']), 'distance': distance[:, 0]}


def smallest_rotation(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Rotations (N, 3, 3) of unit vectors (N, 3) onto one unit vector (3,), about their normal.

    As two half turns, the first about the line in the middle m, the second about the end e:
    R = (2 e e^T - 1) (2 m m^T - 1), which is Rodrigues' formula without its angle.
    """
    middle = start + end
    middle /= np.linalg.norm(middle, axis=-1, keepdims=True)
    first = 2 * middle[:, :, None] * middle[:, None] - np.eye(3)
    second = 2 * np.outer(end, end) - np.eye(3)
    return (second @ first).astype(np.float32)


@np.errstate(over='ignore', invalid='ignore')  # points at 1e20, which settle_camera leaves out
def settle_views(data: dict) -> tuple[dict, str]:
    """Settles what must hold before depth can be learnt from two views, and says how they lie.

    Takes TWO_VIEWS and whatever else is there for each sample; never looks at joint_3d. Returns
    the samples whose rays give depth, with focal lengths of the sign and transl in the unit that
    the rays tell, camera 2 as in `face_root`, and their `triangulated` joints (N, J, 3). Raises
    ValueError for views that are alike, that do not belong together, or whose unit changes.
    """
    # 1. the sign of the axes with which rays meet, and where they do, in some of the samples
    some = {key: data[key][::len(data['rot']) // 4000 + 1] for key in TWO_VIEWS}
    sign, gap, depths = _meeting(some)
    data = _signed(data, sign)
    # 2. views that give no depth are refused, a few such samples left out
    angle = ray_angle(data)
    _check_views(some, np.median(angle), gap, depths)
    keep = angle > LEAST_ANGLE
    data = {key: array[keep] for key, array in data.items()}
    # 3. the root lies at distance 1, so the depth of the joints is the unit of transl
    unit = np.median(depths)
    unit = 1 if abs(unit - 1) < .05 else unit
    data['transl'] = data['transl'] / np.float32(unit)
    # 4. joints are where the rays meet, and camera 2 looks at the root
    data = face_root(data | {'triangulated': triangulate(data)})

    report = (f'{np.median(angle):.0f} degrees to each other, rays meet within {gap:.1g} of the '
              f'spread of the joints (medians), signs {sign[0]:+} {sign[1]:+}')
    report += f'; transl divided by its unit, {unit:.4g}' if unit != 1 else ''
    report += f'; {(~keep).sum()} samples of nearly parallel rays left out' * (not keep.all())
    return data, report


def _check_views(views: dict, angle: float, gap: float, depths: np.ndarray) -> None:
    low, middle, high = np.quantile(depths, (.25, .5, .75))
    if angle <= LEAST_ANGLE:
        raise ValueError(f'keys rot, transl: found rays at {angle:.2g} degrees to each other '
                         f'(median), expected more than {LEAST_ANGLE:g}: rays so nearly parallel '
                         f'give no depth')
    if gap > MOST_GAP or not middle > 0:
        where = ('behind the camera or in it' if gap <= MOST_GAP else
                 f'only within {gap:.2g} times the spread of the joints (median)')
        raise ValueError(f'keys rot, transl: found rays of the two views that meet {where}, '
                         f'expected V2 = R V1 + t{_other_reading(views)}')
    if high - low > .1 * middle:
        raise ValueError(f'key transl: found joints {low:.3g} to {high:.3g} from the camera (half '
                         f'of the samples), expected the distance of the root as unit in each')


def _meeting(views: dict) -> tuple[np.ndarray, float, np.ndarray]:
    """Signs of the axes, the median gap between rays over the spread of the joints, and the mean
    depth (N,) at which they meet."""
    sign = find_sign(views)
    views = _signed(views, sign)
    depths = -triangulate(views)[..., 2].mean(axis=1)
    image = views['joint_2d_1'] / views['focal_len_1'][:, None]
    spread = _spread(image) * abs(np.median(depths))
    return sign, np.median(ray_gap(views)) / max(spread, 1e-12), depths


def _other_reading(views: dict) -> str:
    """A way to read rot and transl with which the rays would meet before the camera, if any."""
    rot, transl = views['rot'].reshape(-1, 3, 3), views['transl']
    transposed, down = rot.mT.reshape(-1, 9), np.float32([1, -1, -1])
    opencv = (down[:, None] * rot * down).reshape(-1, 9), down * transl
    for name, r, t in (('rot transposed', transposed, transl),
                       ('transl of the other sign', views['rot'], -transl),
                       ('both from the frame of OpenCV (y and z times -1)', *opencv),
                       ('rot and transl from view 2 to view 1', transposed,
                        -np.vecmat(transl, rot)),
                       ('transl from view 2 to view 1', views['rot'], -np.matvec(rot, transl))):
        (mirrored, _), gap, depths = _meeting(views | {'rot': r, 'transl': t})
        if gap <= MOST_GAP and np.median(depths) > 0 and mirrored > 0:
            return f'; with {name} they would meet within {gap:.1g}'
    return ''


JOINTS = ('RHip', 'RKnee', 'RAnkle', 'LHip', 'LKnee', 'LAnkle', 'Spine', 'Neck', 'Head',
          'LShoulder', 'LElbow', 'LWrist', 'RShoulder', 'RElbow', 'RWrist')
BONES = [(15, 0), (0, 1), (1, 2), (15, 3), (3, 4), (4, 5), (15, 6), (6, 7), (7, 8),
         (7, 9), (9, 10), (10, 11), (7, 12), (12, 13), (13, 14)]  # (parent, child); 15 is the root


# A detector shows these points, and so no spine, neck, top of the head or root. Those lie about
# where a sum of other points is; its weights, of the left and of the right point each.
LIMBS = tuple(range(6)) + tuple(range(9, 15))
POINTS = ('Nose', 'LEar', 'REar', *(JOINTS[limb] for limb in LIMBS))
BETWEEN = {'Spine': {'Hip': .15, 'Shoulder': .35}, 'Neck': {'Shoulder': .5},
           'Head': {'Ear': .925, 'Shoulder': -.425}, 'Root': {'Hip': .435, 'Shoulder': .065}}


def joints_of(points: np.ndarray) -> np.ndarray:
    """Joints (N, 16, D) as in JOINTS, the root last, of a detector's points (N, 15, D) as in
    POINTS."""
    return POINT_WEIGHTS.astype(points.dtype) @ points


def _point_weights() -> np.ndarray:
    rows = (BETWEEN.get(joint, {joint: 1}) for joint in (*JOINTS, 'Root'))
    return np.array([[row.get(point, row.get(point[1:], 0)) for point in POINTS] for row in rows])


POINT_WEIGHTS = _point_weights()  # (16, 15)


def find_bones(joint_3d: np.ndarray, known=()) -> list[tuple[int, int]]:
    """The bones (parent, child) of skeletons (N, J, 3); the root, at (0, 0, -1), is joint J.

    Bones are the pairs that stay close: short, and of hardly varying length. They are the smallest
    tree that spans all joints (Prim, 1957). Bones `known` are taken where they fit about as well.
    """
    joints = joint_3d[::len(joint_3d) // 2000 + 1]
    root = np.broadcast_to([0., 0., -1.], (len(joints), 1, 3))
    joints = np.concatenate([joints, root], axis=1)                          # (N, J + 1, 3)
    lengths = np.linalg.norm(joints[:, :, None] - joints[:, None], axis=-1)  # (N, J + 1, J + 1)
    lengths /= lengths.mean(axis=(1, 2), keepdims=True)  # those farther away are no smaller
    cost = lengths.mean(axis=0) + 4 * lengths.std(axis=0)
    bones, reached, rest = [], [len(cost) - 1], list(range(len(cost) - 1))
    while rest:
        parent, child = min(product(reached, rest), key=lambda pair: cost[pair])
        bones.append((parent, child))
        reached.append(child)
        rest.remove(child)
    total = sum(cost[pair] for pair in bones)
    most = 1.1 + .45 / len(joints) ** .5  # of few poses it is not known which lengths vary
    fits = len(known) == len(bones) and sum(cost[pair] for pair in known) <= most * total
    return list(known) if fits else bones


# ---- synthetic people: you need not read this to use the lab ------------------------------------

N_TRAIN, N_TEST = 32_000, 5_000
POSES_PER_PERSON = 20

# Lengths in legs (hip to ankle), for two ways to place joints: at the centres of rotation that
# markers give, the root behind them, and further inside as animation rigs do. A person is close to
# one of them, or between; the third figure is the standard deviation over people.
LENGTHS = {'hip_side': (.1, .08, .008), 'hip_drop': (.1, .03, .015), 'hip_ahead': (.065, 0, .02),
           'thigh': (.5, .49, .015), 'shank': (.5, .51, .015), 'spine': (.28, .31, .015),
           'neck': (.12, .205, .015), 'head': (.325, .325, .02),
           'shoulder_side': (.22, .128, .012), 'shoulder_rise': (.03, -.04, .04),
           'upper_arm': (.34, .305, .015), 'forearm': (.23, .28, .012)}

# Nose, left and right ear of an adult from the top of the head: left, up and ahead in metres.
FACE = np.array([(0, -.145, .11), (.075, -.13, .01), (-.075, -.13, .01)])

# Ranges of motion in degrees: American Academy of Orthopaedic Surgeons, "Joint Motion", 1965.
RANGES = {'hip': (-30, 120), 'abduction': (-30, 45), 'hip_turn': (-45, 45), 'knee': (0, 135),
          'flexion': (-25, 80), 'side': (-35, 35), 'twist': (-45, 45),
          'head': (-45, 45), 'head_side': (-45, 45), 'elevation': (-60, 180),
          'arm_turn': (-90, 70), 'elbow': (0, 150)}

# Thigh from the vertical and knee flexion, in degrees, at tenths of a cycle from heel strike:
# walking after Winter, "Biomechanics and Motor Control of Human Movement", 2009; running after
# Novacheck, "The biomechanics of running", Gait and Posture, 1998. Then flexion of trunk and elbow.
GAITS = (((30, 28, 18, 8, -2, -10, -8, 8, 24, 32), (5, 17, 15, 7, 5, 12, 38, 62, 50, 18), 4, 22),
         ((35, 28, 12, -4, -10, -2, 20, 40, 48, 42), (20, 42, 40, 25, 30, 70, 105, 100, 60, 25),
          10, 80))

# Postures: how often; means of the angles in degrees; their standard deviations, in this order:
# thigh from the vertical and knee of one leg, of the other leg, tilt of the pelvis, trunk flexion.
LEGS = np.array([
    (6, 4, 8, 4, 8, 0, 3, 8, 8, 8, 8, 6, 8),                # standing
    (2, 20, 40, 20, 40, 10, 15, 12, 15, 12, 15, 8, 12),     # knees bent
    (1, 75, 105, 75, 105, 20, 25, 15, 20, 15, 20, 10, 15),  # squatting
    (1, 85, 85, 85, 85, -5, 10, 12, 20, 12, 20, 8, 12),     # sitting
    (1, 85, 90, -5, 100, 5, 10, 15, 15, 15, 15, 8, 12),     # kneeling on one knee
    (.5, 5, 100, 5, 100, 5, 10, 12, 20, 12, 20, 8, 12),     # kneeling on both
    (1, 10, 15, 10, 15, 45, 35, 12, 12, 12, 12, 20, 15),    # bending down
    (1.5, 45, 50, -15, 25, 5, 10, 15, 20, 15, 20, 8, 12),   # lunging, climbing stairs
    (1.5, 40, 40, 0, 15, -5, 8, 25, 30, 25, 30, 10, 12)])   # kicking, stepping over
# elevation of the upper arm, its plane (0 aside, 90 ahead), inward turn, elbow
ARMS = np.array([
    (5, 10, 30, 20, 20, 12, 50, 25, 15),      # hanging
    (2, 35, 60, 30, 80, 20, 35, 25, 25),      # working before the body
    (1.5, 80, 70, 20, 35, 30, 30, 30, 30),    # reaching out
    (1, 140, 50, 0, 40, 20, 40, 35, 30),      # reaching up
    (1, 85, 10, 0, 20, 20, 20, 35, 20),       # aside
    (1.5, 50, 45, 10, 115, 30, 40, 35, 18),   # at the face, waving
    (.7, 40, -10, 60, 95, 10, 25, 15, 15),    # on the hip
    (1, 35, -80, 10, 30, 20, 25, 25, 25)])    # behind


def make_people() -> None:
    """Writes synthetic people to train and to test on, where no file of the lab lies here."""
    if any(Path(name).exists() for name in LAB_FILES):
        return
    save(TRAIN_FILE, sample(N_TRAIN, seed=0))
    save(TEST_FILE, sample(N_TEST, seed=1))
    print(f'no data here: wrote synthetic {TRAIN_FILE} and {TEST_FILE}, of different people')


def sample(n: int, seed: int) -> dict[str, np.ndarray]:
    """n synthetic poses in the two-view format of `load`, joints as in JOINTS.

    20 poses in a row are of one person; another seed is other people. Both cameras look at the
    root from anywhere around and 3.5 to 6 m away; mostly they stand a little higher.
    """
    rng = np.random.default_rng(seed)
    person = np.arange(n) // POSES_PER_PERSON
    lengths = {name: metres[person] for name, metres in _people(rng, person[-1] + 1).items()}
    angles = {name: np.clip(angle, *RANGES.get(name, (-180, 180)))
              for name, angle in _angles(rng, n).items()}
    (turn_1, distance_1), (turn_2, distance_2) = _camera(rng, n), _camera(rng, n)
    root = np.array([0, 0, -1.])
    bodies = _skeleton(angles, lengths, _faces(rng.spawn(1)[0], person))
    bodies = bodies @ turn_1.mT / distance_1[:, None, None] + root
    joint_3d, face = bodies[:, :15], bodies[:, 15:]
    rot = turn_2 @ turn_1.mT
    transl = (distance_2 / distance_1)[:, None] * root - rot @ root
    focal_len_1, focal_len_2 = rng.uniform(1.14, 1.155, (2, n, 2))
    data = {'joint_3d': joint_3d, 'joint_2d_1': project(joint_3d, focal_len_1),
            'joint_detected': np.concatenate([face, joint_3d[:, LIMBS]], axis=1),
            'joint_2d_2': project(second_view(joint_3d, rot, transl), focal_len_2),
            'rot': rot.reshape(n, 9), 'transl': transl,
            'focal_len_1': focal_len_1, 'focal_len_2': focal_len_2}
    return {key: array.astype(np.float32) for key, array in data.items()}


def walking(n: int, stride: float = 1.) -> np.ndarray:
    """Joints (n, 15, 3) in metres about the root of someone who takes two steps towards the camera
    and to its left; with a stride of 0 stands before it, the arms a little away."""
    angles = {name: 0 * angle for name, angle in _angles(np.random.default_rng(0), n).items()}
    lengths = {name: np.full(n, .87 * markers) for name, (markers, *_) in LENGTHS.items()}
    thigh, knee = (stride * np.interp(np.arange(n) / n + [[0], [.5]], np.arange(10) / 10, curve,
                                      period=1) for curve in GAITS[0][:2])
    angles['yaw'] += 35 * stride
    angles |= {'hip': thigh, 'knee': knee, 'elbow': 25 * stride + 0 * knee,
               'plane': 75 * stride + 0 * knee,
               'elevation': thigh[::-1] - 10 * stride + 35 * (1 - stride)}
    return _skeleton(angles, lengths, np.tile(FACE, (n, 1, 1)))[:, :15]


def _people(rng, n: int) -> dict[str, np.ndarray]:
    """Lengths (n,) in metres."""
    leg, inside = rng.normal(.87, .06, n), rng.beta(.25, .25, n)
    return {name: leg * rng.normal((1 - inside) * centre + inside * inner, deviation)
            for name, (centre, inner, deviation) in LENGTHS.items()}


def _faces(rng, person: np.ndarray) -> np.ndarray:
    """Nose, left and right ear (n, 3, 3) of people (n,), from the top of the head in metres, along
    the axes of the head: left, up, ahead. It turns aside."""
    own = rng.normal(0, (.004, .013, .013), (person[-1] + 1, 1, 3))
    return (FACE + own[person]) @ _turn('y', rng.normal(0, 25, len(person))).mT


def _camera(rng, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (n, 3, 3) from the room, y up, to cameras, and distances to the root in metres."""
    turn = _turn('z', rng.normal(0, 2, n)) @ _turn('x', rng.normal(11, 9, n))
    return turn @ _turn('y', rng.uniform(-180, 180, n)), rng.uniform(3.5, 6, n)


def _postures(rng, table: np.ndarray, n: int) -> np.ndarray:
    """Angles (columns, n) between two rows of a table, mostly close to one of them."""
    weights = table[:, 0] / table[:, 0].sum()
    one, other = table[rng.choice(len(table), (2, n), p=weights), 1:]
    share = rng.beta(.3, .3, (n, 1))
    mean, deviation = np.split((share * one + (1 - share) * other).T, 2)
    return rng.normal(mean, deviation)


def _stand(rng, n: int) -> tuple:
    """Postures: thigh and knee of both legs (2, 2, n), four angles of both arms (4, 2, n), tilt of
    the pelvis and flexion of the trunk (n,)."""
    *legs, tilt, flexion = _postures(rng, LEGS, n)
    legs = np.reshape(legs, (2, 2, n))
    legs = np.where(rng.random(n) < .5, legs, legs[::-1])
    arms, both = (_postures(rng, ARMS, 2 * n).reshape(4, 2, n) for _ in range(2))
    alike = rng.random(n) < .35
    return legs, np.where(alike, rng.normal(both[:, :1], 8, (4, 2, n)), arms), tilt, flexion


def _walk(rng, arms: np.ndarray, thighs, knees, trunk: float, elbow: float) -> tuple:
    """The same at any phase of a gait; some do not swing their arms but keep those given."""
    n = arms.shape[-1]
    phase, stride = rng.random(n) + [[0], [.5]], rng.uniform(.4, 1.2, n)
    thigh, knee = (stride * np.interp(phase, np.arange(10) / 10, curve, period=1)
                   for curve in (thighs, knees))
    legs = rng.normal(np.stack([thigh, knee + 4], axis=1), 6)
    swing = (thigh[::-1] - 10) * rng.uniform(0, 1.5, n)  # with the leg of the other side
    means = [swing, np.full((2, n), 75), np.full((2, n), 15), elbow + .3 * swing.clip(0)]
    swinging = rng.normal(means, np.reshape((6, 12, 18, 15), (4, 1, 1)))
    arms = np.where(rng.random((2, n)) < .65, swinging, arms)
    return legs, arms, rng.normal(3, 5, n), rng.normal(trunk, 7, n)


def _angles(rng, n: int) -> dict[str, np.ndarray]:
    """Angles in degrees that `_skeleton` takes: (n,) for the trunk, (2, n) for left and right."""
    standing = _stand(rng, n)
    going = [_walk(rng, standing[1], *gait) for gait in GAITS]
    choice = rng.choice(3, n, p=(.5, .3, .2))
    legs, arms, tilt, flexion = (np.choose(choice, part) for part in zip(standing, *going))
    small = {'list': 5, 'side': 7, 'twist': 9, 'neck': 5, 'head': 14, 'head_side': 7}  # spreads
    small_limb = {'abduction': 7, 'hip_turn': 12, 'shrug': 4, 'protraction': 6}
    angles = {name: rng.normal(0, spread, n) for name, spread in small.items()}
    angles |= {name: rng.normal(0, spread, (2, n)) for name, spread in small_limb.items()}
    angles['neck'] += 3
    angles['head'] -= .3 * flexion  # one looks ahead
    angles['abduction'] += 3
    angles['shrug'] += .2 * (arms[0] - 40).clip(0)  # a raised arm takes the shoulder along
    return angles | {'yaw': rng.uniform(-180, 180, n), 'tilt': tilt, 'flexion': flexion,
                     'hip': legs[:, 0] + tilt, 'knee': legs[:, 1], 'elevation': arms[0],
                     'plane': arms[1], 'arm_turn': arms[2], 'elbow': arms[3]}


def _turn(axis: str, degrees: np.ndarray) -> np.ndarray:
    """Right-handed rotations (..., 3, 3) about an axis by angles (...)."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    zero, one = np.zeros_like(cos), np.ones_like(cos)
    rows = {'x': ((one, zero, zero), (zero, cos, -sin), (zero, sin, cos)),
            'y': ((cos, zero, sin), (zero, one, zero), (-sin, zero, cos)),
            'z': ((cos, -sin, zero), (sin, cos, zero), (zero, zero, one))}[axis]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def _skeleton(angles: dict[str, np.ndarray], lengths: dict[str, np.ndarray],
              face: np.ndarray) -> np.ndarray:
    """Forward kinematics: joints and face (n, 18, 3) in metres, y up, the root at the origin.

    In the body's own frame x is left, y up and z ahead; at angles of zero all limbs hang down.
    `face` (n, 3, 3) is seen from the top of the head.
    """
    length = {name: metres[:, None] for name, metres in lengths.items()}

    def turn(axis, name, share=1):
        return _turn(axis, share * angles[name])

    def trunk(share):
        return pelvis @ turn('x', 'flexion', share) @ turn('z', 'side', share) @ turn(
            'y', 'twist', share)

    # frames; their column [..., 1] is where y, up or back along a limb, points to
    pelvis = turn('y', 'yaw') @ turn('x', 'tilt') @ turn('z', 'list')
    chest = trunk(1)
    head_turn = turn('x', 'head') @ turn('z', 'head_side')
    thigh = turn('x', 'hip', -1) @ turn('z', 'abduction') @ turn('y', 'hip_turn')
    shank = thigh @ turn('x', 'knee')
    girdle = turn('z', 'shrug') @ turn('y', 'protraction', -1)
    arm = turn('y', 'plane', -1) @ turn('z', 'elevation') @ turn('y', 'plane')
    arm = arm @ turn('y', 'arm_turn', -1)
    forearm = arm @ turn('x', 'elbow', -1)

    # joints; both limbs as left ones (2, n, 3), in the frames of pelvis and chest
    spine = length['spine'] * trunk(.4)[..., 1]
    neck = spine + length['neck'] * (chest @ turn('x', 'neck'))[..., 1]
    head = neck + length['head'] * (chest @ head_turn)[..., 1]
    hip = np.hstack([length['hip_side'], -length['hip_drop'], length['hip_ahead']])
    hip = np.broadcast_to(hip, thigh.shape[:-1])
    knee = hip - length['thigh'] * thigh[..., 1]
    ankle = knee - length['shank'] * shank[..., 1]
    shoulder = length['shoulder_side'] * girdle[..., 0] + length['shoulder_rise'] * girdle[..., 1]
    elbow = shoulder - length['upper_arm'] * arm[..., 1]
    wrist = elbow - length['forearm'] * forearm[..., 1]

    mirror = np.array([[1, 1, 1], [-1, 1, 1]])[:, None, None]
    legs = np.stack([hip, knee, ankle], axis=2) * mirror @ pelvis.mT
    arms = np.stack([shoulder, elbow, wrist], axis=2) * mirror @ chest.mT + neck[:, None]
    trunk_joints = np.stack([spine, neck, head], axis=1)
    face = head[:, None] + face @ (chest @ head_turn).mT
    return np.concatenate([legs[1], legs[0], trunk_joints, *arms, face], axis=1)


# ---- reading a pickle; you need not read this to use the lab ------------------------------------
# A pickle is a program that may call anything. Here it only describes: what it would call becomes
# a _Call, and arrays are made of those by functions of ours, which check them.

DEEPEST = 20    # values within values
FREE = 500_000  # values that a file may hold beyond what its size allows
NUMBERS = re.compile('b1|[iu][1248]|f[248]')  # the types of arrays
PLAIN = {str, bytes, int, float, bool, type(None)}


class _Call:
    """A class or function that a pickle names or, with `args`, what comes of calling it."""

    __slots__ = 'name', 'args', 'state', 'made', 'cost'

    def __init__(self, name: str, args: tuple | None = None):
        self.name, self.args, self.state, self.made = name, args, None, None


class _Unpickler(pickle._Unpickler):  # the one in Python: of the one in C not every step is ours
    """Follows a pickle and calls nothing; `known` tells which names may stand in it.

    It hashes no tuple, since a deep one ends the process, and lays out no memory that the file
    only promises to fill.
    """

    def __init__(self, raw: bytes, known):
        super().__init__(io.BytesIO(raw), encoding='latin1')  # as Python 2 wrote bytes
        self.known, self.room, self.size, self.memo = known, FREE + len(raw) // 8, len(raw), []

    def find_class(self, module: str, name: str) -> _Call:
        short = f'{module.partition(".")[0]}.{name}'  # numpy 1 and 2 differ in module
        if not self.known(short):
            raise ValueError(f'{module}.{name} is neither a numpy array nor a plain type')
        return _Call(short)

    def load_reduce(self):
        args, function = self.stack.pop(), self.stack.pop()
        if type(function) is not _Call or function.args is not None or type(args) is not tuple:
            raise ValueError('a call of what is no function')
        self.append(_Call(function.name, args))

    def load_build(self):
        state, call = self.stack.pop(), self.stack[-1]
        if type(call) is not _Call or call.args is None or call.state is not None:
            raise ValueError('a state of what has none')
        call.state = state

    def load_setitem(self):
        value, key = self.stack.pop(), self.stack.pop()
        self.update([key, value])

    def load_setitems(self):
        self.update(self.pop_mark())

    def load_dict(self):
        items = self.pop_mark()
        self.append({})
        self.update(items)

    def update(self, items: list) -> None:
        if type(self.stack[-1]) is not dict:
            raise ValueError('a dictionary that is none')
        self.stack[-1].update((key, value) for key, value in zip(items[::2], items[1::2])
                              if type(key) in PLAIN)  # no other is a key of ours

    def load_mark(self):
        if len(self.metastack) > 2 * DEEPEST:  # each takes a list, and only a byte of the file
            raise ValueError('values nested too deep')
        super().load_mark()

    def load_memoize(self):
        self.memo.append(self.stack[-1])

    def load_put(self):
        self.put(int(self.readline()))

    def load_binput(self):
        self.put(self.read(1)[0])

    def load_long_binput(self):
        self.put(int.from_bytes(self.read(4), 'little'))

    def put(self, number: int) -> None:  # a memo by numbers alone, for files that skip some too
        if number > self.size:
            raise ValueError(f'a value with the number {number}')
        self.memo += [None] * (number + 1 - len(self.memo))
        self.memo[number] = self.stack[-1]

    def refuse(self):
        raise ValueError('an opcode that no file of arrays needs')

    load_empty_set = pickle._Unpickler.load_empty_list  # a set hashes what it holds
    load_additems, load_frozenset = pickle._Unpickler.load_appends, pickle._Unpickler.load_list
    load_bytearray8 = pickle._Unpickler.load_binbytes8  # whose size is not laid out before
    load_newobj = load_reduce


def _counted(step):
    """A step that takes more memory than its bytes in the file: lists of numbers have at most one
    in eight bytes."""
    def counted(self):
        self.room -= 1
        if self.room < 0:
            raise ValueError('more values than its size allows')
        step(self)
    return counted


def _dispatch() -> dict:
    """The steps of _Unpickler by opcode."""
    refused = {'INST', 'OBJ', 'NEWOBJ_EX', 'EXT1', 'EXT2', 'EXT4', 'PERSID', 'BINPERSID', 'DUP',
               'NEXT_BUFFER', 'READONLY_BUFFER', 'POP', 'POP_MARK'}
    nests = {'EMPTY_LIST', 'EMPTY_SET', 'EMPTY_DICT', 'LIST', 'DICT', 'FROZENSET', 'TUPLE',
             'TUPLE1', 'TUPLE2', 'TUPLE3', 'REDUCE', 'NEWOBJ'}
    steps = dict.fromkeys(range(256), _Unpickler.refuse)  # a text holds bytes that are no opcodes
    for code in pickletools.opcodes:
        number, name = ord(code.code), f'load_{code.name.lower()}'
        step = getattr(_Unpickler, name, pickle._Unpickler.dispatch[number])
        if code.name not in refused:
            steps[number] = _counted(step) if code.name in nests else step
    return steps


_Unpickler.dispatch = _dispatch()


class Builder:
    """Makes arrays and plain values of what a pickle describes, as many as `room` lets it.

    `makers` holds for each name that may stand in the pickle, or for a whole package, a function
    (builder, call) that makes what a call of it stands for. What is wrong raises nearly anything.
    """

    def __init__(self, makers: dict, room: int):
        self.makers, self.room, self.depth = makers, room, 0

    def maker(self, name: str):
        """The function for a name or for its package, None where it may not stand in a pickle."""
        return self.makers.get(name) or self.makers.get(name.partition('.')[0])

    def spend(self, n: int) -> None:
        self.room -= n
        if self.room < 0:  # such as a list that holds another many times, and that a third
            raise ValueError('more values than its size allows')

    def make(self, value):
        """Arrays, numbers, strings, bytes, None, and lists and dictionaries of them."""
        self.spend(1)
        if type(value) in PLAIN:
            return value
        if self.depth == DEEPEST:
            raise ValueError(f'values nested more than {DEEPEST} deep')
        self.depth += 1
        try:
            return self.nested(value)
        finally:
            self.depth -= 1

    def nested(self, value):
        if type(value) is dict:
            return {key: self.make(item) for key, item in value.items()}
        if type(value) is _Call:
            return self.called(value)
        if set(map(type, value)) <= PLAIN:  # most lists of numbers: no need to look at each
            self.spend(len(value))
            return list(value)
        return [self.make(item) for item in value]

    def called(self, call: _Call):
        if call.made is None:
            room = self.room
            call.made = self.maker(call.name)(self, call)
            self.spend(getattr(call.made, 'size', 1))
            call.cost = room - self.room
        else:
            self.spend(call.cost)
        return call.made


def not_made(builder, call):
    """The maker of what may stand in a pickle, but is no value."""
    raise ValueError(f'a {call.name}')


def _dtype(builder, call) -> np.dtype:
    name, (_, order, *parts) = call.args[0], call.state or (3, '|', None, None, None)
    if name in ('O', 'O8'):
        return np.dtype(object)
    if not NUMBERS.fullmatch(name) or parts[:3] != [None, None, None]:
        raise ValueError(f'an array of {name}')
    return np.dtype(name).newbyteorder(order)


def _array(builder, dtype, shape, data, order='C') -> np.ndarray | list:
    """The array that bytes hold, of objects the lists that a list holds, if the shape is theirs."""
    dtype = builder.make(dtype)
    if type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f'an array of shape {shape}')
    if type(data) is _Call:
        data = builder.make(data)
    elif type(data) is str:
        data = data.encode('latin1')
    size = 1 if dtype == object else dtype.itemsize
    if len(data) != math.prod(shape) * size:
        raise ValueError(f'{len(data) // size} values in an array of shape {shape}')
    if dtype == object:
        values = np.fromiter(builder.make(data), object, len(data))
        return values.reshape(shape, order=order).tolist() if len(data) else []
    return np.ndarray(shape, dtype, data, order=order).copy()


def _reconstruct(builder, call) -> np.ndarray | list:
    _, shape, dtype, by_columns, data = call.state
    return _array(builder, dtype, shape, data, 'F' if by_columns is True else 'C')


def _frombuffer(builder, call) -> np.ndarray:
    data, dtype, shape, order = call.args
    return _array(builder, dtype, shape, data, order)


MAKERS = {'numpy.dtype': _dtype, 'numpy._reconstruct': _reconstruct,
          'numpy._frombuffer': _frombuffer, 'numpy.ndarray': not_made,
          'numpy.scalar': lambda builder, call: _array(builder, call.args[0], (), call.args[1])[()],
          '_codecs.encode': lambda builder, call: call.args[0].encode('latin1'),
          **{f'{package}.{name}': not_made for package in ('builtins', '__builtin__')
             for name in ('object', 'set', 'frozenset', 'bytearray', 'complex')}}


def read_pickle(path, keys, makers=MAKERS) -> dict:
    """A pickled dictionary: its arrays, numbers and strings, and lists and dictionaries of them.

    Nothing that the file names is called. The values of other keys than `keys` are not made but
    None; `makers` as in Builder. Raises OSError for a file that cannot be opened and ValueError,
    one line, for one that is damaged or holds something else.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise type(error)(f'{path}: {error.strerror}, expected a pickled dictionary') from error
    builder = Builder(makers, FREE + len(raw))
    try:
        found = _Unpickler(raw, builder.maker).load()
        del raw
        if type(found) is not dict:
            kind = type(builder.make(found)).__name__
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ValueError(f'{path}: found no readable pickle ({one_line(error)}), expected a '
                         f'dictionary of arrays') from error
    if type(found) is not dict:
        raise ValueError(f'{path}: found a {kind}, expected a dictionary of arrays')
    for key, value in found.items():
        try:
            found[key] = builder.make(value) if key in keys else None
        except Exception as error:
            raise ValueError(f'{path}: key {key}: found {one_line(error)}, expected plain arrays '
                             f'of numbers') from error
    return found


def one_line(error) -> str:
    """What an error says in one line of printable characters, cut where it is long."""
    text = ' '.join(str(error).split()) or type(error).__name__
    text = ''.join(character if character.isprintable() else '?' for character in text)
    return text if len(text) < 500 else f'{text[:500]}...'
