"""Synthetic people: reproducible, of constant bones, within the ranges of motion, upright."""
import numpy as np

from common.camera import ROOT, second_view
from common.people import POSES_PER_PERSON, sample
from common.skeleton import JOINTS, POINTS, bone_lengths

POSES = sample(2000, seed=0)
NAMES = (*JOINTS, 'Root')
POINT = dict(zip(NAMES, np.moveaxis(np.pad(POSES['joint_3d'] - ROOT, (
    (0, 0), (0, 1), (0, 0))).astype(float), 1, 0)))  # (N, 3) about the root


def vector(start, end):
    return POINT[end] - POINT[start]


def bend(a, b, c):
    """The angle in degrees between the bones a to b and b to c."""
    one, two = vector(a, b), vector(b, c)
    cosine = np.vecdot(one, two) / np.linalg.norm(one, axis=-1) / np.linalg.norm(two, axis=-1)
    return np.degrees(np.arccos(cosine.clip(-1, 1)))


def test_a_seed_makes_the_same_people_and_another_seed_others():
    again, other = sample(2000, seed=0), sample(2000, seed=1)
    assert all(np.array_equal(POSES[key], again[key]) for key in POSES)
    lengths = (bone_lengths(people['joint_3d'] - ROOT) for people in (POSES, other))
    one, two = (np.unique((bones[:, 1] / bones[:, 2]).round(4)) for bones in lengths)
    assert len(one) > 80 and np.isin(one, two).mean() < .1  # thigh over shank


def test_bones_of_a_person_do_not_change():
    lengths = bone_lengths(POSES['joint_3d'] - ROOT)
    shares = lengths / lengths.sum(axis=1, keepdims=True)
    shares = shares.reshape(-1, POSES_PER_PERSON, 15)
    assert np.ptp(shares, axis=1).max() < 1e-4
    assert shares.std(axis=(0, 1)).min() > 1e-3  # but people differ


def test_joints_stay_within_their_ranges():
    for side in 'LR':
        knee = bend(f'{side}Hip', f'{side}Knee', f'{side}Ankle')
        elbow = bend(f'{side}Shoulder', f'{side}Elbow', f'{side}Wrist')
        assert knee.max() <= 135.1 and elbow.max() <= 150.1
        # a knee bends backwards: the shank turns about the hips' own axis, from left to right
        axis = np.cross(vector(f'{side}Knee', f'{side}Ankle'), vector(f'{side}Hip', f'{side}Knee'))
        assert (np.vecdot(axis, vector('LHip', 'RHip'))[knee > 3] > 0).mean() > .99


def test_people_are_upright_and_face_all_ways():
    up, left = vector('Root', 'Neck'), vector('RHip', 'LHip')
    ahead = np.cross(left, up)
    thighs = vector('RHip', 'RKnee') + vector('LHip', 'LKnee')
    assert (up[:, 1] > 0).mean() > .95
    assert (np.vecdot(thighs, ahead) > 0).mean() > .8  # thighs swing ahead more than back
    facing = ahead[:, 2] > 0
    assert .4 < facing.mean() < .6 and (left[facing & (np.abs(left[:, 2]) < .01), 0] > 0).all()


def test_cameras_are_3_and_a_half_to_6_metres_away():
    root = np.tile(ROOT, (2000, 1, 1))
    ratio = -second_view(root, POSES['rot'], POSES['transl'])[:, 0, 2]
    assert 3.5 / 6 - 1e-6 <= ratio.min() < .65 and 1.5 < ratio.max() <= 6 / 3.5 + 1e-6


def test_a_detector_shows_the_same_people():
    shown = dict(zip(POINTS, np.moveaxis(POSES['joint_detected'] - ROOT, 1, 0)))
    for name in POINTS[3:]:
        np.testing.assert_allclose(shown[name], POINT[name], atol=1e-7)
    ears, across = (shown['LEar'] + shown['REar']) / 2, shown['LEar'] - shown['REar']
    metre = np.linalg.norm(vector('RHip', 'RKnee'), axis=-1) / .43
    wide = np.linalg.norm(across, axis=-1) / metre
    nose = np.linalg.norm(shown['Nose'] - ears, axis=-1) / metre
    assert .14 < wide.mean() < .16 and .09 < nose.mean() < .12
    left = vector('RShoulder', 'LShoulder')
    ahead = np.cross(left, vector('Root', 'Neck'))
    assert (np.vecdot(shown['Nose'] - ears, ahead) > 0).mean() > .98
    assert (np.vecdot(across, left) > 0).mean() > .98
