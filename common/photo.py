"""People of a photograph: from points anywhere in a picture to 3D joints in the camera's frame.

Points are lifted on the plane at distance 1 before the camera, x right, y up. The camera is at the
origin and looks down -z, y is up.
"""
import json
import math
import sys
import warnings
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from common.camera import ROOT, project, smallest_rotation
from common.detector import CONFIDENT, People
from common.files import atomic, save_array
from common.people import sample
from common.skeleton import (JOINTS, POINT_WEIGHTS, bone_lengths, bone_sum, from_lab, joints_of,
                             to_lab)

FEWEST = 9   # people with fewer joints, such as those without hips and legs, are skipped
ROUNDS = 3   # 1 is 2 mm worse, more than 3 change nothing
SIZE = .85   # sum of the bones of synthetic people, in distances from the camera to the root
TALL = 2.23  # the same over their height; legs are 0.491 of the height (Winter, 2009)
WINDOW = 9   # frames of the moving average: jitter falls from 35 to 4 mm/frame^2
# the limits of what looks like a person; of 1,000 synthetic people one exceeds 2.6, none 0.148
ODD_POINTS = 3.  # standard deviations of the points from those of the training
ODD_BONE = .16   # longest bone over the sum of all


def lift_people(model, points: np.ndarray, image_size, focal: float | None = None,
                height: float | None = None, centre=None) -> dict[str, np.ndarray]:
    """Lift people by their points (N, 15, 3), pixels and confidence, of `read_people`.

    `focal` in pixels is by default the diagonal of the picture, `centre`, the principal point, its
    middle. Raises ValueError if nobody has at least FEWEST joints. Returns

    kept     (N,)          the M people with at least FEWEST joints
    seen     (N, 15)       the joints that were not filled in
    joint_3d (N, 15, 3)    in the frame of the camera, in metres with the `height` of people, else
                           in units of each root's distance; NaN for people who are not kept
    root     (N, 3)        the same
    shown    (M, 15, 2)    what the network was shown
    lifted   (M, 15, 3)    its answer
    odd      (M,)          if that is unlike people
    """
    size = np.asarray(image_size, dtype=float)
    beyond = np.abs(points[..., :2] / size - .5).max(axis=2) > 1.5  # by more than the picture
    confidence = np.where(beyond, 0, points[..., 2])
    joint_2d = to_plane(points, size / 2 if centre is None else centre, focal or math.hypot(*size))
    seen = visible(confidence < CONFIDENT)
    kept = seen[:, :-1].sum(axis=1) >= FEWEST
    if not kept.any():
        raise ValueError(f'found nobody with {FEWEST} of {len(JOINTS)} joints, expected points '
                         f'with confidences of at least {CONFIDENT}')
    joints, shown, lifted = lift_points(model, to_lab(fill_in(joint_2d[kept], seen[kept])))
    if height:
        joints *= height * TALL / bone_sum(joints[:, :-1] - joints[:, -1:])
    joint_3d, root = np.full((len(points), 15, 3), np.nan), np.full((len(points), 3), np.nan)
    joint_3d[kept], root[kept] = from_lab(joints[:, :-1]), joints[:, -1]
    return {'kept': kept, 'joint_3d': joint_3d, 'root': root, 'seen': seen[:, :-1],
            'shown': shown, 'lifted': lifted, 'odd': is_odd(model, shown, lifted)}


def is_odd(model, shown: np.ndarray, lifted: np.ndarray) -> np.ndarray:
    """Tell which people (M,) are unlike those of the training: points far from theirs, or one bone
    much longer than the others."""
    mean, std, inverse_focal = (value.cpu().numpy() for value in (
        model.mean_2d, model.std_2d, model.inverse_focal))
    offset = ((shown / inverse_focal).reshape(len(shown), -1) - mean) / std
    lengths = bone_lengths(lifted - ROOT)
    longest = lengths.max(axis=1) / lengths.sum(axis=1)
    return (np.sqrt(np.square(offset).mean(axis=1)) > ODD_POINTS) | (longest > ODD_BONE)


