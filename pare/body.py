"""The SMPL body: its files, rotations, cameras, skinning, and a stand-in that is made here.

    python -m pare.body make body.npz                    # the stand-in
    python -m pare.body convert SMPL_NEUTRAL.pkl smpl.npz

SMPL is of Loper et al., SIGGRAPH Asia 2015. Its frame in a model file: metres, y up, z ahead, x to
the body's left. Cameras see x right, y down, z ahead, so an upright person is turned by half a
turn about x.
"""
import argparse
import pickle
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

JOINTS = ('Pelvis', 'LHip', 'RHip', 'Spine1', 'LKnee', 'RKnee', 'Spine2', 'LAnkle', 'RAnkle',
          'Spine3', 'LFoot', 'RFoot', 'Neck', 'LCollar', 'RCollar', 'Head', 'LShoulder',
          'RShoulder', 'LElbow', 'RElbow', 'LWrist', 'RWrist', 'LHand', 'RHand')
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
N_BETAS = 10

# the 24 keypoints of SPIN's annotations: of the skeleton, of J_regressor_extra, of the face
KEYPOINTS = ('RAnkle', 'RKnee', 'RHip', 'LHip', 'LKnee', 'LAnkle', 'RWrist', 'RElbow', 'RShoulder',
             'LShoulder', 'LElbow', 'LWrist', 'Neck', 'HeadTop', 'Pelvis', 'Thorax', 'Spine',
             'Jaw', 'Head', 'Nose', 'LEye', 'REye', 'LEar', 'REar')
EXTRA = ('RHip', 'LHip', 'Neck', 'HeadTop', 'Pelvis', 'Thorax', 'Spine', 'Jaw', 'Head')
FACE = {'Nose': 332, 'LEye': 2800, 'REye': 6260, 'LEar': 583, 'REar': 4071}  # vertices of SMPL
H36M = ('Pelvis', 'LHip', 'LKnee', 'LAnkle', 'RHip', 'RKnee', 'RAnkle', 'Spine', 'Neck', 'Jaw',
        'Head', 'LShoulder', 'LElbow', 'LWrist', 'RShoulder', 'RElbow', 'RWrist')
EVALUATED = ('RAnkle', 'RKnee', 'RHip', 'LHip', 'LKnee', 'LAnkle', 'RWrist', 'RElbow', 'RShoulder',
             'LShoulder', 'LElbow', 'LWrist', 'Neck', 'Head')  # the 14 joints of 3DPW's protocol


# ---- files --------------------------------------------------------------------------------------

class _Node:
    """What stands for an object of chumpy or scipy: it keeps its state and does nothing."""

    def __init__(self, *args):
        self.state = {}

    def __setstate__(self, state):
        self.state = state


class SafeUnpickler(pickle.Unpickler):
    """Builds arrays, plain types and inert nodes; calls nothing else that a file asks for."""

    PLAIN = {'object': object, 'set': set, 'bytearray': bytearray}
    NUMPY = {'ndarray': np.ndarray, 'dtype': np.dtype,
             '_reconstruct': np.zeros(1).__reduce__()[0],
             'scalar': np.float64(0).__reduce__()[0],
             '_frombuffer': np.zeros(1).__reduce_ex__(5)[0]}

    def __init__(self, file):
        super().__init__(file, encoding='latin1')  # as Python 2 wrote

    def find_class(self, module, name):
        package = module.partition('.')[0]
        if package == 'numpy' and name in self.NUMPY:
            return self.NUMPY[name]
        if package in ('chumpy', 'scipy'):
            return type(name, (_Node,), {})
        if package in ('builtins', '__builtin__') and name in self.PLAIN:
            return self.PLAIN[name]
        if (module, name) == ('_codecs', 'encode'):
            return lambda text, _: text.encode('latin1')
        if package in ('copyreg', 'copy_reg') and name == '_reconstructor':
            return lambda kind, base, state: kind.__new__(kind)
        raise pickle.UnpicklingError(f'{module}.{name} is not of a body model')


