import numpy as np
import pytest
import torch
from PIL import Image

from made import ARRAYS, annotations, random_pose
from pare import batches, data
from pare.body import JOINTS, KEYPOINTS, Body, Skeleton, axis_angle_to_matrix, project
from pare.crop import crop_matrix
from pare.data import People, turn_sample
from pare.metrics import true_joints
from pare.people import rendered_samples

SKELETON = Skeleton(ARRAYS)

# ---- samples ------------------------------------------------------------------------------------

@pytest.mark.parametrize('flip', (False, True))
@pytest.mark.parametrize('angle', (0., .7))
def test_an_augmented_body_projects_onto_augmented_keypoints(flip, angle):
    """Of a body that is its own mirror image."""
    betas, rotations = random_pose(1, seed=3, angle=.3)
    skeleton, camera = Skeleton(ARRAYS), torch.tensor([[.8, .1, -.05]])
    points = skeleton(betas, rotations).keypoints
    pixels = (project(points, camera)[0].numpy() + 1) * 32
    matrix = crop_matrix((32, 32), 64, 64, angle, flip)
    expected = pixels @ matrix[:, :2].T + matrix[:, 2]
    expected = expected[data.FLIP_KEYPOINTS] if flip else expected
    turned, turned_points = turn_sample(rotations[0].numpy(), points[0].numpy(), angle, flip)
    again = skeleton(betas, torch.from_numpy(turned)[None].float()).keypoints
    shift = np.array([-1 if flip else 1, 1]) * (.1, -.05)
    shift = [np.cos(angle) * shift[0] - np.sin(angle) * shift[1],
             np.sin(angle) * shift[0] + np.cos(angle) * shift[1]]
    # the pelvis is not at the origin, and turns about itself
    pelvis = Body(ARRAYS).joints(betas)[0, 0].numpy()
    moved = turn_sample(rotations[0].numpy(), np.tile(pelvis, (24, 1)), angle, flip)[1][0] - pelvis
    found = (.8 * (again[0, :, :2].numpy() + moved[:2] + shift) + 1) * 32
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(again[0].numpy() + moved, turned_points, atol=1e-5)


def test_flipping_twice_changes_nothing():
    _, rotations = random_pose(1)
    points = np.random.default_rng(0).normal(size=(24, 3))
    once = turn_sample(rotations[0].numpy(), points, 0., True)
    twice = turn_sample(*once, 0., True)
    np.testing.assert_allclose(twice[0], rotations[0], atol=1e-6)
    np.testing.assert_allclose(twice[1], points)
    for order in (data.FLIP_JOINTS, data.FLIP_KEYPOINTS, data.FLIP_PARTS):
        assert np.array_equal(np.array(order)[order], np.arange(len(order)))
    swapped = {name: JOINTS[data.FLIP_JOINTS[joint]] for joint, name in enumerate(JOINTS)}
    assert swapped['LKnee'] == 'RKnee' and swapped['Head'] == 'Head'


def test_samples_are_augmented_by_the_epoch(people):
    plain, moving = People(people, ARRAYS), People(people, ARRAYS, seed=3)
    for name in ('image', 'labels', 'keypoints'):
        assert torch.equal(moving[5][name], moving[5][name])
        assert not torch.equal(moving[5][name].float(), plain[5][name].float())
    before, moving.epoch = moving[5], 1
    assert not torch.equal(before['image'], moving[5]['image'])
    sample = plain[5]
    assert sample['image'].shape == (3, 64, 64) and sample['labels'].shape == (16, 16)
    np.testing.assert_array_equal(sample['image'].movedim(0, 2), plain.set['images'][5])
    assert (sample['gain'] == 1).all() and .6 <= moving[5]['gain'].min() < 1.4


def test_photographs_are_read_in_the_keys_of_spin(tmp_path):
    people = People(annotations(tmp_path), ARRAYS, tmp_path)
    assert people[0]['has_smpl'] == 1 and people[2]['has_smpl'] == 0
    assert (people[2]['labels'] == -1).all() and set(people[0]['labels'].flatten().tolist()) - {0}
    expected = (np.load(tmp_path / 'set.npz')['part'][0, 4, :2] - (60, 45)) / 40
    np.testing.assert_allclose(people[0]['keypoints'][4, :2], expected, atol=1e-5)
    only_2d = People(annotations(tmp_path, pose=None, shape=None, has_smpl=None), ARRAYS, tmp_path)
    assert only_2d[0]['has_smpl'] == 0


def test_unreadable_photographs_are_named(tmp_path):
    people = People(annotations(tmp_path), ARRAYS, tmp_path)
    (tmp_path / 'images/0.jpg').write_bytes(b'no image')
    (tmp_path / 'images/1.jpg').unlink()
    for row in (0, 1):
        with pytest.raises(ValueError, match=f'images/{row}.jpg: found no readable image'):
            people[row]


