import csv
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR, OneCycleLR

import data
import plots
import training
from conftest import ROOT
from data import (LAB_FILES, LIMBS, TWO_VIEWS, find_bones, joints_of, load, project, sample, save,
                  second_view, settle_camera, settle_views)
from metrics import cal_mpjpe
from model import LiftModel
from training import (Camera, Poses, as_poses, augment, cross, fit, image_error, main, prepare,
                      random_rotations, reprojection_loss, run_epoch, run_epoch_weak, score,
                      split_batches, supervised_loss)

CPU = torch.device('cpu')
SMALL = ('--hidden-layer', '16', '--n-blocks', '1', '--epochs', '3', '--batch-size', '32')
DETECTED = sample(200, seed=5)
POSES = {key: array for key, array in DETECTED.items() if key != 'joint_detected'}
SAVE_FIGURE = plots.save_figure


def model_and_optimiser(lr=1e-2, **sizes):
    torch.manual_seed(0)
    model = LiftModel(1, 32, **sizes)
    return model, torch.optim.Adam(model.parameters(), lr=lr)


@pytest.fixture
def here(tmp_path, monkeypatch, no_charts):
    """A folder of one's own as current directory, and a small default set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, 'N_TRAIN', 300)
    monkeypatch.setattr(data, 'N_TEST', 60)
    return tmp_path


def fails(capsys, *options):
    """What main says on standard error where it must end with status 2, in one line."""
    with pytest.raises(SystemExit) as end:
        main(list(options))
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count('\n') == 1 and error.startswith('training.py: ')
    return error


def interrupt(*_):
    raise KeyboardInterrupt


# ---- one epoch ----------------------------------------------------------------------------------

def test_a_graders_own_script_learns():
    model, optimiser = model_and_optimiser()
    scheduler = ExponentialLR(optimiser, .97)
    model.eval()  # a script may come from scoring
    errors = [run_epoch(epoch, POSES, model, optimiser, scheduler)[1] for epoch in range(20)]
    loss, mpjpe = run_epoch(20, POSES, model, optimiser, scheduler, batch_size=64, split='val')
    mean_pose = np.tile(POSES['joint_3d'].mean(axis=0), (200, 1, 1))
    assert model.training and loss == mpjpe < errors[0]
    assert mpjpe < .5 * cal_mpjpe(mean_pose, POSES['joint_3d'])
    assert mpjpe == pytest.approx(
        cal_mpjpe(model.lift(torch.from_numpy(POSES['joint_2d_1'])), POSES['joint_3d']).item())


def test_flat_lists_and_tensors_are_the_same_data():
    spellings = (POSES, {key: torch.from_numpy(array) for key, array in POSES.items()},
                 {'joint_2d_1': POSES['joint_2d_1'].reshape(200, 30).astype(float),
                  'joint_3d': POSES['joint_3d'].reshape(200, 45).tolist()})
    results = []
    for joints in spellings:
        model, optimiser = model_and_optimiser()
        results.append(run_epoch(1, joints, model, optimiser, None))
    assert results[0] == results[1] == pytest.approx(results[2])


def test_scoring_changes_nothing():
    model, optimiser = model_and_optimiser()
    run_epoch(1, POSES, model, optimiser, None)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    run_epoch(1, POSES, model, None, None, split='test')
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random) and model.training


def test_the_loss_is_a_mean_over_samples():
    """With a rate of 0, no dropout, and batch norm out of the way, training must score as MPJPE."""
    model, optimiser = model_and_optimiser(lr=0, dropout=0)
    torch.nn.init.zeros_(model.blocks[0].layers[5].weight)  # the block then adds its bias, 0
    loss, _ = run_epoch(1, POSES, model, optimiser, None, batch_size=77)
    expected = cal_mpjpe(model.lift(torch.from_numpy(POSES['joint_2d_1'])), POSES['joint_3d'])
    assert loss == pytest.approx(expected.item(), rel=1e-5)


def test_a_terminal_shows_a_live_line(capsys, monkeypatch):
    monkeypatch.setattr(training.time, 'perf_counter', count().__next__)  # a second each call
    model, optimiser = model_and_optimiser()
    run_epoch(7, POSES, model, optimiser, None)
    assert capsys.readouterr().out == ''
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    run_epoch(7, POSES, model, optimiser, None, batch_size=50)
    lines = capsys.readouterr().out.split('\r')
    assert [line.split()[0] for line in lines[1:]] == ['7'] * 4 and 'batch 4 of 4' in lines[-1]


def test_the_live_line_is_overwritten_and_tells_when_the_epoch_ends(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    monkeypatch.setattr(training.time, 'perf_counter', count(step=.15).__next__)
    assert list(training.live(3, range(10), 10)) == list(range(10))
    _, *shown = capsys.readouterr().out.split('\r')
    assert len(shown) == 5 and not any('\n' in line for line in shown)
    assert 'batch 2 of 10, epoch ends in 0:00:01' in shown[0] and '0:00:00' in shown[-1]


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
    with pytest.raises(ValueError, match='is missing: found joint_2d_1, expected joint_2d_1, '):
        epoch(1, {'joint_2d_1': POSES['joint_2d_1']}, model, optimiser, None)


def test_virtual_views_are_what_another_camera_sees(tmp_path):
    save(tmp_path / 'a.pkl', {**POSES, 'joint_2d_1': POSES['joint_2d_1'] + np.float32(.01)})
    poses, _ = prepare(tmp_path / 'a.pkl', CPU)
    changed = augment(poses)
    assert not torch.allclose(changed.joint_3d, poses.joint_3d, atol=.01)
    assert changed.truth is poses.truth
    seen = project(changed.joint_3d, poses.camera.focal_len) + .01  # what is unexplained stays
    noise = (changed.joint_2d - seen).std(dim=(1, 2)) / seen.std()
    assert noise.quantile(.6) < 1e-5 and .05 < noise.max() < .2 and (noise > 1e-5).sum() > 20
    exact = augment(poses, noise=0)
    seen = project(exact.joint_3d, poses.camera.focal_len) + .01
    torch.testing.assert_close(exact.joint_2d, seen, atol=1e-5, rtol=0)


@pytest.mark.parametrize('options', ({'crossed': False}, {'done': training.CROSSED}))
def test_poses_that_are_not_crossed_are_those_of_the_file(tmp_path, options):
    save(tmp_path / 'a.pkl', POSES)
    poses, _ = prepare(tmp_path / 'a.pkl', CPU)
    turned = augment(poses, **options)
    back = (turned.joint_3d - training.ROOT) @ turned.turn + training.ROOT
    torch.testing.assert_close(back, poses.joint_3d, atol=1e-5, rtol=0)


def test_some_poses_are_as_a_detector_shows_them(here):
    save('a.pkl', DETECTED)
    poses, _ = prepare(here / 'a.pkl', CPU)
    torch.manual_seed(0)
    changed = augment(poses, noise=0)
    seen = project(changed.joint_3d, poses.camera.focal_len)
    torch.testing.assert_close(changed.joint_2d[:, LIMBS], seen[:, LIMBS], atol=1e-3, rtol=0)
    image = changed.joint_2d.numpy()
    between = joints_of(np.concatenate([image[:, :3], image[:, LIMBS]], axis=1))[:, 6:8]
    off = np.linalg.norm(between - image[:, 6:8], axis=2).max(axis=1)  # spine, neck; perspective
    shown = torch.from_numpy(off < 1.5e-3)
    assert training.DETECTED - .1 < shown.float().mean() < training.DETECTED + .1
    beside = (changed.joint_2d - seen).abs().amax(dim=(1, 2)) > 2e-3
    assert beside[shown].float().mean() > .8
    shown &= beside
    about = (changed.joint_3d - training.ROOT)[shown] @ changed.turn[shown]
    offset = about - (poses.joint_3d - training.ROOT)[shown]
    torch.testing.assert_close(offset, offset[:, :1].expand_as(offset), atol=1e-5, rtol=0)
    args = training.make_parser().parse_args([*SMALL])
    deviations = [training.build(args, part).std_out.view(15, 3).mean(dim=0)
                  for part in (poses, replace(poses, detected=None))]
    assert (deviations[0][:2] >= .0999 * deviations[0][2]).all()
    assert (deviations[1][:2] < .02 * deviations[1][2]).all()
    hidden = prepare(here / 'a.pkl', CPU, weak=True)[0]
    assert hidden.detected is None  # who learns without 3D must not see them


def test_turns_are_about_the_root_and_leave_people_upright():
    turn = random_rotations(5000, CPU)
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3).expand(5000, 3, 3))
    assert (torch.linalg.det(turn) > 0).all()
    up, ahead = turn[:, :, 1], turn[:, :, 2]
    tilt = torch.rad2deg(up[:, 1].acos())
    assert up[:, 0].abs().max() < 1e-6 and 4 < tilt.mean() < 6 and tilt.max() < 30
    angle = torch.atan2(ahead[:, 0], ahead[:, 2]).histc(8, -np.pi, np.pi)
    assert angle.min() > 500 and angle.max() < 750  # from all around


def test_crossed_poses_have_a_part_of_another():
    """Found again by trying all other poses, all joints, and angles in steps of a degree."""
    poses = sample(60, seed=2)['joint_3d'][::10]  # each of another person
    crossed = cross(torch.from_numpy(poses - np.float32([0, 0, -1]))).numpy()
    parents = dict((child, parent) for parent, child in find_bones(poses))
    beyond = {joint: [other for other in parents if other != joint
                      and joint in path_to(other, parents)] for joint in parents}

    def bones(joints):
        joints = np.vstack([joints, np.zeros(3)])
        return np.stack([joints[child] - joints[parents[child]] for child in range(15)])

    angles = np.radians(np.arange(360))
    turns = np.stack([[[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]]
                      for a in angles])
    changed = 0
    for own, result in zip(poses - np.float32([0, 0, -1]), crossed):
        own, result = bones(own), bones(result)
        lengths = np.linalg.norm(own, axis=1)
        np.testing.assert_allclose(np.linalg.norm(result, axis=1), lengths, atol=1e-5)
        errors = [np.abs(result - own).max()]
        changed += errors[0] > .01
        for other in poses - np.float32([0, 0, -1]):
            turned = bones(other) @ turns.mT
            turned = turned[(turned * own).sum((1, 2)).argmax()]
            turned *= (lengths / np.linalg.norm(turned, axis=1))[:, None]
            for joints in beyond.values():
                expected = own.copy()
                expected[joints] = turned[joints]
                errors.append(np.abs(result - expected).max())
        assert min(errors) < .004  # a bone is up to .15 long, and half a degree of it .0013
    assert changed > 0


def path_to(joint, parents):
    return [joint] + (path_to(parents[joint], parents) if joint in parents else [])


def test_data_that_no_camera_explains_is_learnt_without_virtual_views(here, capsys):
    joint_2d = POSES['joint_2d_1'] - POSES['joint_2d_1'].mean(axis=1, keepdims=True)
    save('scaled.pkl', {**POSES, 'joint_2d_1': joint_2d / joint_2d.std(axis=(1, 2), keepdims=True)})
    poses, _ = prepare(here / 'scaled.pkl', CPU)
    assert 'so there are no virtual views' in capsys.readouterr().out
    assert augment(poses) is poses
    assert main([*SMALL, '--data', 'scaled.pkl']) == 0
    save('other_unit.pkl', {**POSES, 'focal_len_1': 1150})  # a focal length in another unit
    poses, _ = prepare(here / 'other_unit.pkl', CPU)
    assert poses.camera.focal_len.mean().item() == pytest.approx(1.1475, abs=.01)


@pytest.mark.parametrize('weak', (False, True))
def test_samples_that_the_camera_does_not_explain_are_left_out_and_counted(here, capsys, weak):
    bad = {key: array.copy() for key, array in POSES.items()}
    bad['joint_2d_1'][7, 3] = 1e20
    bad['joint_3d'][100, 2] = 0  # a joint in the camera
    save('bad.pkl', bad)
    train_set, val_set = prepare(here / 'bad.pkl', CPU, weak)
    assert len(train_set) + len(val_set) == (199 if weak else 198)
    found = f'{1 if weak else 2} samples that it does not explain left out, the first in row 7'
    assert found in capsys.readouterr().out
    assert train_set.camera.focal_len.mean() == pytest.approx(1.1475, abs=.01)
    assert main([*SMALL, '--data', 'bad.pkl', *(['--weak'] * weak)]) == 0


@pytest.mark.parametrize('joint_3d, message', (
    (4500 * POSES['joint_3d'], 'at a depth of 4.49e.03 .* in another unit: divide by the distance'),
    (POSES['joint_3d'] + [0, 0, 1], 'about the root'),
    (1000 * (POSES['joint_3d'] + [0, 0, 1]), 'about the root'),
    (POSES['joint_3d'] * [1, -1, -1], 'in the frame of OpenCV')))
def test_joints_that_are_not_about_the_root_at_distance_1(here, capsys, joint_3d, message):
    save('odd.pkl', {**POSES, 'joint_3d': joint_3d})
    error = fails(capsys, '--data', 'odd.pkl')
    assert re.search(f'odd.pkl: key joint_3d: found .*{message}', error)


@pytest.mark.parametrize('weak', (False, True))
def test_a_root_among_the_joints_is_refused(here, capsys, weak):
    """It has no error, and would make the mean over joints smaller."""
    root = np.tile(np.float32([0, 0, -1]), (200, 1, 1))
    root[:, :, :2] += np.random.default_rng(0).normal(0, 1e-4, (200, 1, 2))
    image_2 = project(second_view(root, POSES['rot'], POSES['transl']), POSES['focal_len_2'])
    images = project(root, POSES['focal_len_1']), image_2, root
    with_root = {key: np.concatenate([POSES[key], joint], axis=1)
                 for key, joint in zip(('joint_2d_1', 'joint_2d_2', 'joint_3d'), images)}
    save('root.pkl', POSES | with_root)
    error = fails(capsys, '--data', 'root.pkl', *(['--weak'] * weak))
    assert 'root.pkl: found joint 15 always at (0, 0, -1)' in error


@pytest.mark.parametrize('change, message', (
    ({'joint_2d_1': 0 * POSES['joint_2d_1']}, 'key joint_2d_1: found all points in one place'),
    ({'transl': 0 * POSES['transl']}, 'behind the camera or in it'),
    ({'focal_len_2': np.where(np.arange(200) == 9, 0, 1.)[:, None].repeat(2, 1)},
     'key focal_len_2: found 0 in 1 of 200 rows, first in row 9')))
def test_views_that_give_no_depth(here, capsys, change, message):
    save('odd.pkl', {**POSES, **change})
    assert message in fails(capsys, '--weak', '--data', 'odd.pkl')


def test_poses_around_the_camera_are_not_turned():
    joint_3d = torch.tensor([[[0, 0, -3.], [0, 0, -.5]], [[0, 0, -1.1], [0, 0, -.9]]])
    joint_3d = joint_3d.repeat(50, 1, 1)
    poses = Poses(torch.zeros(100, 2, 2), joint_3d, joint_3d, torch.eye(3).expand(100, 3, 3),
                  Camera(torch.ones(100, 2), torch.zeros(100, 2, 2)))
    turned = augment(poses)
    assert (turned.joint_3d[..., 2] < -.1).all()
    assert not torch.equal(turned.joint_3d[1::2], joint_3d[1::2])


# ---- the loop -----------------------------------------------------------------------------------

def fitted(loss=supervised_loss, augment=lambda poses, _: poses, epochs=3, in_bfloat16=False,
           **options):
    """Weights and rows of a short training on POSES."""
    poses = as_poses({key: POSES[key] for key in ('joint_2d_1', 'joint_3d')}, CPU)
    torch.manual_seed(0)
    model = LiftModel(1, 16, 0)
    model.fit(poses.joint_2d, poses.joint_3d)
    model.in_bfloat16 = in_bfloat16
    rows = [row for row, _ in fit(model, poses, epochs, 50, 1e-2, loss, augment, **options)]
    return model.last.weight.detach().clone(), rows


def test_fit_is_a_loop_over_run_epoch():
    """Against the handout's call, epoch by epoch, with an optimiser and a schedule of its own."""
    torch.manual_seed(0)
    model = LiftModel(1, 16, 0)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2, betas=(.9, .99))
    schedule = OneCycleLR(optimiser, 1e-2, 3 * 4, anneal_strategy='linear', cycle_momentum=False)
    losses = [run_epoch(epoch, POSES, model, optimiser, schedule, 50)[0] for epoch in (1, 2, 3)]
    weights, rows = fitted(settled=1)
    torch.testing.assert_close(weights, model.last.weight.detach())
    assert [row['loss'] for row in rows] == pytest.approx(losses, rel=1e-5)
    assert [row['epoch'] for row in rows] == [1, 2, 3]
    # of steps 0, 4 and 8; it is highest at 0.3 * 12 - 1 = 2.6 and ends at 11
    rates = [1e-2 / 25, 1e-2 * (11 - 4) / (11 - 2.6), 1e-2 * (11 - 8) / (11 - 2.6)]
    assert [row['rate'] for row in rows] == pytest.approx(rates, rel=1e-3)