def plain_array(value) -> np.ndarray:
    """The array that a chumpy or scipy node stands for. Raises ValueError for nodes of another kind
    and for what is no array."""
    if not isinstance(value, _Node):
        return np.asarray(value)
    kind, state = type(value).__name__, value.state
    if kind == 'Ch' and 'x' in state:
        return plain_array(state['x'])
    if kind == 'Select':
        return plain_array(state['a']).ravel()[plain_array(state['idxs'])].reshape(
            state['preferred_shape'])
    if kind[:3] in ('csc', 'csr'):
        shape = state.get('_shape', state.get('shape'))
        columns = kind.startswith('csc')
        dense = np.zeros(shape[::-1] if columns else shape)
        rows = np.repeat(np.arange(len(dense)), np.diff(state['indptr']))
        np.add.at(dense, (rows, state['indices']), state['data'])
        return dense.T if columns else dense
    raise ValueError(f'found a {kind}, expected an array')


def read_pickle(path) -> dict:
    """A pickled dictionary, read without running anything. Raises OSError, or ValueError for what
    is no such file."""
    try:
        with open(path, 'rb') as file:
            found = SafeUnpickler(file).load()
    except OSError as error:
        raise type(error)(f'{path}: {error.strerror}, expected a pickle') from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise ValueError(f'{path}: found no readable pickle ({reason})') from error
    if not isinstance(found, dict):
        raise ValueError(f'{path}: found a {type(found).__name__}, expected a dictionary')
    return found


def read_npz(path) -> dict[str, np.ndarray]:
    """The arrays of an .npz, without pickled objects. Raises OSError or ValueError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{path}: no such file, expected an .npz') from error
    except Exception as error:
        raise ValueError(f'{path}: found no readable .npz ({error})') from error


def write_npz(path, arrays: dict) -> None:
    """Writes arrays as they are; the file is whole or not there."""
    temporary = Path(f'{path}.tmp')
    try:
        with open(temporary, 'wb') as file:
            np.savez(file, **arrays)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


SHAPES = {'v_template': ('V', 3), 'shapedirs': ('V', 3, 'B'), 'posedirs': ('V', 3, 207),
          'J_regressor': (24, 'V'), 'weights': ('V', 24), 'kintree_table': (2, 24), 'f': ('F', 3)}
REGRESSORS = {'J_regressor_h36m': len(H36M), 'J_regressor_extra': len(EXTRA)}


def load_body(path) -> dict[str, np.ndarray]:
    """Reads and checks an SMPL model, .pkl or .npz: the arrays of SHAPES as float32 and int64.

    Regressors that lie beside it as J_regressor_h36m.npy and J_regressor_extra.npy are read too.
    Raises OSError or ValueError, one line with file and key.
    """
    path = Path(path)
    raw = (read_npz if path.suffix == '.npz' else read_pickle)(path)
    body, sizes = {}, {}
    for key, shape in SHAPES.items():
        if key not in raw:
            raise ValueError(f'{path}: key {key} is missing, expected {", ".join(SHAPES)}')
        try:
            array = plain_array(raw[key])
            body[key] = array.astype(np.int64 if key in ('kintree_table', 'f') else np.float32)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f'{path}: key {key}: {error}') from error
        for size, name in zip(array.shape, shape):
            sizes.setdefault(name, size if isinstance(name, str) else name)
        expected = tuple(sizes[name] for name in shape)
        if array.shape != expected:
            raise ValueError(f'{path}: key {key}: found shape {array.shape}, expected {expected}')
    if sizes['B'] < N_BETAS or not np.array_equal(body['kintree_table'][0][1:], PARENTS[1:]):
        raise ValueError(f'{path}: found {sizes["B"]} shapes and another skeleton or too few of '
                         f'them, expected SMPL with at least {N_BETAS}')
    body['shapedirs'] = body['shapedirs'][..., :N_BETAS]
    body['face'] = np.asarray(raw.get('face', tuple(FACE.values())), dtype=np.int64)
    for key, rows in REGRESSORS.items():
        beside = path.with_name(f'{key}.npy')
        if key in raw or beside.exists():
            regressor = raw[key] if key in raw else np.load(beside, allow_pickle=False)
            if regressor.shape != (rows, sizes['V']):
                raise ValueError(f'{beside}: found shape {regressor.shape}, expected '
                                 f'{(rows, sizes["V"])}')
            body[key] = regressor.astype(np.float32)
    if 'J_regressor_h36m' in body and (body['J_regressor_h36m'][1] @ body['v_template'])[0] < 0:
        body['J_regressor_h36m'] = body['J_regressor_h36m'][  # a file with the right leg first
            [0, 4, 5, 6, 1, 2, 3, *range(7, 17)]]
    return body


# ---- rotations ----------------------------------------------------------------------------------

def axis_angle_to_matrix(vector: Tensor) -> Tensor:
    """Rotations (..., 3, 3) about vectors (..., 3) by their length in radians (Rodrigues, 1840).

    sin(t) / t and (1 - cos t) / t^2 are written with sinc, which is exact at zero.
    """
    angle = torch.linalg.vector_norm(vector, dim=-1)[..., None, None] / torch.pi
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    eye = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return eye + torch.sinc(angle) * cross + torch.sinc(angle / 2) ** 2 / 2 * cross @ cross


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Vectors (..., 3) of rotations (..., 3, 3), of a length up to pi.

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
    """Rotations (..., 3, 3) of six numbers (..., 6), the first two columns row by row.

    Zhou et al., "On the continuity of rotation representations", CVPR 2019, in the order of HMR,
    SPIN and PARE: a1 = (x0, x2, x4), a2 = (x1, x3, x5).
    """
    one, two = six.unflatten(-1, (3, 2)).unbind(-1)
    one = nn.functional.normalize(one, dim=-1)
    two = nn.functional.normalize(two - (one * two).sum(-1, keepdim=True) * one, dim=-1)
    return torch.stack([one, two, torch.linalg.cross(one, two)], dim=-1)


def matrix_to_rotation_6d(matrix: Tensor) -> Tensor:
    """Six numbers (..., 6) of rotations (..., 3, 3)."""
    return matrix[..., :2].flatten(-2)


def relative_rotations(world: Tensor) -> Tensor:
    """Rotations (B, 24, 3, 3) relative to the parents, of those in the camera's frame."""
    parents = world[:, list(PARENTS[1:])]
    return torch.cat([world[:, :1], parents.mT @ world[:, 1:]], dim=1)


