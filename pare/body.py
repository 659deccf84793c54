"""The SMPL body: its joints, rotations, cameras and skinning.

SMPL is of Loper et al., SIGGRAPH Asia 2015. Its frame in a model file: metres, y up, z ahead, x to
the body's left. Cameras see x right, y down, z ahead, so an upright person is turned by half a
turn about x.
"""
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

JOINTS = ('Pelvis', 'LHip', 'RHip', 'Spine1', 'LKnee', 'RKnee', 'Spine2', 'LAnkle', 'RAnkle',
          'Spine3', 'LFoot', 'RFoot', 'Neck', 'LCollar', 'RCollar', 'Head', 'LShoulder',
          'RShoulder', 'LElbow', 'RElbow', 'LWrist', 'RWrist', 'LHand', 'RHand')
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
N_BETAS = 10

# a mirror swaps left and right
FLIP_JOINTS = [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22]
FLIP_PARTS = [0, *(1 + joint for joint in FLIP_JOINTS)]  # 0 is the background
FLIP_KEYPOINTS = [5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, *range(12, 20), 21, 20, 23, 22]

# SPIN's 24 keypoints: from the skeleton, from J_regressor_extra, from vertices of the face
KEYPOINTS = ('RAnkle', 'RKnee', 'RHip', 'LHip', 'LKnee', 'LAnkle', 'RWrist', 'RElbow', 'RShoulder',
             'LShoulder', 'LElbow', 'LWrist', 'Neck', 'HeadTop', 'Pelvis', 'Thorax', 'Spine',
             'Jaw', 'Head', 'Nose', 'LEye', 'REye', 'LEar', 'REar')
EXTRA = ('RHip', 'LHip', 'Neck', 'HeadTop', 'Pelvis', 'Thorax', 'Spine', 'Jaw', 'Head')
FACE = {'Nose': 332, 'LEye': 2800, 'REye': 6260, 'LEar': 583, 'REar': 4071}  # vertices of SMPL
H36M = ('Pelvis', 'LHip', 'LKnee', 'LAnkle', 'RHip', 'RKnee', 'RAnkle', 'Spine', 'Neck', 'Jaw',
        'Head', 'LShoulder', 'LElbow', 'LWrist', 'RShoulder', 'RElbow', 'RWrist')
H36M_IN_S = [KEYPOINTS.index(name) for name in H36M]
GENDERS = 'neutral', 'm', 'f'
EVALUATED = ('RAnkle', 'RKnee', 'RHip', 'LHip', 'LKnee', 'LAnkle', 'RWrist', 'RElbow', 'RShoulder',
             'LShoulder', 'LElbow', 'LWrist', 'Neck', 'Head')  # the 14 joints of 3DPW's protocol


@cache
def on_device(values: tuple, device: torch.device) -> Tensor:
    """Return numbers as a tensor, copied to a device only once: the CPU waits at each copy."""
    return torch.tensor(values, device=device)


# ---- rotations ----------------------------------------------------------------------------------

def axis_angle_to_matrix(vector: Tensor) -> Tensor:
    """Return rotations (..., 3, 3) about vectors (..., 3) by their length in radians.

    Rodrigues, 1840. sin(t) / t and (1 - cos t) / t^2 are written with sinc, exact at zero.
    """
    angle = torch.linalg.vector_norm(vector, dim=-1)[..., None, None] / torch.pi
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    eye = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return eye + torch.sinc(angle) * cross + torch.sinc(angle / 2) ** 2 / 2 * cross @ cross


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Return vectors (..., 3) of a length up to pi for rotations (..., 3, 3).

    The quaternion is the eigenvector of Bar-Itzhack (Journal of Guidance, 2000), good at any angle.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in matrix.unbind(-2))
    rows = (xx - yy - zz, xy + yx, xz + zx, zy - yz, xy + yx, yy - xx - zz, yz + zy, xz - zx,
            xz + zx, yz + zy, zz - xx - yy, yx - xy, zy - yz, xz - zx, yx - xy, xx + yy + zz)
    _, vectors = torch.linalg.eigh(torch.stack(rows, dim=-1).unflatten(-1, (4, 4)))
    axis, cosine = vectors[..., -1].split((3, 1), dim=-1)
    axis = axis * torch.where(cosine < 0, -1, 1)
    sine = torch.linalg.vector_norm(axis, dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, cosine.abs())
    return axis * torch.where(sine > 1e-12, angle / sine.clamp(min=1e-12), 2)


def rotation_6d_to_matrix(six: Tensor) -> Tensor:
    """Return rotations (..., 3, 3) of six numbers (..., 6), the first two columns row by row.

    Zhou et al., "On the continuity of rotation representations", CVPR 2019, in the order of HMR,
    SPIN and PARE: a1 = (x0, x2, x4), a2 = (x1, x3, x5).
    """
    one, two = six.unflatten(-1, (3, 2)).unbind(-1)
    one = nn.functional.normalize(one, dim=-1)
    two = nn.functional.normalize(two - (one * two).sum(-1, keepdim=True) * one, dim=-1)
    return torch.stack([one, two, torch.linalg.cross(one, two)], dim=-1)