def test_fit_takes_another_loss_augmentation_and_optimiser():
    plain, _ = fitted()
    assert torch.equal(plain, fitted()[0])
    others = [fitted(loss=lambda *batch: 2 * supervised_loss(*batch).square()),
              fitted(augment=lambda poses, _: poses[:100]),
              fitted(optimise=lambda model, lr, n_steps: (
                  torch.optim.SGD(model.parameters(), lr / n_steps), None))]
    assert all(not torch.equal(plain, weights) for weights, _ in others)
    assert others[2][1][0]['rate'] == pytest.approx(1e-2 / 12)


def test_augmentation_is_told_how_much_of_the_training_is_over():
    told = []
    fitted(augment=lambda poses, done: told.append(done) or poses, epochs=4)
    assert told == [0, .25, .5, .75]


def test_batch_norm_settles():
    """From then on what is learnt from is what is scored; nothing else moves, the rate is 0."""
    poses = as_poses({key: POSES[key] for key in ('joint_2d_1', 'joint_3d')}, CPU)
    model, optimiser = model_and_optimiser(lr=0, dropout=0)
    model.fit(poses.joint_2d, poses.joint_3d)
    means, gaps = [], []
    for row, _ in fit(model, poses, 6, 50, 0, supervised_loss, lambda poses, _: poses,
                      optimise=lambda *_: (optimiser, None), settled=.5):
        means.append(model.blocks[0].layers[1].running_mean.clone())
        gaps.append(abs(row['loss'] - score(model, poses, supervised_loss)[0]))
    assert max(gaps[3:]) < 2e-7 < 2e-6 < min(gaps[:3])
    assert not torch.equal(means[1], means[2]) and torch.equal(means[2], means[5])


