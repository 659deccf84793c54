import pickle
import re
import warnings

import numpy as np
import pytest
import torch

import data
import eval as eval_module
import plots
from conftest import ROOT
from data import SUPERVISED, load, sample, save
from eval import main
from metrics import cal_mpjpe, cal_pa_mpjpe
from model import LiftModel

POSES = sample(50, seed=6)
CHARTS = {'joint_error.png', 'error_curve.png', 'gallery.png'}


def weights(**sizes):
    torch.manual_seed(0)
    model = LiftModel(**{'n_blocks': 1, 'hidden_layer': 16, **sizes})
    n_joints = model.mean_2d.numel() // 2
    model.fit(torch.from_numpy(POSES['joint_2d_1'][:, :n_joints]),
              torch.from_numpy(POSES['joint_3d'][:, :n_joints]))
    return model


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(weights().state_dict(), 'liftModel')
    save('data_test_lift.pkl', POSES)
    return tmp_path


@pytest.fixture
def here(folder, no_charts):
    return folder


def fails(capsys, *options):
    with pytest.raises(SystemExit) as end:
        main(list(options))
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count('\n') == 1 and error.startswith('eval.py: ')
    return error


@pytest.mark.parametrize('options', ((), ('liftModel',)))
def test_scores(folder, capsys, options):
    assert main([*options, '--predict', 'out.npy']) == 0
    output = capsys.readouterr().out
    predicted = np.load('out.npy')
    assert predicted.shape == (50, 15, 3) and predicted.dtype == np.float32
    assert output.startswith(f'MPJPE {cal_mpjpe(predicted, POSES["joint_3d"]):.5f}\n50 poses of 15')
    assert f'PA-MPJPE  {cal_pa_mpjpe(predicted, POSES["joint_3d"]):.5f}' in output
    for word in ('N-MPJPE', 'PCK', 'AUC', 'unit'):
        assert word in output
    error = np.linalg.norm(predicted - POSES['joint_3d'], axis=-1).mean(axis=0)
    assert f'RHip       {error[0]:.5f}' in output and f'RWrist     {error[14]:.5f}' in output
    assert {path.name for path in (folder / 'plots').iterdir()} == CHARTS


def test_a_file_without_ground_truth_is_lifted(here, capsys):
    save('own.pkl', {'joint_2d_1': POSES['joint_2d_1'].reshape(50, 30)})
    assert main(['liftModel', '--data', 'own.pkl', '--predict', 'own.npy', '--plots', 'own']) == 0
    output = capsys.readouterr().out
    assert 'no joint_3d, so 50 poses were lifted' in output and 'MPJPE' not in output
    main(['liftModel', '--predict', 'scored.npy'])
    np.testing.assert_array_equal(np.load('own.npy'), np.load('scored.npy'))
    assert [path.name for path in (here / 'own').iterdir()] == ['gallery.png']


@pytest.mark.parametrize('sizes', ({'n_blocks': 3}, {'hidden_layer': 40}, {'output_nodes': 27}))
def test_weights_of_any_size(here, capsys, sizes):
    torch.save(weights(**sizes).state_dict(), 'other')
    n_joints = sizes.get('output_nodes', 45) // 3
    save('data_test_lift.pkl', {key: POSES[key][:, :n_joints] for key in SUPERVISED})
    assert main(['other']) == 0
    assert f'50 poses of {n_joints} joints' in capsys.readouterr().out


def test_joints_in_an_unknown_order_have_numbers(here, capsys):
    order = np.random.default_rng(0).permutation(15)
    save('data_test_lift.pkl', {key: POSES[key][:, order] for key in SUPERVISED})
    assert main([]) == 0
    output = capsys.readouterr().out
    assert 'joint 14' in output and 'RWrist' not in output


def test_up_is_up_in_the_picture(here, monkeypatch):
    """Where the file's y points down, the 2D input is drawn the right way up."""
    save('data_test_lift.pkl', {**POSES, 'joint_2d_1': POSES['joint_2d_1'] * (1, -1)})
    drawn = []
    monkeypatch.setattr(plots, 'draw_gallery', lambda rows, *_: drawn.extend(rows))
    main([])
    for _, joint_2d, truth, _ in drawn:
        assert np.corrcoef(joint_2d[:, 1], truth[:, 1])[0, 1] > .99


def test_a_single_pose(here, capsys):
    save('data_test_lift.pkl', {key: array[:1] for key, array in POSES.items()})
    assert main([]) == 0 and '\n1 poses' in capsys.readouterr().out


class Code:
    def __reduce__(self):
        return eval, ('__import__("pathlib").Path("ran").touch()',)


@pytest.mark.parametrize('content, message', (
    (None, 'No such file'),
    ('folder', 'Is a directory'),
    (b'', 'found no checkpoint of plain weights'),
    (b'no checkpoint', 'found no checkpoint of plain weights'),
    (weights(), 'found no checkpoint of plain weights'),  # a pickled module
    (Code(), 'found no checkpoint of plain weights'),
    (pickle.dumps({'a': Code()}), 'found no checkpoint of plain weights'),
    ({'w1.weight': torch.zeros(2, 2)}, 'found no state_dict of a LiftModel'),
    ([1, 2], 'found no state_dict of a LiftModel')))