def describe(people: People, found: dict, image_size, focal: float) -> None:
    """Print a summary of `lift_people`, and warnings to standard error."""
    def numbers(chosen):
        return ', '.join(map(str, np.flatnonzero(chosen)))

    points, kept, seen = people.points, found['kept'], found['seen'][found['kept']]
    print(f'{len(points):,} {"person" if len(points) == 1 else "people"} of {people.kind}, focal '
          f'length {focal:.0f} pixels, {(~seen).sum():,} of {seen.size:,} joints filled in')
    if not kept.all():
        print(f'skipped, fewer than {FEWEST} of {len(JOINTS)} joints: person {numbers(~kept)}')
    outside = ((points[..., :2] < 0) | (points[..., :2] > image_size)).any(axis=2)
    if outside[kept].mean() > .5:
        print('warning: most points lie outside of the picture; is --image-size W H that of the '
              'picture?', file=sys.stderr)
    odd = kept.copy()
    odd[kept] = found['odd']
    if odd.any():
        print(f'warning: the points of person {numbers(odd)} do not look like those of a person; '
              f'is their order that of {people.kind}, x before y, and y down?', file=sys.stderr)


def save_people(path: Path, people: People, found: dict, metres: bool) -> None:
    """Save joints (N, 15, 3), row i of person i, as .npy, or as .json with names."""
    joint_3d = found['joint_3d'].astype(np.float32)
    if path.suffix == '.npy':
        save_array(path, joint_3d)
        return
    rows = []
    for row, joints in enumerate(joint_3d):
        person = {'index': row, 'frame': people.frames[row], 'metres': metres, 'root': None,
                  'joints': None, 'filled_in': None}
        if np.isfinite(joints).all():
            person |= {'root': found['root'][row].tolist(),
                       'joints': dict(zip(JOINTS, joints.tolist())),
                       'filled_in': [name for name, seen in zip(JOINTS, found['seen'][row])
                                     if not seen]}
        rows.append(person)
    with atomic(path, 'w') as file:
        json.dump(rows, file, indent=1)


def to_pixels(joint_3d: np.ndarray, focal: float, centre) -> np.ndarray:
    """Project joints (N, J, 3) in the frame of the camera to pixels (N, J, 2)."""
    return project(joint_3d, np.array([focal, -focal])) + centre


def read_picture(path) -> tuple[np.ndarray, float | None]:
    """Read a picture (H, W, 3) as it is seen, and its focal length in pixels if EXIF tells it.

    Raises OSError or ValueError for a file that is none.
    """
    try:
        with Image.open(path) as image:
            film = image.getexif().get_ifd(0x8769).get(0xA405)  # FocalLengthIn35mmFilm
            image = ImageOps.exif_transpose(image).convert('RGB')
    except UnidentifiedImageError as error:
        raise ValueError(f'{path}: found no picture that Pillow reads') from error
    except OSError as error:
        raise type(error)(f'{path}: {error.strerror or error}, expected a picture') from error
    return np.asarray(image), film * max(image.size) / 36 if film else None