def test_bfloat16_learns_as_well():
    losses = [fitted(epochs=12, in_bfloat16=coarse)[1][-1]['loss'] for coarse in (False, True)]
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=.02)


@pytest.mark.parametrize('weak', (False, True))
def test_a_training_leaves_no_tensor_on_the_cpu(monkeypatch, weak):
    """On the meta device, which holds no numbers: what is read back from it is made up."""
    monkeypatch.setattr(torch.Tensor, 'item', lambda tensor: 1.)
    monkeypatch.setattr(torch.Tensor, 'cpu', lambda tensor: torch.zeros(tensor.shape))
    monkeypatch.setattr(training, 'find_bones', lambda joint_3d: data.BONES)
    joints = settle_views(POSES)[0] if weak else POSES
    poses = as_poses(settle_camera(joints)[0], torch.device('meta'))
    model = LiftModel(1, 16).to('meta')
    model.fit(poses.joint_2d, poses.joint_3d)
    loss, change = ((reprojection_loss, partial(augment, crossed=False)) if weak else
                    (supervised_loss, augment))
    rows = [row for row, _ in fit(model, poses, 2, 50, 1e-2, loss, change, optimise=lambda *_: (
        torch.optim.Adam(model.parameters()), None))]  # not in one kernel, which knows no meta
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
    mean_pose = np.tile(POSES['joint_3d'].mean(axis=0), (200, 1, 1))
    assert loss < .65 * losses[0]
    assert mpjpe < .5 * cal_mpjpe(mean_pose, POSES['joint_3d'])


