"""The skeleton: names of joints, bones, and how the points of a detector make joints."""
from itertools import product

import numpy as np

from common.camera import ROOT

JOINTS = ('RHip', 'RKnee', 'RAnkle', 'LHip', 'LKnee', 'LAnkle', 'Spine', 'Neck', 'Head',
          'LShoulder', 'LElbow', 'LWrist', 'RShoulder', 'RElbow', 'RWrist')
BONES = [(15, 0), (0, 1), (1, 2), (15, 3), (3, 4), (4, 5), (15, 6), (6, 7), (7, 8),
         (7, 9), (9, 10), (10, 11), (7, 12), (12, 13), (13, 14)]  # (parent, child); 15 is the root

# A detector gives the POINTS below: no spine, neck, top of the head or root. These four are
# roughly weighted sums of points, with the same weights left and right.
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


# Annotators of COCO put joints elsewhere than motion capture does, and so do detectors that learnt
# from them. Heights over stature: COCO's from the regressor of anny 0.6.2 (Bregier et al., arXiv
# 2511.03589) on its default body; the lab's from LENGTHS of common/people.py and Winter, 2009.
HEIGHTS = {'Ankle': (.055, .039), 'Knee': (.265, .285), 'Hip': (.510, .530),
           'Shoulder': (.812, .790)}  # a detector's, the lab's
# widths, the lab's over a detector's: in statures .088 / .115 and .171 / .193, the lab's from the
# mean of the first two columns of LENGTHS
HIPS_WIDE, SHOULDERS_WIDE = .765, .886


def _limb_map() -> np.ndarray:
    """Return the matrix (12, 12) from a detector's limb points to the lab's, as in LIMBS."""
    each = dict(zip(POINTS[3:], np.eye(12)))
    theirs, ours = ({name: height[k] for name, height in HEIGHTS.items()} for k in (0, 1))
    rows = dict(each)  # wrists and elbows stay

    def share(joint, start, end):  # the joint's move as a share of the bone from start to end
        return (ours[joint] - theirs[joint]) / (theirs[end] - theirs[start])

    hips, shoulders = ((each[f'L{name}'] + each[f'R{name}']) / 2 for name in ('Hip', 'Shoulder'))
    for side in 'LR':
        hip, knee, ankle, shoulder = (each[side + name] for name in (
            'Hip', 'Knee', 'Ankle', 'Shoulder'))
        rows[f'{side}Hip'] = (hips + HIPS_WIDE * (hip - hips)
                              + share('Hip', 'Hip', 'Shoulder') * (shoulders - hips))
        rows[f'{side}Shoulder'] = (shoulders + SHOULDERS_WIDE * (shoulder - shoulders)
                                   + share('Shoulder', 'Hip', 'Shoulder') * (shoulders - hips))
        rows[f'{side}Knee'] = knee + share('Knee', 'Knee', 'Hip') * (hip - knee)
        rows[f'{side}Ankle'] = ankle + share('Ankle', 'Ankle', 'Knee') * (knee - ankle)
    return np.stack([rows[name] for name in POINTS[3:]])


LIMB_MAP = _limb_map()


def to_lab(joint_2d: np.ndarray) -> np.ndarray:
    """Move joints (N, 16, 2) of `joints_of` from a detector's limb points to the lab's joints."""
    limbs = joint_2d[:, LIMBS]
    return joint_2d + POINT_WEIGHTS[:, 3:] @ (LIMB_MAP @ limbs - limbs)


def from_lab(joint_3d: np.ndarray) -> np.ndarray:
    """Move the limbs of joints (N, 15, 3) back to a detector's points."""
    moved = joint_3d.copy()
    moved[:, LIMBS] = np.linalg.inv(LIMB_MAP) @ joint_3d[:, LIMBS]
    return moved


def with_root(joints: np.ndarray, root) -> np.ndarray:
    """Append the root, (D,) or (N, D), to joints (N, J, D) as the last."""
    root = np.broadcast_to(root, (len(joints), np.shape(root)[-1]))
    return np.concatenate([joints, root[:, None]], axis=1)


def bone_lengths(pose: np.ndarray) -> np.ndarray:
    """Return the lengths (N, 15) of the BONES of poses (N, 15, 3) about the root."""
    joints = np.pad(pose, ((0, 0), (0, 1), (0, 0)))  # the root, last
    parents, children = np.transpose(BONES)
    return np.linalg.norm(joints[:, parents] - joints[:, children], axis=-1)


def bone_sum(pose: np.ndarray) -> np.ndarray:
    """Return the sum of the bone lengths (N, 1, 1) of poses (N, 15, 3) about the root."""
    return bone_lengths(pose).sum(axis=1)[:, None, None]


def find_bones(joint_3d: np.ndarray, known=()) -> list[tuple[int, int]]:
    """Find the bones (parent, child) of skeletons (N, J, 3); the root, at (0, 0, -1), is joint J.

    Bones are the pairs that stay close: short, and of nearly constant length. They form the minimum
    spanning tree of all joints (Prim, 1957). The bones `known` are returned if they fit
    about as well.
    """
    joints = joint_3d[::len(joint_3d) // 2000 + 1].astype(float)
    root = np.broadcast_to(ROOT, (len(joints), 1, 3))
    joints = np.concatenate([joints, root], axis=1)                          # (N, J + 1, 3)
    lengths = np.linalg.norm(joints[:, :, None] - joints[:, None], axis=-1)  # (N, J + 1, J + 1)
    lengths /= lengths.mean(axis=(1, 2), keepdims=True).clip(min=1e-12)  # no division by zero
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


NORMAL = True, True  # upright and not mirrored, as `anatomy` says


def anatomy(joint_3d: np.ndarray) -> tuple[bool, bool] | None:
    """Return (upright, unmirrored) for people (N, 15, 3).

    Upright: the trunk points down by at most 37 degrees. Unmirrored: knees bend backwards; they
    bend forwards in a mirror, and if left and right joints are swapped. Returns None for another
    skeleton than JOINTS, for fewer than 50 poses, too few to tell, and if no knee is bent.
    """
    joint_3d = joint_3d[::len(joint_3d) // 2000 + 1].astype(float)
    if len(joint_3d) < 50 or find_bones(joint_3d, known=BONES) != BONES:
        return None
    joint = dict(zip(JOINTS, np.moveaxis(joint_3d, 1, 0)))
    trunk = joint['Neck'] - (joint['LHip'] + joint['RHip']) / 2
    upright = np.median(trunk[:, 1] / np.linalg.norm(trunk, axis=1).clip(min=1e-12)) > -.6
    right, signs = joint['RHip'] - joint['LHip'], []
    for side in 'RL':
        thigh = joint[f'{side}Knee'] - joint[f'{side}Hip']
        shank = joint[f'{side}Ankle'] - joint[f'{side}Knee']
        sizes = np.linalg.norm(thigh, axis=1) * np.linalg.norm(shank, axis=1)
        bent = np.vecdot(thigh, shank) < .87 * sizes  # cos 30 degrees
        signs.append(np.vecdot(np.cross(shank, thigh), right)[bent] > 0)
    signs = np.concatenate(signs)
    return (bool(upright), bool(signs.mean() > .5)) if len(signs) else None
