"""Synthetic people: reproducible, of constant bones, within the ranges of motion, upright."""
import numpy as np

from common.camera import ROOT, second_view
from common.people import POSES_PER_PERSON, sample
from common.skeleton import BONES, JOINTS, POINTS

POSES = sample(2000, seed=0)
NAMES = (*JOINTS, 'Root')


def vector(joints, start, end):
    points = np.concatenate([joints, np.tile(ROOT, (len(joints), 1, 1))], axis=1)
    return points[:, NAMES.index(end)] - points[:, NAMES.index(start)]


def length(joints, start, end):
    return np.linalg.norm(vector(joints, start, end), axis=-1)


def bend(joints, a, b, c):
    """Angle in degrees between the bones a to b and b to c."""
    one, two = vector(joints, a, b), vector(joints, b, c)
    cosine = np.vecdot(one, two) / np.linalg.norm(one, axis=-1) / np.linalg.norm(two, axis=-1)
    return np.degrees(np.arccos(cosine.clip(-1, 1)))


def test_a_seed_makes_the_same_people_and_another_seed_others():
    again, other = sample(2000, seed=0), sample(2000, seed=1)
    assert all(np.array_equal(POSES[key], again[key]) for key in POSES)
    one, two = (np.unique(np.round(length(joints['joint_3d'], 'RHip', 'RKnee')
                                   / length(joints['joint_3d'], 'RKnee', 'RAnkle'), 4))
                for joints in (POSES, other))
    assert len(one) > 80 and np.isin(one, two).mean() < .1


def test_bones_of_a_person_do_not_change():
    lengths = np.stack([length(POSES['joint_3d'], NAMES[a], NAMES[b]) for a, b in BONES], axis=1)
    shares = lengths / lengths.sum(axis=1, keepdims=True)
    shares = shares.reshape(-1, POSES_PER_PERSON, 15)
    assert np.ptp(shares, axis=1).max() < 1e-4
    assert shares.std(axis=(0, 1)).min() > 1e-3  # but people differ


def test_joints_stay_within_their_ranges():
    joints = POSES['joint_3d'].astype(float)
    for side in 'LR':
        knee = bend(joints, f'{side}Hip', f'{side}Knee', f'{side}Ankle')
        elbow = bend(joints, f'{side}Shoulder', f'{side}Elbow', f'{side}Wrist')
        assert knee.max() <= 135.1 and elbow.max() <= 150.1
        # a knee bends backwards: the shank turns about the hips' own axis, from left to right
        axis = np.cross(vector(joints, f'{side}Knee', f'{side}Ankle'),
                        vector(joints, f'{side}Hip', f'{side}Knee'))
        bent = knee > 30
        assert (np.vecdot(axis, vector(joints, 'LHip', 'RHip'))[bent] > 0).mean() > .99


def test_people_stand_upright_in_the_image_with_left_and_right():
    joints = POSES['joint_3d']
    up, left = vector(joints, 'Root', 'Neck'), vector(joints, 'RHip', 'LHip')
    assert (up[:, 1] > 0).mean() > .95
    ahead = np.cross(left, up)
    thighs = vector(joints, 'RHip', 'RKnee') + vector(joints, 'LHip', 'LKnee')
    assert (np.vecdot(thighs, ahead) > 0).mean() > .8  # thighs swing ahead more than back
    facing = ahead[:, 2] > 0
    assert .4 < facing.mean() < .6 and (left[facing & (np.abs(left[:, 2]) < .01), 0] > 0).all()


def test_cameras_are_3_and_a_half_to_6_metres_away():
    root = np.tile(ROOT, (2000, 1, 1))
    ratio = -second_view(root, POSES['rot'], POSES['transl'])[:, 0, 2]
    assert 3.5 / 6 - 1e-6 <= ratio.min() < .65 and 1.5 < ratio.max() <= 6 / 3.5 + 1e-6
    assert all(np.isfinite(array).all() and array.dtype == np.float32 for array in POSES.values())


def test_a_detector_shows_the_same_people():
    joints, shown = POSES['joint_3d'], dict(zip(POINTS, np.moveaxis(POSES['joint_detected'], 1, 0)))
    for name in POINTS[3:]:
        np.testing.assert_array_equal(shown[name], joints[:, JOINTS.index(name)])
    ears, across = (shown['LEar'] + shown['REar']) / 2, shown['LEar'] - shown['REar']
    metre = length(joints, 'RHip', 'RKnee') / .43
    wide = np.linalg.norm(across, axis=-1) / metre
    nose = np.linalg.norm(shown['Nose'] - ears, axis=-1) / metre
    assert .14 < wide.mean() < .16 and .09 < nose.mean() < .12
    left = vector(joints, 'RShoulder', 'LShoulder')
    ahead = np.cross(left, vector(joints, 'Root', 'Neck'))
    assert (np.vecdot(shown['Nose'] - ears, ahead) > 0).mean() > .98
    assert (np.vecdot(across, left) > 0).mean() > .98
