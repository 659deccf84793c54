"""The score of weights on a file, and people of a photograph, as commands."""
import json
import os
import pickle
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
from common.camera import project
from common.files import save_pickle
from common.people import sample
from common.skeleton import BONES, JOINTS, LIMBS
from conftest import COCO, PERSON, ROOT, person_of
from data import SUPERVISED, load
from eval import lift_keypoints, load_model, main
from metrics import cal_mpjpe, cal_n_mpjpe, cal_pa_mpjpe
from model import LiftModel

POSES = sample(50, seed=6)  # those of data_test_lift.pkl, see conftest.py
CPU = '--device', 'cpu'


def make_model(poses=POSES, **sizes):
    """A small model that knows the statistics of poses."""
    torch.manual_seed(0)
    model = LiftModel(**{'n_blocks': 1, 'hidden_layer': 16, **sizes})
    n_joints = model.mean_2d.numel() // 2
    model.fit(*(torch.from_numpy(poses[key][:, :n_joints]) for key in SUPERVISED))
    return model


@pytest.fixture
def folder(here, monkeypatch):
    """A current directory with weights, and films of two pictures."""
    torch.save(make_model().state_dict(), 'liftModel')
    monkeypatch.setattr(charts, 'TURN', 2)
    return here


@pytest.fixture
def drawn(monkeypatch):
    """The rows, bones and names of each gallery."""
    drawn = []
    monkeypatch.setattr(charts, 'draw_gallery', lambda *drawing: drawn.append(drawing[:3]))
    return drawn


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
    save_pickle('own.pkl', {'joint_2d_1': POSES['joint_2d_1'].reshape(50, 30)})
    main(['liftModel', *CPU, '--data', 'own.pkl', '--predict', 'own.npy', '--plots', 'own'])
    output = capsys.readouterr().out
    assert 'no joint_3d' in output and 'MPJPE' not in output
    main([*CPU, '--predict', 'scored.npy'])
    np.testing.assert_array_equal(np.load('own.npy'), np.load('scored.npy'))
    assert [path.name for path in Path('own').iterdir()] == ['gallery.png']


@pytest.mark.parametrize('sizes', ({'n_blocks': 3}, {'hidden_layer': 40}, {'output_nodes': 27}))
def test_weights_of_any_size(folder, capsys, sizes):
    torch.save(make_model(**sizes).state_dict(), 'other')
    n_joints = sizes.get('output_nodes', 45) // 3
    save_pickle('a.pkl', {key: POSES[key][:, :n_joints] for key in SUPERVISED})
    main(['other', *CPU, '--data', 'a.pkl'])
    assert f'50 poses of {n_joints} joints' in capsys.readouterr().out


def test_joints_in_an_unknown_order_have_numbers(folder, capsys):
    order = np.random.default_rng(0).permutation(15)
    save_pickle('a.pkl', {key: POSES[key][:, order] for key in SUPERVISED})
    main([*CPU, '--data', 'a.pkl'])
    output = capsys.readouterr().out
    assert 'joint 14' in output and 'RWrist' not in output


@pytest.mark.parametrize('keys, n_rows', ((SUPERVISED, 3), (SUPERVISED[:1], 2)))
def test_a_few_poses_are_drawn_with_the_known_bones(folder, shipped, drawn, keys, n_rows):
    save_pickle('few.pkl', {key: POSES[key][:2] for key in keys})
    main([str(shipped), *CPU, '--data', 'few.pkl'])
    (rows, bones, names), = drawn
    assert (bones, names) == (BONES, JOINTS) and len(rows) == n_rows


@pytest.mark.parametrize('labelled', (False, True))
def test_up_is_up_in_the_picture(folder, drawn, labelled):
    """With ground truth as it shows, without as the training had it."""
    down = POSES | {'joint_2d_1': POSES['joint_2d_1'] * np.float32([1, -1])}
    torch.save(make_model(down).state_dict(), 'liftModel')
    save_pickle('down.pkl', down if labelled else {'joint_2d_1': down['joint_2d_1']})
    main([*CPU, '--data', 'down.pkl'])
    (rows, *_), = drawn
    shown = [joint_2d for _, joint_2d, *_ in rows]
    assert len(shown) == 3
    assert all((joint_2d == POSES['joint_2d_1']).all(axis=(1, 2)).any() for joint_2d in shown)


@pytest.mark.parametrize('change', (lambda points: 1000 * points, lambda points: points * [1, -1],
                                    lambda points: points[:, ::-1]))
