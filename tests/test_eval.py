"""The score of weights on a file, and people of a photograph, as commands."""
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common import charts
from common.files import save_pickle
from common.people import sample
from common.skeleton import JOINTS, LIMBS
from conftest import COCO, PERSON, ROOT, person_of
from data import SUPERVISED
from eval import lift_keypoints, load_model, main, warn_if_far
from metrics import cal_mpjpe, cal_n_mpjpe, cal_pa_mpjpe
from model import LiftModel

POSES = sample(50, seed=6)  # those of data_test_lift.pkl, see conftest.py
CPU = '--device', 'cpu'


def make_model(poses=POSES, n_joints=15):
    """A small model with the statistics of poses."""
    torch.manual_seed(0)
    model = LiftModel(1, 16, output_nodes=3 * n_joints)
    model.set_statistics(*(torch.from_numpy(poses[key][:, :n_joints]) for key in SUPERVISED))
    return model


@pytest.fixture
def folder(here, monkeypatch):
    """A current directory with weights, in which GIFs have two pictures."""
    torch.save(make_model().state_dict(), 'liftModel')
    monkeypatch.setattr(charts, 'TURN', 2)
    return here


# ---- the score ----------------------------------------------------------------------------------

def test_scores(folder, capsys):
    main(['liftModel', *CPU, '--predict', 'out.npy', '--animate', 'out.gif'])
    output, predicted = capsys.readouterr().out, np.load('out.npy')
    assert predicted.shape == (50, 15, 3) and predicted.dtype == np.float32
    first, *lines = output.splitlines()
    assert first == f'MPJPE {cal_mpjpe(predicted, POSES["joint_3d"]):.5f}'
    found = {line.split()[0]: line.split()[1] for line in lines if len(line.split()) > 1}
    assert found['50'] == 'poses'
    metrics = {'MPJPE': cal_mpjpe, 'N-MPJPE': cal_n_mpjpe, 'PA-MPJPE': cal_pa_mpjpe}
    for name, metric in metrics.items():
        assert found[name] == f'{metric(predicted, POSES["joint_3d"]):.5f}'
    distances = np.linalg.norm(predicted - POSES['joint_3d'], axis=-1)
    assert found['PCK'] == f'{100 * (distances <= .03).mean():.2f}%' and 'AUC' in found
    for name, error in zip(JOINTS, distances.mean(axis=0)):
        assert found[name] == f'{error:.5f}'
    assert {path.name for path in Path('plots').iterdir()} == {
        'joint_error.png', 'error_curve.png', 'gallery.png'}
    assert Path('out.gif').read_bytes().startswith(b'GIF')


def test_a_file_without_ground_truth_is_lifted(folder, capsys):
    focal = (2 / make_model().inverse_focal).numpy()  # of another camera than the training's
    save_pickle('own.pkl', {'joint_2d_1': 2 * POSES['joint_2d_1'].reshape(50, 30),
                            'focal_len_1': focal})
    main(['liftModel', *CPU, '--data', 'own.pkl', '--predict', 'own.npy', '--plots', 'own'])
    output = capsys.readouterr().out
    assert 'no joint_3d' in output and 'MPJPE' not in output
    expected = make_model().lift(POSES['joint_2d_1'])
    np.testing.assert_allclose(np.load('own.npy'), expected, rtol=1e-5)
    assert [path.name for path in Path('own').iterdir()] == ['gallery.png']


@pytest.mark.parametrize('labelled', (False, True))
def test_up_is_up_in_the_picture(folder, monkeypatch, labelled):
    """Of a file whose y points down: with ground truth it is found, else it is the model's."""
    rows = []
    monkeypatch.setattr(charts, 'draw_gallery', lambda drawn, *_: rows.extend(drawn))
    down = POSES | {'joint_2d_1': POSES['joint_2d_1'] * np.float32([1, -1])}
    torch.save(make_model(down).state_dict(), 'liftModel')
    save_pickle('down.pkl', down if labelled else {'joint_2d_1': down['joint_2d_1']})
    main([*CPU, '--data', 'down.pkl'])
    assert len({joint_2d.tobytes() for _, joint_2d, *_ in rows}) == 3  # best, median, worst
    assert all((row[1] == POSES['joint_2d_1']).all(axis=(1, 2)).any() for row in rows)


def test_points_unlike_those_of_the_training_get_a_warning(capsys):
    """They are in pixels, y points down, or the joints have another order."""
    points, model = POSES['joint_2d_1'], make_model()
    warn_if_far(points, model)
    assert capsys.readouterr().err == ''
    for other in (1000 * points, points * np.float32([1, -1]), points[:, ::-1].copy()):
        warn_if_far(other, model)
        assert re.match(r'warning: .* [\d.]+ standard deviations', capsys.readouterr().err)


