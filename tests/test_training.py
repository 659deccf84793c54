"""One epoch as the handouts call it, the loop, two views without 3D, and the command."""
import csv
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR, OneCycleLR

import training
from common.augment import augment
from common.camera import ROOT
from common.files import save_pickle
from common.people import sample
from common.poses import as_tensors
from common.skeleton import BONES
from common.states import load_state
from common.views import TWO_VIEWS, prepare_views
from conftest import ROOT as HOUSE, SMALL
from data import find_camera, load
from metrics import cal_mpjpe
from model import LiftModel
from training import (fit, image_error, main, one_cycle, prepare, reprojection_loss,
                      run_epoch, run_epoch_weak, score, split_batches, supervised_loss)

CPU = torch.device('cpu')
DETECTED = sample(200, seed=5)
POSES = {key: array for key, array in DETECTED.items() if key != 'joint_detected'}
PLAIN = as_tensors({key: POSES[key] for key in ('joint_2d_1', 'joint_3d')}, CPU)
CENTRE = torch.from_numpy(ROOT)
MEAN_POSE = cal_mpjpe(np.tile(POSES['joint_3d'].mean(axis=0), (200, 1, 1)), POSES['joint_3d'])


def model_and_optimiser(lr=1e-2, **sizes):
    torch.manual_seed(0)
    model = LiftModel(1, 32, **sizes)
    return model, torch.optim.Adam(model.parameters(), lr=lr)


def bits(model):
    return torch.cat([value.flatten() for value in model.state_dict().values()])


# ---- one epoch ----------------------------------------------------------------------------------

def test_a_graders_own_script_learns():
    model, optimiser = model_and_optimiser()
    scheduler = ExponentialLR(optimiser, .97)
    model.eval()  # a script may come from scoring
    errors = [run_epoch(epoch, POSES, model, optimiser, scheduler)[1] for epoch in range(20)]
    loss, mpjpe = run_epoch(20, POSES, model, optimiser, scheduler, batch_size=64, split='val')
    assert model.training and loss == mpjpe < errors[0] and mpjpe < .5 * MEAN_POSE
    assert mpjpe == pytest.approx(
        cal_mpjpe(model.lift(POSES['joint_2d_1']), POSES['joint_3d']).item())


@pytest.mark.parametrize('epoch', (run_epoch, run_epoch_weak))
def test_arrays_lists_and_tensors_are_the_same_data(epoch):
    spellings = (POSES, {key: torch.from_numpy(array) for key, array in POSES.items()},
                 {key: array.astype(float).reshape(200, -1).tolist()
                  for key, array in POSES.items()})
    results = []
    for joints in spellings:
        model, optimiser = model_and_optimiser()
        results.append(epoch(1, joints, model, optimiser, None))
    assert results[0] == results[1] == results[2] and results[0][1] > 0


def test_scoring_changes_nothing():
    model, optimiser = model_and_optimiser()
    run_epoch(1, POSES, model, optimiser, None)
    before, random = bits(model), torch.get_rng_state()
    run_epoch(1, POSES, model, None, None, split='test')
    assert torch.equal(bits(model), before) and model.training
    assert torch.equal(torch.get_rng_state(), random)


def test_the_loss_is_a_mean_over_samples():
    """With a rate of 0, no dropout, and batch norm out of the way, training must score as MPJPE."""
    model, optimiser = model_and_optimiser(lr=0, dropout=0)
    torch.nn.init.zeros_(model.blocks[0].layers[5].weight)  # the block then adds its bias, 0
    loss, _ = run_epoch(1, POSES, model, optimiser, None, batch_size=77)
    expected = cal_mpjpe(model.lift(POSES['joint_2d_1']), POSES['joint_3d'])
    assert loss == pytest.approx(expected.item(), rel=1e-5)