def matrix_to_rotation_6d(matrix: Tensor) -> Tensor:
    """Return six numbers (..., 6) of rotations (..., 3, 3)."""
    return matrix[..., :2].flatten(-2)


def relative_rotations(world: Tensor) -> Tensor:
    """Convert rotations (B, 24, 3, 3) in the camera's frame to those relative to the parents."""
    parents = world[:, on_device(PARENTS[1:], world.device)]
    return torch.cat([world[:, :1], parents.mT @ world[:, 1:]], dim=1)


def mirrored_rotations(rotations: Tensor) -> Tensor:
    """Return rotations (..., 24, 3, 3) of a body as a mirror shows it; a mirror negates x."""
    order, mirror = (on_device(values, rotations.device)
                     for values in (tuple(FLIP_JOINTS), (-1., 1., 1.)))
    return mirror[:, None] * rotations.index_select(-3, order) * mirror


# ---- cameras ------------------------------------------------------------------------------------

def project(points: Tensor, camera: Tensor) -> Tensor:
    """Project points (B, K, 3) to the crop (B, K, 2), -1 to 1, by cameras (s, tx, ty) (B, 3).

    Weak perspective as in HMR: u, v = s (x + tx, y + ty). In a crop of r pixels: (u + 1) r / 2.
    """
    return camera[:, None, :1] * (points[..., :2] + camera[:, None, 1:])


def fit_camera(points: Tensor, places: Tensor, weight: Tensor) -> Tensor:
    """Return cameras (B, 3) that project points (B, K, 3) nearest to places (B, K, 2) of the crop:
    least squares with weights (B, K), and a scale of at least 1e-3."""
    weight = (weight / weight.sum(dim=1, keepdim=True).clamp(min=1e-9))[..., None]
    centre, middle = (weight * points[..., :2]).sum(dim=1), (weight * places).sum(dim=1)
    offset = points[..., :2] - centre[:, None]
    scale = (weight * offset * (places - middle[:, None])).sum(dim=(1, 2))
    scale = scale / (weight * offset.square()).sum(dim=(1, 2)).clamp(min=1e-9)
    scale = scale.clamp(min=1e-3)[:, None]
    return torch.cat([scale, middle / scale - centre], dim=1)


def full_translation(camera: Tensor, centre: Tensor, side: Tensor, size: Tensor,
                     focal: Tensor | float = 5000.) -> Tensor:
    """Return the translation (B, 3) of the body in metres, for a camera of the whole image.

    camera (B, 3) as in `project`; centre (B, 2) and side (B,) of the crop's box and size (B, 2),
    width and height of the image, in pixels like the focal length. With the principal point in
    the middle of the image, f X / Z + size / 2 is then the pixel. For the crop alone, as in SPIN,
    centre is size / 2 and side is the resolution.
    """
    side = side[:, None]
    shift = 2 * (centre - size / 2) / (side * camera[:, :1])
    depth = 2 * focal / (side * camera[:, :1])
    return torch.cat([camera[:, 1:] + shift, depth], dim=1)


# ---- skinning -----------------------------------------------------------------------------------

