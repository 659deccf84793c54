"""People of a picture or a film: lifted at any distance, missing points filled in, smoothed."""
import numpy as np
import pytest

from common.camera import ROOT, project, smallest_rotation
from common.detector import People, from_array
from common.film import film_of, frame_numbers, smooth, smooth_people
from common.lifting import BONES_PER_HEIGHT, fill_in, lift_people, lift_points
from common.people import sample
from common.skeleton import JOINTS, POINTS, bone_sum, joints_of, to_lab
from conftest import COCO, person_of
from eval import load_model
from metrics import cal_n_mpjpe


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
    points = np.dstack([1500 * points * (1, -1) + (960, 540), confidence])
    people = lift_people(model, points, (1920, 1080), 1500, height=1.75)
    kept = np.arange(40) != 3
    np.testing.assert_array_equal(people['kept'], kept)
    np.testing.assert_array_equal(np.isnan(people['joint_3d']).all(axis=(1, 2)), ~kept)
    hidden = {'LShoulder', 'LElbow', 'LWrist', 'Spine', 'Neck', 'Head'}
    assert {JOINTS[joint] for joint in np.flatnonzero(~people['seen'][5])} == hidden
    joints = np.concatenate([people['joint_3d'], people['root'][:, None]], axis=1)[kept]
    hip, knee, ankle = (to_lab(joints)[:, JOINTS.index(name)] for name in ('RHip', 'RKnee',
                                                                          'RAnkle'))
    leg = np.linalg.norm(hip - knee, axis=1) + np.linalg.norm(knee - ankle, axis=1)
    assert np.median(leg) == pytest.approx(.491 * 1.75, rel=.06)  # Winter, 2009


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
    lambda person: person[:, [1, 0, 2]], lambda person: person[::-1]))
def test_points_unlike_a_person_are_odd(model, change):
    """As they are, upside down, y before x, in another order."""
    changed = change(person := person_of(COCO))
    people = lift_people(model, from_array(changed), (1920, 1080))
    assert people['odd'].tolist() == [changed is not person]


def test_the_principal_point_moves_with_a_crop(model):
    person = from_array(person_of(COCO))
    whole = lift_people(model, person, (1920, 1080), 1500)
    crop = lift_people(model, person - [600, 200, 0], (800, 800), 1500, centre=(360, 340))
    np.testing.assert_allclose(crop['joint_3d'], whole['joint_3d'], atol=1e-9)


def test_frames_are_averaged_as_a_slow_loop_does_it():
    joints = np.random.default_rng(0).normal(size=(30, 15, 3))
    joints[[3, *range(20, 30)]] = np.nan
    found = smooth(joints, window=5)
    for frame in range(30):
        known = [joints[other] for other in range(max(frame - 2, 0), min(frame + 3, 30))
                 if np.isfinite(joints[other]).all()]
        expected = np.mean(known, axis=0) if known else np.full((15, 3), np.nan)
        np.testing.assert_allclose(found[frame], expected)


@pytest.mark.parametrize('frames, ids, expected', (
    ([7, 7, 9, 10], [3, 7, 7, 3], [0, 0, 2, 3]),  # nobody in frame 8
    (['10.jpg', '2.jpg', '2.jpg', '3.jpg'], [1, 1, 2, 1], [8, 0, 0, 1]),
    (['b', 'b', 'a', 'c'], [1, 2, 1, 1], [1, 1, 0, 2]),
    ([900, 7, 5], 3 * [None], [2, 1, 0]), ([0, 1, 2], 3 * [None], [0, 1, 2]),
    ([7, 7, 9], 3 * [None], 'several people in a frame'), ([0, 1, 2], [1, 2, 1], 'image_id')))
def test_rows_find_their_frame(frames, ids, expected):
    people = People(np.zeros((len(ids), 15, 3)), 'COCO', frames, ids)
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            frame_numbers(people)
    else:
        assert frame_numbers(people).tolist() == expected


def test_people_are_smoothed_apart_and_filmed_together():
    joints = np.random.default_rng(0).normal(size=(60, 16, 3))
    joints[7] = np.nan
    frames, ids = np.arange(60) // 2, [1, 2] * 30
    smoothed = smooth_people(joints, frames, ids)
    for person in (0, 1):
        expected = smooth(joints[person::2])
        expected[np.isnan(joints[person::2])] = np.nan
        np.testing.assert_allclose(smoothed[person::2], expected)
    film = film_of(smoothed, frames)
    assert film.shape == (30, 2, 16, 3)
    np.testing.assert_array_equal(film[5], smoothed[10:12])
    np.testing.assert_array_equal(film[3, 0], smoothed[6])
    assert np.isnan(film[3, 1]).all()
