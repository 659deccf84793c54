import multiprocessing
from contextlib import closing

import numpy as np
import pytest
import torch

from made import ARRAYS, truth_of
from pare import people as rendering
from pare.body import FLIP_KEYPOINTS, FLIP_PARTS, Body, Skeleton, fit_camera, project
from pare.data import People, turn_sample
from pare.people import (Rendered, as_tensors, main, render_people, rendered_samples,
                         sample_skeletons)
from pare.render import face_parts, rasterise, to_pixels

SKELETON, BODY = Skeleton(ARRAYS), Body(ARRAYS)


@pytest.fixture(scope='module')
def batch():
    """Eight people as bytes."""
    return as_tensors(render_people(8, 64, seed=3))


# ---- who is rendered ----------------------------------------------------------------------------

def test_keypoints_are_the_projections_of_the_bodies(batch):
    """That camera draws the body where its labels are, and what hides it has none."""
    points = SKELETON(batch['betas'], batch['rotations']).keypoints
    camera, places = truth_of(batch)['camera'], batch['keypoints'][..., :2]
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


def test_places_without_an_image_are_those_of_the_joints():
    bodies = sample_skeletons(np.random.default_rng(5), 30, BODY)
    joints = BODY.posed_joints(bodies['betas'], bodies['rotations'])
    torch.testing.assert_close(bodies['joints'], joints)
    camera = fit_camera(joints, bodies['places'], torch.ones(30, 24))
    torch.testing.assert_close(project(joints, camera), bodies['places'], atol=1e-5, rtol=0)
    noise = (bodies['seen'] - bodies['places']).norm(dim=2)
    assert 0 < noise.min() and noise.max() < 5 * rendering.BLUR / 32
    assert noise.mean(dim=1).std() > .2 * noise.mean()  # bodies differ


def test_samples_are_those_of_a_set_of_the_same_seed(people):
    samples, visible = rendered_samples(20, 64, 0)
    from_file = People(people, ARRAYS)
    np.testing.assert_array_equal(visible, np.load(people)['visible'])
    for row in (0, 17):
        one, two = samples[row], from_file[row]
        assert one.keys() == two.keys()
        for key in one.keys() - {'labels'}:  # whose sizes differ
            torch.testing.assert_close(one[key], two[key], atol=1e-5, rtol=0, msg=key)
    other = render_people(2, 32, seed=(0, 1))
    assert not np.array_equal(other['pose'], from_file.set['pose'][:2])


# ---- epochs -------------------------------------------------------------------------------------

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


def test_the_process_that_renders_ends_with_the_batches():
    before = set(multiprocessing.active_children())
    with closing(Rendered(10, 32, 0, 10, 3)) as batches:
        first = next(batches.epoch(1))
        assert len(set(multiprocessing.active_children()) - before) == 1
    assert not set(multiprocessing.active_children()) - before
    assert first['image'].shape == (10, 3, 32, 32)


def test_a_set_is_written_whole_or_not_at_all(tmp_path, capsys, fails):
    out = tmp_path / 'people.npz'
    main([str(out), '--n', '3', '--size', '32', '--seed', '4'])
    assert f'wrote {out}: 3 people of 32 pixels' in capsys.readouterr().out
    found, expected = np.load(out), render_people(3, 32, 4)
    assert found.files == list(expected)
    np.testing.assert_array_equal(found['images'], expected['images'])
    assert f'{tmp_path}/no' in fails(main, f'{tmp_path}/no/people.npz', '--n', '1')
