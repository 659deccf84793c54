"""One epoch as the handouts call it, the loop, two views without 3D, and the command."""
import csv
import sys
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
import torch
from torch.nn import BatchNorm1d
from torch.optim.lr_scheduler import ExponentialLR, OneCycleLR

from common.augment import augment
from common.camera import ROOT, project
from common.files import save_pickle
from common.people import sample
from common.poses import as_tensors, select
from common.skeleton import BONES
from common.views import TWO_VIEWS, prepare_views
from conftest import ROOT as HOUSE, SMALL
from data import SUPERVISED, find_camera, load
from metrics import cal_mpjpe
from model import LiftModel
from training import (FROZEN, fit, image_error, main, one_cycle, reprojection_loss, run_epoch,
                      run_epoch_weak, split_batches, supervised_loss)

CPU = torch.device('cpu')
POSES = {key: array for key, array in sample(200, seed=5).items() if key != 'joint_detected'}
NINE = {key: array[:, :9] if 'joint' in key else array for key, array in POSES.items()}
VIEWS = {key: POSES[key] for key in TWO_VIEWS}
PLAIN = as_tensors({key: POSES[key] for key in SUPERVISED}, CPU)
CENTRE = torch.from_numpy(ROOT)
MEAN_POSE = cal_mpjpe(np.tile(POSES['joint_3d'].mean(axis=0), (200, 1, 1)), POSES['joint_3d'])


def model_and_optimiser():
    torch.manual_seed(0)
    model = LiftModel(1, 32)
    return model, torch.optim.Adam(model.parameters(), 1e-2, betas=(.9, .99))


def bits(model):
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def history() -> list[dict]:
    with open('plots/history.csv') as file:
        return list(csv.DictReader(file))


# ---- one epoch ----------------------------------------------------------------------------------

def test_a_graders_own_script_learns():
    model, optimiser = model_and_optimiser()
    scheduler = ExponentialLR(optimiser, .97)
    model.eval()  # a script may have scored before
    errors = [run_epoch(epoch, POSES, model, optimiser, scheduler)[1] for epoch in range(20)]
    assert optimiser.param_groups[0]['lr'] == pytest.approx(1e-2 * .97 ** 20)  # a step an epoch
    loss, mpjpe = run_epoch(20, POSES, model, optimiser, scheduler, batch_size=64, split='val')
    assert model.training and loss == mpjpe < errors[0] and mpjpe < .5 * MEAN_POSE
    assert mpjpe == pytest.approx(
        cal_mpjpe(model.lift(POSES['joint_2d_1']), POSES['joint_3d']).item())


@pytest.mark.parametrize('epoch', (run_epoch, run_epoch_weak))
def test_arrays_lists_and_tensors_are_the_same_data(epoch):
    results = []
    for spelling in (np.asarray, torch.from_numpy, lambda array: array.reshape(200, -1).tolist()):
        joints = {key: spelling(array) for key, array in POSES.items()}
        results.append(epoch(1, joints, *model_and_optimiser(), None))
    assert results[0] == results[1] == results[2] and results[0][1] > 0


def test_scoring_changes_nothing_and_more_data_not_the_statistics():
    model, optimiser = model_and_optimiser()
    run_epoch(1, POSES, model, None, None, split='val')
    assert not model.fitted
    run_epoch(1, POSES, model, optimiser, None)
    mean = model.mean_out.clone()
    np.testing.assert_allclose(mean[2::3], POSES['joint_3d'][..., 2].mean(axis=0), atol=1e-6)
    run_epoch(2, {key: POSES[key][:50] for key in SUPERVISED}, model, optimiser, None)
    before, random = bits(model), torch.get_rng_state()
    run_epoch(3, POSES, model, None, None, split='test')
    assert torch.equal(model.mean_out, mean) and torch.equal(bits(model), before)
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize('n_samples, batch_size', ((2, 2), (65, 64), (127, 64), (129, 64), (9, 99)))
def test_no_sample_is_dropped_and_none_is_alone(n_samples, batch_size):
    batches = split_batches(torch.arange(n_samples), batch_size)
    assert torch.equal(torch.cat(batches), torch.arange(n_samples))
    assert min(map(len, batches)) >= min(batch_size, n_samples)