# ---- cameras ------------------------------------------------------------------------------------

def project(points: Tensor, camera: Tensor) -> Tensor:
    """Points (B, K, 3) to the crop (B, K, 2), -1 to 1, by weak perspective (s, tx, ty) (B, 3).

    As HMR: s (x + tx, y + ty). A pixel of a crop of r pixels is (x + 1) r / 2.
    """
    return camera[:, None, :1] * (points[..., :2] + camera[:, None, 1:])


def fit_camera(points: Tensor, places: Tensor, weight: Tensor) -> Tensor:
    """Cameras (B, 3) with which points (B, K, 3) fall nearest to places (B, K, 2) of the crop, by
    least squares with weights (B, K). The scale is kept above 1e-3."""
    weight = (weight / weight.sum(dim=1, keepdim=True).clamp(min=1e-9))[..., None]
    centre, middle = (weight * points[..., :2]).sum(dim=1), (weight * places).sum(dim=1)
    offset = points[..., :2] - centre[:, None]
    scale = (weight * offset * (places - middle[:, None])).sum(dim=(1, 2))
    scale = scale / (weight * offset.square()).sum(dim=(1, 2)).clamp(min=1e-9)
    scale = scale.clamp(min=1e-3)[:, None]
    return torch.cat([scale, middle / scale - centre], dim=1)


