"""Samples of sets, rendered people, and batches of them."""
import multiprocessing
from contextlib import closing

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from made import ARRAYS, SKELETON, annotations, bare, random_pose, refused, sized, truth_of
from pare import batches, people as rendering
from pare.body import FLIP_KEYPOINTS, FLIP_PARTS, KEYPOINTS, Body, Skeleton, project
from pare.crop import crop_matrix
from pare.data import People, augment, turn_sample
from pare.people import Rendered, as_tensors, render_people
from pare.render import face_parts, rasterise, to_pixels


# ---- samples ------------------------------------------------------------------------------------

@pytest.mark.parametrize('angle, flip', ((0., False), (.7, False), (0., True), (.7, True)))
def test_an_augmented_body_projects_onto_augmented_keypoints(angle, flip):
    """Of a body that is its own mirror image."""
    betas, rotations = random_pose(1, seed=3, angle=.3)
    points = SKELETON(betas, rotations).keypoints
    pixels = (project(points, torch.tensor([[.8, .1, -.05]]))[0].numpy() + 1) * 32
    matrix = crop_matrix((32, 32), 64, 64, angle, flip)
    expected = pixels @ matrix[:, :2].T + matrix[:, 2]
    expected = expected[FLIP_KEYPOINTS] if flip else expected
    turned, turned_points = turn_sample(rotations[0].numpy(), points[0].numpy(), angle, flip)
    again = SKELETON(betas, torch.from_numpy(turned)[None].float()).keypoints
    shift = matrix[:, :2] @ (.1, -.05)
    # the pelvis is not at the origin, and turns about itself
    pelvis = Body(ARRAYS).joints(betas)[0, 0].numpy()
    moved = turn_sample(rotations[0].numpy(), np.tile(pelvis, (24, 1)), angle, flip)[1][0] - pelvis
    found = (.8 * (again[0, :, :2].numpy() + moved[:2] + shift) + 1) * 32
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(again[0].numpy() + moved, turned_points, atol=1e-5)


def test_samples_are_augmented_by_the_epoch(people):
    plain, moving = People(people, ARRAYS)[5], People(people, ARRAYS, seed=3)
    np.testing.assert_array_equal(plain['image'].movedim(0, 2), np.load(people)['images'][5])
    assert plain['labels'].shape == (16, 16) and (plain['gain'] == 1).all()
    before, again = moving[5], moving[5]
    moving.epoch = 1
    for name in ('image', 'labels', 'keypoints', 'gain'):
        assert torch.equal(before[name], again[name])
        for other in (plain, moving[5]):
            assert not torch.equal(before[name].float(), other[name].float()), name


def test_photographs_are_read_in_the_keys_of_spin(tmp_path):
    """Their boxes have 80 pixels."""
    path = annotations(tmp_path, center=np.array([[60., 45], [161, 45], [60, -39]]))
    people = People(path, ARRAYS, tmp_path)
    assert people[0]['has_smpl'] == 1 and people[2]['has_smpl'] == 0
    assert (people[2]['labels'] == -1).all()
    expected = (np.load(path)['part'][0, 4, :2] - (60, 45)) / 40
    np.testing.assert_allclose(people[0]['keypoints'][4, :2], expected, atol=1e-5)
    column, row = (8 * (1 + expected)).astype(int)
    assert people[0]['labels'][row, column] > 0  # a part is drawn at the left knee
    with refused('set.npz: row 1: beside'):
        people[1]


@pytest.mark.parametrize('orientation, size, k', (
    (1, (637, 483), 4), (3, (640, 480), 4), (6, (640, 480), 4), (6, (637, 483), 1)))
def test_a_sample_of_a_reduced_photograph_is_that_of_the_whole(tmp_path, orientation, size, k):
    """A JPEG is reduced if its box is larger than the crop, a PNG never."""
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(6)), dtype=float)
    exif, names = Image.Exif(), ['images/a.jpg', 'images/a.png', 'images/0.jpg']
    exif[0x0112] = orientation
    path = annotations(tmp_path, imgname=np.array(names), scale=np.full(3, 1.5),
                       center=np.full((3, 2), (281.3, 260.8)))
    for name in names[:2]:
        Image.fromarray(np.uint8(4 * (smooth - 95))).save(tmp_path / name, exif=exif, quality=95)
    people = People(path, ARRAYS, tmp_path)
    assert [people.photo(row, 300 / 64)[1] for row in (0, 1)] == [k, 1]
    one, two = people[0]['image'].float(), people[1]['image'].float()
    assert (one - two).abs().mean() < .06 * two.std()


def test_unreadable_photographs_stop_a_training_or_are_left_out(tmp_path):
    people = People(annotations(tmp_path), ARRAYS, tmp_path)
    (tmp_path / 'images/1.jpg').write_bytes(b'no image')
    with refused(f'{tmp_path}/images/1.jpg: readable'):
        list(batches.Loader(people, 2, num_workers=1))
    with refused('set.npz: 1 of 3 images/1.jpg --skip-unreadable'):
        batches.leave_out_unreadable(people, False)
    batches.leave_out_unreadable(people, True)
    assert people.set['imgname'].tolist() == ['images/0.jpg', 'images/2.jpg']


# ---- what is known ------------------------------------------------------------------------------

