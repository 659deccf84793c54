"""Skeletons: synthetic people, bones that are found in joints, the points of a detector."""
import numpy as np
import pytest

from common.camera import ROOT
from common.people import POSES_PER_PERSON, sample
from common.skeleton import (BONES, JOINTS, LIMBS, bone_lengths, find_bones, from_lab, joints_of,
                             to_lab)

PEOPLE = sample(3000, seed=7)
POSES = PEOPLE['joint_3d']
LENGTHS = bone_lengths(POSES - ROOT)  # (N, 15)


def test_a_seed_makes_the_same_people():
    again = sample(3000, seed=7)
    assert all(np.array_equal(PEOPLE[key], again[key]) for key in PEOPLE)


def test_bones_of_a_person_do_not_change():
    shares = (LENGTHS / LENGTHS.sum(axis=1, keepdims=True)).reshape(-1, POSES_PER_PERSON, 15)
    assert np.ptp(shares, axis=1).max() < 1e-4
    assert shares.std(axis=(0, 1)).min() > 1e-3  # but people differ


@pytest.mark.parametrize('side', 'LR')
def test_joints_stay_within_their_ranges(side):
    joint = dict(zip(JOINTS, np.moveaxis(POSES.astype(float), 1, 0)))

    def bend(*names):  # the bones from each joint to the next, and the angle between them
        a, b, c = (joint[side + name] for name in names)
        sizes = np.linalg.norm(b - a, axis=1) * np.linalg.norm(c - b, axis=1)
        return b - a, c - b, np.degrees(np.arccos((np.vecdot(b - a, c - b) / sizes).clip(-1, 1)))

    thigh, shank, knee = bend('Hip', 'Knee', 'Ankle')
    assert knee.max() <= 135.1 and bend('Shoulder', 'Elbow', 'Wrist')[2].max() <= 150.1
    ahead = np.vecdot(np.cross(shank, thigh), joint['RHip'] - joint['LHip']) > 0
    assert ahead[knee > 3].mean() > .99  # knees bend backwards


def pairs(bones):
    return {frozenset(bone) for bone in bones}


def test_bones_are_found_in_any_order_of_joints():
    order = np.random.default_rng(0).permutation(15)
    new = {old: new for new, old in enumerate(order)} | {15: 15}
    bones, reached = find_bones(POSES[:, order]), {15}
    assert pairs(bones) == pairs((new[a], new[b]) for a, b in BONES)
    for parent, child in bones:  # from the root outwards
        assert parent in reached and child not in reached
        reached.add(child)


def test_known_bones_are_returned_if_they_fit():
    assert find_bones(POSES, known=BONES) == BONES
    assert find_bones(POSES[:, ::-1], known=BONES) != BONES
    assert find_bones(POSES[:, :9], known=BONES) != BONES
    assert all(find_bones(POSES[[row]], known=BONES) == BONES for row in range(60))  # tell little


def test_a_detectors_joints_become_the_labs_and_back():
    """By hand, for COCO's keypoints of a standing body, heights over stature."""
    height = {'Hip': .51, 'Knee': .265, 'Ankle': .055, 'Shoulder': .812, 'Elbow': .6, 'Wrist': .45}
    wide = {'Hip': .115, 'Shoulder': .193}
    limbs = np.array([(wide.get(name[1:], .1) / 2 * (1 if name[0] == 'L' else -1), height[name[1:]])
                      for name in (JOINTS[limb] for limb in LIMBS)])
    joints = joints_of(np.vstack([np.tile((0, .919), (3, 1)), limbs])[None])
    moved = dict(zip((*JOINTS, 'Root'), to_lab(joints)[0]))
    for name, expected in (('LHip', .53), ('LKnee', .285), ('LAnkle', .039), ('LShoulder', .79),
                           ('LElbow', .6), ('LWrist', .45), ('Neck', .79)):
        assert moved[name][1] == pytest.approx(expected, abs=2e-3)
    for name, expected in (('Hip', .088), ('Shoulder', .171)):
        assert moved[f'L{name}'][0] - moved[f'R{name}'][0] == pytest.approx(expected, abs=1e-3)
    back = from_lab(np.dstack([to_lab(joints), np.zeros((1, 16))])[:, :15])
    np.testing.assert_allclose(back[0, LIMBS, :2], limbs, atol=1e-12)
