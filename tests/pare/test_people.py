import multiprocessing
import zipfile
from contextlib import closing

import numpy as np
import pytest
import torch

from made import ARRAYS
from pare import people as rendering
from pare.body import (FLIP_KEYPOINTS, FLIP_PARTS, Body, Skeleton, axis_angle_to_matrix, fit_camera,
                       project)
from pare.data import People, turn_sample
from pare.people import (PASSES, Rendered, as_tensors, look_at, main, mirrored, render_people,
                         rendered_samples, sample_bodies, sample_poses, sample_skeletons)
from pare.render import face_parts, rasterise, to_pixels

SKELETON, BODY = Skeleton(ARRAYS), Body(ARRAYS)


@pytest.fixture(scope='module')
def batch():
    """Eight people as bytes."""
    return as_tensors(render_people(8, 64, seed=3))


# ---- who is rendered ----------------------------------------------------------------------------

def test_rendering_follows_from_the_seed(people):
    found, again = np.load(people), render_people(40, 64, seed=0)
    for key in found.files:
        np.testing.assert_array_equal(found[key], again[key])
    other = render_people(2, 64, seed=(0, 1))
    assert not np.array_equal(other['pose'], again['pose'][:2])


def test_keypoints_are_the_projections_of_the_bodies(batch):
    """That camera draws the body where its labels are, and what hides it has none."""
    points = SKELETON(batch['betas'], batch['rotations']).keypoints
    places, weight = batch['keypoints'].split((2, 1), dim=2)
    camera = fit_camera(points, places, weight[..., 0])
    torch.testing.assert_close(project(points, camera), places, atol=1e-5, rtol=0)
    visible = render_people(8, 64, seed=3)['visible']
    parts = face_parts(ARRAYS['weights'], ARRAYS['f'])
    meshes = BODY(batch['betas'], batch['rotations'])[0].numpy()
    for mesh, one, labels, share in zip(meshes, camera.numpy(), batch['labels'].numpy(), visible):
        which, _ = rasterise(to_pixels(mesh, one, 64), mesh[:, 2], ARRAYS['f'], (64, 64))
        drawn = np.where(which >= 0, parts[which], 0)
        assert ((drawn != labels) & (labels > 0)).mean() < .002  # pixels on an edge
        assert share == pytest.approx((labels > 0).sum() / (drawn > 0).sum(), abs=.02)
    assert visible.min() < .9 and visible.max() == 1


def test_people_stand_upright_within_the_image_and_bend_as_people_do():
    bodies = sample_bodies(np.random.default_rng(0), 500)
    joints = BODY.posed_joints(bodies['betas'], bodies['rotations'])
    assert (joints[:, 15, 1] < joints[:, 0, 1]).all()  # the head above the pelvis: y is down
    ahead = bodies['rotations'][:, 0, :, 2]            # the body's z, in the camera's frame
    angles = torch.rad2deg(torch.atan2(ahead[:, 0], -ahead[:, 2]))
    assert angles.abs().max() < 90 and angles.std() > 25
    shin = bodies['rotations'][:, 4, 2, 1]             # sine of a knee's bend
    assert shin.min() > -.02 and bodies['betas'].abs().max() <= 2.5
    keypoints = as_tensors(render_people(50, 64, seed=0))['keypoints']
    assert (keypoints[..., :2].abs() < 1).float().mean() > .98


def test_bodies_are_those_of_the_axis_angles():
    pose = torch.from_numpy(sample_poses(np.random.default_rng(4), 50))
    found = sample_bodies(np.random.default_rng(4), 50)['rotations']
    torch.testing.assert_close(found, axis_angle_to_matrix(pose), atol=2e-6, rtol=0)


def test_a_camera_shows_the_whole_body_at_its_place():
    points = torch.randn(4, 30, 3)
    aims = torch.tensor([[1.2, .1, 0], [1., 0, 0], [1.05, 0, -.2], [1.3, 0, 0]])
    seen = project(points, look_at(points, aims))
    low, high = seen.amin(dim=1), seen.amax(dim=1)
    torch.testing.assert_close((high - low).amax(dim=1), 2 / aims[:, 0])
    torch.testing.assert_close((low + high) / 2, aims[:, 1:], atol=1e-5, rtol=0)