def test_statistics_are_fitted_once_and_not_by_scoring():
    model, optimiser = model_and_optimiser()
    run_epoch(1, POSES, model, None, None, split='val')
    assert not model.fitted
    run_epoch(1, POSES, model, optimiser, None)
    mean = model.mean_out.clone()
    np.testing.assert_allclose(mean[2::3], POSES['joint_3d'][..., 2].mean(axis=0), atol=1e-6)
    run_epoch(2, {key: array[:50] for key, array in POSES.items()}, model, optimiser, None)
    assert torch.equal(model.mean_out, mean)


def test_schedulers_step_at_their_own_pace():
    model, optimiser = model_and_optimiser()
    run_epoch(1, POSES, model, optimiser, ExponentialLR(optimiser, .5), batch_size=50)
    assert optimiser.param_groups[0]['lr'] == .005
    one_cycle, rates = OneCycleLR(optimiser, 1e-2, total_steps=8), []
    optimiser.register_step_post_hook(lambda *_: rates.append(optimiser.param_groups[0]['lr']))
    for epoch in (2, 3):
        run_epoch(epoch, POSES, model, optimiser, one_cycle, batch_size=50)
    assert len(rates) == 8 == len(set(rates)) and rates[-1] < 1e-6  # ends near zero


@pytest.mark.parametrize('n_samples', (2, 3, 63, 64, 65, 128, 129, 1000))
@pytest.mark.parametrize('batch_size', (2, 64, 5000))
def test_no_sample_is_dropped_and_none_is_alone(n_samples, batch_size):
    rows = torch.randperm(n_samples)
    batches = split_batches(rows, batch_size)
    assert torch.equal(torch.cat(batches), rows)
    assert min(map(len, batches)) >= min(batch_size, n_samples)
    assert n_samples < batch_size or len(batches) == n_samples // batch_size


@pytest.mark.parametrize('n_samples, batch_size', ((1, 64), (64, 1)))
def test_batches_of_one_are_refused(n_samples, batch_size):
    model, optimiser = model_and_optimiser()
    with pytest.raises(ValueError, match=f'{n_samples} samples in batches of {batch_size}'):
        run_epoch(1, {key: array[:n_samples] for key, array in POSES.items()}, model, optimiser,
                  None, batch_size)


@pytest.mark.parametrize('epoch', (run_epoch, run_epoch_weak))
def test_an_epoch_needs_its_keys_and_the_joints_of_the_model(epoch):
    model, optimiser = model_and_optimiser(output_nodes=27)
    with pytest.raises(ValueError, match='key joint_2d_1: found 15 joints, expected 9'):
        epoch(1, POSES, model, optimiser, None)
    with pytest.raises(ValueError, match='is missing: found joint_2d_1'):
        epoch(1, {'joint_2d_1': POSES['joint_2d_1']}, model, optimiser, None)


# ---- the loop -----------------------------------------------------------------------------------

def fitted(loss=supervised_loss, optimiser=None, in_bfloat16=False, epochs=3, **options):
    """Weights and rows of a short training on POSES; `optimiser` makes one of a model."""
    torch.manual_seed(0)
    model = LiftModel(1, 16, 0)
    model.fit(PLAIN['joint_2d'], PLAIN['joint_3d'])
    model.in_bfloat16 = in_bfloat16
    parts = (one_cycle(model, 1e-2, PLAIN, epochs, 50) if optimiser is None else
             {'optimiser': optimiser(model), 'scheduler': None})
    rows = list(fit(model, PLAIN, **parts, loss=loss, epochs=epochs, batch_size=50, **options))
    return model, rows


def test_fit_is_a_loop_over_run_epoch():
    """Against the handout's call, epoch by epoch, with an optimiser and a schedule of its own."""
    torch.manual_seed(0)
    model = LiftModel(1, 16, 0)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2, betas=(.9, .99))
    schedule = OneCycleLR(optimiser, 1e-2, 3 * 4, anneal_strategy='linear', cycle_momentum=False)
    losses = [run_epoch(epoch, POSES, model, optimiser, schedule, 50)[0] for epoch in (1, 2, 3)]
    same, rows = fitted(frozen=1)
    torch.testing.assert_close(same.last.weight, model.last.weight)
    assert [row['loss'] for row in rows] == pytest.approx(losses, rel=1e-5)
    assert [row['epoch'] for row in rows] == [1, 2, 3]
    # at steps 0, 4 and 8; the rate is highest at 0.3 * 12 - 1 = 2.6 and ends at 11
    rates = [1e-2 / 25, 1e-2 * (11 - 4) / (11 - 2.6), 1e-2 * (11 - 8) / (11 - 2.6)]
    assert [row['rate'] for row in rows] == pytest.approx(rates, rel=1e-3)