def full_translation(camera: Tensor, centre: Tensor, side: Tensor, size: Tensor,
                     focal: Tensor | float = 5000.) -> Tensor:
    """Where the body stands before the camera of the whole image, (B, 3) in metres.

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
    """Linear blend skinning of the arrays of `load_body`, with all vertices or a choice of them."""

    def __init__(self, arrays: dict, vertices=slice(None)):
        super().__init__()
        tensors = {key: torch.from_numpy(arrays[key]) for key in SHAPES}
        regressor, template, shapes = (tensors[key] for key in (
            'J_regressor', 'v_template', 'shapedirs'))
        for name, value in (
                ('template', template[vertices]),                                       # (V, 3)
                ('shapes', shapes[vertices].flatten(0, 1).T.contiguous()),              # (10, 3V)
                ('poses', tensors['posedirs'][vertices].flatten(0, 1).T.contiguous()),  # (207, 3V)
                ('weights', tensors['weights'][vertices]),                              # (V, 24)
                ('joint_template', regressor @ template),                               # (24, 3)
                ('joint_shapes', torch.einsum('jv,vcb->bjc', regressor, shapes).flatten(1))):
            self.register_buffer(name, value.clone(), persistent=False)
        depth = [0]
        for parent in PARENTS[1:]:
            depth.append(depth[parent] + 1)
        levels = [[j for j in range(24) if depth[j] == level] for level in range(max(depth) + 1)]
        self.levels = [(level, [PARENTS[joint] for joint in level],
                        [above.index(PARENTS[joint]) for joint in level])
                       for above, level in zip(levels, levels[1:])]
        self.order = np.argsort(sum(levels, [])).tolist()

    def joints(self, betas: Tensor) -> Tensor:
        """Joints at rest (B, 24, 3)."""
        return self.joint_template + (betas @ self.joint_shapes).unflatten(1, (24, 3))

    def forward(self, betas: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor]:
        """Vertices (B, V, 3) and joints (B, 24, 3), metres, of betas (B, 10) and the rotations
        (B, 24, 3, 3) of the joints relative to their parents."""
        rest = self.joints(betas)
        bends = rotations[:, 1:] - torch.eye(3, dtype=betas.dtype, device=betas.device)
        offset = betas @ self.shapes + bends.flatten(1) @ self.poses
        vertices = self.template + offset.unflatten(1, (-1, 3))           # (B, V, 3)
        turns, places = self.chain(rest, rotations)
        shifts = places - (turns @ rest[..., None]).squeeze(-1)
        moves = torch.cat([turns.flatten(2), shifts], dim=2)              # (B, 24, 12)
        moves = self.weights @ moves                                      # (B, V, 12)
        turned = (moves[..., :9].unflatten(2, (3, 3)) * vertices[..., None, :]).sum(dim=-1)
        return turned + moves[..., 9:], places

    def chain(self, rest: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor]:
        """Rotations and places of the joints in the world, a level of the tree at a time."""
        turns, places = [rotations[:, :1]], [rest[:, :1]]
        for level, parents, above in self.levels:
            turn, bone = turns[-1][:, above], rest[:, level] - rest[:, parents]
            places.append(places[-1][:, above] + (turn @ bone[..., None]).squeeze(-1))
            turns.append(turn @ rotations[:, level])
        return torch.cat(turns, dim=1)[:, self.order], torch.cat(places, dim=1)[:, self.order]


class Skeleton(nn.Module):
    """What a training needs of a body, from the few vertices that it takes: KEYPOINTS and H36M.

    `known` (24,) tells which keypoints there are: without J_regressor_extra nine are not. Without
    J_regressor_h36m there are no joints of H36M.
    """

    def __init__(self, arrays: dict):
        super().__init__()
        joints, regressor = np.zeros((24, 24)), np.zeros((24, len(arrays['v_template'])))
        for row, name in enumerate(KEYPOINTS):
            if name in FACE:
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

    def forward(self, betas: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints (B, 24, 3) and joints of H36M (B, 17, 3) or (B, 0, 3), in metres."""
        vertices, joints = self.body(betas, rotations)
        regressed = self.rows @ vertices
        return regressed[:, :24] + self.of_joints @ joints, regressed[:, 24:]


# ---- the stand-in -------------------------------------------------------------------------------

RINGS, SEGMENTS = 7, 10
# for each joint: where it is from its parent, in metres, then half width and half depth of its part
SKELETON = np.array([
    (0, 0, 0, .130, .090), (.075, -.085, 0, .078, .080), (-.075, -.085, 0, .078, .080),
    (0, .105, 0, .125, .085), (.02, -.385, 0, .055, .058), (-.02, -.385, 0, .055, .058),
    (0, .13, 0, .135, .090), (0, -.395, -.01, .038, .040), (0, -.395, -.01, .038, .040),
    (0, .055, 0, .145, .095), (.01, -.06, .09, .040, .032), (-.01, -.06, .09, .040, .032),
    (0, .21, -.02, .050, .052), (.075, .115, -.01, .055, .060), (-.075, .115, -.01, .055, .060),
    (0, .085, .01, .075, .090), (.1, .035, 0, .048, .050), (-.1, .035, 0, .048, .050),
    (.255, -.01, 0, .040, .040), (-.255, -.01, 0, .040, .040), (.25, 0, 0, .030, .028),
    (-.25, 0, 0, .030, .028), (.08, 0, 0, .042, .020), (-.08, 0, 0, .042, .020)])
