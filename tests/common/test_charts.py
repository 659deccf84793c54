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
    limbs = dict(zip(JOINTS, bone_colours(BONES, None)))
    for limb in (('RHip', 'RKnee', 'RAnkle'), ('LShoulder', 'LElbow', 'LWrist')):
        assert len({limbs[joint] for joint in limb}) == 1
    assert limbs['RKnee'] != limbs['LKnee'] and limbs['RWrist'] != limbs['LWrist']


@pytest.mark.parametrize('epochs, mpjpe', ((1, .01), (200, .01), (3, np.nan)))
def test_history_with_ground_truth_and_without(tmp_path, epochs, mpjpe):
    columns = dict.fromkeys(('loss', 'val_loss', 'rate'), np.geomspace(.03, .005, epochs))
    columns |= dict.fromkeys(('train_mpjpe', 'val_mpjpe'), np.full(epochs, mpjpe))
    charts.draw_history({'epoch': range(1, epochs + 1), **columns}, tmp_path / 'a.png')
    assert_drawn(tmp_path / 'a.png', 9)


def test_errors_of_joints_and_poses(tmp_path):
    errors = np.random.default_rng(0).gamma(2, .005, (500, 15))
    charts.draw_joint_error(errors.mean(axis=0), JOINTS, tmp_path / 'a.png')
    charts.draw_error_curve({'joints': errors, 'poses': errors.mean(axis=1)}, tmp_path / 'b.png')
    charts.draw_error_curve({'perfect': np.zeros(5)}, tmp_path / 'c.png')
    for name in ('a.png', 'b.png', 'c.png'):
        assert_drawn(tmp_path / name, 7)


@pytest.mark.parametrize('names, with_truth', ((JOINTS, True), (None, False)))
def test_gallery(tmp_path, names, with_truth):
    truth = POSES['joint_3d']
    rows = [(f'pose {row}', POSES['joint_2d_1'][row], truth[row] if with_truth else None,
             truth[row] + .01) for row in range(2)]
    charts.draw_gallery(rows, BONES, names, tmp_path / 'a.png')
    assert_drawn(tmp_path / 'a.png', 9)


def test_a_film_turns_and_a_file_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(charts, 'TURN', 3)
    pose = POSES['joint_2d_1'], POSES['joint_3d'], BONES, JOINTS
    charts.animate(*pose, tmp_path / 'a.gif')
    with Image.open(tmp_path / 'a.gif') as film:
        assert film.n_frames == 3
    with pytest.raises(OSError, match='none/a.gif'):
        charts.animate(*pose, tmp_path / 'none/a.gif')


def test_people_in_place(tmp_path):
    joints = np.pad(POSES['joint_3d'][:3], ((0, 0), (0, 1), (0, 0)))
    joints[:, -1, 2] = -1
    pixels = 100 * joints[..., :2] * (1, -1) + 100
    charts.draw_people(np.zeros((200, 200, 3), np.uint8), pixels, joints, [0, 2, 5], BONES, JOINTS,
                       'm', tmp_path / 'a.png')
    assert_drawn(tmp_path / 'a.png', 11)