def settled_poses(joints=POSES):
    return as_poses(settle_views(joints)[0], CPU)


def test_two_views_are_compared_as_a_slow_loop_compares_them():
    joints, _ = settle_views(POSES)
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
    pose = torch.from_numpy(wrong) - training.ROOT
    assert image_error(pose, settled_poses()).item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_a_lift_behind_the_camera_has_a_finite_loss_that_leads_back():
    poses = settled_poses()
    pose = (poses.truth + torch.tensor([0, 0, 1.5])).requires_grad_()
    error = image_error(pose, poses)
    error.backward()
    assert error.isfinite() and pose.grad.isfinite().all()
    with torch.no_grad():
        assert image_error(pose - .01 / pose.grad.abs().max() * pose.grad, poses) < error


def test_the_truth_has_no_reprojection_loss_from_any_virtual_view():
    """A model that knows the answer: lifts of view 1 as it is turned, and of every other view 2."""
    poses = settled_poses()
    poses = augment(as_poses({**settle_views(POSES)[0], 'residual': np.zeros_like(poses.joint_2d)},
                             CPU), crossed=False, noise=0)
    one = (poses.truth - training.ROOT) @ poses.turn.mT
    two = (poses.truth - training.ROOT) @ poses.views.rot.mT / poses.views.distance[:, None, None]
    lifts = torch.cat([one, two[::2]]) + training.ROOT
    assert reprojection_loss(lambda joint_2d: lifts, poses) < 1e-4
    aside = lifts + torch.tensor([.01, 0, 0])
    assert reprojection_loss(lambda joint_2d: aside, poses) > .01


