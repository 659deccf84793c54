"""Files of 2D detectors: COCO's results, OpenPose's BODY_25, arrays of these and of MediaPipe."""
import json
from pathlib import Path

import numpy as np

from common.files import numbers, one_line

# the formats by their number of points: name, and the points that make POINTS of common/skeleton.py
FORMATS = {17: ('COCO', (0, 3, 4, 12, 14, 16, 11, 13, 15, 5, 7, 9, 6, 8, 10)),
           25: ('BODY_25', (0, 18, 17, 9, 10, 11, 12, 13, 14, 5, 6, 7, 2, 3, 4)),
           33: ('MediaPipe', (0, 7, 8, 24, 26, 28, 23, 25, 27, 11, 13, 15, 12, 14, 16))}
CONFIDENT = .3  # a point with less confidence counts as missing


def read_people(path: Path) -> tuple[np.ndarray, str]:
    """Read the points (N, 15, 3) of people, x and y in pixels and a confidence, and their format.

    The points are those of POINTS. Reads COCO's results and OpenPose's BODY_25 from .json; from
    .npy arrays (N, 17, 2 or 3), (N, 25, 2 or 3) or, MediaPipe's x, y, z, visibility, (N, 33, 2 to
    5). (0, 0) and points below zero, such as (-1, -1), are missing; without confidences all others
    count as 1. If an ear is missing the nose replaces both. Raises OSError, and ValueError for any
    other file.
    """
    try:
        found = (json.loads(path.read_bytes()) if path.suffix == '.json' else
                 np.load(path, mmap_mode='r'))  # takes no memory that the file does not fill
    except OSError as error:
        raise type(error)(f'{path}: {error.strerror}, expected points of a detector') from error
    except Exception as error:  # a malformed file may raise any exception
        reason = one_line(error) if path.suffix == '.json' else 'no array of numbers'
        raise ValueError(f'{path}: found no readable file ({reason}), expected .json or '
                         f'.npy') from error
    try:
        points = as_points(found)
    except ValueError as error:
        raise ValueError(f'{path}: {one_line(error)}') from error
    kind, table = FORMATS[points.shape[1]]
    points = points[:, table].astype(float)
    points[..., 2] *= points[..., :2].any(axis=2) & (points[..., :2] >= 0).any(axis=2)
    ears = points[:, 1:3]
    both = (ears[..., 2:] >= CONFIDENT).all(axis=1, keepdims=True)
    points[:, 1:3] = np.where(both, ears, points[:, :1])
    return points, kind


def as_points(found) -> np.ndarray:
    """Make points (N, 17, 25 or 33, 3) of an array or of the content of a .json file.

    An array may be of one person. Raises ValueError for anything else.
    """
    if not isinstance(found, np.ndarray):
        key, people = (('keypoints', found) if isinstance(found, list) else
                       ('pose_keypoints_2d', found.get('people') if isinstance(found, dict) else 0))
        if not isinstance(people, list) or not people or not all(
                isinstance(person, dict) and key in person for person in people):
            raise ValueError("found no people with points, expected COCO's list of results with "
                             "keypoints, OpenPose's people with pose_keypoints_2d, or a .npy array")
        found = numbers(key, [person[key] for person in people])
        found = found.reshape(len(found), -1, 3) if found[0].size % 3 == 0 else found
    array = numbers('points', np.asarray(found))
    array = array[None] if array.ndim == 2 else array
    n_points, width = array.shape[1:] if array.ndim == 3 else (0, 0)
    if n_points not in FORMATS or not 2 <= width <= (5 if n_points == 33 else 3):
        raise ValueError(f'found points of shape {found.shape}, expected (N, 17, 2 or 3), '
                         f'(N, 25, 2 or 3) or (N, 33, 2 to 5)')
    if (most := np.abs(array[..., :2]).max()) <= 2:
        raise ValueError(f'found coordinates of at most {most:g}, expected pixels; multiply by '
                         f'width and height')
    column = 3 if n_points == 33 else 2
    confidence = array[..., column:column + 1] if width > column else np.ones_like(array[..., :1])
    if confidence.max() > 2:  # in percent
        confidence = confidence / 100
    return np.concatenate([array[..., :2], confidence], axis=2)
