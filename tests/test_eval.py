import json
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import data
import eval as eval_module
import plots
from conftest import ROOT
from data import (BONES, JOINTS, POINTS, SUPERVISED, joints_of, load, project, sample, save,
                  smallest_rotation)
from eval import (bone_sum, fill_in, find_root, lift_points, load_model, main, read_people)
from metrics import cal_mpjpe, cal_n_mpjpe, cal_pa_mpjpe
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
def here(folder, no_charts, monkeypatch):
    monkeypatch.setattr(eval_module.plots, 'TURN', 2)  # pictures of a GIF
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
    names = {}
    exec(example, names)
    assert names['joint_3d'].shape == (5, 15, 3) and names['joint_3d'].dtype == np.float64
    assert names['error'] < .02


def test_weights_are_loaded_ready_to_lift(here):
    model = load_model('liftModel')
    assert not model.training
    points = torch.from_numpy(POSES['joint_2d_1'])
    assert torch.equal(model(points), model.lift(points))


@pytest.mark.parametrize('n_poses', (1, 2, 3))
@pytest.mark.parametrize('labelled', (False, True))
def test_a_few_poses_have_the_known_bones(here, monkeypatch, n_poses, labelled):
    drawn = []
    monkeypatch.setattr(plots, 'draw_gallery', lambda *drawing: drawn.append(drawing))
    for start in range(0, 45, 3):
        keys = SUPERVISED if labelled else SUPERVISED[:1]
        save('few.pkl', {key: POSES[key][start:start + n_poses] for key in keys})
        main([str(ROOT / 'liftModel'), '--data', 'few.pkl'])
    assert all(bones == BONES and names == JOINTS for _, bones, names, _ in drawn)
    assert {len(rows) for rows, *_ in drawn} == {3 if labelled else n_poses}


def test_without_truth_up_is_where_the_training_had_it(here, monkeypatch):
    down = {**POSES, 'joint_2d_1': POSES['joint_2d_1'] * np.float32([1, -1])}
    model = weights()
    model.fit(*(torch.from_numpy(down[key]) for key in SUPERVISED))
    torch.save(model.state_dict(), 'liftModel')
    save('down.pkl', {'joint_2d_1': down['joint_2d_1']})
    drawn = []
    monkeypatch.setattr(plots, 'draw_gallery', lambda rows, *_: drawn.extend(rows))
    main(['--data', 'down.pkl'])
    assert len(drawn) == 3
    for (_, joint_2d, truth, _), row in zip(drawn, (0, 25, 49)):
        assert truth is None
        np.testing.assert_array_equal(joint_2d, POSES['joint_2d_1'][row])


def test_real_motion_capture_is_lifted(mocap, capsys, here):
    main([str(ROOT / 'liftModel'), '--data', str(mocap / 'data_test.pkl'), '--predict', 'out.npy'])
    assert '14,538 poses of 15 joints' in (output := capsys.readouterr().out) and 'LKnee' in output
    assert cal_mpjpe(np.load('out.npy'), load(mocap / 'data_test.pkl')['joint_3d']) < .021


# ---- points of detectors ------------------------------------------------------------------------

# someone who faces the camera, so that left is where x grows, and waves with the left hand
PERSON = {'nose': (960, 330), 'left ear': (990, 322), 'right ear': (930, 322),
          'left shoulder': (1015, 430), 'right shoulder': (905, 430), 'left elbow': (1070, 380),
          'right elbow': (890, 535), 'left wrist': (1075, 280), 'right wrist': (885, 630),
          'left hip': (990, 620), 'right hip': (930, 620), 'left knee': (992, 780),
          'right knee': (926, 782), 'left ankle': (994, 940), 'right ankle': (922, 942)}
SHORT = {'R': 'right ', 'L': 'left '}
HAND_MADE = np.array([PERSON.get(name.lower()) or PERSON[SHORT[name[0]] + name[1:].lower()]
                      for name in POINTS], dtype=float)