def test_weak_spellings_are_the_same_data():
    lists = {key: array.astype(float).tolist() for key, array in POSES.items()}
    tensors = {key: torch.from_numpy(array) for key, array in POSES.items()}
    results = []
    for views in (POSES, lists, tensors):
        model, optimiser = model_and_optimiser()
        results.append(run_epoch_weak(1, views, model, optimiser, None, 64, 'train'))
    assert results[0] == results[1] == results[2] and results[0][1] > 0


def test_a_weak_epoch_learns_nothing_from_joint_3d():
    noise = np.random.default_rng(0).normal(size=POSES['joint_3d'].shape)
    weights, errors = [], []
    for joint_3d in (POSES['joint_3d'], noise):
        model, optimiser = model_and_optimiser()
        errors.append(run_epoch_weak(1, {**POSES, 'joint_3d': joint_3d}, model, optimiser, None)[1])
        weights.append(torch.cat([value.flatten() for value in model.state_dict().values()]))
    assert torch.equal(*weights) and errors[0] < .5 * errors[1]


def test_weak_data_is_checked():
    model, optimiser = model_and_optimiser()
    views = {key: POSES[key] for key in TWO_VIEWS if key != 'rot'}
    with pytest.raises(ValueError, match='key rot is missing'):
        run_epoch_weak(1, views, model, optimiser, None)
    with pytest.raises(ValueError, match='behind the camera'):
        run_epoch_weak(1, POSES | {'transl': -POSES['transl']}, model, optimiser, None)


def test_joint_3d_is_not_learnt_from(here, capsys):
    """Bit-identical weights where joint_3d is true, noise, or not there."""
    views = {key: POSES[key] for key in TWO_VIEWS}
    noise = np.random.default_rng(0).normal(size=POSES['joint_3d'].shape)
    columns = {}
    for name, joints in (('true', POSES), ('noise', {**views, 'joint_3d': noise}), ('none', views)):
        save(f'{name}.pkl', joints)
        assert main([*SMALL, '--weak', '--data', f'{name}.pkl', '--out', name]) == 0
        line = [line for line in capsys.readouterr().out.splitlines() if line.startswith('    3 ')]
        columns[name] = line[0].split()
    true, other, none = ((here / name).read_bytes() for name in ('true', 'noise', 'none'))
    assert true == other == none
    assert columns['none'][2:4] == ['-', '-']
    assert float(columns['true'][3]) < .1 < float(columns['noise'][3])
    with open('plots/history.csv') as file:
        last = list(csv.DictReader(file))[-1]
    assert last['val_mpjpe'] == '' and float(last['val_loss']) > 0


def test_a_focal_length_may_be_given(here, capsys):
    """It is that of both views, where the file has none; points may be pixels then."""
    pixels = {key: 1000 * array if '2d' in key else array for key, array in POSES.items()
              if not key.startswith('focal')}
    save('pixels.pkl', pixels)
    assert 'key focal_len_1 is missing' in fails(capsys, *SMALL, '--weak', '--data', 'pixels.pkl')
    assert main([*SMALL, '--weak', '--data', 'pixels.pkl', '--focal', '1147.5']) == 0
    assert 'rays meet within 0.0' in capsys.readouterr().out
    save('own.pkl', pixels | {key: 1000 * POSES[key] for key in ('focal_len_1', 'focal_len_2')})
    for focal in ((), ('--focal', '9')):
        main([*SMALL, '--weak', '--data', 'own.pkl', '--out', f'own{len(focal)}', *focal])
    assert Path('own0').read_bytes() == Path('own2').read_bytes()
    assert '--focal: found no --weak' in fails(capsys, *SMALL, '--focal', '1.1')