@pytest.mark.parametrize('epoch', (run_epoch, run_epoch_weak))
@pytest.mark.parametrize('joints, batch_size, words', (
    (NINE, 64, 'key joint_2d_1: found 9 joints, expected 15'),
    ({'joint_2d_1': POSES['joint_2d_1']}, 64, 'is missing: found joint_2d_1'),
    (POSES, 1, 'in batches of 1, expected')))
def test_an_epoch_refuses_data_that_it_cannot_learn_from(epoch, joints, batch_size, words):
    with pytest.raises(ValueError, match=words):
        epoch(1, joints, *model_and_optimiser(), None, batch_size)


# ---- the loop -----------------------------------------------------------------------------------

def test_fit_is_this_plain_loop():
    """The loss is a mean over samples. After FROZEN the statistics of batch norm stay."""
    (model, optimiser), (same, _) = model_and_optimiser(), model_and_optimiser()
    for each in (model, same):
        each.set_statistics(PLAIN['joint_2d'], PLAIN['joint_3d'])
    schedule = OneCycleLR(optimiser, 1e-2, 4 * 3, anneal_strategy='linear', cycle_momentum=False)
    losses, done = [], []
    torch.manual_seed(1)
    for epoch in range(4):
        for layer in model.modules():
            layer.train(not (isinstance(layer, BatchNorm1d) and epoch / 4 >= FROZEN))
        errors = []
        for rows in torch.randperm(200).tensor_split(3):  # 67, 67 and 66 rows
            error = cal_mpjpe(model(PLAIN['joint_2d'][rows]), PLAIN['joint_3d'][rows], avg=False)
            optimiser.zero_grad()
            error.mean().backward()
            optimiser.step()
            schedule.step()
            errors += error.tolist()
        losses.append(np.mean(errors))
    torch.manual_seed(1)
    rows = list(fit(same, PLAIN, **one_cycle(same, 1e-2, PLAIN, 4, 60), loss=supervised_loss,
                    augmentation=lambda poses, part: done.append(part) or poses, epochs=4,
                    batch_size=60))
    assert [row['loss'] for row in rows] == pytest.approx(losses, rel=3e-5)
    torch.testing.assert_close(bits(same), bits(model), atol=1e-3, rtol=0)
    assert [row['epoch'] for row in rows] == [1, 2, 3, 4] and rows[0]['rate'] == 1e-2 / 25
    assert done == [0, .25, .5, .75]  # the fraction of the training that is over


# ---- two views without 3D -----------------------------------------------------------------------

@pytest.mark.parametrize('sign', ((1, 1), (-1, -1)))
def test_two_views_are_enough_to_learn(sign):
    """A grader's own script, without joint_3d, for axes that point either way."""
    views = VIEWS | {key: VIEWS[key] * np.float32(sign) for key in ('joint_2d_1', 'joint_2d_2')}
    model, optimiser = model_and_optimiser()
    losses = [run_epoch_weak(epoch, views, model, optimiser, None)[0] for epoch in range(20)]
    loss, mpjpe = run_epoch_weak(20, {**POSES, **views}, model, optimiser, None, split='val')
    assert loss < .65 * losses[0] and mpjpe < .5 * MEAN_POSE


def test_images_are_compared_as_a_slow_loop_compares_them():
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


def test_a_lift_in_or_behind_the_camera_is_led_back():
    poses = as_tensors(prepare_views(POSES)[0], CPU)
    pose = poses['truth'] - CENTRE
    pose[::2, :, 2], pose[1::2, :, 2] = 1, 1.5
    image_error(pose.requires_grad_(), poses).backward()
    assert (pose.grad[..., 2] > 0).float().mean() > .9


