"""The skeleton: names of joints, bones, and how the points of a detector make joints."""
from itertools import product

import numpy as np

from common.camera import ROOT

JOINTS = ('RHip', 'RKnee', 'RAnkle', 'LHip', 'LKnee', 'LAnkle', 'Spine', 'Neck', 'Head',
          'LShoulder', 'LElbow', 'LWrist', 'RShoulder', 'RElbow', 'RWrist')
BONES = [(15, 0), (0, 1), (1, 2), (15, 3), (3, 4), (4, 5), (15, 6), (6, 7), (7, 8),
         (7, 9), (9, 10), (10, 11), (7, 12), (12, 13), (13, 14)]  # (parent, child); 15 is the root

# A detector shows the points below, so no spine, neck, top of the head or root. Each of those lies
# about at a weighted sum of points; the weights are for the left and for the right point alike.
LIMBS = tuple(range(6)) + tuple(range(9, 15))
POINTS = ('Nose', 'LEar', 'REar', *(JOINTS[limb] for limb in LIMBS))
BETWEEN = {'Spine': {'Hip': .15, 'Shoulder': .35}, 'Neck': {'Shoulder': .5},
           'Head': {'Ear': .925, 'Shoulder': -.425}, 'Root': {'Hip': .435, 'Shoulder': .065}}


def _point_weights() -> np.ndarray:
    rows = (BETWEEN.get(joint, {joint: 1}) for joint in (*JOINTS, 'Root'))
    return np.array([[row.get(point, row.get(point[1:], 0)) for point in POINTS] for row in rows])


POINT_WEIGHTS = _point_weights()  # (16, 15)


def joints_of(points: np.ndarray) -> np.ndarray:
    """Make joints (N, 16, D), in the order of JOINTS with the root last, of points (N, 15, D)."""
    return POINT_WEIGHTS.astype(points.dtype) @ points


def bone_sum(pose: np.ndarray) -> np.ndarray:
    """Return the sum of the bone lengths (N, 1, 1) of poses (N, 15, 3) about the root."""
    joints = np.concatenate([pose, np.zeros_like(pose[:, :1])], axis=1)
    parents, children = np.transpose(BONES)
    lengths = np.linalg.norm(joints[:, parents] - joints[:, children], axis=-1)
    return lengths.sum(axis=1)[:, None, None]


def find_bones(joint_3d: np.ndarray, known=()) -> list[tuple[int, int]]:
    """Find the bones (parent, child) of skeletons (N, J, 3); the root, at (0, 0, -1), is joint J.

    Bones are the pairs that stay close: short, and of nearly constant length. They form the
    smallest tree that spans all joints (Prim, 1957). The bones `known` are returned if they fit
    about as well.
    """
    joints = joint_3d[::len(joint_3d) // 2000 + 1].astype(float)
    root = np.broadcast_to(ROOT, (len(joints), 1, 3))
    joints = np.concatenate([joints, root], axis=1)                          # (N, J + 1, 3)
    lengths = np.linalg.norm(joints[:, :, None] - joints[:, None], axis=-1)  # (N, J + 1, J + 1)
    lengths /= lengths.mean(axis=(1, 2), keepdims=True)  # people farther away are no smaller
    cost = lengths.mean(axis=0) + 4 * lengths.std(axis=0)
    bones, reached, rest = [], [len(cost) - 1], list(range(len(cost) - 1))
    while rest:
        parent, child = min(product(reached, rest), key=lambda pair: cost[pair])
        bones.append((parent, child))
        reached.append(child)
        rest.remove(child)
    total = sum(cost[pair] for pair in bones)
    most = 1.1 + .45 / len(joints) ** .5  # a few poses do not tell which lengths vary
    fits = len(known) == len(bones) and sum(cost[pair] for pair in known) <= most * total
    return list(known) if fits else bones


UPRIGHT = True, True  # what `anatomy` says of people as they are


def anatomy(joint_3d: np.ndarray) -> tuple[bool, bool] | None:
    """Tell if people (N, 15, 3) are upright, and if left and right are not swapped as in a mirror.

    In a mirror knees bend forwards. Returns None for another skeleton than JOINTS, and for fewer
    than 50 poses, too few to tell.
    """
    joint_3d = joint_3d[::len(joint_3d) // 2000 + 1].astype(float)
    if len(joint_3d) < 50 or find_bones(joint_3d, known=BONES) != BONES:
        return None
    joint = dict(zip(JOINTS, np.moveaxis(joint_3d, 1, 0)))
    upright = np.median(joint['Neck'][:, 1] - (joint['LHip'] + joint['RHip'])[:, 1] / 2) > 0
    right, signs = joint['RHip'] - joint['LHip'], []
    for side in 'RL':
        thigh = joint[f'{side}Knee'] - joint[f'{side}Hip']
        shank = joint[f'{side}Ankle'] - joint[f'{side}Knee']
        sizes = np.linalg.norm(thigh, axis=1) * np.linalg.norm(shank, axis=1)
        bent = np.vecdot(thigh, shank) < .87 * sizes  # by 30 degrees and more
        signs.append(np.vecdot(np.cross(shank, thigh), right)[bent] > 0)
    signs = np.concatenate(signs)
    return (bool(upright), bool(signs.mean() > .5)) if len(signs) else None