def test_where_weak_data_comes_from(here, capsys):
    assert main([*SMALL, '--weak']) == 0
    output = capsys.readouterr().out
    assert 'wrote synthetic data_train_lift.pkl' in output and 'views: ' in output
    save('data_train.pkl', POSES)
    main([*SMALL, '--weak'])
    assert 'data: data_train.pkl' in capsys.readouterr().out
    main([*SMALL, '--weak', '--data', 'data_train_lift.pkl'])
    main(SMALL)
    assert capsys.readouterr().out.count('data: data_train_lift.pkl') == 2


def test_weak_training_resumes_as_weak(here, capsys, monkeypatch):
    main([*SMALL, '--weak', '--out', 'whole'])
    with monkeypatch.context() as patch:
        patch.setattr(training, 'print_row', interrupt)
        assert main([*SMALL, '--weak']) == 130
    assert main(['--resume']) == 0
    assert (here / 'whole').read_bytes() == (here / 'liftModel').read_bytes()


def test_mistakes_in_two_views_are_named_in_one_line(here, capsys):
    one_view = {key: POSES[key] for key in ('joint_2d_1', 'joint_3d', 'focal_len_1')}
    save('one.pkl', one_view)
    error = fails(capsys, *SMALL, '--weak', '--data', 'one.pkl')
    assert error.startswith('training.py: one.pkl: key joint_2d_2 is missing')
    assert 'expected joint_2d_1, joint_2d_2, rot, transl, focal_len_1, focal_len_2' in error
    rot = POSES['rot'].reshape(-1, 3, 3).mT
    save('transposed.pkl', POSES | {'rot': rot})
    error = fails(capsys, *SMALL, '--weak', '--data', 'transposed.pkl')
    assert 'transposed.pkl: keys rot, transl' in error and 'with rot transposed' in error
    assert not (here / 'liftModel').exists()


# ---- the command --------------------------------------------------------------------------------

def test_default_data_is_written_once_and_never_over_a_file(here, capsys):
    assert main(SMALL) == 0
    output = capsys.readouterr().out
    assert output.count('no data here: wrote synthetic data_train_lift.pkl') == 1
    assert len(load('data_train_lift.pkl')['rot']) == 300
    assert len(load('data_test_lift.pkl')['rot']) == 60
    before = (here / 'data_train_lift.pkl').stat().st_mtime_ns
    assert main(SMALL) == 0
    assert 'wrote synthetic' not in capsys.readouterr().out
    assert (here / 'data_train_lift.pkl').stat().st_mtime_ns == before


@pytest.mark.parametrize('name', LAB_FILES[1:])
def test_nothing_is_made_beside_a_users_file(here, capsys, name):
    (here / name).write_text("the user's")
    assert 'data_train_lift.pkl' in fails(capsys, *SMALL)
    assert [path.name for path in here.glob('*.pkl')] == [name]
    assert (here / name).read_text() == "the user's"


def test_history_weights_and_charts(here, capsys, monkeypatch):
    monkeypatch.setattr(plots, 'save_figure', SAVE_FIGURE)
    main([*SMALL, '--out', 'deep/er/weights', '--plots', 'pictures'])
    with open('pictures/history.csv') as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == training.COLUMNS and [row['epoch'] for row in rows] == ['1', '2', '3']
    assert float(rows[2]['train_mpjpe']) < float(rows[0]['train_mpjpe'])
    assert (here / 'pictures/history.png').read_bytes().startswith(b'\x89PNG')
    assert sorted(path.name for path in (here / 'deep/er').iterdir()) == ['weights']
    state = torch.load('deep/er/weights', weights_only=True)
    assert state.keys() == LiftModel(1, 16).state_dict().keys() and state['fitted']
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [f'{float(rows[2][key]):.5f}' for key in ('loss', 'train_mpjpe', 'val_mpjpe')] in [
        line[1:4] for line in printed]


def test_a_seed_is_a_result(here):
    for out, seed in (('a', '1'), ('b', '1'), ('c', '2')):
        main([*SMALL, '--out', out, '--seed', seed])
    a, b, c = ((here / out).read_bytes() for out in 'abc')
    assert a == b and a != c