def test_fit_takes_another_loss_augmentation_and_optimiser():
    plain = bits(fitted()[0])
    assert torch.equal(plain, bits(fitted()[0]))
    others = (fitted(loss=lambda *batch: 2 * supervised_loss(*batch).square()),
              fitted(augment=lambda poses, done: poses | {'joint_2d': poses['joint_2d'] + done}),
              fitted(optimiser=lambda model: torch.optim.SGD(model.parameters(), 3e-3)))
    assert all(not torch.equal(plain, bits(model)) for model, _ in others)
    assert [row['rate'] for row in others[2][1]] == [3e-3] * 3


def test_augmentation_is_told_how_much_of_the_training_is_over():
    told = []
    fitted(augment=lambda poses, done: told.append(done) or poses, epochs=4)
    assert told == [0, .25, .5, .75]


def test_statistics_of_batch_norm_are_frozen():
    """From then on the loss of training is that of scoring; nothing else moves, the rate is 0."""
    model, optimiser = model_and_optimiser(lr=0, dropout=0)
    model.fit(PLAIN['joint_2d'], PLAIN['joint_3d'])
    means, gaps = [], []
    for row in fit(model, PLAIN, optimiser, None, supervised_loss, epochs=6, batch_size=50,
                   frozen=.5):
        means.append(model.blocks[0].layers[1].running_mean.clone())
        gaps.append(abs(row['loss'] - score(model, PLAIN, supervised_loss)[0]))
    assert max(gaps[3:]) < 2e-7 < 2e-6 < min(gaps[:3])
    assert not torch.equal(means[1], means[2]) and torch.equal(means[2], means[5])


def test_a_loss_that_is_not_finite_stops():
    with pytest.raises(ValueError, match='epoch 2: found a loss of nan'):
        calls = iter([1] * 4 + [float('nan')] * 4)  # 4 batches an epoch
        fitted(loss=lambda *batch: next(calls) * supervised_loss(*batch))


def test_bfloat16_learns_as_well():
    losses = [fitted(epochs=12, in_bfloat16=coarse)[1][-1]['loss'] for coarse in (False, True)]
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=.02)


@pytest.mark.parametrize('weak', (False, True))
def test_a_training_leaves_no_tensor_on_the_cpu(monkeypatch, weak):
    """On the meta device, which holds no numbers: what is read back from it is made up."""
    monkeypatch.setattr(torch.Tensor, 'item', lambda tensor: 1.)
    monkeypatch.setattr(torch.Tensor, '__float__', lambda tensor: 1., raising=False)
    joints = prepare_views(POSES)[0] if weak else DETECTED
    poses = as_tensors(find_camera(joints)[0], torch.device('meta'))
    model = LiftModel(1, 16).to('meta')
    model.fit(poses['joint_2d'], poses['joint_3d'])
    optimiser = torch.optim.Adam(model.parameters())  # not in one kernel, which knows no meta
    loss = reprojection_loss if weak else supervised_loss
    rows = list(fit(model, poses, optimiser, None, loss, partial(augment, bones=BONES), epochs=2))
    assert len(rows) == 2 and score(model, poses, loss) == (1, 1)


# ---- without 3D ---------------------------------------------------------------------------------

@pytest.mark.parametrize('sign', ((1, 1), (1, -1), (-1, 1), (-1, -1)))
def test_two_views_are_enough_to_learn(sign):
    """A grader's own script, without joint_3d, for each way that axes may point."""
    views = {key: POSES[key] for key in TWO_VIEWS}
    views |= {key: views[key] * np.float32(sign) for key in ('joint_2d_1', 'joint_2d_2')}
    model, optimiser = model_and_optimiser()
    losses = [run_epoch_weak(epoch, views, model, optimiser, None)[0] for epoch in range(20)]
    loss, mpjpe = run_epoch_weak(20, {**POSES, **views}, model, optimiser, None, split='val')
    assert loss < .65 * losses[0] and mpjpe < .5 * MEAN_POSE