def test_points_unlike_those_of_the_training_get_a_warning(folder, shipped, capsys, change):
    """Pixels, y that points down, another order of joints."""
    main([str(shipped), *CPU])
    assert capsys.readouterr().err == ''
    save_pickle('other.pkl', {'joint_2d_1': change(POSES['joint_2d_1'])})
    main([str(shipped), *CPU, '--data', 'other.pkl'])
    error = capsys.readouterr().err
    assert re.match(r'warning: .* [\d.]+ standard deviations', error) and error.count('\n') == 1


def test_motion_capture_is_lifted(mocap, shipped, capsys, folder):
    test_file = mocap / 'data_test.pkl'
    main([str(shipped), *CPU, '--data', str(test_file), '--predict', 'out.npy'])
    assert '14,538 poses of 15 joints' in (output := capsys.readouterr().out) and 'LKnee' in output
    assert cal_mpjpe(np.load('out.npy'), load(test_file)['joint_3d']) < .021


def test_the_shipped_weights_score_in_a_fresh_clone_as_the_readme_says(
        tmp_path, monkeypatch, shipped, capsys, no_charts):
    monkeypatch.chdir(tmp_path)
    main([str(shipped), *CPU])
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


# ---- weights ------------------------------------------------------------------------------------

def test_weights_are_loaded_ready_to_lift(folder):
    model = load_model('liftModel')
    assert not model.training
    points = torch.from_numpy(POSES['joint_2d_1'])
    assert torch.equal(model(points), make_model().lift(points))


class Code:
    def __reduce__(self):
        return eval, ('__import__("pathlib").Path("ran").touch()',)


@pytest.mark.parametrize('content', (
    None, 'folder', b'', b'no checkpoint', make_model(), Code(), pickle.dumps({'a': Code()}),
    {'w1.weight': torch.zeros(2, 2)}, [1, 2],
    make_model().state_dict() | {'last.bias': torch.full((45,), torch.nan)},
    make_model().state_dict() | {'std_2d': torch.full((30,), torch.inf)}))
def test_files_that_are_no_weights_are_refused_in_one_line(folder, fails, content):
    """Missing, a folder, empty, text, a pickled module, code twice, other weights, not finite."""
    if content == 'folder':
        Path('other').mkdir()
    elif isinstance(content, bytes):
        Path('other').write_bytes(content)
    elif content is not None:
        torch.save(content, 'other')
    with warnings.catch_warnings(action='error'):  # a warning would be a second line
        error = fails(main, 'other')
    assert error.startswith('eval.py: other: ') and not Path('ran').exists()


@pytest.mark.parametrize('options, words', (
    (('--data', 'none.pkl'), 'none.pkl'),
    (('--data', 'far.pkl'), 'far.pkl: key joint_3d'),
    (('--data', 'short.pkl'), 'short.pkl: key joint_2d_1: found 9 joints, expected 15'),
    (('--data', 'empty.pkl'), 'empty.pkl: key joint_2d_1 is missing'),
    (('--predict', 'none/out.npy'), 'none/out.npy'),
    (('--predict', 'liftModel'), '--predict: found liftModel, the input MODEL'),
    (('--data', 'short.npy', '--predict', 'short.npy'), 'the input --data'),
    (('--predict', 'out.txt'), 'out.txt'), (('--animate', 'out.mp4'), 'out.mp4'),
    (('--plots', 'liftModel/plots'), 'liftModel/plots')))
def test_mistakes_are_named_in_one_line(folder, fails, options, words):
    save_pickle('short.pkl', {'joint_2d_1': POSES['joint_2d_1'][:, :9]})
    save_pickle('empty.pkl', {})
    save_pickle('far.pkl', {**POSES, 'joint_3d': 4000 * POSES['joint_3d']})
    assert words in fails(main, *CPU, *options)


def test_outputs_never_replace_an_input_by_a_link_either(folder, fails):
    before = Path('data_test_lift.pkl').read_bytes()
    Path('link.npy').symlink_to('data_test_lift.pkl')
    assert 'link.npy' in fails(main, *CPU, '--predict', 'link.npy')
    assert Path('data_test_lift.pkl').read_bytes() == before


@pytest.mark.parametrize('change', (
    lambda people: {'focal_len_1': 1.5, 'joint_2d_1': project(people['joint_3d'], np.full(2, 1.5))},
    lambda people: {'joint_2d_1': people['joint_2d_1'] * np.float32([-1, 1])},
    lambda people: {'joint_2d_1': people['joint_2d_1'] * np.float32([1, -1])}))