def start(folder, *options):
    """A training as a process of its own, on one thread, in which Ctrl-C is not ignored."""
    command = [sys.executable, ROOT / 'training.py', '--data', 'a.pkl', '--seed', '4', *options]
    return subprocess.Popen(command, cwd=folder, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=os.environ | {'OMP_NUM_THREADS': '1'},
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


SLOW = ('--hidden-layer', '64', '--epochs', '6', '--batch-size', '8', '--dropout', '.1')


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize('how', (signal.SIGKILL, signal.SIGINT))
def test_resume_ends_with_the_same_bits(here, capsys, one_thread, how):
    save('a.pkl', sample(1500, seed=5))
    assert main(['--data', 'a.pkl', '--seed', '4', *SLOW, '--out', 'whole']) == 0
    capsys.readouterr()
    cut = start(here, *SLOW, '--out', 'cut')
    while not (line := cut.stdout.readline()).startswith('    2  '):
        assert line, cut.stderr.read()
    time.sleep(.05)  # into the third epoch
    cut.send_signal(how)
    _, error = cut.communicate()
    if how == signal.SIGINT:
        assert cut.returncode == 130 and not list(here.glob('*.tmp'))
        assert 'python training.py --resume --out cut' in error and 'Traceback' not in error
    assert not (here / 'cut').exists() and (here / 'cut.state').exists()
    assert main(['--out', 'cut', '--resume']) == 0  # the other options are remembered
    output = capsys.readouterr().out
    assert '\n    6  ' in output and '\n    2  ' not in output
    assert (here / 'whole').read_bytes() == (here / 'cut').read_bytes()
    assert not (here / 'cut.state').exists()


def test_resume_keeps_its_precision_on_another_machine(here, capsys, monkeypatch):
    monkeypatch.setattr('model.has_bfloat16', lambda device: True)
    main([*SMALL, '--out', 'whole'])
    assert capsys.readouterr().out.startswith('device: cpu, hidden products in bfloat16\n')
    with monkeypatch.context() as patch:
        patch.setattr(training, 'print_row', interrupt)
        assert main(SMALL) == 130
    capsys.readouterr()
    monkeypatch.setattr('model.has_bfloat16', lambda device: False)
    assert '--precision bfloat16' in fails(capsys, '--resume', '--precision', 'float32')
    assert main(['--resume']) == 0
    assert capsys.readouterr().out.startswith('device: cpu, hidden products in bfloat16\n')
    main([*SMALL, '--out', 'exact'])
    whole, resumed, exact = ((here / name).read_bytes() for name in ('whole', 'liftModel', 'exact'))
    assert whole == resumed != exact


def test_resume_of_another_training_or_of_none(here, capsys, monkeypatch):
    main(SMALL)
    before = (here / 'liftModel').read_bytes()
    assert 'found no liftModel.state' in fails(capsys, '--resume')
    monkeypatch.setattr(training, 'print_row', interrupt)
    assert main(SMALL) == 130
    assert 'liftModel.state holds all finished epochs' in capsys.readouterr().err
    assert 'found options that are not those of' in fails(capsys, '--resume', '--epochs', '9')
    assert main([*SMALL, '--resume', '--epochs', '3']) == 130  # as it began
    capsys.readouterr()
    save('data_train_lift.pkl', sample(300, seed=9))
    assert '--data: found other poses' in fails(capsys, '--resume')
    (here / 'liftModel.state').write_bytes(b'no state')
    assert 'liftModel.state: found a damaged state' in fails(capsys, '--resume')
    assert (here / 'liftModel').read_bytes() == before


@pytest.mark.parametrize('factor, lr', ((float('nan'), '.002'), (1, '1e6')))
def test_a_loss_that_diverges_keeps_the_old_weights(here, capsys, monkeypatch, factor, lr):
    main(SMALL)
    before = (here / 'liftModel').read_bytes()
    monkeypatch.setattr(training, 'supervised_loss',
                        lambda *batch: factor * supervised_loss(*batch))
    assert re.search(r'epoch [123]: found a loss of .*expected less than', fails(
        capsys, *SMALL, '--lr', lr))
    assert (here / 'liftModel').read_bytes() == before


@pytest.fixture
def state(here, monkeypatch):
    """The state of a training that was interrupted after its first epoch."""
    with monkeypatch.context() as patch:
        patch.setattr(training, 'print_row', interrupt)
        assert main(SMALL) == 130
    return torch.load('liftModel.state', weights_only=True)


def test_a_state_cannot_choose_where_to_write(state, here, capsys):
    state['options'].append('--out=elsewhere')
    torch.save(state, 'liftModel.state')
    assert 'found options that are not those of' in fails(capsys, '--resume')
    assert not (here / 'elsewhere').exists()


def small_moments(state):
    state['parts']['optimiser']['state'][0]['exp_avg'] = torch.zeros(1)


@pytest.mark.parametrize('damage', (
    small_moments,
    lambda state: state['parts']['optimiser']['state'].clear(),
    lambda state: state['parts']['optimiser']['param_groups'][0].update(lr='fast'),
    lambda state: state['parts']['scheduler'].update(step=7),
    lambda state: state['parts']['model'].update({'last.bias': torch.zeros(3)}),
    lambda state: state['parts'].pop('model'),
    lambda state: state['parts'].update(model=[1]),
    lambda state: state.update(random=torch.zeros(3)),
    lambda state: state.pop('random'),
    lambda state: state.update(history=None),
    lambda state: state.update(history=[['a'] * 7]),
    lambda state: state.update(epoch=9),
    lambda state: state.update(epoch=torch.zeros(0)),
    lambda state: state.update(options=[5]),
    lambda state: state.pop('options')))
def test_a_damaged_state_is_named_in_one_line(state, capsys, damage):
    damage(state)
    torch.save(state, 'liftModel.state')
    assert 'damaged state' in fails(capsys, '--resume')


@pytest.mark.slow
@pytest.mark.parametrize('place', (.2, .5, .8))
def test_flipped_bytes_of_a_state(state, here, capsys, place):
    content = bytearray((here / 'liftModel.state').read_bytes())
    start = int(place * len(content))
    content[start:start + 2000] = bytes(byte ^ 255 for byte in content[start:start + 2000])
    (here / 'liftModel.state').write_bytes(content)
    assert 'liftModel.state: found a damaged state' in fails(capsys, '--resume')


def test_a_full_disk_is_named_and_leaves_the_old_weights(here, capsys, monkeypatch):
    main(SMALL)
    before = (here / 'liftModel').read_bytes()

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, content):
            raise OSError(28, 'No space left on device')

    monkeypatch.setattr(data, 'open', lambda *args, **options: Full(open(*args, **options)),
                        raising=False)
    monkeypatch.setattr(training, 'prepare', lambda *_: prepared)
    prepared = [as_poses({key: POSES[key] for key in ('joint_2d_1', 'joint_3d')}, CPU)] * 2
    error = fails(capsys, *SMALL)
    assert 'liftModel.state: No space left on device' in error
    assert (here / 'liftModel').read_bytes() == before and not list(here.glob('*.tmp'))