def test_unreadable_photographs_stop_a_training_or_are_left_out(tmp_path, capsys):
    people = People(annotations(tmp_path), ARRAYS, tmp_path)
    whole = (tmp_path / 'images/1.jpg').read_bytes()
    (tmp_path / 'images/1.jpg').write_bytes(whole[:len(whole) // 2])  # truncated
    assert people.unreadable().tolist() == [False, True, False]
    with pytest.raises(ValueError, match='set.npz: found 1 of 3 images unreadable, .*images/1.jpg'):
        batches.leave_out_unreadable(people, False)
    batches.leave_out_unreadable(people, True)
    output = capsys.readouterr().out
    assert len(people) == 2 and 'they are left out' in output
    assert output.startswith(f'reading the 3 photographs of {people.path}')
    assert people[1]['has_smpl'] == 0


def test_a_box_beside_the_image_is_named(tmp_path):
    centres = np.array([[60., 45], [161, 45], [60, -39]])  # with boxes of 80 pixels
    people = People(annotations(tmp_path, center=centres), ARRAYS, tmp_path)
    assert people[2]['image'].shape == (3, 64, 64)
    with pytest.raises(ValueError, match='set.npz: row 1: found a box beside its image'):
        people[1]


# ---- what a body does not have ------------------------------------------------------------------

def test_keypoints_that_the_body_lacks_have_no_confidence(tmp_path):
    rng = np.random.default_rng(0)
    path = annotations(tmp_path, S=np.concatenate([rng.normal(size=(3, 24, 3)),
                                                   np.ones((3, 24, 1))], axis=2))
    bare = {key: array for key, array in ARRAYS.items() if 'J_regressor_' not in key}
    for arrays, flipped in ((ARRAYS, False), (bare, False), (bare, True)):
        people = People(path, arrays, tmp_path, seed=next(
            seed for seed in range(99) if data.augment(np.random.default_rng((seed, 0, 0)))['flip']
        ) if flipped else None)
        known = Skeleton(arrays).known.float()
        torch.testing.assert_close(people[0]['keypoints'][:, 2], known)
        torch.testing.assert_close(people[0]['points_3d'][:, 3], known)


def test_a_fit_makes_a_sample_one_with_pose_and_shape(tmp_path):
    fits = np.random.default_rng(0).normal(0, .3, (3, 82)).astype(np.float32)
    np.save(tmp_path / 'fits.npy', fits)
    people = People(annotations(tmp_path), ARRAYS, tmp_path, fits=tmp_path / 'fits.npy')
    assert [people[row]['has_smpl'].item() for row in range(3)] == [1, 1, 1]
    np.testing.assert_allclose(people[2]['betas'], fits[2, 72:])
    expected = axis_angle_to_matrix(torch.from_numpy(fits[2, :72]).view(24, 3))
    torch.testing.assert_close(people[2]['rotations'], expected)


def test_samples_without_truth_are_not_scored(tmp_path):
    joints = np.ones((3, 24, 4), np.float32)
    joints[1, KEYPOINTS.index('Thorax'), 3] = 0  # which is not scored
    joints[2, KEYPOINTS.index('LKnee'), 3] = 0
    for changes, kept, left_out in (
            ({}, [0, 1], 1),
            ({'has_smpl': None}, [0, 1, 2], 0),
            ({'has_smpl': [0, 0, 1], 'S': joints}, [0, 1, 2], 0),
            ({'pose': None, 'shape': None, 'S': joints}, [0, 1], 1)):
        people = People(annotations(tmp_path, **changes), ARRAYS, tmp_path)
        assert people.keep_scored() == left_out
        assert people.set['imgname'].tolist() == [f'images/{row}.jpg' for row in kept]
    bare = People(annotations(tmp_path, pose=None, shape=None), ARRAYS, tmp_path)
    with pytest.raises(ValueError, match='set.npz: found neither pose and shape nor the 14 joints'):
        bare.keep_scored()


def test_whole_numbers_are_no_cut_keypoints(tmp_path):
    part = np.full((3, 24, 3), 61)
    people = People(annotations(tmp_path, part=part, center=np.tile([60, 45], (3, 1))), ARRAYS,
                    tmp_path)
    np.testing.assert_allclose(people[0]['keypoints'][0, :2], [1 / 40, 16 / 40], atol=1e-6)


def test_a_sample_of_a_reduced_photograph_is_that_of_the_whole(tmp_path):
    """A JPEG is reduced as the box is larger than the crop; a PNG never is."""
    noise = np.random.default_rng(0).integers(0, 256, (45, 60, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).resize((960, 720), Image.Resampling.BICUBIC)
    names = np.array(['images/large.jpg', 'images/large.png', 'images/0.jpg'])
    changes = {'imgname': names, 'center': np.full((3, 2), 400), 'scale': np.full(3, 1.6)}
    path = annotations(tmp_path, **changes)
    for name in names[:2]:
        photo.save(tmp_path / name, **{'quality': 95} if name.endswith('jpg') else {})
    people = People(path, ARRAYS, tmp_path)
    assert people.photo(0, 320 / 64)[1] == 4 and people.photo(1, 320 / 64)[1] == 1
    one, two = people[0]['image'].float(), people[1]['image'].float()
    assert (one - two).abs().mean() < .06 * two.std()


# ---- genders ------------------------------------------------------------------------------------

def test_bodies_of_a_gender_give_their_keypoints(tmp_path):
    """To samples that have a body and no S of their own."""
    bodies = {'neutral': ARRAYS} | {gender: ARRAYS | {'v_template': size * ARRAYS['v_template']}
                                    for gender, size in (('m', 1.1), ('f', .9))}
    points = np.zeros((3, 24, 4))
    points[1] = 7
    path = annotations(tmp_path, gender=np.array(['m', 'f', 'f']), has_smpl=np.ones(3), S=points)
    people = People(path, ARRAYS, tmp_path)
    people.take_genders(bodies)
    for row, gender in ((0, 'm'), (2, 'f')):
        expected = Skeleton(bodies[gender])(people[row]['betas'][None],
                                            people[row]['rotations'][None]).keypoints
        torch.testing.assert_close(people[row]['points_3d'][:, :3], expected[0])
        assert (people[row]['points_3d'][:, 3] == 1).all()
    assert (people[1]['points_3d'] == 7).all()
    for changes in ({'gender': None}, {'gender': np.array(['neutral'] * 3)}, {'has_smpl': [0] * 3}):
        people = People(annotations(tmp_path, **changes), ARRAYS, tmp_path)
        people.take_genders(bodies)
        assert (people[0]['points_3d'] == 0).all()


# ---- mixtures -----------------------------------------------------------------------------------

def test_sets_are_mixed_in_their_shares(people):
    sets = [People(people, ARRAYS, seed=0), People(people, ARRAYS, seed=1)]
    seen = np.array([batches.Mixture(sets, (.75, .25), 4, 5, rank=rank, n_ranks=2).epoch(3)
                     .batch_sampler for rank in (0, 1)])
    assert seen.shape == (2, 10, 4) and (seen < 40).mean() == .75
    assert len(set(seen[seen >= 40].tolist())) == 20  # none of the smaller share twice
    assert np.bincount(seen[seen < 40].ravel(), minlength=40).min() >= 1  # all of the larger
    whole = batches.Mixture(sets, (.75, .25), 8, 5)
    for batch, one, two in zip(whole.epoch(3).batch_sampler, *seen.tolist()):
        assert sorted(batch) == sorted(one + two)
    assert sets[0].epoch == sets[1].epoch == 3
    assert whole.epoch(4).batch_sampler != whole.epoch(3).batch_sampler
    with pytest.raises(ValueError, match='found 80 samples, expected at least a batch of 100'):
        batches.Mixture(sets, (1, 1), 100, 5)


def test_other_processes_read_the_same_samples_and_say_what_is_wrong(tmp_path):
    path = annotations(tmp_path)
    people = People(path, ARRAYS, tmp_path, seed=2)
    alone, helped = (list(batches.Loader(people, 2, num_workers=n)) for n in (0, 2))
    for one, two in zip(alone, helped, strict=True):
        assert all(torch.equal(one[key], two[key]) for key in one)
    (tmp_path / 'images/1.jpg').write_bytes(b'no image')
    errors = []
    for n in (0, 2):
        with pytest.raises(ValueError, match='images/1.jpg: found no readable image') as error:
            list(batches.Loader(people, 2, num_workers=n))
        errors.append(str(error.value))
    assert errors[0] == errors[1]


@pytest.mark.parametrize('with_genders', (False, True))
def test_the_truth_of_samples_is_known_without_their_images(tmp_path, people, with_genders):
    bodies = {'m': ARRAYS | {'v_template': 1.1 * ARRAYS['v_template']}} if with_genders else {}
    genders = {gender: Skeleton(arrays) for gender, arrays in bodies.items()}
    joints = np.abs(np.random.default_rng(0).normal(size=(3, 24, 4)))
    path = annotations(tmp_path, S=joints, gender=np.array(['m', 'f', 'neutral']))
    photographs = People(path, ARRAYS, tmp_path)
    rendered, _ = rendered_samples(5, 64, 3)
    for samples in (photographs, People(people, ARRAYS), rendered):
        whole = [true_joints(batch, SKELETON, genders) for batch in batches.Loader(samples, 2)]
        if samples is photographs:
            for image in (tmp_path / 'images').iterdir():
                image.unlink()
        found = batches.truth_of(samples, SKELETON, genders)
        torch.testing.assert_close(found, torch.cat(whole), equal_nan=True)


def test_batches_of_a_mixture_are_its_samples_of_the_epoch(people):
    sets = [People(people, ARRAYS, seed=3)]
    mixture = batches.Mixture(sets, (1,), 4, 5)
    loader = mixture.epoch(2)
    first, rows = next(iter(loader)), loader.batch_sampler[0]
    for key in ('image', 'keypoints', 'rotations'):
        assert torch.equal(first[key], torch.stack([sets[0][row][key] for row in rows])), key
