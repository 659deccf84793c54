"""Files of 2D detectors: COCO, OpenPose, AlphaPose, MMPose, Ultralytics, MediaPipe.

A file becomes a list of people; each has the points of its format and says in which frame or image
it was found. The number of points tells the format.
"""
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.files import errors_of, one_line

# which points of a format are those of POINTS in common/skeleton.py
COCO = 0, 3, 4, 12, 14, 16, 11, 13, 15, 5, 7, 9, 6, 8, 10
FORMATS = {
    17: ('COCO', COCO), 26: ('Halpe', COCO), 133: ('COCO-WholeBody', COCO), 136: ('Halpe', COCO),
    18: ('OpenPose with 18 points', (0, 17, 16, 8, 9, 10, 11, 12, 13, 5, 6, 7, 2, 3, 4)),
    25: ('BODY_25', (0, 18, 17, 9, 10, 11, 12, 13, 14, 5, 6, 7, 2, 3, 4)),
    33: ('MediaPipe', (0, 7, 8, 24, 26, 28, 23, 25, 27, 11, 13, 15, 12, 14, 16))}
EXPECTED = ('expected points of ' + ', '.join(f'{n} ({name})' for n, (name, _) in FORMATS.items()))
POINT_KEYS = 'keypoints', 'pose_keypoints_2d', 'pose_keypoints'
SCORE_KEYS = 'keypoint_scores', 'keypoints_scores', 'scores'
ID_KEYS = 'track_id', 'person_id', 'idx'  # by Ultralytics and MMPose, by OpenPose, by AlphaPose
CONFIDENT = .3  # a point with less confidence counts as missing


@dataclass(frozen=True)
class People:
    """Points (N, 15, 3) of N people: x, y in pixels, confidence; their format; where they were, and
    who they are."""
    points: np.ndarray
    kind: str
    frames: list[str | int]  # each person's image: its number, name or id; else the row
    ids: list                # each person's, as a tracker tells; else None


def read_people(path) -> People:
    """Read the people of a .json, a folder of OpenPose's .json or a .npy.

    An array is (N, K, 2), with confidences (N, K, 3), or of one person; MediaPipe's may have x, y,
    z, visibility, presence. A point is missing if it is (0, 0), NaN or null, or if x and y are
    negative. Without confidences all other points have confidence 1. If an ear is missing the nose
    replaces both. Raises OSError, and ValueError for any other file.
    """
    path = Path(path)
    with errors_of(path):
        people = list(people_in(path))
        points, kind = as_points([points for *_, points in people])
    frames = [row if frame is None else frame for row, (frame, *_) in enumerate(people)]
    return People(points, kind, frames, [track for _, track, _ in people])


def from_array(points) -> np.ndarray:
    """Return the points (N, 15, 3) of an array as in `read_people`; raise ValueError for others."""
    array = as_numbers(points)
    return as_points(list(each_person(array)))[0]


def people_in(path: Path):
    """Yield (frame, id, points) for each person; points are None in an empty frame."""
    if path.is_dir():
        files = sorted(path.glob('*.json'), key=lambda file: [
            int(part) if part.isdigit() else part for part in re.split(r'(\d+)', file.name)])
        if not files:
            raise ValueError('found a folder without .json, expected frames of OpenPose')
        for file in files:
            frame = re.search(r'(\d+)_keypoints$', file.stem)
            frame = int(frame[1]) if frame else file.stem
            yield from in_frame(frame, people_of(read(file)))
    elif path.suffix.lower() == '.json':
        yield from people_of(read(path))
    else:
        yield from ((None, None, person) for person in each_person(read(path)))


def in_frame(frame, people: list[tuple]) -> list[tuple]:
    """Give this frame to people without one; if nobody is there, return a person without points."""
    return [(frame if own is None else own, track, points)
            for own, track, points in people] or [(frame, None, None)]