COCO = """nose, left eye, right eye, left ear, right ear, left shoulder, right shoulder, left elbow,
right elbow, left wrist, right wrist, left hip, right hip, left knee, right knee, left ankle,
right ankle"""
BODY_25 = """nose, neck, right shoulder, right elbow, right wrist, left shoulder, left elbow,
left wrist, mid hip, right hip, right knee, right ankle, left hip, left knee, left ankle, right eye,
left eye, right ear, left ear, left big toe, left small toe, left heel, right big toe,
right small toe, right heel"""
MEDIAPIPE = """nose, left eye inner, left eye, left eye outer, right eye inner, right eye,
right eye outer, left ear, right ear, mouth left, mouth right, left shoulder, right shoulder,
left elbow, right elbow, left wrist, right wrist, left pinky, right pinky, left index, right index,
left thumb, right thumb, left hip, right hip, left knee, right knee, left ankle, right ankle,
left heel, right heel, left foot index, right foot index"""


def array(names, confidence=.9):
    """The hand-made person (K, 3) in the order of a format; what we do not need is elsewhere."""
    return np.array([(*PERSON.get(' '.join(name.split()), (7, 7)), confidence)
                     for name in names.split(',')])


def write(name, people):
    """A file of people (N, K, 3) in the format of its name."""
    if name == 'coco.json':
        people = [{'image_id': 1, 'keypoints': list(person.ravel()), 'score': .8}
                  for person in people]
    elif name == 'body.json':
        people = {'version': 1.3, 'people': [
            {'pose_keypoints_2d': list(person.ravel()), 'face_keypoints_2d': []}
            for person in people]}
    if name.endswith('json'):
        return Path(name).write_text(json.dumps(people))
    np.save(name, np.insert(people, 2, 5, axis=2) if name == 'media.npy' else people)


FILES = {'coco.json': COCO, 'coco.npy': COCO, 'body.json': BODY_25, 'media.npy': MEDIAPIPE}
SHIPPED = str(ROOT / 'liftModel')
SIZE = '--image-size', '1920', '1080'


@pytest.mark.parametrize('name', FILES)
def test_formats_of_detectors(here, name):
    write(name, np.stack([array(FILES[name])] * 2))
    points, _ = read_people(Path(name))
    np.testing.assert_allclose(points, [np.insert(HAND_MADE, 2, .9, axis=1)] * 2, rtol=1e-6)


@pytest.mark.parametrize('columns', (2, 3, 4))
def test_arrays_without_confidences_are_certain_but_for_points_at_0(here, columns):
    """MediaPipe's third column is a depth, its fourth the confidence; one person needs no N."""
    points = np.pad(array(MEDIAPIPE)[:, :2], ((0, 0), (0, columns - 2)), constant_values=.5)
    points[14, :2] = 0  # the right elbow
    np.save('a.npy', points)
    confidence = read_people(Path('a.npy'))[0][0, :, 2]
    expected = np.full(15, .5 if columns == 4 else 1)
    expected[POINTS.index('RElbow')] = 0
    np.testing.assert_array_equal(confidence, expected)


def test_a_hidden_ear_is_replaced_by_the_nose(here):
    person = array(COCO)
    person[4, 2] = .1
    np.save('a.npy', person)
    np.testing.assert_allclose(read_people(Path('a.npy'))[0][0, 1:3], [(960, 330, .9)] * 2)


@pytest.mark.parametrize('name', FILES)
def test_a_person_is_lifted_where_the_points_are(here, capsys, name):
    write(name, array(FILES[name])[None])
    assert main([SHIPPED, '--keypoints', name, *SIZE, '--focal', '1500', '--height', '1.75',
                 '--predict', 'out.npy', '--animate', 'out.gif']) == 0
    assert '0 of 15 joints filled in' in capsys.readouterr().out
    lifted, = np.load('out.npy')
    pixels = 1500 * lifted[:, :2] / -lifted[:, 2:] * (1, -1) + (960, 540)
    limbs = [JOINTS.index(point) for point in POINTS[3:]]
    assert np.linalg.norm(pixels[limbs] - HAND_MADE[3:], axis=1).max() < 20
    joint = dict(zip(JOINTS, lifted))
    assert joint['LWrist'][1] > joint['LShoulder'][1] > joint['LHip'][1] > joint['LAnkle'][1]
    assert joint['LHip'][0] > joint['RHip'][0]
    assert 1.3 < np.linalg.norm(joint['Head'] - joint['LAnkle']) < 1.75
    assert -lifted[:, 2].mean() == pytest.approx(1500 * 1.75 / 700, rel=.15)


