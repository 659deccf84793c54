import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from made import ARRAYS
from metrics import cal_mpjpe
from pare import plots
from pare.body import Skeleton, fit_camera
from pare.metrics import true_joints
from pare.people import rendered_samples
from pare.pictures import GREY, GROUPS, LARGE, by_visible, draw_all, examples, sensitivity

CPU, SKELETON = torch.device('cpu'), Skeleton(ARRAYS)


class Truth(nn.Module):
    """Finds the true body of the one sample that it knows; where the image is grey, an upright
    one at rest."""

    def __init__(self, sample):
        super().__init__()
        self.sample = sample

    def forward(self, image):
        sample, n = self.sample, len(image)
        points = SKELETON(sample['betas'][None], sample['rotations'][None]).keypoints
        camera = fit_camera(points, sample['keypoints'][None, :, :2], torch.ones(1, 24))
        grey = (image == GREY[:, None, None])[:, :, 20:44, 20:44].all(dim=1).any(dim=(1, 2))
        rest = torch.eye(3).repeat(24, 1, 1)
        rest[0] = torch.diag(torch.tensor([1., -1, -1]))
        rotations = torch.where(grey.view(-1, 1, 1, 1), rest, sample['rotations'])
        parts = nn.functional.one_hot(sample['labels'].long(), 25).movedim(2, 0)[None]
        return {'rotations': rotations, 'betas': sample['betas'].expand(n, 10),
                'camera': camera.expand(n, 3), 'parts': parts.float().expand(n, -1, -1, -1),
                'attention': torch.rand(n, 24, 16, 16)}


@pytest.fixture(scope='module')
def sample():
    return rendered_samples(3, 64, 5)[0][1]


def drawn(path) -> np.ndarray:
    """The pixels of a picture that shows something."""
    pixels = np.asarray(Image.open(path).convert('RGB')).astype(float)
    assert min(pixels.shape[:2]) > 200 and pixels.std() > 5, path
    return pixels


# ---- numbers ------------------------------------------------------------------------------------

def test_groups_are_alike_in_number_and_from_the_least_visible_on():
    rng = np.random.default_rng(0)
    visible, errors = rng.random(6 * GROUPS), rng.random(6 * GROUPS)
    order = np.argsort(visible).reshape(GROUPS, 6)
    shares, means, spread = by_visible(visible, errors)
    np.testing.assert_allclose(shares, visible[order].mean(axis=1))
    np.testing.assert_allclose(means, errors[order].mean(axis=1))
    np.testing.assert_allclose(spread, errors[order].std(axis=1) / 6 ** .5)


def test_hiding_the_middle_costs_and_hiding_a_corner_does_not(sample):
    found = sensitivity(Truth(sample), sample, ARRAYS, CPU, n=4)
    batch = {key: value[None] for key, value in sample.items()}
    grey = GREY[:, None, None].expand(1, 3, 64, 64)
    rest = batch | {'rotations': Truth(sample)(grey)['rotations']}
    expected = 1000 * cal_mpjpe(true_joints(rest, SKELETON), true_joints(batch, SKELETON))
    assert found.shape == (4, 4)
    np.testing.assert_allclose(found[1:3, 1:3], expected, rtol=1e-3)
    np.testing.assert_allclose(found[[0, 0, 3, 3], [0, 3, 0, 3]], 0, atol=1e-2)


# ---- bodies -------------------------------------------------------------------------------------

def test_an_example_of_the_truth_shows_the_same_body_twice(sample):
    (title, image, labels, parts, over, side, true_side), = examples(
        Truth(sample), [sample], ARRAYS, [0], np.array([12.4]), CPU)
    assert title == '12 mm' and image.shape == over.shape == side.shape == (LARGE, LARGE, 3)
    np.testing.assert_array_equal(labels, sample['labels'])
    np.testing.assert_array_equal(parts, sample['labels'])
    changed = (over != image).any(axis=2).reshape(64, 4, 64, 4).mean(axis=(1, 3)) > .5
    whole = sample['labels'].numpy() > 0   # without what is hidden
    assert changed[whole].mean() > .95 and changed.mean() < 2 * whole.mean()
    inside = (side != 255).any(axis=2)
    assert inside.mean() > .02 and (inside == (true_side != 255).any(axis=2)).mean() > .999
    assert not np.array_equal(side, true_side)  # in two colours


