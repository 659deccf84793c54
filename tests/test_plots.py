import numpy as np
import pytest
from matplotlib.image import imread

import plots
from data import BONES, JOINTS, sample

POSES = sample(3000, seed=7)


def assert_drawn(path, width):
    picture = imread(path)
    assert picture.shape[1] == pytest.approx(width * 110, abs=1) and picture[..., :3].std() > .03


def test_left_and_right_differ_in_colour():
    named = dict(zip(JOINTS, plots.bone_colours(BONES, JOINTS)))
    assert named['LKnee'] == named['LWrist'] == plots.BLUE
    assert named['RKnee'] == named['RWrist'] == plots.ORANGE and named['Head'] == plots.GREY
    limbs = dict(zip(JOINTS, plots.bone_colours(BONES, None)))
    for limb in (('RHip', 'RKnee', 'RAnkle'), ('LShoulder', 'LElbow', 'LWrist')):
        assert len({limbs[joint] for joint in limb}) == 1
    assert limbs['RKnee'] != limbs['LKnee'] and limbs['RWrist'] != limbs['LWrist']


@pytest.mark.parametrize('epochs', (1, 15, 200))
def test_history(tmp_path, epochs):
    falling = list(np.geomspace(.03, .005, epochs))
    columns = {'epoch': range(1, epochs + 1), 'loss': falling, 'val_loss': falling,
               'train_mpjpe': falling, 'val_mpjpe': falling, 'rate': falling}
    plots.draw_history(columns, tmp_path / 'a.png')
    unknown = [float('nan')] * epochs
    plots.draw_history({**columns, 'train_mpjpe': unknown, 'val_mpjpe': unknown},
                       tmp_path / 'b.png')
    for name in ('a.png', 'b.png'):
        assert_drawn(tmp_path / name, 9)


def test_a_table_grows_and_knows_what_it_holds(tmp_path):
    path = tmp_path / 'a.csv'
    table = plots.Table(path, ('row', 'seed'), ('mpjpe', 'seconds'))
    assert table.read() == {} and ('a',) not in table
    table.add(('a', 0), (1 / 3, 20))
    table.add(('b, c', 1), (.5, float('nan')))
    again = plots.Table(path, ('row', 'seed'), ('mpjpe', 'seconds'))
    assert list(again.read()) == [('a', '0'), ('b, c', '1')]
    assert again.read()['a', '0'] == (.333333, 20)
    assert ('a',) in again and ('b, c', 1) in again and ('a', 1) not in again
    with pytest.raises(ValueError, match='a.csv: found columns row, seed, mpjpe, seconds'):
        plots.Table(path, ('row',), ('mpjpe',))


def test_a_csv_file_is_whole_or_not_there(tmp_path):
    plots.write_csv(tmp_path / 'a.csv', ('x', 'y'), [(1, .5), (2, float('nan'))])
    assert (tmp_path / 'a.csv').read_text() == 'x,y\n1,0.5\n2,\n'

    def rows():
        yield 1, 2
        raise ValueError

    with pytest.raises(ValueError):
        plots.write_csv(tmp_path / 'a.csv', ('x', 'y'), rows())
    assert (tmp_path / 'a.csv').read_text() == 'x,y\n1,0.5\n2,\n'
    assert [path.name for path in tmp_path.iterdir()] == ['a.csv']


def test_errors(tmp_path):
    errors = np.random.default_rng(0).gamma(2, .005, (500, 15))
    plots.draw_joint_error(errors.mean(axis=0), JOINTS, tmp_path / 'a.png')
    plots.draw_error_curve({'joints': errors, 'poses': errors.mean(axis=1)}, tmp_path / 'b.png')
    plots.draw_error_curve({'perfect': np.zeros(5)}, tmp_path / 'c.png')
    for name in ('a.png', 'b.png', 'c.png'):
        assert_drawn(tmp_path / name, 7)


@pytest.mark.parametrize('names, with_truth', ((JOINTS, True), (None, True), (None, False)))
def test_gallery(tmp_path, names, with_truth):
    truth = POSES['joint_3d']
    rows = [(f'pose {row}', POSES['joint_2d_1'][row], truth[row] if with_truth else None,
             truth[row] + .01) for row in range(3)]
    plots.draw_gallery(rows, BONES, names, tmp_path / 'a.png')
    assert_drawn(tmp_path / 'a.png', 9)