def test_places_without_an_image_are_those_of_the_joints():
    bodies = sample_skeletons(np.random.default_rng(5), 30, BODY)
    joints = BODY.posed_joints(bodies['betas'], bodies['rotations'])
    torch.testing.assert_close(bodies['joints'], joints)
    camera = fit_camera(joints, bodies['places'], torch.ones(30, 24))
    torch.testing.assert_close(project(joints, camera), bodies['places'], atol=1e-5, rtol=0)
    noise = (bodies['seen'] - bodies['places']).norm(dim=2)
    assert 0 < noise.min() and noise.max() < 5 * rendering.BLUR / 32
    assert noise.mean(dim=1).std() > .2 * noise.mean()  # bodies differ


def test_samples_are_those_of_a_set(people):
    """What is rendered in memory is what the same people are from a file."""
    samples, visible = rendered_samples(40, 64, 0)
    from_file = People(people, ARRAYS)
    np.testing.assert_array_equal(visible, np.load(people)['visible'])
    for row in (0, 17):
        one, two = samples[row], from_file[row]
        assert one.keys() == two.keys()
        for key in one.keys() - {'labels'}:  # whose sizes differ
            torch.testing.assert_close(one[key], two[key], atol=1e-5, rtol=0, msg=key)


# ---- mirrors and channels -----------------------------------------------------------------------

def test_a_mirrored_batch_is_of_the_mirrored_bodies(batch):
    """Keypoints of mirrored bodies are the mirrored keypoints; betas know no left and right."""
    found = mirrored(batch, torch.ones(8, dtype=bool))
    points = SKELETON(found['betas'], found['rotations']).keypoints
    places, weight = found['keypoints'].split((2, 1), dim=2)
    camera = fit_camera(points, places, weight[..., 0])
    torch.testing.assert_close(project(points, camera), places, atol=2e-3, rtol=0)
    assert not torch.allclose(found['rotations'], batch['rotations'], atol=.1)
    for part in (1, 4, 18):  # joints of the left, whose right is the next
        left, right = (found['labels'] == part + 1), (batch['labels'].flip(2) == part + 2)
        assert torch.equal(left, right) and left.any()


def test_twice_mirrored_is_as_before_and_others_stay(batch):
    some = torch.arange(8) % 3 == 0
    once = mirrored(batch, some)
    for key, value in batch.items():
        torch.testing.assert_close(mirrored(once, some)[key], value, msg=key)
        assert torch.equal(once[key][~some], value[~some])
        changed = key not in ('betas', 'has_smpl', 'points_3d', 'gain', 'gender')
        assert torch.equal(once[key][some], value[some]) != changed


# ---- epochs -------------------------------------------------------------------------------------

def faces_of(batches) -> list:
    """Who is in batches, by their shape, which neither a mirror nor a gain changes."""
    return [tuple(betas.tolist()) for batch in batches for betas in batch['betas']]


def test_an_epoch_follows_from_seed_and_number_whatever_was_asked_before(small, monkeypatch):
    monkeypatch.setattr(rendering, 'PASSES', PASSES)
    monkeypatch.setattr(rendering, 'render_people', render_people)  # each time anew
    one, two = (Rendered(12, 32, 7, 5, 9) for _ in range(2))
    list(one.epoch(1))
    for first, second in zip(one.epoch(2), two.epoch(2), strict=True):
        for key, value in first.items():
            assert torch.equal(value, second[key]), key
    other = Rendered(12, 32, 8, 5, 9)
    assert not set(faces_of(other.epoch(2))) & set(faces_of(one.epoch(2)))