TIPS = {10: (0, -.01, .08), 11: (0, -.01, .08), 15: (0, .14, .01), 22: (.09, 0, 0),
        23: (-.09, 0, 0)}  # ends of parts that have no child
CHILD = {0: 3, 9: 12, **{parent: joint for joint, parent in enumerate(PARENTS)
                         if parent not in (-1, 0, 9)}}
TORSO, HEAD, LEGS, ARMS = (0, 3, 6, 9), (12, 15), (4, 5, 7, 8), (18, 19, 20, 21)
# what each beta does, by one: factors of bones, and of half widths and depths of the parts
BETAS = (
    ({range(24): .05}, {range(24): .05}),                        # size
    ({}, {range(24): .10}),                                      # girth
    ({(3, 6, 9, 12): .06}, {}),                                  # torso
    ({ARMS: .06}, {}),                                           # arms
    ({LEGS: .06}, {}),                                           # legs
    ({(13, 14, 16, 17): .08}, {(9,): .06}),                      # shoulders
    ({(1, 2): .10}, {(0, 1, 2): .06}),                           # hips
    ({}, {(3, 6): .14}),                                         # belly
    ({(15,): .06}, {HEAD: .08}),                                 # head
    ({}, {(*LEGS, *ARMS, 1, 2, 16, 17): .12}))                   # thickness of the limbs


