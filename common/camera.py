"""Cameras: projection, rays, triangulation of two views, rotations.

A camera is at the origin and looks down -z, y is up; the root of the skeleton is at (0, 0, -1), so
the unit of length is the distance from the camera to the root. x = fx X / -Z, y = fy Y / -Z. The
second view is V2 = R V1 + t. A `views` dictionary has the keys of the lab: joint_2d_1, joint_2d_2
(N, J, 2), rot (N, 9), transl (N, 3), focal_len_1, focal_len_2 (N, 2).
"""
import math

import numpy as np
import torch
from torch import Tensor

ROOT = np.float32([0, 0, -1])
NEAR = .1  # the least depth in the loss, and of joints in virtual views

torch.zeros(1).sin()  # initialises MKL; two threads that did so at once broke one run in 60


# ---- one view -----------------------------------------------------------------------------------

def project(joint_3d, focal_len):
    """Project joints (N, J, 3) in the camera's frame to its image (N, J, 2).

    Takes arrays or tensors; focal_len is (N, 2) or (2,). A negative focal length flips
    its axis.
    """
    return focal_len[..., None, :] * joint_3d[..., :2] / -joint_3d[..., 2:]


def fit_focal(joint_3d: np.ndarray, joint_2d: np.ndarray) -> np.ndarray:
    """Find the signed focal lengths (2,) that reproject joint_3d (N, J, 3) onto joint_2d (N, J, 2).

    Least squares in each sample, then the median over samples, so a few wrong ones do not matter.
    """
    with np.errstate(all='ignore'):  # joints in the plane of the camera
        ray = project(joint_3d, np.ones(2, dtype=joint_3d.dtype))
        focal = (ray * joint_2d).sum(axis=1, dtype=float) / np.square(ray).sum(axis=1, dtype=float)
    return np.nanmedian(focal, axis=0)


def spread(points: np.ndarray) -> float:
    """Return the robust standard deviation of points (N, J, 2): the median absolute deviation over
    0.6745."""
    return np.median(np.abs(points - np.median(points, axis=(0, 1)))) / .6745


# ---- two views ----------------------------------------------------------------------------------

def second_view(joint_3d: np.ndarray, rot: np.ndarray, transl: np.ndarray) -> np.ndarray:
    """Bring joints (N, J, 3) from camera 1's frame to camera 2's; rot (N, 9), transl (N, 3)."""
    return joint_3d @ rot.reshape(-1, 3, 3).mT + transl[:, None]


def two_rays(views: dict) -> tuple[np.ndarray, np.ndarray]:
    """Return the directions (N, J, 3) from both cameras to each joint, in camera 2's frame."""
    def rays(view):
        plane = views[f'joint_2d_{view}'] / views[f'focal_len_{view}'][:, None]
        return np.concatenate([plane, np.full_like(plane[..., :1], -1)], axis=-1)

    return second_view(rays(1), views['rot'], np.zeros_like(views['transl'])), rays(2)


def ray_gap(views: dict) -> np.ndarray:
    """Return the distance (N, J) between the two rays of each joint, in the unit of transl.

    It is zero for exact views, and needs no joint_3d.
    """
    normal = np.cross(*two_rays(views))
    offset = np.abs(np.vecdot(normal, views['transl'][:, None]))
    return offset / np.linalg.norm(normal, axis=-1).clip(min=1e-12)


def ray_angle(views: dict) -> np.ndarray:
    """Return the angle (N,) between the rays of both views: median over joints, 0 to 90 degrees."""
    one, two = (ray / np.linalg.norm(ray, axis=-1, keepdims=True) for ray in two_rays(views))
    sine = np.linalg.norm(np.cross(one, two), axis=-1)
    return np.degrees(np.arcsin(np.median(sine, axis=1).clip(max=1)))


def triangulate(views: dict) -> np.ndarray:
    """Find joints (N, J, 3) in view 1's frame: the middle of the shortest line between both rays.

    It has the least sum of squared distances to the rays r1 and r2. In closed form, in the frame of
    camera 2 with c the centre of camera 1: c + a r1 and b r2 are closest with a n.n = (r2 x c).n,
    b n.n = (r1 x c).n, n = r1 x r2. On parallel rays the joint is put on the first, at the depth of
    the root.
    """
    one, two = (ray.astype(float) for ray in two_rays(views))
    transl = views['transl'][:, None].astype(float)  # camera 1 in the frame of camera 2
    normal = np.cross(one, two)
    square = np.vecdot(normal, normal)[..., None]
    a, b = (np.vecdot(np.cross(ray, transl), normal)[..., None] / square.clip(min=1e-12)
            for ray in (two, one))
    middle = (transl + a * one + b * two) / 2
    middle = np.where(square > 1e-10, middle, transl + one)
    return ((middle - transl) @ views['rot'].reshape(-1, 3, 3)).astype(np.float32)


def face_root(data: dict) -> dict:
    """Rotate camera 2 to look at the root, and give it the focal lengths of camera 1.

    A rotation about the camera's centre changes only the image and needs no depth, so this is
    exact. So a network trained on view 1 can lift view 2. Adds the `distance` (N,) of the root from
    camera 2.
    """
    rot = data['rot'].reshape(-1, 3, 3)
    centre = rot @ ROOT + data['transl']
    distance = np.linalg.norm(centre, axis=-1, keepdims=True)
    turn = smallest_rotation(centre / distance, ROOT)
    _, rays = two_rays(data)
    return data | {'joint_2d_2': project(rays @ turn.mT, data['focal_len_1']),
                   'focal_len_2': data['focal_len_1'], 'rot': (turn @ rot).reshape(-1, 9),
                   'transl': np.matvec(turn, data['transl']), 'distance': distance[:, 0]}


def both_frames(pose: Tensor, poses: dict) -> tuple[Tensor, Tensor]:
    """Bring joints (N, J, 3) about the root, in the axes of view 1, to the frames of both cameras.

    Takes rot (N, 3, 3) and distance (N,) of `poses`, whose camera 2 is as in `face_root`. The unit
    of the second frame is the distance from camera 2 to the root.
    """
    root = pose.new_tensor(ROOT)
    pose_2 = pose @ poses['rot'].mT / poses['distance'][:, None, None]
    return pose + root, pose_2 + root


# ---- rotations ----------------------------------------------------------------------------------

def smallest_rotation(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the rotations (N, 3, 3) of unit vectors (N, 3) onto one unit vector (3,).

    As two half turns, the first about the line in the middle m, the second about the end e:
    R = (2 e e^T - 1) (2 m m^T - 1), which is Rodrigues' formula without its angle.
    """
    middle = start + end
    middle /= np.linalg.norm(middle, axis=-1, keepdims=True)
    first = 2 * middle[:, :, None] * middle[:, None] - np.eye(3)
    second = 2 * np.outer(end, end) - np.eye(3)
    return (second @ first).astype(np.float32)


def random_rotations(n: int, tilt: float, device: torch.device) -> Tensor:
    """Draw rotations (n, 3, 3): about y by any angle, then about x by tilt degrees (standard
    deviation)."""
    yaw = 2 * math.pi * torch.rand(n, device=device)
    pitch = math.radians(tilt) * torch.randn(n, device=device)
    (sin, cos), (up, level) = ((angle.sin(), angle.cos()) for angle in (yaw, pitch))
    rows = (cos, 0 * cos, sin, up * sin, level, -up * cos, -level * sin, up, level * cos)
    return torch.stack(rows, dim=-1).view(n, 3, 3)