def photographed(n, seed=8):
    """Joints (n, 15, 3) about the root of people 1.75 m tall, and a detector's points (n, 15, 2) on
    the plane at distance 1 of cameras 2 to 20 m away that do not look at them."""
    rng, people = np.random.default_rng(seed), sample(n, seed)
    about = people['joint_3d'] - eval_module.AXIS
    scale = 1.75 * eval_module.TALL / bone_sum(about)
    aside = np.insert(rng.uniform(-.5, .5, (n, 2)), 2, -1, axis=1)
    turn = smallest_rotation(aside / np.linalg.norm(aside, axis=1, keepdims=True),
                             eval_module.AXIS)
    root = rng.uniform(2, 20, (n, 1, 1)) * eval_module.AXIS
    points = scale * (people['joint_detected'] - eval_module.AXIS) + root
    return scale * about @ turn, project(points @ turn, np.ones(2))


def test_people_are_lifted_anywhere_in_the_image_and_at_any_distance():
    truth, points = photographed(300)
    joint_3d, _, _ = lift_points(load_model(SHIPPED), joints_of(points))
    lifted = joint_3d[:, :-1] - joint_3d[:, -1:]
    assert cal_n_mpjpe(lifted, truth, root=(0, 0, 0)) < .08
    off = project(joint_3d[:, :6], np.ones(2)) - points[:, 3:9]  # legs; whatever their depth
    assert np.median(np.linalg.norm(off, axis=-1)) < .005


def test_sizes_and_the_root_are_those_of_synthetic_people():
    about = sample(2000, seed=8)['joint_3d'] - eval_module.AXIS
    assert bone_sum(about).mean() == pytest.approx(eval_module.SIZE, rel=.02)
    lengths = data._people(np.random.default_rng(0), 2000)
    legs = (lengths['thigh'] + lengths['shank']).mean()  # shares of the height: Winter, 2009
    once, twice = (sum(lengths[name].mean() for name in names) for names in (
        ('spine', 'neck', 'head'), ('thigh', 'shank', 'upper_arm', 'forearm')))
    sides = sum(2 * np.linalg.norm([lengths[name] for name in names], axis=0).mean() for names in (
        ('hip_side', 'hip_drop', 'hip_ahead'), ('shoulder_side', 'shoulder_rise')))
    assert (once + 2 * twice + sides) / (legs / .491) == pytest.approx(eval_module.TALL, rel=.02)
    off = np.linalg.norm(find_root(about)[:, 0], axis=1)
    assert off.mean() < .006 and off.max() < .04  # 26 mm at 4.5 m
    turn = smallest_rotation(np.array([[.6, 0, -.8]]), eval_module.AXIS)
    np.testing.assert_allclose(find_root(2 * about @ turn.mT), 2 * find_root(about) @ turn.mT,
                               atol=1e-6)


def test_turning_the_camera_turns_the_joints(folder):
    """Exactly, for any network."""
    joint_2d = np.pad(POSES['joint_2d_1'], ((0, 0), (0, 1), (0, 0)))
    model = load_model('liftModel')
    aside = np.array([.3, -.2, -1.])
    turn, = smallest_rotation(aside[None] / np.linalg.norm(aside), eval_module.AXIS)
    rays = np.concatenate([joint_2d, np.full((50, 16, 1), -1)], axis=2)
    before, *_ = lift_points(model, joint_2d)
    after, *_ = lift_points(model, project(rays @ turn, np.ones(2)))
    np.testing.assert_allclose(after, before @ turn, atol=1e-5)


def test_what_is_hidden_is_filled_in_near_to_where_it_was():
    _, points = photographed(200)
    joint_2d, rng = joints_of(points), np.random.default_rng(0)
    seen = rng.random((200, 16)) > .15
    height = np.ptp(joint_2d[..., 1], axis=1)[:, None]
    filled = fill_in(np.where(seen[..., None], joint_2d, 99), seen)
    np.testing.assert_array_equal(filled[seen], joint_2d[seen])
    error = (np.linalg.norm(filled - joint_2d, axis=2) / height)[~seen]
    assert np.median(error) < .06 and error.max() < 1
    twice = fill_in(3 * np.where(seen[..., None], joint_2d, 99) + 5, seen)
    np.testing.assert_allclose(twice, 3 * filled + 5, atol=1e-6)


