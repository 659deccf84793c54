"""Charts: a picture of the right size that is not empty, left and right apart."""
from functools import partial

import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image

from common import charts
from common.camera import ROOT
from common.charts import BLUE, GREY, ORANGE, bone_colours
from common.people import sample
from common.skeleton import BONES, JOINTS

POSES = sample(5, seed=7)


@pytest.fixture
def assert_draws(tmp_path):
    """Draw a chart, which must be this wide, in inches, and not empty."""
    def call(width, draw, *data):
        draw(*data, tmp_path / 'a.png')
        picture = imread(tmp_path / 'a.png')
        assert picture.shape[1] == pytest.approx(width * 110, abs=1)
        assert picture[..., :3].std() > .03
    return call


def test_left_and_right_differ_in_colour():
    named = dict(zip(JOINTS, bone_colours(BONES, JOINTS)))
    assert named['LKnee'] == named['LWrist'] == BLUE
    assert named['RKnee'] == named['RWrist'] == ORANGE and named['Head'] == GREY
    limbs = dict(zip(JOINTS, bone_colours(BONES, None)))  # a colour for each limb
    assert limbs['RHip'] == limbs['RAnkle'] != limbs['LAnkle'] == limbs['LHip']
    assert limbs['RWrist'] != limbs['LWrist']


@pytest.mark.parametrize('epochs, mpjpe', ((200, .01), (3, np.nan)))
def test_history_with_ground_truth_and_without(assert_draws, epochs, mpjpe):
    columns = dict.fromkeys(('loss', 'val_loss', 'rate'), np.geomspace(.03, .005, epochs))
    columns |= dict.fromkeys(('train_mpjpe', 'val_mpjpe'), np.full(epochs, mpjpe))
    assert_draws(9, partial(charts.draw_history, crossed=.7),
                     {'epoch': range(1, epochs + 1), **columns})


def test_errors_of_joints_and_poses(assert_draws):
    errors = np.random.default_rng(0).gamma(2, .005, (500, 15))
    assert_draws(7, charts.draw_joint_error, errors.mean(axis=0), JOINTS)
    for curves in ({'joints': errors, 'poses': errors.mean(axis=1)}, {'perfect': np.zeros(5)}):
        assert_draws(7, charts.draw_error_curve, curves)


def test_gallery_of_poses_with_ground_truth_and_without(assert_draws):
    first, second = zip(POSES['joint_2d_1'][:2], POSES['joint_3d'][:2])
    rows = [('scored', *first, first[1] + .01), ('lifted', second[0], None, second[1])]
    assert_draws(9, charts.draw_gallery, rows, BONES, JOINTS)


def test_people_in_place(assert_draws):
    joints = np.pad(POSES['joint_3d'][:3], ((0, 0), (0, 1), (0, 0)))
    joints[:, -1, 2] = -1
    pixels, picture = 100 * joints[..., :2] * (1, -1) + 100, np.zeros((200, 200, 3), np.uint8)
    assert_draws(11, charts.draw_people, picture, pixels, joints, [0, 2, 5], BONES, JOINTS, 'm')


def test_a_film_lasts_as_long_as_its_frames(tmp_path):
    pose = (charts.with_root(POSES['joint_2d_1'], (0, 0))[:, None],
            charts.with_root(POSES['joint_3d'], ROOT)[:, None], BONES, JOINTS)
    charts.animate(*pose, tmp_path / 'a.gif', fps=20)
    with Image.open(tmp_path / 'a.gif') as film:
        assert film.n_frames == 3  # of a quarter of a second, 12 pictures each
    with pytest.raises(OSError, match='none/a.gif'):
        charts.animate(*pose, tmp_path / 'none/a.gif', fps=20)
