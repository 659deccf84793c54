"""The score of weights on a file, and people of a photograph, as commands."""
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common import film
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
    monkeypatch.setattr(film, 'TURN', 2)
    return here


def test_scores(folder, capsys):
    main(['liftModel', *CPU, '--predict', 'out.npy', '--animate', 'out.gif'])
    output, predicted = capsys.readouterr().out, np.load('out.npy')
    truth = POSES['joint_3d']
    distances = np.linalg.norm(predicted - truth, axis=-1)
    assert predicted.shape == (50, 15, 3) and predicted.dtype == np.float32
    assert output.startswith(f'MPJPE {cal_mpjpe(predicted, truth):.5f}\n50 poses')
    found = {line.split()[0]: line.split()[1] for line in output.splitlines()[1:] if line}
    expected = {'MPJPE': cal_mpjpe(predicted, truth), 'N-MPJPE': cal_n_mpjpe(predicted, truth),
                'PA-MPJPE': cal_pa_mpjpe(predicted, truth),
                **dict(zip(JOINTS, distances.mean(axis=0)))}
    for name, error in expected.items():
        assert found[name] == f'{error:.5f}'
    assert found['PCK'] == f'{100 * (distances <= .03).mean():.2f}%' and 'AUC' in found
    assert {path.name for path in Path('plots').iterdir()} == {
        'joint_error.png', 'error_curve.png', 'gallery.png'}
    assert Path('out.gif').read_bytes().startswith(b'GIF')


def test_a_file_without_ground_truth_is_lifted(folder, capsys):
    focal = (2 / make_model().inverse_focal).numpy()  # of another camera than the training's
    save_pickle('own.pkl', {'joint_2d_1': 2 * POSES['joint_2d_1'], 'focal_len_1': focal})
    main(['liftModel', *CPU, '--data', 'own.pkl', '--predict', 'own.npy'])
    output = capsys.readouterr().out
    assert 'no joint_3d' in output and 'MPJPE' not in output
    expected = make_model().lift(POSES['joint_2d_1'])
    np.testing.assert_allclose(np.load('own.npy'), expected, rtol=1e-5)


@pytest.mark.parametrize('change, warned', (
    (lambda points: points, False), (lambda points: 1000 * points, True),
    (lambda points: points * np.float32([1, -1]), True)))
def test_points_unlike_those_of_the_training_get_a_warning(capsys, change, warned):
    warn_if_far(change(POSES['joint_2d_1']), make_model())
    assert capsys.readouterr().err.startswith('warning: ') == warned


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
    assert names['joint_3d'].shape == (5, 15, 3) and names['error'] < .02


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
    (None, 'expected'), (b'', 'found'), (b'version https://git-lfs', 'git-lfs'),
    (make_model(), 'found'), (Code(), 'found'), ({'w1.weight': torch.zeros(2, 2)}, 'w1.weight'),
    (make_model().state_dict() | {'last.bias': torch.full((45,), torch.nan)}, 'NaN')))
def test_files_that_are_no_weights_are_refused_in_one_line(here, fails, content, words):
    if isinstance(content, bytes):
        Path('other').write_bytes(content)
    elif content is not None:
        torch.save(content, 'other')
    error = fails(main, 'other')
    assert error.startswith('eval.py: other: ') and words in error and not Path('ran').exists()


# ---- a photograph -------------------------------------------------------------------------------

SIZE = '--image-size', '1920', '1080'
PHOTO = '--keypoints', 'a.npy', *SIZE


def test_people_are_lifted_where_the_points_are(folder, shipped, capsys):
    """Row i is person i; missing points are filled in; two people have too few of them."""
    exif = Image.Exif()
    exif[0x112] = 6  # seen after a quarter turn
    exif.get_ifd(0x8769)[0xA405] = 27  # FocalLengthIn35mmFilm
    Image.new('RGB', (1080, 1920)).save('a.jpg', exif=exif)
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
    assert 1.2 < np.ptp(lifted[0, :, 1]) < 1.75  # metres
    assert {path.name for path in Path('plots').iterdir()} == {'gallery.png', 'people.png'}
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
        main([str(shipped), *CPU, *PHOTO, '--predict', 'out.npy', *options])
        jitter.append(np.abs(np.diff(np.load('out.npy'), 2, axis=0)).mean())
    assert jitter[1] < .2 * jitter[0]
    with Image.open('out.gif') as gif:
        assert gif.n_frames == 8  # of 20 / 30 seconds, 12 pictures each


@pytest.mark.parametrize('options, words', (
    (('--data', 'none.pkl'), 'none.pkl'),
    (('--data', 'far.pkl'), 'far.pkl: key joint_3d'),
    (('--data', 'short.pkl'), 'short.pkl: key joint_2d_1: found 9 joints, expected 15'),
    (('--predict', 'none/out.npy'), 'none/out.npy'), (('--predict', 'out.txt'), 'out.txt'),
    (('--predict', 'liftModel'), '--predict: found liftModel, the input MODEL'),
    (('--keypoints', 'none.json', *SIZE), 'none.json'),
    (('--keypoints', 'low.npy', *SIZE), 'low.npy: found nobody with 9 of 15 joints'),
    (PHOTO[:2], '--keypoints: found no --image-size'),
    ((*PHOTO[:2], '--image', 'a.npy'), 'a.npy: found no picture'),
    (('--height', '1.7'), '--height: found no --keypoints'),
    (('--device', 'cuda'), '--device cuda'),  # conftest.py hides a GPU
    ((*PHOTO, '--focal', '26'), '1387 pixels'), ((*PHOTO, '--data', 'a.pkl'), '--data'),
    (('other', *PHOTO), 'other: found weights for 9 joints, expected 15')))
def test_mistakes_are_named_in_one_line(folder, fails, options, words):
    save_pickle('short.pkl', {'joint_2d_1': POSES['joint_2d_1'][:, :9]})
    save_pickle('far.pkl', {**POSES, 'joint_3d': 4000 * POSES['joint_3d']})
    np.save('a.npy', person_of(COCO))
    np.save('low.npy', person_of(COCO, confidence=.1))
    torch.save(make_model(n_joints=9).state_dict(), 'other')
    assert words in fails(main, *CPU, *options)