def test_a_wrong_row_is_named_beside_the_score_without_it(folder, capsys):
    wrong = {key: array.copy() for key, array in POSES.items()}
    wrong['joint_3d'][7] *= 4500
    save_pickle('a.pkl', wrong)
    main([*CPU, '--data', 'a.pkl', '--predict', 'a.npy'])
    good = [np.delete(poses, 7, axis=0) for poses in (np.load('a.npy'), POSES['joint_3d'])]
    assert f'MPJPE {cal_mpjpe(*good):.5f} without rows 7 (1 in all)' in capsys.readouterr().out


def test_motion_capture_is_lifted(mocap_test, shipped):
    predicted = load_model(shipped).lift(mocap_test['joint_2d_1'][::5])
    assert cal_mpjpe(predicted, mocap_test['joint_3d'][::5]) < .021


def test_the_shipped_weights_score_as_the_readme_says(tmp_path, monkeypatch, shipped, capsys,
                                                      no_charts):
    monkeypatch.chdir(tmp_path)
    main([*CPU])  # a folder without weights
    figures = [re.search(r'^MPJPE (\d\.\d{5})$', text, re.MULTILINE).group(1)
               for text in (capsys.readouterr().out, (ROOT / 'README.md').read_text())]
    assert float(figures[0]) == pytest.approx(float(figures[1]), abs=2e-5)


def test_the_example_of_the_readme_lifts_an_array(monkeypatch, shipped):
    monkeypatch.chdir(ROOT)
    example = (ROOT / 'README.md').read_text().partition('```python\n')[2].partition('```')[0]
    names = {}
    exec(example, names)
    assert names['joint_3d'].shape == (5, 15, 3) and names['joint_3d'].dtype == np.float64
    assert names['error'] < .02


def test_the_script_runs_with_an_unknown_backend_of_matplotlib(folder):
    """A notebook names its backend to the commands that it starts, and they do not have it."""
    run = subprocess.run([sys.executable, ROOT / 'eval.py', *CPU], capture_output=True, text=True,
                         env=os.environ | {'MPLBACKEND': 'module://no'})
    assert run.stdout.startswith('MPJPE 0.') and run.stderr == ''
    assert Path('plots/gallery.png').read_bytes().startswith(b'\x89PNG')


# ---- weights ------------------------------------------------------------------------------------

@pytest.mark.parametrize('wrap', (
    lambda state: state, lambda state: {'model_state_dict': state, 'epoch': 3},
    lambda state: {f'module.{name}': value for name, value in state.items()}))
def test_weights_of_any_size_are_loaded_ready_to_lift(here, wrap):
    model = LiftModel(3, 8, output_nodes=27)
    torch.save(wrap(model.state_dict()), 'other')
    points = torch.from_numpy(POSES['joint_2d_1'][:, :9])
    assert torch.equal(load_model('other')(points), model.lift(points))


class Code:
    def __reduce__(self):
        return Path.touch, (Path('ran'),)


@pytest.mark.parametrize('content, words', (
    (None, 'expected'), (b'', 'found'), (b'text', 'found'), (b'version https://git-lfs', 'git-lfs'),
    (make_model(), 'found'), (Code(), 'found'), ({'w1.weight': torch.zeros(2, 2)}, 'w1.weight'),
    (make_model().state_dict() | {'last.bias': torch.full((45,), torch.nan)}, 'NaN')))
def test_files_that_are_no_weights_are_refused_in_one_line(here, fails, content, words):
    if isinstance(content, bytes):
        Path('other').write_bytes(content)
    elif content is not None:
        torch.save(content, 'other')
    with warnings.catch_warnings(action='error'):  # a warning would be a second line
        error = fails(main, 'other')
    assert error.startswith('eval.py: other: ') and words in error and not Path('ran').exists()


# ---- a photograph -------------------------------------------------------------------------------

SIZE = '--image-size', '1920', '1080'