def test_files_that_are_no_weights(here, capsys, content, message):
    if content == 'folder':
        (here / 'other').mkdir()
    elif isinstance(content, bytes):
        (here / 'other').write_bytes(content)
    elif content is not None:
        torch.save(content, 'other')
    with warnings.catch_warnings(action='error'):  # a warning would be a second line
        error = fails(capsys, 'other')
    assert message in error and 'other' in error and not (here / 'ran').exists()


@pytest.mark.parametrize('change', (lambda points: 1000 * points, lambda points: points * [1, -1],
                                    lambda points: points[:, ::-1]))
def test_points_unlike_those_of_the_training_get_a_warning(here, capsys, change):
    """Pixels, y that points down, another order of joints."""
    weights = str(ROOT / 'liftModel')
    main([weights])
    assert capsys.readouterr().err == ''
    save('data_test_lift.pkl', {'joint_2d_1': change(POSES['joint_2d_1'])})
    main([weights])
    error = capsys.readouterr().err
    assert re.match(r'warning: .* lie [\d.]+ standard deviations', error) and error.count('\n') == 1


def test_scores_in_pieces_are_those_of_the_whole(here, capsys, monkeypatch):
    main([])
    whole = capsys.readouterr().out
    monkeypatch.setattr(eval_module, 'PIECE', 7)
    main([])
    assert capsys.readouterr().out == whole


@pytest.mark.parametrize('damage, message', (
    (lambda state: state.update({name: torch.zeros((), dtype=value.dtype).expand(value.shape)
                                 for name, value in state.items()}), 'bytes in'),
    (lambda state: state['last.bias'].fill_(torch.nan), 'NaN or infinite'),
    (lambda state: state['std_2d'].fill_(torch.inf), 'NaN or infinite')))
def test_weights_that_are_larger_than_their_file_or_not_finite(here, capsys, damage, message):
    state = weights().state_dict()
    damage(state)
    torch.save(state, 'other')
    error = fails(capsys, 'other')
    assert 'other: found no state_dict of a LiftModel' in error and message in error


@pytest.mark.parametrize('options, message', (
    (('--data', 'none.pkl'), 'none.pkl'),
    (('--data', 'millimetres.pkl'), 'millimetres.pkl: key joint_3d: found joints at a depth of 4'),
    (('--data', 'short.pkl'), 'short.pkl: key joint_2d_1: found 9 joints, expected 15 as in liftM'),
    (('--data', 'empty.pkl'), 'empty.pkl: key joint_2d_1 is missing'),
    (('--data', 'half.pkl'), 'half.pkl: key joint_3d: found NaN'),
    (('--predict', 'none/out.npy'), 'none/out.npy'),
    (('--plots', 'liftModel/plots'), 'liftModel/plots'),
    (('--device', 'tpu'), "invalid choice: 'tpu'")))
def test_mistakes_are_named_in_one_line(here, capsys, options, message):
    save('short.pkl', {'joint_2d_1': POSES['joint_2d_1'][:, :9]})
    save('empty.pkl', {})
    save('millimetres.pkl', {**POSES, 'joint_3d': 4000 * POSES['joint_3d']})
    save('half.pkl', {**POSES, 'joint_3d': POSES['joint_3d'] * np.nan})
    assert message in fails(capsys, *options)


def test_the_shipped_weights_score_in_a_fresh_clone_as_the_readme_says(tmp_path, monkeypatch,
                                                                      capsys, no_charts):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, 'N_TRAIN', 20)
    main([str(ROOT / 'liftModel')])
    assert len(load('data_test_lift.pkl')['joint_3d']) == 5000
    figures = [re.search(r'^MPJPE (\d\.\d{5})$', text, re.MULTILINE).group(1)
               for text in (capsys.readouterr().out, (ROOT / 'README.md').read_text())]
    assert float(figures[0]) == pytest.approx(float(figures[1]), abs=2e-5)


def test_the_example_of_the_readme_lifts_an_array(monkeypatch):
    monkeypatch.chdir(ROOT)
    example = (ROOT / 'README.md').read_text().partition('```python\n')[2].partition('```')[0]
    names = {'joint_2d': POSES['joint_2d_1'].astype(float)}
    exec(example, names)
    assert cal_mpjpe(names['joint_3d'], POSES['joint_3d']) < .02


def test_real_motion_capture_is_lifted(mocap, capsys, here):
    main([str(ROOT / 'liftModel'), '--data', str(mocap / 'data_test.pkl'), '--predict', 'out.npy'])
    assert '14,538 poses of 15 joints' in (output := capsys.readouterr().out) and 'LKnee' in output
    assert cal_mpjpe(np.load('out.npy'), load(mocap / 'data_test.pkl')['joint_3d']) < .021