def test_batches_of_an_epoch_are_made_of_its_people_one_by_one(small, monkeypatch):
    """With numpy, in the same random numbers: people, gains and mirrors of each batch in turn."""
    monkeypatch.setattr(rendering, 'PASSES', 2)
    people = Rendered(12, 32, 7, 5, 9).people(3)
    random = torch.Generator().manual_seed(7 * 1_000_003 + 3)
    order = torch.cat([torch.randperm(12, generator=random) for _ in range(2)]).tolist()
    for batch in Rendered(12, 32, 7, 5, 9).epoch(3):
        gains = 1 + rendering.GAIN * (2 * torch.rand(5, 3, generator=random) - 1)
        flips = torch.rand(5, generator=random) < .5
        assert torch.equal(batch['gain'], gains) and batch.keys() == people.keys()
        for place, flip in enumerate(flips):
            row = order.pop(0)
            image, labels = people['image'][row].numpy(), people['labels'][row].numpy()
            image = image[:, :, ::-1] if flip else image
            labels = np.array(FLIP_PARTS)[labels[:, ::-1]] if flip else labels
            np.testing.assert_array_equal(batch['image'][place], image)
            np.testing.assert_array_equal(batch['labels'][place], labels)
            rotations, keypoints = people['rotations'][row], people['keypoints'][row]
            turned, _ = turn_sample(rotations.numpy(), np.zeros((24, 3)), 0., bool(flip))
            np.testing.assert_allclose(batch['rotations'][place], turned)
            if flip:
                keypoints = keypoints[FLIP_KEYPOINTS] * torch.tensor([-1, 1, 1])
            assert torch.equal(batch['keypoints'][place], keypoints)
            assert torch.equal(batch['betas'][place], people['betas'][row])


def test_an_epoch_shows_each_of_its_people_several_times(small, monkeypatch):
    monkeypatch.setattr(rendering, 'PASSES', PASSES)
    monkeypatch.setattr(rendering, 'CHUNK', 5)  # the people come in several pieces
    batches = Rendered(12, 32, 7, 4, 9)
    first, second = list(batches.epoch(1)), list(batches.epoch(2))
    assert len(first) == batches.n_batches == 12 * PASSES // 4
    shown = faces_of(first)
    assert len(set(shown)) == 12 and all(shown.count(one) == PASSES for one in shown)
    assert set(shown[:12]) == set(shown)  # each once before anyone again
    assert not set(shown) & set(faces_of(second))
    gains = torch.cat([batch['gain'] for batch in first])  # each time in other colours
    assert len(gains.unique(dim=0)) == 12 * PASSES and (gains - 1).abs().max() <= rendering.GAIN


def test_the_process_that_renders_ends_with_the_batches():
    before = set(multiprocessing.active_children())
    with closing(Rendered(10, 32, 0, 10, 3)) as batches:
        first = next(batches.epoch(1))
        assert len(set(multiprocessing.active_children()) - before) == 1
    assert not set(multiprocessing.active_children()) - before
    assert first['image'].shape == (10, 3, 32, 32)


def test_fewer_images_than_a_batch_are_refused(small):
    with pytest.raises(ValueError, match='found 10 people, each shown 1 times, expected at least'):
        Rendered(10, 32, 0, 11, 3)


# ---- the command line ---------------------------------------------------------------------------

def test_a_set_is_written_whole_or_not_at_all(tmp_path, capsys, fails):
    out = tmp_path / 'people.npz'
    main([str(out), '--n', '3', '--size', '32', '--seed', '4'])
    assert f'wrote {out}: 3 people of 32 pixels' in capsys.readouterr().out
    found, expected = np.load(out), render_people(3, 32, 4)
    assert found.files == list(expected) and zipfile.is_zipfile(out)
    np.testing.assert_array_equal(found['images'], expected['images'])
    assert f'{tmp_path}/no' in fails(main, f'{tmp_path}/no/people.npz', '--n', '1')
    assert 'found 0, expected at least 1' in fails(main, str(out), '--n', '0')
    assert [path.name for path in tmp_path.iterdir()] == ['people.npz']


def test_axis_angles_of_a_set_are_the_rotations_of_its_bodies():
    arrays = render_people(4, 32, 2)
    expected = axis_angle_to_matrix(torch.from_numpy(arrays['pose']).view(4, 24, 3))
    torch.testing.assert_close(as_tensors(arrays)['rotations'], expected)
