"""Lifting people anywhere in a picture: camera, missing joints, people at any distance.

2D joints lie on the plane at distance 1 before the camera, x right, y up. The camera is at the
origin and looks down -z, y is up.
"""
import math
from functools import cache

import numpy as np

from common.camera import ROOT, project, smallest_rotation
from common.detector import CONFIDENT
from common.people import sample
from common.skeleton import (JOINTS, POINT_WEIGHTS, bone_lengths, bone_sum, from_lab, joints_of,
                             to_lab)

FEWEST = 9   # people with fewer joints, such as those without hips and legs, are skipped
ROUNDS = 3   # 1 is 2 mm worse, more than 3 change nothing
BONE_SUM = .85  # synthetic people's, in distances from the camera to the root
BONES_PER_HEIGHT = 2.23  # sum of the bones over the height; legs are 0.491 of it (Winter, 2009)
# the limits of what looks like a person; of 1,000 synthetic people one exceeds 2.6 standard
# deviations, and none has a bone longer than 0.148 of the sum
ODD_POINTS = 3.  # distance of the points from the training's, in standard deviations
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
    root     (N, 3)        in the same frame and unit
    shown    (M, 15, 2)    what the network was shown
    lifted   (M, 15, 3)    its answer
    odd      (M,)          True if `shown` or `lifted` does not look like a person
    """
    size = check_camera(image_size, focal, height)
    beyond = np.abs(points[..., :2] / size - .5).max(axis=2) > 1.5  # more than one picture outside
    confidence = np.where(beyond, 0, points[..., 2])
    joint_2d = to_plane(points, size / 2 if centre is None else centre, focal or math.hypot(*size))
    seen = visible(confidence < CONFIDENT)
    kept = seen[:, :-1].sum(axis=1) >= FEWEST
    if not kept.any():
        raise ValueError(f'found nobody with {FEWEST} of {len(JOINTS)} joints, expected points '
                         f'with confidences of at least {CONFIDENT}')
    joints, shown, lifted = lift_points(model, to_lab(fill_in(joint_2d[kept], seen[kept])))
    if height:
        joints *= height * BONES_PER_HEIGHT / bone_sum(joints[:, :-1] - joints[:, -1:])
    joint_3d, root = np.full((len(points), 15, 3), np.nan), np.full((len(points), 3), np.nan)
    joint_3d[kept], root[kept] = from_lab(joints[:, :-1]), joints[:, -1]
    return {'kept': kept, 'joint_3d': joint_3d, 'root': root, 'seen': seen[:, :-1],
            'shown': shown, 'lifted': lifted, 'odd': is_odd(model, shown, lifted)}


def check_camera(image_size, focal, height) -> np.ndarray:
    """Return the size (2,) of the picture; raise ValueError for an impossible camera or height."""
    size = np.asarray(image_size, dtype=float)
    if size.shape != (2,) or not (size >= 1).all():
        raise ValueError(f'found an image size of {image_size}, expected width and height')
    if focal is not None and not max(size) / 4 <= focal < math.inf:
        raise ValueError(f'found a focal length of {focal:g}, expected pixels; if it is in mm on '
                         f'35 mm film, it is {focal * max(size) / 36:.0f} pixels')
    if height is not None and not .3 <= height <= 3:
        raise ValueError(f'found a height of {height:g}, expected metres from 0.3 to 3')
    return size


def is_odd(model, shown: np.ndarray, lifted: np.ndarray) -> np.ndarray:
    """Tell which people (M,) are unlike those of the training: points far from theirs, or one bone
    much longer than the others."""
    mean, std, inverse_focal = (value.cpu().numpy() for value in (
        model.mean_2d, model.std_2d, model.inverse_focal))
    offset = ((shown / inverse_focal).reshape(len(shown), -1) - mean) / std
    lengths = bone_lengths(lifted - ROOT)
    longest = lengths.max(axis=1) / lengths.sum(axis=1)
    return (np.sqrt(np.square(offset).mean(axis=1)) > ODD_POINTS) | (longest > ODD_BONE)


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
    """Return mean (16, 2) and covariance (32, 32) of synthetic people shifted at random."""
    people = joints_of(sample(2000, seed=0)['joint_detected'])
    people = project(people - people[:, -1:] + ROOT, np.ones(2))
    covariance = np.cov(people.reshape(len(people), -1).T)
    return people.mean(axis=0), covariance + np.tile(np.eye(2), (16, 16))


def extent(points: np.ndarray) -> float:
    return np.linalg.norm(points - points.mean(axis=0))


def lift_points(model, joint_2d: np.ndarray) -> tuple[np.ndarray, ...]:
    """Lift joints (N, 16, 2), the root last, of people anywhere in a picture, at any distance.

    The camera is turned to the root, which is exact, and moved along its axis until the person is
    as large as in the training. The new perspective is computed from the depth found so far: a
    depth d becomes 1 + scale (d - 1).
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
        scale = BONE_SUM / bone_sum(pose).clip(min=1e-9)
        shown = scale * plane * depth / (1 + scale * (depth - 1))
        lifted = model.lift(focal_len * shown)
        pose = (lifted - ROOT) / scale
        depth = (1 - pose[..., 2:]).clip(min=.2)
    joint_3d = np.concatenate([pose, find_root(pose)], axis=1) + ROOT
    return joint_3d @ turn, shown, lifted


def find_root(pose: np.ndarray) -> np.ndarray:
    """Find the root (N, 1, 3) of poses (N, 15, 3): above and behind the hips, by more if the
    shoulders are wide relative to the trunk."""
    hips, terms = root_terms(pose)
    return (hips + terms @ root_weights())[:, None]


def root_terms(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle of the hips (N, 3), and four vectors (N, 3, 4): up the trunk and ahead,
    both also times the width of the shoulders."""
    right_hip, left_hip, left, right = (pose[:, JOINTS.index(name)] for name in (
        'RHip', 'LHip', 'LShoulder', 'RShoulder'))
    hips = (right_hip + left_hip) / 2
    up = (left + right) / 2 - hips
    size = np.linalg.norm(up, axis=-1, keepdims=True)
    ahead = np.cross(left_hip - right_hip, up)
    ahead *= size / np.linalg.norm(ahead, axis=-1, keepdims=True).clip(min=1e-9)
    wide = np.linalg.norm(left - right, axis=-1, keepdims=True) / size.clip(min=1e-9)
    wide = wide.clip(.4, 1.1)
    return hips, np.stack([up, wide * up, ahead, wide * ahead], axis=-1)


@cache
def root_weights() -> np.ndarray:
    """Fit the weights (4,) of `root_terms` to synthetic people, whose root is at the origin."""
    hips, terms = root_terms(sample(2000, seed=0)['joint_3d'] - ROOT)
    return np.linalg.lstsq(terms.reshape(-1, 4), -hips.ravel())[0]