@pytest.mark.parametrize('bones', ((), BONES))
def test_the_right_lifts_have_no_reprojection_loss(bones):
    """They are right in every virtual view, and for crossed poses."""
    torch.manual_seed(0)
    poses = as_tensors(find_camera(prepare_views(POSES)[0])[0], CPU)
    poses = augment(poses, bones=bones, noise=0)
    one = poses['joint_3d'] - CENTRE  # as view 1 is turned; view 2 is lifted for every other sample
    two = one @ poses['turn'] @ poses['rot'].mT / poses['distance'][:, None, None]
    lifts = torch.cat([one, two[::2]]) + CENTRE

    def lift(joint_2d):
        torch.testing.assert_close(joint_2d, project(lifts, focal_len), atol=1e-4, rtol=0)
        return lifts

    focal_len = torch.cat([poses['focal_len'], poses['focal_len'][::2]])
    assert reprojection_loss(lift, poses) < 1e-4
    # a wrong lift of view 2 counts half, by its images and by its distance from that of view 1
    half = select(poses, slice(None, None, 2))
    wrong, distance = torch.tensor([.01, 0, 0]), half['distance'][:, None, None]
    pose_2 = (one @ poses['turn'])[::2] + distance * wrong @ half['rot']
    expected = .5 * (image_error(pose_2, half) + .01 * distance.mean())
    lifts[len(one):] += wrong
    torch.testing.assert_close(reprojection_loss(lambda joint_2d: lifts, poses), expected,
                               rtol=1e-3, atol=1e-4)


def test_joint_3d_is_not_learnt_from(here):
    """The weights are the same if joint_3d is true, noise, or missing. Only the score differs."""
    noise = np.random.default_rng(0).normal(size=POSES['joint_3d'].shape)
    rows = []
    for name, joints in (('true', POSES), ('noise', {**VIEWS, 'joint_3d': noise}), ('none', VIEWS)):
        save_pickle(f'{name}.pkl', joints)
        main([*SMALL, '--weak', '--data', f'{name}.pkl', '--out', name])
        rows.append(history()[-1])
    assert Path('true').read_bytes() == Path('noise').read_bytes() == Path('none').read_bytes()
    true, other, none = (row['val_mpjpe'] for row in rows)
    assert float(true) < .1 < float(other) and none == ''
    assert len({row['val_loss'] for row in rows}) == 1


def test_a_focal_length_may_be_given(here, fails):
    """The option is used if the file has no focal lengths. Then points may be in pixels."""
    pixels = {key: 1000 * POSES[key] if '2d' in key else POSES[key] for key in TWO_VIEWS[:4]}
    save_pickle('none', pixels)
    save_pickle('own', pixels | {'focal_len_1': 1147.5, 'focal_len_2': 1147.5})
    for name, focal in (('none', '1147.5'), ('own', '9')):
        main([*SMALL, '--weak', '--data', name, '--focal', focal, '--out', f'from {name}'])
    assert Path('from none').read_bytes() == Path('from own').read_bytes()
    assert 'focal_len_1' in fails(main, *SMALL, '--weak', '--data', 'none')
    assert '--focal: found 1.15' in fails(main, *SMALL, '--weak', '--data', 'none', '--focal',
                                          '1.15')


# ---- the command --------------------------------------------------------------------------------