def test_what_has_no_body_has_no_true_side(sample):
    sample = sample | {'has_smpl': torch.tensor(0.)}
    (*_, side, true_side), = examples(Truth(sample), [sample], ARRAYS, [0], np.zeros(1), CPU)
    assert true_side is None and side is not None


def test_all_pictures_of_a_score_are_drawn(tmp_path):
    samples, visible = rendered_samples(6, 64, 5)
    truth = torch.cat([true_joints({key: value[None] for key, value in sample.items()}, SKELETON)
                       for sample in samples])
    found = {'true': truth, 'found': truth + .1 * torch.rand(6, 17, 3)}
    draw_all(Truth(samples[0]), samples, ARRAYS, found, visible, tmp_path, CPU, squares=True)
    assert {path.name for path in tmp_path.iterdir()} == {
        'examples.png', 'worst.png', 'joint_error.png', 'visible.png', 'attention.png',
        'sensitivity.png'}
    for path in tmp_path.iterdir():
        drawn(path)


# ---- charts -------------------------------------------------------------------------------------

def test_a_history_is_drawn_with_and_without_terms(tmp_path):
    history = {'epoch': (1, 2, 3), 'loss': (3., 2, 1), 'keypoints': (1., .5, .2),
               'points_3d': (1., 1, .4), 'pose': (1., .4, .2), 'parts': (1., .3, 0),
               'places': (0., 0, 0), 'val_mpjpe': (200., 150, 120), 'val_pa_mpjpe': (99., 80, 70)}
    plots.draw_history(history, tmp_path / 'history.png')
    one = {key: values[:1] for key, values in history.items()}
    plots.draw_history(one, tmp_path / 'one.png')
    assert drawn(tmp_path / 'history.png').shape == drawn(tmp_path / 'one.png').shape


def test_a_ladder_is_drawn_of_one_seed_and_of_more(tmp_path):
    rows = {(name, seed): {'mpjpe': mpjpe + int(seed), 'hidden': mpjpe + 20,
                           'seen_joints': mpjpe - 5, 'hidden_joints': mpjpe + 25}
            for name, mpjpe in (('mean pose', 181), ('exact', 45), ('ResNet and MLP', 150),
                                ('+ attention', 130), ('+ part loss', 90))
            for seed in '012'}
    plots.draw_ladder(rows, tmp_path / 'ladder.png')
    plots.draw_ladder({key: row for key, row in rows.items() if key[1] == '0'},
                      tmp_path / 'one.png')
    courses = {('+ part loss', seed, epoch): (3e4 * int(epoch), 2 / int(epoch), 150 / int(epoch))
               for seed in '01' for epoch in '123'}
    plots.draw_courses(courses, tmp_path / 'courses.png')
    assert all(drawn(path).any() for path in tmp_path.iterdir())


def test_groups_that_are_as_visible_are_one(tmp_path):
    groups = np.array([.5, .999, 1, 1]), np.array([150., 90, 80, 70]), np.ones(4)
    plots.draw_visible({'mean': groups}, tmp_path / 'visible.png')
    drawn(tmp_path / 'visible.png')


def test_bodies_without_labels_have_a_map_of_sensitivity(tmp_path):
    image, errors = np.zeros((32, 32, 3), np.uint8), np.random.default_rng(0).random((4, 4))
    for name, labels in (('without', np.full((8, 8), -1)), ('with', np.eye(8))):
        plots.draw_sensitivity(image, labels, errors, .5, tmp_path / f'{name}.png')
    assert not np.array_equal(drawn(tmp_path / 'with.png'), drawn(tmp_path / 'without.png'))
