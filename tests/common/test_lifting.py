"""People anywhere in a picture: lifted at any distance, with missing points filled in."""
import numpy as np
import pytest
import torch

from common.camera import ROOT, project, smallest_rotation
from common.detector import from_array
from common.lifting import BONES_PER_HEIGHT, fill_in, find_root, lift_people, lift_points
from common.people import sample
from common.skeleton import JOINTS, POINTS, bone_sum, joints_of, to_lab
from conftest import COCO, person_of
from eval import load_model
from metrics import cal_n_mpjpe
from model import LiftModel


@pytest.fixture
def model(shipped):
    return load_model(shipped)


def photographed(n, seed=8):
    """Return joints (n, 15, 3) about the root of people 1.75 m tall, and a detector's points
    (n, 15, 2) on the plane at distance 1 of cameras 2 to 20 m away that do not look at them."""
    rng, people = np.random.default_rng(seed), sample(n, seed)
    about = people['joint_3d'] - ROOT
    scale = 1.75 * BONES_PER_HEIGHT / bone_sum(about)
    aside = np.insert(rng.uniform(-.5, .5, (n, 2)), 2, -1, axis=1)
    turn = smallest_rotation(aside / np.linalg.norm(aside, axis=1, keepdims=True), ROOT)
    points = scale * (people['joint_detected'] - ROOT) + rng.uniform(2, 20, (n, 1, 1)) * ROOT
    return scale * about @ turn, project(points @ turn, np.ones(2))


def in_pixels(points, confidence):
    """Points (N, 15, 3) in a picture of 1920 x 1080 pixels, focal length 1500."""
    return np.dstack([1500 * points * (1, -1) + (960, 540), confidence])


def test_people_are_lifted_anywhere_in_the_image_and_at_any_distance(model):
    truth, points = photographed(300)
    joint_3d, _, _ = lift_points(model, joints_of(points))
    assert cal_n_mpjpe(joint_3d[:, :-1] - joint_3d[:, -1:], truth, root=(0, 0, 0)) < .08
    off = project(joint_3d[:, :6], np.ones(2)) - points[:, 3:9]  # legs; whatever their depth
    assert np.median(np.linalg.norm(off, axis=-1)) < .005


def test_a_height_gives_metres_and_people_with_few_joints_are_skipped(model):
    _, points = photographed(40)
    confidence = np.full((40, 15), .9)
    arm = [POINTS.index(name) for name in ('LShoulder', 'LElbow', 'LWrist')]
    confidence[[3, 5]] *= ~np.isin(range(15), arm)  # nor spine, neck, head: 9 joints are left
    confidence[3, POINTS.index('LAnkle')] = .29
    people = lift_people(model, in_pixels(points, confidence), (1920, 1080), 1500, height=1.75)
    kept = np.arange(40) != 3
    np.testing.assert_array_equal(people['kept'], kept)
    hidden = {'LShoulder', 'LElbow', 'LWrist', 'Spine', 'Neck', 'Head'}
    assert people['seen'].sum() == 40 * 15 - 6 - 7
    assert {JOINTS[joint] for joint in np.flatnonzero(~people['seen'][5])} == hidden
    assert np.isnan(people['joint_3d'][3]).all() and np.isnan(people['root'][3]).all()
    joints = np.concatenate([people['joint_3d'], people['root'][:, None]], axis=1)[kept]
    hip, knee, ankle = (to_lab(joints)[:, JOINTS.index(name)] for name in ('RHip', 'RKnee',
                                                                          'RAnkle'))
    leg = np.linalg.norm(hip - knee, axis=1) + np.linalg.norm(knee - ankle, axis=1)
    assert np.median(leg) == pytest.approx(.491 * 1.75, rel=.06)  # Winter, 2009


def test_the_root_is_found_and_turns_with_the_person():
    about = sample(2000, seed=8)['joint_3d'] - ROOT
    off = np.linalg.norm(find_root(about)[:, 0], axis=1)
    assert off.mean() < .006 and off.max() < .04  # 26 mm at 4.5 m
    turn = smallest_rotation(np.array([[.6, 0, -.8]]), ROOT)
    np.testing.assert_allclose(find_root(2 * about @ turn.mT), 2 * find_root(about) @ turn.mT,
                               atol=1e-6)


def test_turning_the_camera_turns_the_joints():
    """Exactly, for any network."""
    people = sample(50, seed=6)
    torch.manual_seed(0)
    model = LiftModel(1, 16)
    model.set_statistics(*(torch.from_numpy(people[key]) for key in ('joint_2d_1', 'joint_3d')))
    joint_2d = np.pad(people['joint_2d_1'], ((0, 0), (0, 1), (0, 0)))
    aside = np.array([.3, -.2, -1.])
    turn, = smallest_rotation(aside[None] / np.linalg.norm(aside), ROOT)
    rays = np.concatenate([joint_2d, np.full((50, 16, 1), -1)], axis=2)
    before, *_ = lift_points(model, joint_2d)
    after, *_ = lift_points(model, project(rays @ turn, np.ones(2)))
    np.testing.assert_allclose(after, before @ turn, atol=1e-5)


def test_hidden_joints_are_filled_in_near_to_where_they_were():
    _, points = photographed(200)
    joint_2d, rng = joints_of(points), np.random.default_rng(0)
    seen = rng.random((200, 16)) > .15
    shown = np.where(seen[..., None], joint_2d, 99)  # what is there does not matter
    filled = fill_in(shown, seen)
    np.testing.assert_array_equal(filled[seen], joint_2d[seen])
    error = (np.linalg.norm(filled - joint_2d, axis=2)
             / np.ptp(joint_2d[..., 1], axis=1)[:, None])[~seen]
    assert np.median(error) < .06 and error.max() < 1
    np.testing.assert_allclose(fill_in(3 * shown + 5, seen), 3 * filled + 5, atol=1e-6)


@pytest.mark.parametrize('change', (
    lambda person: person, lambda person: person * [1, -1, 1] + [0, 1080, 0],
    lambda person: person[:, [1, 0, 2]], lambda person: person[::-1],
    lambda person: person * [0, 0, 1] + [500, 500, 0]))
def test_points_unlike_a_person_are_odd(model, change):
    """As they are, upside down, y before x, in another order, all in one place."""
    changed = change(person := person_of(COCO))
    people = lift_people(model, from_array(changed), (1920, 1080))
    assert people['odd'].tolist() == [changed is not person]


def test_a_point_far_beyond_the_picture_is_missing(model):
    person = person_of(COCO)
    person[9, :2] = 48_000, -31_000  # the left wrist
    people = lift_people(model, from_array(person), (1920, 1080))
    np.testing.assert_array_equal(people['seen'][0], np.array(JOINTS) != 'LWrist')
    assert not people['odd'].any()


def test_the_principal_point_moves_with_a_crop(model):
    person = from_array(person_of(COCO))
    whole = lift_people(model, person, (1920, 1080), 1500)
    crop = lift_people(model, person - [600, 200, 0], (800, 800), 1500, centre=(360, 340))
    np.testing.assert_allclose(crop['joint_3d'], whole['joint_3d'], atol=1e-9)


@pytest.mark.parametrize('camera', (
    {'image_size': (1080,)}, {'image_size': (0, 1080)}, {'focal': 28}, {'focal': float('nan')},
    {'height': 175}))
def test_a_camera_that_cannot_be_is_refused(camera):
    options = {'image_size': (1920, 1080), 'focal': 1500, 'height': 1.75} | camera
    with pytest.raises(ValueError, match='expected'):
        lift_people(None, from_array(person_of(COCO)), **options)