def test_who_shows_too_few_points_is_left_out_by_number(here, capsys):
    people = np.stack([array(COCO)] * 4)
    people[[1, 3], 5:14, 2] = .2
    people[2, 9] = 0
    np.save('a.npy', people)
    main([SHIPPED, '--keypoints', 'a.npy', *SIZE, '--predict', 'out.npy'])
    output = capsys.readouterr().out
    assert '4 people of COCO, focal length 2203 pixels, 1 of 30 joints filled in' in output
    assert 'left out, less than 9 of 15 joints: person 1, 3\n' in output
    lifted = np.load('out.npy')
    assert lifted.shape == (2, 15, 3) and np.isfinite(lifted).all()
    wrist = JOINTS.index('LWrist')
    assert np.abs(lifted[0] - lifted[1]).max(axis=1).argmax() == wrist


def test_another_picture_gets_a_warning(here, capsys):
    np.save('a.npy', array(COCO))
    main([SHIPPED, '--keypoints', 'a.npy', *SIZE])
    assert capsys.readouterr().err == ''
    main([SHIPPED, '--keypoints', 'a.npy', '--image-size', '640', '480'])
    assert 'most points lie outside of the picture' in capsys.readouterr().err


@pytest.mark.parametrize('name, content, message', (
    ('none.json', None, 'none.json: No such file'),
    ('a.json', b'[1, 2', 'a.json: found no readable file (Expecting'),
    ('a.json', b'[' * 100_000, 'a.json: found no readable file'),
    ('a.json', b'[]', 'found no people with points, expected COCO'),
    ('a.json', b'7', 'found no people with points'),
    ('a.json', b'{"people": []}', 'found no people with points'),
    ('a.json', b'[{"keypoints": [1, 2, 3]}]', 'found points of shape (1, 1, 3), expected (N, 17,'),
    ('a.json', json.dumps([{'keypoints': 51 * ['a']}]).encode(), 'makes no array'),
    ('a.json', json.dumps([{'keypoints': 51 * [float('nan')]}]).encode(), 'found NaN'),
    ('a.json', json.dumps({'people': [{'pose_keypoints_2d': 54 * [3]}]}).encode(), '(1, 18, 3)'),
    ('a.npy', b'', 'a.npy: found no readable file'),
    ('a.npy', np.zeros((1, 18, 2)), 'found points of shape (1, 18, 2), expected (N, 17, 2 or 3)'),
    ('a.npy', np.zeros((0, 17, 2)), 'expected at least one sample'),
    ('a.npy', np.full((1, 17, 2), np.nan), 'a.npy: key points: found NaN'),
    ('a.npy', np.array([{}]), 'found no readable file (no array of numbers)'),
    ('a.npy', np.full((2, 17, 3), .5), 'at most 0.5, expected pixels'),
    ('a.npy', np.full((2, 17, 3), 9) * [1, 1, 0], 'a.npy: found nobody with 9 of 15 joints')))
def test_files_that_hold_no_points(here, capsys, name, content, message):
    if isinstance(content, bytes):
        Path(name).write_bytes(content)
    elif content is not None:
        np.save(name, content, allow_pickle=True)
    assert message in fails(capsys, '--keypoints', name, *SIZE)


@pytest.mark.parametrize('options, message', (
    (('--keypoints', 'a.npy'), '--keypoints: found no --image-size'),
    (SIZE, '--image-size: found no --keypoints'),
    (('--height', '1.7'), '--height: found no --keypoints'),
    (('--keypoints', 'a.npy', *SIZE, '--height', '175'), 'found 175, expected at least 0.3'),
    (('--keypoints', 'a.npy', *SIZE, '--focal', '26'), 'it is 1387 pixels'),
    (('--keypoints', 'a.npy', '--data', 'a.pkl'), 'not allowed with'),
    (('other', '--keypoints', 'a.npy', *SIZE), 'other: found weights for 9 joints, expected 15'),
    (('--keypoints', 'a.npy', *SIZE, '--predict', 'none/out.npy'), 'none/out.npy'),
    (('--keypoints', 'a.npy', *SIZE, '--animate', 'none/out.gif'), 'none/out.gif')))
def test_options_of_detectors(here, capsys, options, message):
    np.save('a.npy', array(COCO))
    torch.save(weights(output_nodes=27).state_dict(), 'other')
    assert message in fails(capsys, *options)