def test_two_views_are_compared_as_a_slow_loop_compares_them():
    joints, _ = prepare_views(POSES)
    rng = np.random.default_rng(0)
    wrong = joints['joint_3d'] + rng.normal(0, .02, joints['joint_3d'].shape).astype('f')
    expected = []
    for row, transl in enumerate(joints['transl']):
        camera_2 = joints['rot'][row].reshape(3, 3)
        scale = np.linalg.norm(camera_2 @ [0, 0, -1] + transl)
        for joint in range(15):
            ends = wrong[row, joint], camera_2 @ wrong[row, joint] + transl
            offsets = [(end[:2] / -end[2] - joints[f'joint_2d_{view}'][row, joint]
                        / joints[f'focal_len_{view}'][row]) * (1, scale)[view - 1]
                       for view, end in enumerate(ends, start=1)]
            expected.append(np.linalg.norm(np.concatenate(offsets)))
    error = image_error(torch.from_numpy(wrong) - CENTRE, as_tensors(joints, CPU))
    assert error.item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_a_lift_behind_the_camera_has_a_finite_loss_that_leads_back():
    poses = as_tensors(prepare_views(POSES)[0], CPU)
    pose = (poses['truth'] + torch.tensor([0, 0, 1.5])).requires_grad_()
    error = image_error(pose, poses)
    error.backward()
    assert error.isfinite() and pose.grad.isfinite().all()
    with torch.no_grad():
        assert image_error(pose - .01 / pose.grad.abs().max() * pose.grad, poses) < error


def test_the_truth_has_no_reprojection_loss_from_any_virtual_view():
    """A model that knows the answer: lifts of view 1 as it is turned, and of every other view 2."""
    poses = augment(as_tensors(find_camera(prepare_views(POSES)[0])[0], CPU), noise=0)
    pose = poses['truth'] - CENTRE
    one = pose @ poses['turn'].mT
    two = pose @ poses['rot'].mT / poses['distance'][:, None, None]
    lifts = torch.cat([one, two[::2]]) + CENTRE
    assert reprojection_loss(lambda joint_2d: lifts, poses) < 1e-4
    aside = lifts + torch.tensor([.01, 0, 0])
    assert reprojection_loss(lambda joint_2d: aside, poses) > .01


def test_joint_3d_is_not_learnt_from(here, capsys):
    """The same bits if joint_3d is true, noise, or not there."""
    views = {key: POSES[key] for key in TWO_VIEWS}
    noise = np.random.default_rng(0).normal(size=POSES['joint_3d'].shape)
    columns = {}
    for name, joints in (('true', POSES), ('noise', {**views, 'joint_3d': noise}), ('none', views)):
        save_pickle(f'{name}.pkl', joints)
        main([*SMALL, '--weak', '--data', f'{name}.pkl', '--out', name])
        lines = capsys.readouterr().out.splitlines()
        columns[name] = next(line.split() for line in lines if line.startswith('    3 '))
    true, other, none = (Path(name).read_bytes() for name in ('true', 'noise', 'none'))
    assert true == other == none and columns['none'][2:4] == ['-', '-']
    assert float(columns['true'][3]) < .1 < float(columns['noise'][3])
    with open('plots/history.csv') as file:
        last = list(csv.DictReader(file))[-1]
    assert last['val_mpjpe'] == '' and float(last['val_loss']) > 0