def each_person(array: np.ndarray) -> np.ndarray:
    """Return people (N, K, width) of an array of one or many, or of flat rows (N, K * width)."""
    if array.ndim == 1:
        array = array[None]
    if array.ndim == 4 and 1 in array.shape[:2]:
        array = array.reshape(-1, *array.shape[2:])
    if array.ndim == 2 and array.shape[1] > 5:
        return np.stack([person_points(row) for row in array.tolist()])
    return array[None] if array.ndim == 2 else array


def read(path: Path):
    """Read JSON or an array. Raises OSError, or ValueError for another file."""
    try:
        if path.suffix.lower() == '.json':
            return json.loads(path.read_bytes())
        found = np.load(path, mmap_mode='r')  # a shape larger than the file takes no memory
    except OSError as error:
        raise type(error)(f'{path}: {error.strerror}, expected points of a detector') from error
    except (ValueError, RecursionError, EOFError) as error:
        raise ValueError('found no readable .json or .npy, expected one of them') from error
    if not (isinstance(found, np.ndarray) and found.dtype.kind in 'iuf' and 1 <= found.ndim <= 4):
        raise ValueError(f'found {getattr(found, "shape", "an archive of several arrays")}, '
                         f'expected one array (N, K, 2 or 3), saved by np.save')
    return found


# ---- the forms of .json -------------------------------------------------------------------------

def people_of(found) -> list[tuple]:
    """Find (frame, id, points) in the content of a .json, or raise ValueError.

    COCO's results and AlphaPose are a list of people; COCO's annotations stand under
    `annotations`, OpenPose's people under `people`, MMPose's frames under `instance_info`; each
    frame of MMPose has `instances`.
    """
    if isinstance(found, dict):
        for key in ('annotations', 'people', 'instance_info', 'predictions'):
            if isinstance(found.get(key), list):
                found = found[key]
                if key == 'annotations':  # some are of objects without points
                    found = [part for part in found if 'keypoints' in part]
                break
        else:
            found = [found]
    people = []
    for row, part in enumerate(found if isinstance(found, list) else [None]):
        if isinstance(part, list):  # the people of an image, by MMPose for several images
            people += in_frame(row, people_of(part))
        elif isinstance(part, dict) and isinstance(part.get('instances'), list):
            people += in_frame(part.get('frame_id'), people_of(part['instances']))
        elif isinstance(part, dict) and (keys := [key for key in POINT_KEYS if key in part]):
            scores, track = (next((part[key] for key in names if key in part), None)
                             for names in (SCORE_KEYS, ID_KEYS))
            while isinstance(track, list):  # OpenPose's [-1] is no id; AlphaPose's may be [[1.0]]
                track = None if track in ([], [-1]) else track[0]
            frame = part.get('image_id', part.get('frame_id'))
            if not all(isinstance(name, int | float | str | None) for name in (frame, track)):
                raise ValueError(f'found {one_line(frame)} and {one_line(track)} as image and id '
                                 f'of a person, expected numbers or names')
            people.append((frame, track, person_points(part[keys[0]], scores)))
        else:
            raise ValueError('found no people with points, expected results of COCO, OpenPose, '
                             'AlphaPose, MMPose or Ultralytics')
    return people