def test_points_are_brought_to_the_camera_of_the_model(folder, shipped, capsys, change):
    """Another focal length, x to the left, y down: the score is the same."""
    people, scores = sample(200, seed=1), []
    for change in (lambda _: {}, change):
        save_pickle('a.pkl', people | change(people))
        main([str(shipped), *CPU, '--data', 'a.pkl', '--predict', 'a.npy'])
        assert capsys.readouterr().err == ''
        scores.append(cal_mpjpe(np.load('a.npy'), people['joint_3d']).item())
    assert scores[1] == pytest.approx(scores[0], rel=.03)


@pytest.mark.parametrize('change, word', (
    (lambda people: {'joint_2d_1': project(people['joint_3d'], np.full(2, 1.5))}, '1.5'),
    (lambda people: {'joint_3d': people['joint_3d'] * np.float32([-1, 1, 1])}, 'mirrored')))
def test_a_camera_or_people_that_do_not_fit_get_a_warning(folder, shipped, capsys, change, word):
    people = sample(200, seed=1)
    save_pickle('a.pkl', {key: people[key] for key in SUPERVISED} | change(people))
    main([str(shipped), *CPU, '--data', 'a.pkl'])
    error = capsys.readouterr().err
    assert 'warning: ' in error and word in error


def test_a_wrong_row_is_named_beside_the_score_without_it(folder, capsys):
    wrong = {key: array.copy() for key, array in POSES.items()}
    wrong['joint_3d'][7] *= 4500
    save_pickle('a.pkl', wrong)
    main([*CPU, '--data', 'a.pkl', '--predict', 'a.npy'])
    good = [np.delete(poses, 7, axis=0) for poses in (np.load('a.npy'), POSES['joint_3d'])]
    assert f'MPJPE {cal_mpjpe(*good):.5f} without rows 7 (1 in all)' in capsys.readouterr().out


@pytest.mark.parametrize('wrap', (
    lambda state: {'model_state_dict': state, 'epoch': 3}, lambda state: {'state_dict': state},
    lambda state: {f'module.{name}': value for name, value in state.items()}))
def test_weights_as_others_save_them(folder, wrap):
    torch.save(wrap(make_model().state_dict()), 'other')
    assert torch.equal(load_model('other').last.weight, make_model().last.weight)


def test_no_backend_of_matplotlib_stops_a_chart(folder):
    """A notebook exports one that its commands do not know."""
    run = subprocess.run([sys.executable, ROOT / 'eval.py', *CPU], capture_output=True, text=True,
                         env=os.environ | {'MPLBACKEND': 'module://matplotlib_inline.no_such'})
    assert run.returncode == 0, run.stderr
    assert Path('plots/gallery.png').read_bytes().startswith(b'\x89PNG')


# ---- a photograph -------------------------------------------------------------------------------

SIZE = '--image-size', '1920', '1080'
SHIPPED = str(ROOT / 'liftModel')


def test_a_person_is_lifted_where_the_points_are(folder, shipped, capsys):
    np.save('a.npy', person_of(COCO))
    main([str(shipped), *CPU, '--keypoints', 'a.npy', *SIZE, '--focal', '1500', '--height', '1.75',
          '--predict', 'out.npy', '--animate', 'out.gif'])
    said = capsys.readouterr()
    assert '1500 pixels, 0 of 15 joints filled in' in said.out and said.err == ''
    lifted, = np.load('out.npy')
    pixels = 1500 * lifted[:, :2] / -lifted[:, 2:] * (1, -1) + (960, 540)
    for joint in LIMBS:
        side = {'R': 'right ', 'L': 'left '}[JOINTS[joint][0]]
        expected = PERSON[side + JOINTS[joint][1:].lower()]
        assert np.linalg.norm(pixels[joint] - expected) < 20
    joint = dict(zip(JOINTS, lifted))
    assert joint['LWrist'][1] > joint['LShoulder'][1] > joint['LHip'][1] > joint['LAnkle'][1]
    assert joint['LHip'][0] > joint['RHip'][0]
    assert 1.3 < np.linalg.norm(joint['Head'] - joint['LAnkle']) < 1.75
    assert -lifted[:, 2].mean() == pytest.approx(1500 * 1.75 / 700, rel=.15)
    assert Path('plots/gallery.png').exists() and Path('out.gif').exists()


