"""Charts: each is drawn and is not empty, left and right differ, a film has its length."""
import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image

from common import charts
from common.film import animate
from common.people import sample
from common.skeleton import BONES, JOINTS, with_root

POSES = sample(5, seed=7)
POINTS, POSE = (with_root(POSES[key], root)
                for key, root in (('joint_2d_1', (0, 0)), ('joint_3d', (0, 0, -1))))
ERRORS = np.random.default_rng(0).uniform(.001, .02, (5, 15))
HISTORY = dict.fromkeys(('loss', 'val_loss', 'train_mpjpe', 'val_mpjpe', 'rate'), [.03, .02, .01])
HISTORY['epoch'] = range(1, 4)
NO_3D = dict.fromkeys(('train_mpjpe', 'val_mpjpe'), 3 * [np.nan])
CHARTS = {
    'history': lambda path: charts.draw_history(HISTORY, path, crossed=.7),
    'history without 3D': lambda path: charts.draw_history(HISTORY | NO_3D, path, crossed=0),
    'joint error': lambda path: charts.draw_joint_error(ERRORS.mean(axis=0), JOINTS, path),
    'error curve': lambda path: charts.draw_error_curve({'joints': ERRORS}, path),
    'gallery': lambda path: charts.draw_gallery(
        [('best', POINTS[0, :15], POSE[0, :15], POSE[1, :15])], BONES, JOINTS, path),
    'people': lambda path: charts.draw_people(
        np.zeros((200, 200, 3), np.uint8), 100 * POSE[..., :2] * (1, -1) + 100, POSE, range(5),
        BONES, JOINTS, 'm', path),
    'joints': lambda path: charts.draw_joints(POSE[0, :, :2], BONES, (*JOINTS, 'root'), path)}


@pytest.mark.parametrize('name', CHARTS)
def test_a_chart_is_drawn_and_is_not_empty(tmp_path, name):
    CHARTS[name](tmp_path / 'a.png')
    picture = imread(tmp_path / 'a.png')[..., :3]
    assert (np.ptp(picture, axis=2) > .4).mean() > .001  # colours: all else is black, grey, white


def test_left_and_right_differ_in_colour():
    named = dict(zip(JOINTS, charts.bone_colours(BONES, JOINTS)))
    assert named['LKnee'] == named['LWrist'] != named['RKnee'] == named['RWrist'] != named['Head']


def test_a_film_lasts_as_long_as_its_frames(tmp_path):
    animate(POINTS[:, None], POSE[:, None], BONES, JOINTS, tmp_path / 'a.gif', fps=20)
    with Image.open(tmp_path / 'a.gif') as film:
        assert film.n_frames == 3  # of a quarter of a second, 12 pictures each
