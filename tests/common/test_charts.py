"""Charts: a picture of the right size that is not empty, left and right apart."""
import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image

from common import charts
from common.charts import BLUE, GREY, ORANGE, bone_colours
from common.people import sample
from common.skeleton import BONES, JOINTS

POSES = sample(5, seed=7)


def assert_drawn(path, width):
    picture = imread(path)
    assert picture.shape[1] == pytest.approx(width * 110, abs=1) and picture[..., :3].std() > .03


def test_left_and_right_differ_in_colour():
    named = dict(zip(JOINTS, bone_colours(BONES, JOINTS)))
    assert named['LKnee'] == named['LWrist'] == BLUE
    assert named['RKnee'] == named['RWrist'] == ORANGE and named['Head'] == GREY
    limbs = dict(zip(JOINTS, bone_colours(BONES, None)))  # a colour for each limb
    assert limbs['RHip'] == limbs['RAnkle'] != limbs['LAnkle'] == limbs['LHip']
    assert limbs['RWrist'] != limbs['LWrist']


@pytest.mark.parametrize('epochs, mpjpe', ((200, .01), (3, np.nan)))
def test_history_with_ground_truth_and_without(tmp_path, epochs, mpjpe):
    columns = dict.fromkeys(('loss', 'val_loss', 'rate'), np.geomspace(.03, .005, epochs))
    columns |= dict.fromkeys(('train_mpjpe', 'val_mpjpe'), np.full(epochs, mpjpe))
    columns['epoch'] = range(1, epochs + 1)
    charts.draw_history(columns, tmp_path / 'a.png', crossed=.7)
    assert_drawn(tmp_path / 'a.png', 9)


def test_people_in_place(tmp_path):
    joints = np.pad(POSES['joint_3d'][:3], ((0, 0), (0, 1), (0, 0)))
    joints[:, -1, 2] = -1
    pixels, picture = 100 * joints[..., :2] * (1, -1) + 100, np.zeros((200, 200, 3), np.uint8)
    charts.draw_people(picture, pixels, joints, [0, 2, 5], BONES, JOINTS, 'm', tmp_path / 'a.png')
    assert_drawn(tmp_path / 'a.png', 11)


def test_a_film_lasts_as_long_as_its_frames(tmp_path):
    points, joints = (np.pad(POSES[key], ((0, 0), (0, 1), (0, 0)))[:, None]
                      for key in ('joint_2d_1', 'joint_3d'))  # of one person
    charts.animate(points, joints, BONES, JOINTS, tmp_path / 'a.gif', fps=20)
    with Image.open(tmp_path / 'a.gif') as film:
        assert film.n_frames == 3  # of a quarter of a second, 12 pictures each