def test_row_i_is_person_i_and_missing_points_are_filled_in(folder, shipped, capsys):
    people = np.stack([person_of(COCO)] * 4)
    people[[1, 3], 5:14, 2] = .2
    people[2, 9] = 0
    np.save('a.npy', people)
    for out in ('out.npy', 'out.json'):
        main([str(shipped), *CPU, '--keypoints', 'a.npy', *SIZE, '--predict', out])
        output = capsys.readouterr().out
        assert '4 people of COCO, focal length 2203 pixels, 1 of 30 joints' in output
        assert 'person 1, 3\n' in output
    first, second, third, fourth = lifted = np.load('out.npy')
    assert np.isnan(second).all() and np.isnan(fourth).all()
    assert np.abs(first - third).max(axis=1).argmax() == JOINTS.index('LWrist')
    found = json.loads(Path('out.json').read_text())
    assert [person['index'] for person in found] == [person['frame'] for person in found]
    assert [person['joints'] is None for person in found] == [False, True, False, True]
    assert found[2]['filled_in'] == ['LWrist'] and found[2]['metres'] is False
    np.testing.assert_allclose([found[2]['joints'][name] for name in JOINTS], lifted[2], rtol=1e-6)


def test_points_are_lifted_from_python_as_by_the_command(folder, shipped):
    np.save('a.npy', person_of(COCO))
    main([str(shipped), *CPU, '--keypoints', 'a.npy', *SIZE, '--height', '1.75', '--predict',
          'out.npy'])
    joints, filled_in = lift_keypoints(person_of(COCO), (1920, 1080), height=1.75)
    np.testing.assert_allclose(joints, np.load('out.npy'), rtol=1e-5)
    assert filled_in.shape == (1, 15) and not filled_in.any()


def test_a_photograph_is_drawn_on_and_gives_size_and_focal_length(folder, shipped, capsys):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 27
    Image.new('RGB', (1920, 1080)).save('a.jpg', exif=exif)
    np.save('a.npy', np.stack([person_of(COCO)] * 2))
    main([str(shipped), *CPU, '--keypoints', 'a.npy', '--image', 'a.jpg'])
    assert '2 people of COCO, focal length 1440 pixels' in capsys.readouterr().out
    assert Path('plots/people.png').exists()


def test_frames_are_smoothed_and_filmed_at_true_length(folder, shipped, fails):
    person, rng = person_of(COCO), np.random.default_rng(0)
    frames = np.stack([person] * 20)
    frames[..., :2] += rng.normal(0, 3, (20, 17, 2))
    np.save('a.npy', frames)
    jitter = []
    for fps in ((), ('--fps', '30')):
        main([str(shipped), *CPU, '--keypoints', 'a.npy', *SIZE, '--predict', 'out.npy',
              '--animate', 'out.gif', *fps])
        jitter.append(np.abs(np.diff(np.load('out.npy'), 2, axis=0)).mean())
    assert jitter[1] < .2 * jitter[0]
    with Image.open('out.gif') as film:
        assert film.n_frames == 8  # of 20 / 30 seconds, 12 pictures each
    person = {'image_id': 1, 'keypoints': person.ravel().tolist()}
    Path('a.json').write_text(json.dumps([person, person]))
    assert '--fps' in fails(main, str(shipped), *CPU, '--keypoints', 'a.json', *SIZE, '--fps', '30')


def test_points_outside_of_the_picture_get_a_warning(folder, capsys):
    np.save('a.npy', person_of(COCO))
    main([*CPU, '--keypoints', 'a.npy', '--image-size', '640', '480'])
    assert '--image-size' in capsys.readouterr().err


@pytest.mark.parametrize('options, words', (
    (('--keypoints', 'none.json', *SIZE), 'none.json'),
    (('--keypoints', 'low.npy', *SIZE), 'low.npy: found nobody with 9 of 15 joints'),
    (('--keypoints', 'a.npy'), '--keypoints: found no --image-size'),
    (SIZE, '--image-size: found no --keypoints'),
    (('--height', '1.7'), '--height: found no --keypoints'),
    (('--keypoints', 'a.npy', *SIZE, '--height', '175'), '--height: found 175'),
    (('--keypoints', 'a.npy', *SIZE, '--focal', '26'), '1387 pixels'),
    (('--keypoints', 'a.npy', '--data', 'a.pkl'), '--data'),
    (('other', '--keypoints', 'a.npy', *SIZE), 'other: found weights for 9 joints, expected 15'),
    ((SHIPPED, '--keypoints', 'a.npy', *SIZE, '--predict', 'none/out.npy'), 'none/out.npy'),
    ((SHIPPED, '--keypoints', 'a.npy', *SIZE, '--animate', 'none/out.gif'), 'none/out.gif')))
def test_mistakes_about_a_photograph_are_named_in_one_line(folder, fails, options, words):
    np.save('a.npy', person_of(COCO))
    np.save('low.npy', person_of(COCO, confidence=.1))
    torch.save(make_model(output_nodes=27).state_dict(), 'other')
    assert words in fails(main, *options)