def test_people_are_lifted_where_the_points_are(folder, shipped, capsys):
    """Row i is person i; missing points are filled in; two people have too few of them."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 27  # FocalLengthIn35mmFilm
    Image.new('RGB', (1920, 1080)).save('a.jpg', exif=exif)
    people = np.stack([person_of(COCO)] * 4)
    people[[1, 3], 5:14, 2] = .2
    people[2, 9] = 0  # the left wrist
    np.save('a.npy', people)
    for out in ('out.npy', 'out.json'):
        main([str(shipped), *CPU, '--keypoints', 'a.npy', '--image', 'a.jpg', '--height', '1.75',
              '--predict', out, '--animate', 'out.gif'])
    said, lifted = capsys.readouterr(), np.load('out.npy')
    assert '1440 pixels, 1 of 30 joints filled in' in said.out and 'person 1, 3\n' in said.out
    assert said.err == '' and np.isnan(lifted[[1, 3]]).all()
    pixels = 1440 * lifted[0, :, :2] / -lifted[0, :, 2:] * (1, -1) + (960, 540)
    for joint in LIMBS:
        side = {'R': 'right ', 'L': 'left '}[JOINTS[joint][0]]
        assert np.linalg.norm(pixels[joint] - PERSON[side + JOINTS[joint][1:].lower()]) < 20
    assert np.abs(lifted[0] - lifted[2]).max(axis=1).argmax() == JOINTS.index('LWrist')
    tall = np.linalg.norm(lifted[0, JOINTS.index('Head')] - lifted[0, JOINTS.index('LAnkle')])
    assert 1.3 < tall < 1.75
    assert -lifted[0, :, 2].mean() == pytest.approx(1440 * 1.75 / 700, rel=.15)
    assert {path.name for path in Path('plots').iterdir()} == {'gallery.png', 'people.png'}
    assert Path('out.gif').exists()
    found = json.loads(Path('out.json').read_text())
    assert [person['joints'] is None for person in found] == [False, True, False, True]
    assert found[2]['filled_in'] == ['LWrist'] and found[2]['metres'] is True
    np.testing.assert_allclose([found[2]['joints'][name] for name in JOINTS], lifted[2], rtol=1e-6)
    joints, filled_in = lift_keypoints(people, (1920, 1080), focal=1440, height=1.75)
    np.testing.assert_allclose(joints, lifted, rtol=1e-5)
    assert filled_in[2].sum() == 1


def test_frames_are_smoothed_and_filmed_at_true_length(folder, shipped):
    frames = np.stack([person_of(COCO)] * 20)
    frames[..., :2] += np.random.default_rng(0).normal(0, 3, (20, 17, 2))
    np.save('a.npy', frames)
    jitter = []
    for options in ((), ('--fps', '30', '--animate', 'out.gif')):
        main([str(shipped), *CPU, '--keypoints', 'a.npy', *SIZE, '--predict', 'out.npy', *options])
        jitter.append(np.abs(np.diff(np.load('out.npy'), 2, axis=0)).mean())
    assert jitter[1] < .2 * jitter[0]
    with Image.open('out.gif') as film:
        assert film.n_frames == 8  # of 20 / 30 seconds, 12 pictures each


# ---- mistakes -----------------------------------------------------------------------------------

PHOTO = '--keypoints', 'a.npy', *SIZE


@pytest.mark.parametrize('options, words', (
    (('--data', 'none.pkl'), 'none.pkl'),
    (('--data', 'far.pkl'), 'far.pkl: key joint_3d'),
    (('--data', 'short.pkl'), 'short.pkl: key joint_2d_1: found 9 joints, expected 15'),
    (('--predict', 'none/out.npy'), 'none/out.npy'), (('--plots', 'a.npy/plots'), 'a.npy/plots'),
    (('--predict', 'liftModel'), '--predict: found liftModel, the input MODEL'),
    (('--predict', 'out.txt'), 'out.txt'), (('--animate', 'out.mp4'), 'out.mp4'),
    (('--keypoints', 'none.json', *SIZE), 'none.json'),
    (('--keypoints', 'low.npy', *SIZE), 'low.npy: found nobody with 9 of 15 joints'),
    (PHOTO[:2], '--keypoints: found no --image-size'),
    (('--height', '1.7'), '--height: found no --keypoints'),
    ((*PHOTO, '--height', '175'), '--height: found 175'),
    ((*PHOTO, '--focal', '26'), '1387 pixels'), ((*PHOTO, '--data', 'a.pkl'), '--data'),
    ((*PHOTO, '--predict', 'a.npy'), 'the input --keypoints'),
    (('other', *PHOTO), 'other: found weights for 9 joints, expected 15')))
def test_mistakes_are_named_in_one_line(folder, fails, options, words):
    save_pickle('short.pkl', {'joint_2d_1': POSES['joint_2d_1'][:, :9]})
    save_pickle('far.pkl', {**POSES, 'joint_3d': 4000 * POSES['joint_3d']})
    np.save('a.npy', person_of(COCO))
    np.save('low.npy', person_of(COCO, confidence=.1))
    torch.save(make_model(n_joints=9).state_dict(), 'other')
    assert words in fails(main, *CPU, *options)