def test_without_data_synthetic_people_are_learnt(tmp_path, monkeypatch, no_charts, capsys):
    """The command of the README, run as a script."""
    monkeypatch.chdir(tmp_path)
    options = *SMALL, '--batch-size', '4000', '--out', 'a/b'
    monkeypatch.setattr(sys, 'argv', ['training.py', *options])
    run_path(HOUSE / 'training.py', run_name='__main__')
    train, test = (load(f'data_{part}_lift.pkl')['joint_3d'][:, 0] for part in ('train', 'test'))
    assert (len(train), len(test)) == (32_000, 5_000)
    assert not np.isin(test, train).all(axis=1).any()  # other people
    state = torch.load('a/b', weights_only=True)
    assert state.keys() == LiftModel(1, 16).state_dict().keys() and state['fitted']
    std_out = state['std_out'].view(15, 3)  # x and y may be corrected, for a detector's points
    assert (std_out[:, :2] > .09 * std_out[:, 2].mean()).all()
    rows, output = history(), capsys.readouterr().out
    assert [row['epoch'] for row in rows] == ['1', '2', '3']
    assert float(rows[2]['train_mpjpe']) < float(rows[0]['train_mpjpe'])
    printed = [line.split()[1:4] for line in output.splitlines()]
    assert [f'{float(rows[2][key]):.5f}' for key in ('loss', 'train_mpjpe', 'val_mpjpe')] in printed
    assert '30,400 poses of 15 joints' in output and Path('plots/history.png').exists()


@pytest.mark.parametrize('weak, name', ((False, 'data_train_lift.pkl'), (True, 'data_train.pkl')))
def test_two_views_come_from_data_train_if_there_is_one(here, capsys, weak, name):
    save_pickle('data_train.pkl', POSES)
    main([*SMALL, *['--weak'] * weak])
    assert f'data: {name}, ' in capsys.readouterr().out


@pytest.mark.parametrize('weak', ((), ('--weak',)))
def test_a_seed_gives_the_same_bits_and_each_option_others(here, monkeypatch, weak):
    def weights(*options):
        main([*SMALL, *weak, '--epochs', '1', '--precision', 'float32', *options])
        return Path('liftModel').read_bytes()

    found = [weights(), *(weights(*option.split()) for option in (
        '--seed 1', '--lr .001', '--dropout .1', '--precision bfloat16', '--batch-size 64'))]
    assert weights() == found[0]
    monkeypatch.setattr('common.augment.CROSSED', 0)  # so poses were crossed
    assert len({weights(), *found}) == 1 + len(found)


def test_few_samples_of_another_skeleton_are_learnt(here):
    save_pickle('few.pkl', {key: array[:4] for key, array in NINE.items()})
    main([*SMALL, '--data', 'few.pkl'])
    assert torch.load('liftModel', weights_only=True)['last.bias'].shape == (27,)


def test_motion_capture_is_learnt(mocap_test, here):
    save_pickle('a.pkl', {key: array[::4] for key, array in mocap_test.items()})
    main(['--data', 'a.pkl', '--hidden-layer', '128', '--epochs', '8', '--device', 'cpu'])
    assert float(history()[-1]['val_mpjpe']) < .03  # the mean pose is off by about .06


@pytest.mark.parametrize('options, words', (
    (('--data', 'none.pkl'), 'none.pkl'),
    (('--data', 'two.pkl'), 'two.pkl: found 2 samples'),
    (('--data', 'far.pkl'), 'far.pkl: key joint_3d'),
    (('--data', 'two.pkl', '--weak'), 'two.pkl: key joint_2d_2 is missing'),
    (('--data', 'turned.pkl', '--weak'), 'turned.pkl: keys rot, transl'),
    (('--out', 'two.pkl/liftModel'), 'two.pkl'), (('--out', '.'), '--out: found the folder'),
    (('--out', 'two.pkl', '--data', 'two.pkl'), 'the input --data'),
    (('--focal', '1.1'), '--focal: found no --weak'), (('--lr', '1e30'), 'found a loss of')))
def test_mistakes_are_named_in_one_line_and_leave_the_old_weights(here, fails, options, words):
    Path('liftModel').write_bytes(b'old')
    save_pickle('two.pkl', {key: POSES[key][:2] for key in SUPERVISED})
    save_pickle('far.pkl', POSES | {'joint_3d': 4500 * POSES['joint_3d']})
    save_pickle('turned.pkl', POSES | {'rot': POSES['rot'].reshape(-1, 3, 3).mT})
    assert words in fails(main, *SMALL, *options)
    assert Path('liftModel').read_bytes() == b'old'
