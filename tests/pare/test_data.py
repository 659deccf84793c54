import numpy as np
import pytest
import torch
from PIL import Image

from made import ARRAYS, annotations, bare, random_pose, refused
from pare import batches, data
from pare.body import KEYPOINTS, Body, Skeleton, project
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
    points = SKELETON(betas, rotations).keypoints
    pixels = (project(points, torch.tensor([[.8, .1, -.05]]))[0].numpy() + 1) * 32
    matrix = crop_matrix((32, 32), 64, 64, angle, flip)
    expected = pixels @ matrix[:, :2].T + matrix[:, 2]
    expected = expected[data.FLIP_KEYPOINTS] if flip else expected
    turned, turned_points = turn_sample(rotations[0].numpy(), points[0].numpy(), angle, flip)
    again = SKELETON(betas, torch.from_numpy(turned)[None].float()).keypoints
    shift = np.array([-1 if flip else 1, 1]) * (.1, -.05)
    shift = [np.cos(angle) * shift[0] - np.sin(angle) * shift[1],
             np.sin(angle) * shift[0] + np.cos(angle) * shift[1]]
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
    assert (people[2]['labels'] == -1).all() and set(people[0]['labels'].flatten().tolist()) - {0}
    with refused('set.npz: row 1: found a box beside its image'):
        people[1]
    expected = (np.load(tmp_path / 'set.npz')['part'][0, 4, :2] - (60, 45)) / 40
    np.testing.assert_allclose(people[0]['keypoints'][4, :2], expected, atol=1e-5)


def test_a_sample_of_a_reduced_photograph_is_that_of_the_whole(tmp_path):
    """A JPEG is reduced as the box is larger than the crop; a PNG never is."""
    noise = np.random.default_rng(0).integers(0, 256, (45, 60, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).resize((960, 720), Image.Resampling.BICUBIC)
    names = np.array(['images/large.jpg', 'images/large.png', 'images/0.jpg'])
    path = annotations(tmp_path, imgname=names, center=np.full((3, 2), 400), scale=np.full(3, 1.6))
    for name in names[:2]:
        photo.save(tmp_path / name, **{'quality': 95} if name.endswith('jpg') else {})
    people = People(path, ARRAYS, tmp_path)
    assert people.photo(0, 320 / 64)[1] == 4 and people.photo(1, 320 / 64)[1] == 1
    one, two = people[0]['image'].float(), people[1]['image'].float()
    assert (one - two).abs().mean() < .06 * two.std()


def test_unreadable_photographs_stop_a_training_or_are_left_out(tmp_path, capsys):
    people = People(annotations(tmp_path), ARRAYS, tmp_path)
    (tmp_path / 'images/1.jpg').write_bytes(b'no image')
    assert people.unreadable().tolist() == [False, True, False]
    for n_workers in (0, 1):  # another process says the same
        with refused('^[^ ]*images/1.jpg: found no readable image'):
            list(batches.Loader(people, 2, num_workers=n_workers))
    with refused('set.npz: found 1 of 3 images unreadable, .*images/1.jpg'):
        batches.leave_out_unreadable(people, False)
    batches.leave_out_unreadable(people, True)
    assert len(people) == 2 and 'they are left out' in capsys.readouterr().out


# ---- what is known ------------------------------------------------------------------------------

def test_keypoints_that_the_body_lacks_have_no_confidence(tmp_path):
    joints = np.random.default_rng(0).normal(0, .3, (3, 24, 4))
    joints[..., 3] = 1
    flipped = next(seed for seed in range(99)
                   if data.augment(np.random.default_rng((seed, 0, 0)))['flip'])
    for arrays, seed in ((ARRAYS, None), (bare(), None), (bare(), flipped)):
        people = People(annotations(tmp_path, S=joints), arrays, tmp_path, seed=seed)
        known = Skeleton(arrays).known.float()
        torch.testing.assert_close(people[0]['keypoints'][:, 2], known)
        torch.testing.assert_close(people[0]['points_3d'][:, 3], known)


def test_samples_without_truth_are_not_scored(tmp_path):
    joints = np.ones((3, 24, 4), np.float32)
    joints[1, KEYPOINTS.index('Thorax'), 3] = 0  # which is not scored
    joints[2, KEYPOINTS.index('LKnee'), 3] = 0
    nobody = {'pose': None, 'shape': None}
    for changes, kept in (({}, [0, 1]), ({'has_smpl': None}, [0, 1, 2]),
                          ({'has_smpl': [0, 0, 1], 'S': joints}, [0, 1, 2]),
                          (nobody | {'S': joints}, [0, 1])):
        people = People(annotations(tmp_path, **changes), ARRAYS, tmp_path)
        assert people.keep_scored() == 3 - len(kept)
        assert people.set['imgname'].tolist() == [f'images/{row}.jpg' for row in kept]
    for changes, arrays in ((nobody, ARRAYS), (nobody | {'S': joints}, bare())):
        with refused('set.npz: found neither pose and shape nor the 14 joints'):
            People(annotations(tmp_path, **changes), arrays, tmp_path).keep_scored()


def test_bodies_of_a_gender_give_their_keypoints(tmp_path):
    """To samples that have a body and no S of their own."""
    bodies = {'neutral': ARRAYS} | {gender: ARRAYS | {'v_template': size * ARRAYS['v_template']}
                                    for gender, size in (('m', 1.1), ('f', .9))}
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


# ---- batches ------------------------------------------------------------------------------------

def test_sets_are_mixed_in_their_shares(people):
    sets = [People(people, ARRAYS, seed=0), People(people, ARRAYS, seed=1)]
    seen = np.array([batches.Mixture(sets, (.75, .25), 4, 5, rank=rank, n_ranks=2).epoch(3)
                     .batch_sampler for rank in (0, 1)])
    assert seen.shape == (2, 5, 4) and (seen < 20).mean() == .75
    assert len(set(seen[seen >= 20].tolist())) == 10  # none of the smaller share twice
    assert np.bincount(seen[seen < 20].ravel(), minlength=20).min() >= 1  # all of the larger
    whole = batches.Mixture(sets, (.75, .25), 8, 5)
    loader = whole.epoch(3)
    assert [sorted(batch) for batch in loader.batch_sampler] == np.sort(np.hstack(seen)).tolist()
    expected = torch.stack([whole.data[row]['image'] for row in loader.batch_sampler[0]])
    assert torch.equal(next(iter(loader))['image'], expected)
    assert whole.epoch(4).batch_sampler != loader.batch_sampler
    with refused('found 40 samples, expected at least a batch of 100'):
        batches.Mixture(sets, (1, 1), 100, 5)


def test_the_truth_of_samples_is_known_without_their_images(tmp_path, people):
    genders = {'m': Skeleton(ARRAYS | {'v_template': 1.1 * ARRAYS['v_template']})}
    joints = np.abs(np.random.default_rng(0).normal(size=(3, 24, 4)))
    path = annotations(tmp_path, S=joints, gender=np.array(['m', 'f', 'neutral']))
    for samples in (People(path, ARRAYS, tmp_path), rendered_samples(5, 32, 3)[0]):
        whole = [true_joints(batch, SKELETON, genders) for batch in batches.Loader(samples, 2)]
        found = batches.truth_of(samples, SKELETON, genders)
        torch.testing.assert_close(found, torch.cat(whole), equal_nan=True)
