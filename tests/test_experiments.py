import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from conftest import ROOT as HOUSE
from data import JOINTS, LIMBS, sample, settle_views
from model import LiftModel
from plots import benchmark, experiments, tables
from plots.experiments import (QUESTIONS, WAYS, Variant, build, distance_to_nearest, facing,
                               loss_of, split_error)
from training import ROOT, as_poses, reprojection_loss

CPU = torch.device('cpu')


def test_all_of_it_runs_small_and_goes_on_where_it_was(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('plots.TURN', 3)
    monkeypatch.setattr(experiments, 'TURN', 3)
    monkeypatch.setattr(experiments, 'NOISES', (0., .005))
    monkeypatch.setattr(experiments, 'WAYS', (WAYS[0], WAYS[1], WAYS[-2]))
    monkeypatch.setattr(experiments, 'QUESTIONS', {
        question: [replace(variant, hidden_layer=variant.hidden_layer // 16)
                   for variant in (group[0], group[-1])] for question, group in QUESTIONS.items()})
    monkeypatch.setattr(sys, 'argv', ['experiments', '--poses', '300', '--epochs', '1', '--seeds',
                                      '0', '--plots', str(tmp_path)])
    experiments.main()
    assert capsys.readouterr().out.count('\n') == 8 + 6 + 4
    tables = {path.name: path.read_text() for path in tmp_path.glob('*.csv')}
    assert {name: table.count('\n') for name, table in tables.items()} == {
        'network.csv': 1 + 8, 'errors.csv': 1 + 15 + 12 + 10, 'weak.csv': 1 + 6,
        'detector.csv': 1 + 4}
    assert {path.stem for path in tmp_path.glob('*.png')} == {'network', 'errors', 'weak', 'joints'}
    with Image.open(tmp_path / 'turning.gif') as film:
        assert film.n_frames == 3
    lines = tables['weak.csv'].splitlines(keepends=True)
    (tmp_path / 'weak.csv').write_text(''.join(lines[:-1]))
    monkeypatch.setattr(experiments, 'split_error', None)  # would fail
    experiments.main()
    assert capsys.readouterr().out.count('\n') == 1 + 4
    assert (tmp_path / 'weak.csv').read_text() == tables['weak.csv']


@pytest.mark.parametrize('script', (experiments, benchmark))
@pytest.mark.parametrize('options, message', (
    (('--data', 'none.pkl'), 'found only one of --data and --test'),
    (('--data', 'none.pkl', '--test', 'none.pkl'), 'none.pkl: No such file'),
    (('wrong',), 'wrong')))
def test_mistakes_are_named_in_one_line(script, options, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    what = 'errors' if script is experiments else 'accuracy'
    monkeypatch.setattr(sys, 'argv', ['', what, *options])
    with pytest.raises(SystemExit) as stopped:
        script.main()
    found = capsys.readouterr().err
    assert stopped.value.code == 2 and message in found and found.count('\n') == 1


def test_the_tables_of_the_report_are_those_of_its_numbers():
    text = tables.README.read_text()
    assert tables.filled(text, tables.TABLES, tables.COMMAND) == text
    changed = text.replace('0.01195 ±', '0.00123 ±')
    assert tables.filled(changed, tables.TABLES, tables.COMMAND) == text


# ---- the network --------------------------------------------------------------------------------

def kinds(variant):
    return ''.join(type(layer).__name__[0] for layer in build(variant).modules()
                   if isinstance(layer, (nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout)))


def test_the_network_varies_as_it_says():
    assert kinds(Variant()) == 'L' + 4 * 'LBRD' + 'L'
    assert kinds(Variant(norm='after ReLU')) == 'L' + 4 * 'LRBD' + 'L'
    assert kinds(Variant(norm='none')) == 'L' + 4 * 'LRD' + 'L'
    assert kinds(Variant(layers=1)) == 'L' + 2 * 'LBRD' + 'L'
    assert kinds(Variant(n_blocks=4, skip='without')) == 'L' + 8 * 'LBRD' + 'L'
    x = torch.randn(3, 1024)
    plain, residual = (build(Variant(n_blocks=1, skip=skip)).eval() for skip in ('without', 'with'))
    residual.blocks[0].layers.load_state_dict(plain.blocks[0].state_dict())
    torch.testing.assert_close(plain.blocks(x) + x, residual.blocks(x))
    assert build(Variant(hidden_layer=256)).last.in_features == 256
    assert all(Variant() in group for group in QUESTIONS.values())  # to compare with


def test_a_node_is_on_for_as_many_poses_as_the_report_says():
    model = LiftModel.from_state_dict(torch.load(HOUSE / 'liftModel', weights_only=True))
    shares = []
    for layer in model.modules():
        if isinstance(layer, nn.ReLU):
            layer.register_forward_hook(lambda *call: shares.append(
                (call[2] > 0).float().mean().item()))
    model.lift(torch.from_numpy(sample(2000, seed=1)['joint_2d_1']))
    assert f'{100 * min(shares):.0f} to {100 * max(shares):.0f} %' in tables.README.read_text()


# ---- where the error comes from -----------------------------------------------------------------

def test_errors_along_the_ray_and_across_it():
    truth = np.array([[[0, 0, -2.], [3, 0, -4]]])
    parts = split_error(truth + [[[0, .3, .4], [.6, .5, -.8]]], truth)
    np.testing.assert_allclose(parts[:, 0], [[.5, 1.25 ** .5], [.4, 1], [.3, .5]])


def test_facing_is_the_angle_that_a_person_is_turned_by():
    pose = sample(200, seed=1)['joint_3d']
    ahead = np.cross(pose[:, JOINTS.index('LShoulder')] - pose[:, JOINTS.index('RShoulder')],
                     [0, 1, 0])
    toward = np.cos(np.radians(facing(pose)))  # the camera is where z grows
    np.testing.assert_allclose(toward, ahead[:, 2] / np.linalg.norm(ahead, axis=1), atol=1e-5)
    assert (np.sign(facing(pose)) == np.sign(ahead[:, 0])).all()


def test_a_pose_is_as_near_when_it_is_turned_or_made_larger():
    pose = torch.from_numpy(sample(300, seed=1)['joint_3d'])
    turned = (pose - ROOT) @ torch.tensor([[0, 0, 1.], [0, 1, 0], [-1, 0, 0]])  # a quarter
    other = 1.3 * turned + ROOT
    assert distance_to_nearest(other.numpy(), pose.numpy()).max() < 1e-2
    assert distance_to_nearest(pose[:100].numpy(), pose[200:].numpy()).min() > 1e-2


# ---- points of a detector -----------------------------------------------------------------------

def test_people_are_photographed_where_the_report_says():
    joints = sample(2000, seed=1)
    truth, image, points, distance = experiments.photographed(joints['joint_3d'],
                                                              joints['joint_detected'])
    ankle, hip, knee = (truth[:, JOINTS.index(name)] for name in ('RAnkle', 'RHip', 'RKnee'))
    leg = np.linalg.norm(hip - knee, axis=1) + np.linalg.norm(knee - ankle, axis=1)
    assert leg.mean() / 1.75 == pytest.approx(.491, abs=.01)  # of the height: Winter, 2009
    assert 2 <= distance.min() < 2.1 and 19 < distance.max() <= 20
    np.testing.assert_allclose(points[:, 3:], image[:, LIMBS], atol=1e-6)
    centre = image.mean(axis=1)
    assert .6 < np.abs(centre[:, 0]).max() < .9 and np.abs(centre).mean() > .1
    seen = experiments.seen_as('points', image, points, distance, 0, 0)
    noisy = experiments.seen_as('points', image, points, distance, .01, 0)
    off = ((noisy - seen)[:, LIMBS] * distance).std()
    assert off == pytest.approx(.0175, rel=.05)  # 1 % of the height, where the person stands
    drawn = experiments.photographed(joints['joint_3d'], None)[2]  # ears that it does not know
    assert np.abs(np.median((drawn - points)[:, 1:3].mean(axis=1), axis=0)).max() < .01


# ---- without 3D ---------------------------------------------------------------------------------


@pytest.mark.parametrize('way', WAYS[2:])
def test_the_truth_has_no_loss_and_nothing_beside_it(way):
    """Lifts of view 1, then of every other view 2 in its own frame, the root at distance 1."""
    poses = as_poses(settle_views(sample(100, seed=6))[0], CPU)
    one = poses.truth - ROOT
    two = one @ poses.views.rot.mT / poses.views.distance[:, None, None]
    truth = torch.cat([one, two[::2]]) + ROOT

    def loss(shift_1, shift_2):
        wrong = torch.cat([shift_1.expand(100, 3), shift_2.expand(50, 3)])[:, None]
        return loss_of(way, lambda joint_2d: (truth + wrong)[:len(joint_2d)], poses)

    shift, none = torch.tensor([.01, 0, .02]), torch.zeros(3)
    assert loss(none, none) < 1e-5 and loss(shift, none) > .005
    assert loss(none, shift) > .005 or 'agreement' not in way


def test_the_loss_of_training_is_one_of_them():
    poses = as_poses(settle_views(sample(100, seed=6))[0], CPU)
    model = LiftModel(1, 16, dropout=0)
    torch.testing.assert_close(loss_of('reprojection, agreement', model, poses),
                               reprojection_loss(model, poses))