class Body(nn.Module):
    """Linear blend skinning of the arrays of an SMPL file, with all vertices or a choice of them.

    Inside, coordinates come before vertices, so that products of skinning have long rows.
    """

    def __init__(self, arrays: dict, vertices=slice(None)):
        super().__init__()
        template, shapes, poses, weights, regressor = (torch.from_numpy(arrays[key]) for key in (
            'v_template', 'shapedirs', 'posedirs', 'weights', 'J_regressor'))
        directions = torch.cat([shapes, poses], dim=2)[vertices]                    # (V, 3, 217)
        for name, value in (
                ('template', template[vertices].T.flatten()),                       # (3V,)
                ('directions', directions.permute(2, 1, 0).flatten(1)),             # (217, 3V)
                ('weights', weights[vertices].T),                                   # (24, V)
                ('joint_template', regressor @ template),                           # (24, 3)
                ('joint_shapes', torch.einsum('jv,vcb->bjc', regressor, shapes).flatten(1))):
            self.register_buffer(name, value.clone(memory_format=torch.contiguous_format),
                                 persistent=False)
        depth = [0]
        for parent in PARENTS[1:]:
            depth.append(depth[parent] + 1)
        levels = [[j for j in range(24) if depth[j] == level] for level in range(max(depth) + 1)]
        above = [before.index(PARENTS[joint]) for before, level in zip(levels, levels[1:])
                 for joint in level]
        by_level, self.sizes = sum(levels, []), [len(level) for level in levels]
        for name, indices in (('above', above), ('by_level', by_level),
                              ('order', np.argsort(by_level)), ('parents', PARENTS[1:])):
            self.register_buffer(name, torch.tensor(indices), persistent=False)

    def joints(self, betas: Tensor) -> Tensor:
        """Return joints at rest (B, 24, 3)."""
        return self.joint_template + (betas @ self.joint_shapes).unflatten(1, (24, 3))

    def posed_joints(self, betas: Tensor, rotations: Tensor) -> Tensor:
        """Return joints (B, 24, 3) as in forward, without vertices."""
        return self.chain(self.joints(betas), rotations)[..., :3, 3]

    def forward(self, betas: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor]:
        """Return vertices (B, V, 3) and joints (B, 24, 3), in metres, of betas (B, 10) and the
        rotations (B, 24, 3, 3) of the joints relative to their parents."""
        rest = self.joints(betas)
        bends = rotations[:, 1:] - torch.eye(3, dtype=betas.dtype, device=betas.device)
        features = torch.cat([betas, bends.flatten(1)], dim=1)                # (B, 217)
        x, y, z = torch.addmm(self.template, features, self.directions).unflatten(
            1, (3, 1, -1)).unbind(1)                                          # (B, 1, V) each
        turns, places = self.chain(rest, rotations)[:, :, :3].split((3, 1), dim=3)
        moves = torch.cat([turns, places - turns @ rest[..., None]], dim=3)   # (B, 24, 3, 4)
        moves = moves.permute(0, 3, 2, 1).flatten(1, 2) @ self.weights        # (B, 12, V)
        of_x, of_y, of_z, shift = moves.unflatten(1, (4, 3)).unbind(1)        # (B, 3, V) each
        vertices = torch.addcmul(torch.addcmul(torch.addcmul(shift, of_x, x), of_y, y), of_z, z)
        return vertices.mT.contiguous(), places.squeeze(3)

    def chain(self, rest: Tensor, rotations: Tensor) -> Tensor:
        """Return the transforms (B, 24, 4, 4) of the joints by forward kinematics, a level of the
        tree at a time."""
        bones = torch.cat([rest[:, :1], rest[:, 1:] - rest[:, self.parents]], dim=1)
        local = nn.functional.pad(torch.cat([rotations, bones[..., None]], dim=3), (0, 0, 0, 1))
        local[..., 3, 3] = 1
        root, *levels = local[:, self.by_level].split(self.sizes, dim=1)
        world = [root]
        for level, above in zip(levels, self.above.split(self.sizes[1:])):
            world.append(world[-1][:, above] @ level)
        return torch.cat(world, dim=1)[:, self.order]


class Points(NamedTuple):
    """Points of bodies, in metres."""
    keypoints: Tensor  # SPIN's (B, 24, 3)
    h36m: Tensor       # joints of Human3.6M (B, 17, 3), without their regressor (B, 0, 3)
    joints: Tensor     # SMPL's (B, 24, 3)


class Skeleton(nn.Module):
    """Computes the points of a body from the few vertices that they need.

    `known` (24,) tells which keypoints the body has: without J_regressor_extra nine are missing,
    without vertices of the face five. `centre` are the two keypoints whose mean is the middle: the
    hips or, if those are missing, the shoulders.
    """

    def __init__(self, arrays: dict):
        super().__init__()
        joints, regressor = np.zeros((24, 24)), np.zeros((24, len(arrays['v_template'])))
        for row, name in enumerate(KEYPOINTS):
            if name in FACE:
                if 'face' in arrays:
                    regressor[row, arrays['face'][list(FACE).index(name)]] = 1
            elif name not in EXTRA:
                joints[row, JOINTS.index(name)] = 1
            elif 'J_regressor_extra' in arrays:
                regressor[row] = arrays['J_regressor_extra'][EXTRA.index(name)]
        rows = np.concatenate([regressor, arrays.get('J_regressor_h36m', regressor[:0])])
        used = (rows != 0).any(axis=0)
        self.body = Body(arrays, used)
        for name, array in (('rows', rows[:, used]), ('of_joints', joints)):
            self.register_buffer(name, torch.from_numpy(array).float(), persistent=False)
        self.register_buffer('known', torch.from_numpy(joints.any(axis=1) | regressor.any(axis=1)),
                             persistent=False)
        first = KEYPOINTS.index('RHip' if 'J_regressor_extra' in arrays else 'RShoulder')
        self.centre = slice(first, first + 2)  # the left one follows

    def missing(self) -> str:
        """Say which keypoints the body does not have; an empty string if it has all."""
        names = [name for name, known in zip(KEYPOINTS, self.known.tolist()) if not known]
        if not names:
            return ''
        return (f'the body has no {", ".join(names)}, which are left out: found no '
                f'J_regressor_extra.npy of SPIN beside its file or up to two folders above')

    def forward(self, betas: Tensor, rotations: Tensor) -> Points:
        """Compute the points of betas (B, 10) and rotations (B, 24, 3, 3), as in Body."""
        vertices, joints = self.body(betas, rotations)
        regressed = self.rows @ vertices
        return Points(regressed[:, :24] + self.of_joints @ joints, regressed[:, 24:], joints)
