"""Bones that are found in joints, and joints that are made of a detector's points."""
import numpy as np
import pytest

from common.people import sample
from common.skeleton import (BONES, JOINTS, LIMBS, bone_sum, find_bones, from_lab, joints_of,
                             to_lab)

PEOPLE = sample(3000, seed=7)
POSES = PEOPLE['joint_3d']


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
    assert all(find_bones(POSES[row:row + n], known=BONES) == BONES  # a few poses tell little
               for n in (1, 2, 3) for row in range(0, 60, n))


def test_bones_of_motion_capture(mocap_test):
    joint_3d = mocap_test['joint_3d']
    assert find_bones(joint_3d, known=BONES) == BONES
    assert len(pairs(find_bones(joint_3d)) - pairs(BONES)) <= 1


def test_bone_sum_by_a_slow_loop():
    pose = POSES[:5] - np.float32([0, 0, -1])
    for joints, found in zip(pose, bone_sum(pose)):
        joints = [*joints, np.zeros(3)]
        expected = sum(sum((joints[a] - joints[b]) ** 2) ** .5 for a, b in BONES)
        assert found.item() == pytest.approx(expected, rel=1e-5)


def test_joints_that_a_detector_does_not_show_are_put_where_they_are():
    joints = joints_of(PEOPLE['joint_detected'])
    truth = np.pad(POSES, ((0, 0), (0, 1), (0, 0)))
    truth[:, -1, 2] = -1
    off = np.linalg.norm(joints - truth, axis=-1)
    hidden = [JOINTS.index(name) for name in ('Spine', 'Neck', 'Head')] + [15]
    assert np.abs(np.delete(off, hidden, axis=1)).max() < 1e-6
    assert (off[:, hidden].mean(axis=0) < .0135).all()  # 6 cm at 4.5 m


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
