import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from made import ARRAYS, truth_of
from pare import plots
from pare.people import rendered_samples
from pare.pictures import LARGE, by_visible, examples

CPU = torch.device('cpu')


class Truth(nn.Module):
    """Finds the true body of the one sample that it knows."""

    def __init__(self, sample):
        super().__init__()
        self.batch = {key: value[None] for key, value in sample.items()}

    def forward(self, image):
        parts = nn.functional.one_hot(self.batch['labels'].long(), 25).movedim(3, 1)
        return truth_of(self.batch, parts=parts.float())


@pytest.fixture(scope='module')
def sample():
    return rendered_samples(3, 64, 5)[0][1]


def drawn(path) -> np.ndarray:
    """The pixels of a picture that shows something."""
    pixels = np.asarray(Image.open(path).convert('RGB')).astype(float)
    assert min(pixels.shape[:2]) > 200 and pixels.std() > 5, path
    return pixels


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
    unknown = sample | {'has_smpl': torch.tensor(0.)}
    (*_, side, true_side), = examples(Truth(sample), [unknown], ARRAYS, [0], np.zeros(1), CPU)
    assert true_side is None and side is not None


def test_charts_show_something(tmp_path):
    history = {key: (3., 2, 1) for key in ('loss', 'keypoints', 'points_3d', 'pose', 'parts',
                                           'val_mpjpe', 'val_pa_mpjpe')}
    history |= {'epoch': (1, 2, 3), 'places': (0., 0, 0)}
    plots.draw_history(history, tmp_path / 'history.png')
    plots.draw_history({key: values[:1] for key, values in history.items()}, tmp_path / 'one.png')
    rows = {(name, seed): {'mpjpe': mpjpe + int(seed), 'hidden': mpjpe + 20,
                           'seen_joints': mpjpe - 5, 'hidden_joints': mpjpe + 25}
            for name, mpjpe in (('mean pose', 181), ('exact', 45), ('ResNet and MLP', 150),
                                ('+ attention', 130))
            for seed in '01'}
    plots.draw_ladder(rows, tmp_path / 'ladder.png')
    courses = {('+ part loss', seed, epoch): (3e4 * int(epoch), 2 / int(epoch), 150 / int(epoch))
               for seed in '01' for epoch in '123'}
    plots.draw_courses(courses, tmp_path / 'courses.png')
    visible = np.append(np.linspace(.4, .99, 50), np.ones(40))
    shares, means, _, counts = groups = by_visible(visible, 100 * visible)
    assert counts.sum() == 90 and counts[-1] == 40 and (np.diff(shares) > 0).all()
    np.testing.assert_allclose(means, 100 * shares)
    plots.draw_visible(*groups, tmp_path / 'visible.png')
    plots.draw_sensitivity(np.zeros((32, 32, 3), np.uint8), np.full((8, 8), -1), np.eye(4), .5,
                           tmp_path / 'sensitivity.png')  # without labels
    assert len([drawn(path) for path in tmp_path.iterdir()]) == 6