def smooth(joint_3d: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """Return the mean of joints (N, ...) of a video over a window of frames; NaN do not count."""
    half = window // 2
    ends = np.full_like(joint_3d[:1].repeat(half, axis=0), np.nan)
    padded = np.concatenate([ends, joint_3d, ends])
    frames = np.lib.stride_tricks.sliding_window_view(padded, window, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # a window without anyone stays NaN
        return np.nanmean(frames, axis=-1)


def to_plane(points: np.ndarray, centre, focal: float) -> np.ndarray:
    """Bring points (N, 15, 3) in pixels to joints (N, 16, 2) on the plane at distance 1."""
    return joints_of((points[..., :2] - centre) / (focal, -focal))


def visible(hidden: np.ndarray) -> np.ndarray:
    """Tell which joints and root (N, 16) need none of the hidden points (N, 15)."""
    return ~(hidden @ (POINT_WEIGHTS.T != 0))


def fill_in(joint_2d: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Put the joints (N, 16, 2) that are not `seen` (N, 16) at their expected place.

    That is the conditional mean of a normal distribution, given the joints that are seen. Its mean
    and covariance are those of synthetic people, brought to the place and size of these joints.
    """
    mean, covariance = expected_joints()
    filled = joint_2d.copy()
    for row in np.flatnonzero(~seen.all(axis=1)):
        known, each = seen[row], np.repeat(seen[row], 2)
        size = max(extent(joint_2d[row, known]) / extent(mean[known]), 1e-9)
        move = (joint_2d[row, known] / size - mean[known]).mean(axis=0)
        change = (joint_2d[row] / size - mean - move).ravel()[each]
        within = covariance[each][:, each] + 1e-6 * np.eye(len(change))
        change = change @ np.linalg.solve(within, covariance[each][:, ~each])
        filled[row, ~known] = size * (mean[~known] + move + change.reshape(-1, 2))
    return filled


@cache
def expected_joints() -> tuple[np.ndarray, np.ndarray]:
    """Return mean (16, 2) and covariance (32, 32) of the joints of synthetic people, anywhere."""
    people = joints_of(sample(2000, seed=0)['joint_detected'])
    people = project(people - people[:, -1:] + ROOT, np.ones(2))
    covariance = np.cov(people.reshape(len(people), -1).T)
    return people.mean(axis=0), covariance + np.tile(np.eye(2), (16, 16))


def extent(points: np.ndarray) -> float:
    return np.linalg.norm(points - points.mean(axis=0))


def lift_points(model, joint_2d: np.ndarray) -> tuple[np.ndarray, ...]:
    """Lift joints (N, 16, 2), the root last, of people anywhere in a picture, at any distance.

    The camera is turned to the root, which is exact, and moved along its axis until the person is
    as large as in the training; the depth found so far tells how that changes the perspective.
    Returns joints (N, 16, 3) in units of the root's distance, and points (N, 15, 2) and joints
    (N, 15, 3) of the camera that was moved.
    """
    # 1. turn to the root
    rays = np.concatenate([joint_2d, np.full_like(joint_2d[..., :1], -1)], axis=-1)
    turn = smallest_rotation(rays[:, -1] / np.linalg.norm(rays[:, -1], axis=-1, keepdims=True),
                             ROOT)
    plane = project(rays @ turn.mT, np.ones(2))[:, :-1]
    # 2. lift, and see from the results how far to move
    focal_len, depth = 1 / model.inverse_focal.cpu().numpy(), np.ones_like(plane[..., :1])
    pose = np.concatenate([plane, 0 * depth], axis=-1)  # about the root
    for _ in range(ROUNDS):
        scale = SIZE / bone_sum(pose).clip(min=1e-9)
        shown = scale * plane * depth / (1 + scale * (depth - 1))
        lifted = model.lift(focal_len * shown)
        pose = (lifted - ROOT) / scale
        depth = (1 - pose[..., 2:]).clip(min=.2)
    joint_3d = np.concatenate([pose, find_root(pose)], axis=1) + ROOT
    return joint_3d @ turn, shown, lifted


def find_root(pose: np.ndarray) -> np.ndarray:
    """Find the root (N, 1, 3) of poses (N, 15, 3): above the hips and behind them, the farther the
    wider the shoulders are for the trunk. Fitted to synthetic people."""
    right_hip, left_hip, left, right = (pose[:, JOINTS.index(name)] for name in (
        'RHip', 'LHip', 'LShoulder', 'RShoulder'))
    hips = (right_hip + left_hip) / 2
    up = (left + right) / 2 - hips
    size = np.linalg.norm(up, axis=-1, keepdims=True)
    ahead = np.cross(left_hip - right_hip, up)
    ahead *= size / np.linalg.norm(ahead, axis=-1, keepdims=True).clip(min=1e-9)
    wide = np.linalg.norm(left - right, axis=-1, keepdims=True) / size.clip(min=1e-9)
    wide = wide.clip(.4, 1.1)
    return (hips + (.29 * wide - .065) * up + (.106 - .257 * wide) * ahead)[:, None]