def test_a_second_training_with_the_same_out_does_no_harm(here, monkeypatch):
    """The first to end deletes the state of both."""
    monkeypatch.setattr(training, 'print_row', lambda *_: (here / 'liftModel.state').unlink())
    assert main(SMALL) == 0 and (here / 'liftModel').exists()


def catches(pid, number):
    mask = re.search(r'SigCgt:\s*(\w+)', Path(f'/proc/{pid}/status').read_text()).group(1)
    return int(mask, 16) >> number - 1 & 1


@pytest.mark.slow
@pytest.mark.parametrize('number, seconds', ((signal.SIGINT, 0), (signal.SIGTERM, 1)))
def test_an_interrupted_start_is_one_line(tmp_path, number, seconds):
    save(tmp_path / 'a.pkl', sample(1500, seed=5))
    run = start(tmp_path, *SLOW)
    while not catches(run.pid, signal.SIGTERM):  # Python itself is up
        time.sleep(.01)
    time.sleep(seconds)
    run.send_signal(number)
    _, error = run.communicate()
    assert run.returncode == 130 and error.strip().count('\n') == 0 and 'interrupted' in error


@pytest.mark.slow
def test_output_that_nobody_reads_ends_the_training(tmp_path):
    save(tmp_path / 'a.pkl', sample(1500, seed=5))
    run = start(tmp_path, *SLOW)
    run.stdout.close()
    assert run.wait() == 130
    error = run.stderr.read().strip()
    assert error.startswith('interrupted: ') and error.count('\n') == 0


@pytest.mark.parametrize('options, message', (
    (('--data', 'none.pkl'), 'none.pkl'),
    (('--data', '.'), 'Is a directory'),
    (('--data', 'list.pkl'), 'list.pkl: found a list, expected a dictionary'),
    (('--data', 'two.pkl'), 'found 2 samples, expected at least 3'),
    (('--out', 'list.pkl/liftModel'), 'list.pkl'),
    (('--plots', 'list.pkl/plots'), 'list.pkl'),
    (('--plots', '/proc'), '/proc'),  # a folder that nobody can write to
    (('--out', '.'), '--out: found the folder'),
    (('--epochs', '0'), '--epochs: found 0, expected at least 1'),
    (('--batch-size', '1'), '--batch-size: found 1, expected at least 2'),
    (('--batch-size', 'many'), "--batch-size: invalid int value: 'many'"),
    (('--lr', 'nan'), '--lr: found nan, expected at least'),
    (('--lr', '0'), '--lr: found 0, expected at least'),
    (('--dropout', '1'), '--dropout: found 1, expected at least 0 and less than 1'),
    (('--n-blocks', '0'), '--n-blocks: found 0'),
    (('--seed', '-1'), '--seed: found -1, expected at least 0'),
    (('--colour', 'red'), '--colour'),
    (('--device', 'tpu'), "invalid choice: 'tpu'")))
def test_mistakes_are_named_in_one_line_before_training(here, capsys, options, message):
    save(here / 'list.pkl', [1, 2])
    save(here / 'two.pkl', {key: array[:2] for key, array in POSES.items()})
    assert message in fails(capsys, *SMALL, *options)
    assert not (here / 'liftModel').exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU here')
def test_a_gpu_where_there_is_none(here, capsys):
    assert 'found no CUDA device' in fails(capsys, *SMALL, '--device', 'cuda')


def test_few_samples_and_odd_joints(here):
    few = sample(4, seed=0)
    save(here / 'few.pkl', {key: array[:, :9] if key.startswith('joint') else array
                            for key, array in few.items()})
    assert main([*SMALL, '--data', 'few.pkl', '--batch-size', '4000']) == 0
    assert torch.load('liftModel', weights_only=True)['last.bias'].shape == (27,)


def test_real_motion_capture_is_learnt(mocap, here):
    joints = load(mocap / 'data_test.pkl')
    save(here / 'a.pkl', {key: array[::4] for key, array in joints.items()})
    assert main(['--data', 'a.pkl', '--hidden-layer', '128', '--epochs', '8']) == 0
    with open('plots/history.csv') as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last['val_mpjpe']) < .03  # the mean pose is off by about .06
