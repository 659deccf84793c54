"""Which way the axes of a file point: signs, focal lengths, people upside down or mirrored."""
import sys

import numpy as np

from common.camera import ROOT, fit_focal, project, ray_gap
from common.skeleton import NORMAL, anatomy


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


def wrong_distance(joint_3d: np.ndarray) -> np.ndarray:
    """Tell which poses (N,) of joints (N, J, 3) have a root that is not at distance about 1."""
    depth = -np.median(joint_3d[..., 2], axis=1)
    return ~((.5 < depth) & (depth < 2))


def some_rows(rows: np.ndarray) -> str:
    """List the first rows."""
    return ', '.join(map(str, rows[:5])) + ', ...' * (len(rows) > 5)


def check_root(joint_3d: np.ndarray) -> None:
    """Raise ValueError if joints (N, J, 3) contain the root, or it is not at (0, 0, -1)."""
    joint_3d = joint_3d[::len(joint_3d) // 10_000 + 1]
    depth, extent = -np.median(joint_3d[..., 2]), np.ptp(joint_3d[..., :2], axis=1).mean()
    if not .75 < depth < 1.33:
        if -1.33 < depth < -.75:
            seems = f'in a frame whose z points forward: multiply {other_axes(joint_3d)} by -1'
        elif abs(depth) < extent:
            seems = ('about the root: divide by its distance from the camera, turn y up and z to '
                     'the camera, then add (0, 0, -1)')
        else:
            seems = 'in another unit: divide by the distance of the root'
        raise ValueError(f'key joint_3d: found joints at a depth of {depth:.3g} (median), expected '
                         f'about 1, with the root at (0, 0, -1); they seem to be {seems}')
    at_root = np.quantile(np.linalg.norm(joint_3d - ROOT, axis=-1), .95, axis=0) < 1e-3
    if at_root.any():
        raise ValueError(f'found joint {at_root.argmax()} always at (0, 0, -1), it is the root: '
                         f'it has no error, expected it left out of all keys')


def other_axes(joint_3d: np.ndarray) -> str:
    """Name the axes to multiply by -1 so that people are upright and not mirrored, z among them."""
    for axes, signs in (('z', (1, 1, -1)), ('y and z', (1, -1, -1)), ('x and z', (-1, 1, -1)),
                        ('all axes', (-1, -1, -1))):
        if anatomy(joint_3d * np.float32(signs)) == NORMAL:
            return axes
    return 'z, and y too if it points down,'


def wrong_people(joint_3d: np.ndarray, focal_len: np.ndarray) -> str:
    """Say if joints (N, J, 3) are upside down or mirrored; return nothing if they are right.

    focal_len (2,) has the signs of the image's axes. If both are positive, image and joints agree
    and nothing is wrong: people may lie down, or the left joints come first. If x alone is
    negative, either image or joints are mirrored; a known skeleton tells which.
    """
    fx, fy = focal_len
    if fx > 0 and fy > 0:
        return ''
    found = anatomy(joint_3d)
    if found is None:
        return 'x mirrored' if fx < 0 < fy else ''
    upright, unmirrored = found
    wrong = []
    if not upright:
        wrong.append('people upside down')
    if fx < 0 and not unmirrored:
        wrong.append('mirrored people (their knees bend forwards)')
    return ' and '.join(wrong)


def as_camera(data: dict, focal_len: np.ndarray) -> np.ndarray:
    """Return joint_2d_1 (N, J, 2) scaled to the signed focal lengths (2,) of a model.

    The file's own focal lengths are focal_len_1, or the model's if it is missing or contradicts
    joint_3d. Their signs are those that joint_3d shows, else the file's if any is negative, else
    the model's. Differences up to 2 % are ignored: the training data vary about as much.
    """
    given = data.get('focal_len_1')
    own = np.broadcast_to(focal_len if given is None else given, (len(data['joint_2d_1']), 2))
    signs = own if given is not None and (given < 0).any() else focal_len
    if 'joint_3d' in data:
        some = {key: data[key][::len(own) // 10_000 + 1] for key in (
            'joint_2d_1', 'joint_3d', 'focal_len_1') if key in data}
        signs = find_focal(some)[0]
        if wrong := wrong_people(some['joint_3d'], signs):
            print(f'warning: found {wrong}, expected x right and y up in joint_3d',
                  file=sys.stderr)
        if not np.allclose(np.abs(np.median(own, axis=0)), np.abs(signs), rtol=.02):
            print(f'warning: joint_3d shows focal lengths of {signs[0]:.4g} and {signs[1]:.4g}, '
                  f'expected {focal_len[0]:.4g} and {focal_len[1]:.4g} as in the model, or '
                  f'correct ones in focal_len_1', file=sys.stderr)
            own = np.broadcast_to(focal_len, own.shape)
    own = np.where(np.isclose(np.abs(own), np.abs(focal_len), rtol=.02), focal_len, own)
    return data['joint_2d_1'] * np.float32(focal_len / np.copysign(own, signs))[:, None]