def test_keypoints_that_the_body_or_s_lacks_have_no_confidence(tmp_path):
    points = np.ones((3, 24, 4))
    points[:, KEYPOINTS.index('RAnkle'), 3] = 0
    path = annotations(tmp_path, S=points)
    for arrays, seed in ((ARRAYS, 0), (bare(), 0), (bare(), 1), (bare(), 2)):
        sample, known = People(path, arrays, tmp_path, seed=seed)[0], Skeleton(arrays).known.float()
        torch.testing.assert_close(sample['keypoints'][:, 2], known)
        flip = augment(np.random.default_rng((seed, 0, 0)))['flip']
        known[KEYPOINTS.index('LAnkle' if flip else 'RAnkle')] = 0
        torch.testing.assert_close(sample['points_3d'][:, 3], known)


def test_samples_without_truth_are_not_scored(tmp_path):
    joints = np.ones((3, 24, 4), np.float32)
    joints[1, KEYPOINTS.index('Thorax'), 3] = 0  # which is not scored
    joints[2, KEYPOINTS.index('LKnee'), 3] = 0
    only_s = {'pose': None, 'shape': None, 'S': joints}
    for changes, scored in (({}, [1, 1, 0]), ({'has_smpl': [0, 0, 1], 'S': joints}, [1, 1, 1]),
                            (only_s, [1, 1, 0])):
        assert People(annotations(tmp_path, **changes), ARRAYS).scored().tolist() == scored
    with refused('set.npz: pose and shape 14'):
        People(annotations(tmp_path, **only_s), bare()).keep_scored()


def test_bodies_of_a_gender_give_their_keypoints(tmp_path):
    """To samples that have a body and no S of their own."""
    bodies = {'neutral': ARRAYS, 'm': sized(1.1), 'f': sized(.9)}
    points = np.zeros((3, 24, 4))
    points[1] = 7
    genders = np.array(['m', 'f', 'neutral'])
    people = People(annotations(tmp_path, gender=genders, has_smpl=np.ones(3), S=points), ARRAYS)
    people.take_genders(bodies)
    betas, rotations = (torch.from_numpy(people.set[key][:1]) for key in ('shape', 'rotations'))
    expected = Skeleton(bodies['m'])(betas, rotations).keypoints
    np.testing.assert_allclose(people.set['S'][:1, :, :3], expected, atol=1e-6)
    assert (people.set['S'][0, :, 3] == 1).all()
    assert (people.set['S'][1] == 7).all() and (people.set['S'][2] == 0).all()


# ---- rendered people ---------------------------------------------------------------------------

def test_keypoints_are_the_projections_of_the_bodies():
    """That camera draws the body where its labels are, and what hides it has none."""
    arrays = render_people(8, 64, seed=3)
    batch, visible = as_tensors(arrays), arrays['visible']
    camera, places = truth_of(batch)['camera'], batch['keypoints'][..., :2]
    points = SKELETON(batch['betas'], batch['rotations']).keypoints
    torch.testing.assert_close(project(points, camera), places, atol=1e-5, rtol=0)
    parts = face_parts(ARRAYS['weights'], ARRAYS['f'])
    assert (parts == np.arange(1, 25).repeat(len(parts) // 24)).mean() > .7  # others blend
    meshes = Body(ARRAYS)(batch['betas'], batch['rotations'])[0].numpy()
    for mesh, one, labels, share in zip(meshes, camera.numpy(), batch['labels'].numpy(), visible):
        which, _ = rasterise(to_pixels(mesh, one, 64), mesh[:, 2], ARRAYS['f'], (64, 64))
        drawn = np.where(which >= 0, parts[which], 0)
        assert ((drawn != labels) & (labels > 0)).mean() < .002  # pixels on an edge
        assert share == pytest.approx((labels > 0).sum() / (drawn > 0).sum(), abs=.02)
    assert visible.min() < .9 and visible.max() == 1


# ---- batches ------------------------------------------------------------------------------------

def test_sets_are_mixed_in_their_shares(people):
    sets = [People(people, ARRAYS, seed=0), People(people, ARRAYS, seed=1)]
    whole = batches.Mixture(sets, (.75, .25), 8, 5)
    loader = whole.epoch(3)
    seen = np.array(loader.batch_sampler)
    assert seen.shape == (5, 8) and (seen < 20).mean() == .75
    assert len(set(seen[seen >= 20].tolist())) == 10  # none of the smaller share twice
    assert np.bincount(seen[seen < 20], minlength=20).min() >= 1  # all of the larger
    expected = torch.stack([whole.data[row]['image'] for row in loader.batch_sampler[0]])
    assert torch.equal(next(iter(loader))['image'], expected)
    assert whole.epoch(4).batch_sampler != loader.batch_sampler
    with refused('40 samples 100'):
        batches.Mixture(sets, (1, 1), 100, 5)


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
            person = {key: value[order[0]].numpy() for key, value in people.items()}
            order = order[1:]
            person['rotations'], _ = turn_sample(person['rotations'], np.zeros((24, 3)), 0., flip)
            if flip:
                person['image'] = person['image'][:, :, ::-1]
                person['labels'] = np.array(FLIP_PARTS)[person['labels'][:, ::-1]]
                person['keypoints'] = person['keypoints'][FLIP_KEYPOINTS] * (-1, 1, 1)
            for key in person.keys() - {'gain'}:
                np.testing.assert_allclose(batch[key][place], person[key], err_msg=key)


def test_the_process_that_renders_ends_with_the_batches():
    before = set(multiprocessing.active_children())
    with closing(Rendered(10, 32, 0, 10, 3)) as rendered:
        first = next(rendered.epoch(1))
        assert len(set(multiprocessing.active_children()) - before) == 1
    assert not set(multiprocessing.active_children()) - before
    assert first['image'].shape == (10, 3, 32, 32)