def test_a_focal_length_may_be_given(here, fails):
    """It is that of both views, if the file has none; points may be pixels then."""
    pixels = {key: 1000 * array if '2d' in key else array for key, array in POSES.items()
              if not key.startswith('focal')}
    save_pickle('pixels.pkl', pixels)
    weak = *SMALL, '--weak', '--data'
    assert 'focal_len_1' in fails(main, *weak, 'pixels.pkl')
    main([*weak, 'pixels.pkl', '--focal', '1147.5'])
    save_pickle('own.pkl', pixels | {key: 1000 * POSES[key]
                                     for key in ('focal_len_1', 'focal_len_2')})
    for out, focal in (('a', ()), ('b', ('--focal', '9'))):
        main([*weak, 'own.pkl', '--out', out, *focal])
    assert Path('a').read_bytes() == Path('b').read_bytes() != Path('liftModel').read_bytes()
    assert '--focal' in fails(main, *SMALL, '--focal', '1.1')


def test_two_views_come_from_data_train_if_there_is_one(here, capsys):
    for make in (lambda: None, lambda: save_pickle('data_train.pkl', POSES)):
        make()
        main([*SMALL, '--weak'])
    main([*SMALL, '--weak', '--data', 'data_train_lift.pkl'])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('data: ')]
    assert [line.split()[1] for line in lines] == [
        'data_train_lift.pkl,', 'data_train.pkl,', 'data_train_lift.pkl,']


# ---- the command --------------------------------------------------------------------------------

def test_without_data_synthetic_people_are_learnt(tmp_path, monkeypatch, no_charts, capsys):
    monkeypatch.chdir(tmp_path)
    main([*SMALL, '--epochs', '1', '--batch-size', '4000'])
    assert '30,400 poses of 15 joints' in capsys.readouterr().out
    assert {'data_train_lift.pkl', 'data_test_lift.pkl', 'liftModel', 'plots'} == {
        path.name for path in tmp_path.iterdir()}


def test_weights_history_and_chart_of_a_training(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_pickle('a.pkl', POSES)
    main([*SMALL, '--data', 'a.pkl', '--out', 'deep/er/weights', '--plots', 'pictures'])
    with open('pictures/history.csv') as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == training.COLUMNS and [row['epoch'] for row in rows] == ['1', '2', '3']
    assert float(rows[2]['train_mpjpe']) < float(rows[0]['train_mpjpe'])
    assert Path('pictures/history.png').read_bytes().startswith(b'\x89PNG')
    assert [path.name for path in Path('deep/er').iterdir()] == ['weights']
    state = torch.load('deep/er/weights', weights_only=True)
    assert state.keys() == LiftModel(1, 16).state_dict().keys() and state['fitted']
    printed = [line.split()[1:4] for line in capsys.readouterr().out.splitlines()]
    assert [f'{float(rows[2][key]):.5f}' for key in ('loss', 'train_mpjpe', 'val_mpjpe')] in printed


def test_weights_are_written_before_history_and_chart(here, fails):
    Path('plots/history.csv').mkdir(parents=True)
    assert 'history.csv' in fails(main, *SMALL)
    before = Path('liftModel').read_bytes()
    Path('plots/history.csv').rmdir()
    main(['--resume'])
    assert Path('liftModel').read_bytes() == before and Path('plots/history.png').exists()
    assert not Path('liftModel.state').exists()


@pytest.mark.parametrize('weak', ((), ('--weak',)))
def test_the_same_seed_gives_the_same_bits(here, weak):
    for out, seed in (('a', '1'), ('b', '1'), ('c', '2')):
        main([*SMALL, *weak, '--out', out, '--seed', seed])
    a, b, c = (Path(out).read_bytes() for out in 'abc')
    assert a == b and a != c


@pytest.mark.parametrize('weak, n_bones', (((), 15), (('--weak',), 0)))
def test_poses_are_crossed_only_with_ground_truth(here, monkeypatch, weak, n_bones):
    """Crossed poses have no images: two views would be compared with those of other poses."""
    told = []
    monkeypatch.setattr(training, 'augment',
                        lambda poses, done, bones: told.append(len(bones)) or poses)
    main([*SMALL, *weak])
    assert told == 3 * [n_bones]


def test_a_detectors_points_widen_what_the_network_may_add_to_the_rays(here):
    """They lie beside the rays of the joints; two views must not see them."""
    args = training.make_parser().parse_args([*SMALL])
    for name, joints in (('a.pkl', DETECTED), ('b.pkl', POSES)):
        save_pickle(name, joints)
    shown, plain = (training.build(args, prepare(Path(name), CPU)[0]).std_out.view(15, 3)
                    .mean(dim=0) for name in ('a.pkl', 'b.pkl'))
    assert (shown[:2] >= .0999 * shown[2]).all() and (plain[:2] < .02 * plain[2]).all()
    assert 'detected' not in prepare(Path('a.pkl'), CPU, weak=True)[0]


def test_few_samples_and_odd_joints(here):
    few = sample(4, seed=0)
    save_pickle('few.pkl', {key: array[:, :9] if key.startswith('joint') else array
                            for key, array in few.items()})
    main([*SMALL, '--data', 'few.pkl', '--batch-size', '4000'])
    assert torch.load('liftModel', weights_only=True)['last.bias'].shape == (27,)


def test_motion_capture_is_learnt(mocap, here):
    joints = load(mocap / 'data_test.pkl')
    save_pickle('a.pkl', {key: array[::4] for key, array in joints.items()})
    main(['--data', 'a.pkl', '--hidden-layer', '128', '--epochs', '8', '--device', 'cpu'])
    with open('plots/history.csv') as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last['val_mpjpe']) < .03  # the mean pose is off by about .06