def shape_body(betas=np.zeros(N_BETAS)) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (24, 72, 3) of the 24 parts and joints (24, 3) of the stand-in, at rest.

    A part is a capsule from its joint to its main child: a pole, seven rings, a pole.
    """
    bones, widths = np.ones(24), np.ones(24)
    for beta, (of_bones, of_widths) in zip(betas, BETAS):
        for factors, changes in ((bones, of_bones), (widths, of_widths)):
            for joints, change in changes.items():
                factors[list(joints)] *= 1 + beta * change
    joints = np.zeros((24, 3))
    for joint, parent in enumerate(PARENTS[1:], start=1):
        joints[joint] = joints[parent] + bones[joint] * SKELETON[joint, :3]
    parts = []
    for joint, start in enumerate(joints):
        end = (joints[CHILD[joint]] if joint in CHILD else
               start + bones[joint] * np.array(TIPS[joint]))
        length = np.linalg.norm(end - start)
        axis = (end - start) / length
        across = np.eye(3)[0 if abs(axis[0]) < .8 else 1]
        across -= across @ axis * axis
        across /= np.linalg.norm(across)
        half = np.stack([across, np.cross(axis, across)])
        half *= widths[joint] * SKELETON[joint, 3:, None]
        cap = np.linalg.norm(half, axis=1).mean()
        angle = 2 * np.pi * (np.arange(SEGMENTS) + .5) / SEGMENTS
        circle = np.stack([np.cos(angle), np.sin(angle)], axis=1) @ half                # (10, 3)
        along = np.array([-.7 * cap, *np.linspace(0, length, 5), length + .7 * cap])
        width = np.array([.7, 1, 1, 1, 1, 1, .7])
        rings = start + along[:, None, None] * axis + width[:, None, None] * circle     # (7, 10, 3)
        parts.append([start - cap * axis, *rings.reshape(-1, 3), end + cap * axis])
    return np.array(parts), joints


def make_body() -> dict[str, np.ndarray]:
    """A body of 1,728 vertices in the keys, types and axes of SMPL; each joint has its part."""
    template, joints = shape_body()
    n_part = RINGS * SEGMENTS + 2
    shapes = np.stack([(shape_body(step)[0] - shape_body(-step)[0]) / 2 for step in np.eye(10)], -1)

    ring = 1 + np.arange(SEGMENTS)
    following = 1 + (np.arange(SEGMENTS) + 1) % SEGMENTS
    faces = [np.stack([np.zeros_like(ring), following, ring], axis=1)]
    for first in range(0, (RINGS - 1) * SEGMENTS, SEGMENTS):
        one, two, three, four = (first + end for end in (
            ring, following, ring + SEGMENTS, following + SEGMENTS))
        faces += [np.stack([one, two, three], axis=1), np.stack([two, four, three], axis=1)]
    last = (RINGS - 1) * SEGMENTS
    faces.append(np.stack([last + ring, last + following, np.full_like(ring, n_part - 1)], axis=1))
    faces = np.concatenate(faces)

    def rows(vertices_of_joint) -> np.ndarray:
        """Regressor of means of the vertices of a part, named as (joint, vertices)."""
        regressor = np.zeros((len(vertices_of_joint), 24, n_part))
        for row, (joint, vertices) in enumerate(vertices_of_joint):
            regressor[row, joint, vertices] = 1 / np.size(vertices)
        return regressor.reshape(-1, 24 * n_part)

    at_joint, top = ring + SEGMENTS, n_part - 1  # the ring around the joint; the pole at the end
    named = {name: (joint, at_joint) for joint, name in enumerate(JOINTS)}
    named |= {'Spine': named['Spine2'], 'Thorax': named['Neck'], 'Jaw': named['Head'],
              'HeadTop': (15, top)}
    weights, bulge = _skin(n_part)
    body = {'v_template': template.reshape(-1, 3), 'shapedirs': shapes.reshape(-1, 3, N_BETAS),
            'posedirs': bulge, 'J_regressor': rows([(j, at_joint) for j in range(24)]),
            'weights': weights.reshape(-1, 24),
            'kintree_table': np.array([(2 ** 32 - 1, *PARENTS[1:]), range(24)], dtype=np.uint32),
            'f': np.concatenate([faces + n_part * part for part in range(24)]).astype(np.uint32),
            'J_regressor_h36m': rows([named[name] if name != 'Head' else named['HeadTop']
                                      for name in H36M]),
            'J_regressor_extra': rows([named[name] for name in EXTRA]),
            'face': 15 * n_part + 1 + 3 * SEGMENTS + np.array([7, 8, 6, 9, 5])}
    return {key: array.astype(np.float32) if array.dtype == float else array
            for key, array in body.items()}


def _skin(n_part: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights (24, n_part, 24), blended towards the neighbours at both ends of a part, and pose
    directions (V, 3, 207): knees and elbows bulge a little."""
    weights = np.zeros((24, n_part, 24))
    ring_of = np.array([0, *np.repeat(np.arange(RINGS), SEGMENTS), RINGS - 1])
    for joint, parent in enumerate(PARENTS):
        for others, share in ((parent, np.array([.5, .5, .2, 0, 0, 0, 0])),
                              (CHILD.get(joint, -1), np.array([0, 0, 0, 0, .2, .5, .5]))):
            if others >= 0:
                weights[joint, :, others] += share[ring_of]
        weights[joint, :, joint] += 1 - weights[joint].sum(axis=1)
    bulge = np.zeros((24, n_part, 3, 23, 9))
    angle = 2 * np.pi * (np.arange(SEGMENTS) + .5) / SEGMENTS
    for joint in (4, 5, 18, 19):
        for place, entry, sign in ((1, 5, 1), (2, 7, -1)):  # the sine of a bend about x, or y
            bulge[joint, 1 + SEGMENTS * place:1 + SEGMENTS * (place + 1), 2, joint - 1, entry] = (
                sign * .01 * np.cos(angle))
    return weights, bulge.reshape(24 * n_part, 3, 207)


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description='Makes a stand-in body, or converts an SMPL file.')
    parser.error = lambda message: parser.exit(2, f'pare.body: {message}\n')
    commands = parser.add_subparsers(dest='command', required=True)
    make = commands.add_parser('make', help='the stand-in')
    make.add_argument('out', type=Path, help='.npz')
    convert = commands.add_parser('convert', help='an SMPL .pkl to a plain .npz')
    convert.add_argument('source', type=Path)
    convert.add_argument('out', type=Path, help='.npz')
    args = parser.parse_args(argv)
    try:
        arrays = make_body() if args.command == 'make' else load_body(args.source)
        write_npz(args.out, arrays)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f'wrote {args.out}: {len(arrays["v_template"])} vertices')
    return 0


if __name__ == '__main__':
    sys.exit(main())
