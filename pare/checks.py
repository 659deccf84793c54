"""Refuse wrong sets of annotations: other formats, other units, values out of range."""
import numpy as np

from common.files import one_line

SIDES = 1, 1e5          # smallest and largest side of a box, in pixels
ANGLE = 4 * np.pi       # no joint is turned further, in radians
REACH = 3               # no joint is farther from the mean of all, in metres
LARGE = 10              # upper bound of median side of a box / largest coordinate of a centre
GENDER_NAMES = {'m': 'm', 'male': 'm', '0': 'm', 'f': 'f', 'female': 'f', '1': 'f',
                'n': 'neutral', 'neutral': 'neutral', '-1': 'neutral'}  # names in SPIN and PARE
OTHERS = {  # numbers of a row in files of other models, and what to do about them
    ('pose', 156): 'poses of SMPL-H: pose[:, :66] and six zeros, for the hands, are those of SMPL',
    ('pose', 165): 'poses of SMPL-X: pose[:, :66] and six zeros, for the hands, are nearly those '
                   'of SMPL',
    ('shape', 11): 'betas of BEDLAM: shape[:, :10] are those of SMPL, if the poses are',
    ('shape', 16): 'betas of SMPL-H: shape[:, :10] are those of SMPL'}


def refuse_other_sets(path, keys) -> None:
    """Raise ValueError for the keys of HumanData (MMHuman3D) in place of SPIN's."""
    if 'imgname' not in keys and keys & {'image_path', 'bbox_xywh', '__data_len__'}:
        raise ValueError(f'{path}: found a set in the form of HumanData (image_path, bbox_xywh), '
                         f'expected the keys of SPIN: imgname, center and scale, pose (N, 72) and '
                         f'shape (N, 10), part (N, 24, 3)')


def refuse_other_shapes(path, key: str, shape: tuple, n: int) -> None:
    """Raise ValueError for an array that is known from other programs, with what to do."""
    other = OTHERS.get((key, shape[1])) if len(shape) == 2 else None
    if shape[:2] == (n, 17):
        other = ('the 17 joints of Human3.6M, as of mmpose, expected the 24 keypoints of SPIN; '
                 'rename the key to read the set without it')
    if other:
        raise ValueError(f'{path}: key {key}: found {other}')


def check_values(path, found: dict) -> None:
    """Refuse a box too small or too large, negative confidence, an unknown gender."""
    least, most = (side / 200 for side in SIDES)
    good = {'scale': ((least <= found['scale']) & (found['scale'] <= most),
                      f'a side of the box / 200 from {least:g} to {most:g}')}
    for key in found.keys() & {'part', 'openpose', 'S'}:
        good[key] = (found[key][..., -1] >= 0).all(axis=1), 'no confidence below 0'
    for key, (rows, expected) in good.items():
        if not rows.all():
            row = rows.argmin()
            raise ValueError(f'{path}: key {key}: found {np.min(found[key][row]):g} in row {row}, '
                             f'expected {expected}')
    if 'gender' in found:
        genders = [str(gender) for gender in found['gender']]
        strange = sorted(set(genders) - set(GENDER_NAMES))
        if strange:
            raise ValueError(f'{path}: key gender: found {one_line(strange[0])}, expected m, f or '
                             f'neutral, or 0, 1 or -1')
        found['gender'] = np.array([GENDER_NAMES[gender] for gender in genders])


# ---- units --------------------------------------------------------------------------------------

def check_units(path, found: dict) -> None:
    """Refuse S in millimetres, boxes and keypoints that are not in pixels.

    S is checked row by row, boxes and keypoints over the whole set.
    """
    if 'S' in found:
        check_metres(path, found['S'])
    side, reach = 200 * np.median(found['scale']), np.abs(found['center']).max()
    if side > LARGE * reach:
        raise ValueError(f'{path}: key scale: found a median of {side / 200:g}, which makes boxes '
                         f'of {side:.0f} pixels about centres up to {reach:.0f}, expected a side '
                         f'of the box / 200')
    for key in found.keys() & {'part', 'openpose'}:
        known = found[key][found[key][..., 2] > 0]
        if len(known) and np.abs(known[:, :2]).max() <= 2 and side > 20:
            raise ValueError(f'{path}: key {key}: found x and y up to {known[:, :2].max():g} for '
                             f'boxes of {side:.0f} pixels, expected pixels of the photograph')


def check_radians(path, pose: np.ndarray, known: np.ndarray) -> None:
    """Refuse poses (N, 72) in degrees; `known` tells which rows count."""
    angles = known * np.linalg.norm(pose.reshape(-1, 24, 3), axis=2).max(axis=1)
    refuse_first(f'{path}: key pose', angles, ANGLE, 'a rotation by {:.1f}',
                 'axis-angle in radians, at most {:.1f}')


def check_metres(path, points: np.ndarray) -> None:
    """Refuse joints (N, 24, 4) that are farther than REACH from their mean."""
    sure = points[..., 3:] > 0
    middle = (points[..., :3] * sure).sum(axis=1) / sure.sum(axis=1).clip(1)         # (N, 3)
    distances = np.linalg.norm(points[..., :3] - middle[:, None], axis=2) * sure[..., 0]
    refuse_first(f'{path}: key S', distances.max(axis=1), REACH, 'a joint {:.1f} from the mean',
                 'metres, less than {}')


def refuse_first(where: str, values: np.ndarray, most: float, found: str, expected: str) -> None:
    """Raise ValueError if values (N,) exceed `most`; say how many do and the first row."""
    wrong = values > most
    if wrong.any():
        row = wrong.argmax()
        raise ValueError(f'{where}: found {found.format(values[row])} in row {row}, the first '
                         f'of {wrong.sum()} in {len(wrong)} rows, expected {expected.format(most)}')