def test_a_training_that_diverges_keeps_the_old_weights(here, fails):
    Path('liftModel').write_bytes(b'old')
    assert 'a loss of' in fails(main, *SMALL, '--lr', '1e30')
    assert Path('liftModel').read_bytes() == b'old'


@pytest.mark.parametrize('options, words', (
    (('--data', 'none.pkl'), 'none.pkl'),
    (('--data', 'list.pkl'), 'list.pkl'),
    (('--data', 'two.pkl'), 'two.pkl: found 2 samples'),
    (('--data', 'far.pkl'), 'far.pkl: key joint_3d'),
    (('--data', 'one.pkl', '--weak'), 'one.pkl: key joint_2d_2 is missing'),
    (('--data', 'turned.pkl', '--weak'), 'turned.pkl: keys rot, transl'),
    (('--out', 'list.pkl/liftModel'), 'list.pkl'),
    (('--plots', 'list.pkl/plots'), 'list.pkl'),
    (('--out', '.'), '--out: found the folder'),
    (('--out', 'one.pkl', '--data', 'one.pkl'), 'the input --data'),
    (('--out', 'one', '--data', './one.state'), 'the input --data'),
    (('--batch-size', '1'), '--batch-size: found 1'),
    (('--dropout', '1'), '--dropout: found 1')))
def test_mistakes_are_named_in_one_line_before_training(here, fails, options, words):
    save_pickle('list.pkl', [1, 2])
    save_pickle('two.pkl', {key: array[:2] for key, array in POSES.items()})
    save_pickle('far.pkl', POSES | {'joint_3d': 4500 * POSES['joint_3d']})
    save_pickle('one.pkl', {key: POSES[key] for key in ('joint_2d_1', 'joint_3d')})
    save_pickle('turned.pkl', POSES | {'rot': POSES['rot'].reshape(-1, 3, 3).mT})
    assert words in fails(main, *SMALL, *options)
    assert not Path('liftModel').exists() and not Path('liftModel.state').exists()


@pytest.mark.slow
def test_ctrl_c_ends_with_one_line_and_a_state(here):
    """A training of a million epochs, in which Ctrl-C is not ignored, after its second epoch."""
    command = [sys.executable, HOUSE / 'training.py', *SMALL, '--epochs', '1000000']
    run = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    while not (line := run.stdout.readline()).startswith('    2  '):
        assert line, run.stderr.read()
    run.send_signal(signal.SIGINT)
    _, error = run.communicate()
    assert run.returncode == 130 and error.strip().count('\n') == 0
    assert 'python training.py --resume --out liftModel' in error
    assert len(load_state(here / 'liftModel.state')['history']) >= 2
    assert not Path('liftModel').exists() and not list(here.glob('*.tmp'))