def person_points(values, scores=None) -> np.ndarray | None:
    """Return the points (K, 2 or more) of a person, None if there are none.

    `values` are flat numbers, a row for each point, or Ultralytics' x, y, visible.
    """
    if not values:
        return None
    if isinstance(values, dict):
        values = [values.get(key) for key in ('x', 'y', 'visible') if values.get(key) is not None]
        return as_numbers(values).T
    points = as_numbers(values)
    if points.ndim == 1:
        width = next((width for width in (3, 2, 4, 5) if len(points) % width == 0
                      and len(points) // width in FORMATS), None)
        if width is None:
            raise ValueError(f'found {len(points)} numbers for a person, {EXPECTED}')
        points = points.reshape(-1, width)
    if scores is None:
        return points
    scores = as_numbers(scores).ravel()
    if len(scores) != len(points):
        raise ValueError(f'found {len(scores)} scores for {len(points)} points of a person')
    return np.column_stack([points[:, :2], scores])


def as_numbers(values) -> np.ndarray:
    """Return floats, NaN for null. Raises ValueError for anything else."""
    try:
        return np.array(values, dtype=float)  # None becomes NaN
    except (TypeError, ValueError) as error:
        raise ValueError(f'found points that are no numbers ({one_line(error)[:80]})') from error


# ---- points -------------------------------------------------------------------------------------

def as_points(people: list) -> tuple[np.ndarray, str]:
    """Select the points (N, 15, 3) of people, each (K, 2 to 5), or None in an empty frame; return
    them with confidences, and the name of their format."""
    shapes = {points.shape for points in people if points is not None}
    if not shapes:
        raise ValueError('found a file without anyone in it, expected at least one person')
    n_points, width = max(shapes) if len(max(shapes)) == 2 else (0, 0)
    if len(shapes) != 1 or n_points not in FORMATS or not 2 <= width <= 3 + 2 * (n_points == 33):
        raise ValueError(f'found points of shape {" and ".join(map(str, shapes))}, '
                         f'{EXPECTED}, each x, y and perhaps a confidence')
    array = np.stack([np.full((n_points, width), np.nan) if points is None else points
                      for points in people]).astype(float)
    kind, chosen = FORMATS[n_points]
    third = array[..., 2:3]
    has_z = n_points == 33 and (width > 3 or (np.abs(third - .5) > .5).any())  # MediaPipe
    column = 3 if has_z else 2
    confidence = array[..., column] if width > column else np.ones(array.shape[:2])
    confidence = np.nan_to_num(confidence, posinf=0, neginf=0)
    if np.median(confidence) > 20:  # in percent
        confidence = confidence / 100
    xy = array[..., :2]
    missing = ~np.isfinite(xy).all(axis=2) | (xy < 0).all(axis=2) | (xy == 0).all(axis=2)
    points = np.dstack([np.where(missing[..., None], 0, xy), np.where(missing, 0, confidence)])
    if not missing.all() and (most := np.quantile(np.abs(xy[~missing]), .9)) <= 2:
        raise ValueError(f'found coordinates mostly below {most:.3g}, expected pixels; '
                         f'multiply by width and height')
    refuse_other_orders(points)
    points = points[:, chosen]
    ears = points[:, 1:3]
    both = (ears[..., 2:] >= CONFIDENT).all(axis=1, keepdims=True)
    points[:, 1:3] = np.where(both, ears, points[:, :1])
    return points, kind


def refuse_other_orders(points: np.ndarray) -> None:
    """Raise ValueError for points (N, K, 3) that have the number of a format but not its order.

    In Human3.6M's 17 the pelvis lies between the hips and the spine between pelvis and thorax; in
    OpenPose's 18 and 25 the second is the neck, between the shoulders. Fewer than 5 people are not
    checked.
    """
    places = np.moveaxis(np.where(points[..., 2:] > 0, points[..., :2], np.nan), 1, 0)
    if len(points) < 5:
        return
    if len(places) == 17:
        pelvis, right, left, spine, thorax = places[[0, 1, 4, 7, 8]]
        off = np.maximum(distance(pelvis, (right + left) / 2),
                         distance(spine, (pelvis + thorax) / 2))
        if median(off - .15 * distance(thorax, pelvis)) < 0:
            raise ValueError("found 17 points in the order of Human3.6M, as in VideoPose3D's "
                             "files, expected COCO's: nose, eyes, ears, shoulders, ...")
    elif len(places) in (18, 25):
        neck, right, left = places[[1, 2, 5]]
        hips = [8, 11] if len(places) == 18 else [9, 12]
        trunk = distance(neck, places[hips].mean(axis=0))
        if median(distance(neck, (right + left) / 2) - .3 * trunk) > 0:
            raise ValueError(f'found {len(places)} points whose second is not the neck, expected '
                             f'the order of OpenPose')


def median(values: np.ndarray) -> float:
    """Return the median of the values that are known; 0 if none is."""
    known = values[np.isfinite(values)]
    return np.median(known) if len(known) else 0.


def distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.linalg.norm(one - other, axis=-1)
