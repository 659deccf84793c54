"""The report: it runs small, its tables are its numbers, its experiments vary what they say."""
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from common import charts
from common.camera import ROOT
from common.people import sample
from common.poses import as_tensors
from common.skeleton import BONES, JOINTS, LIMBS
from common.views import prepare_views
from model import LiftModel
from plots import benchmark, experiments, tables
from plots.experiments import (LOSSES, QUESTIONS, WAYS, Variant, build, distance_to_nearest, facing,
                               split_error, walking)
from training import reprojection_loss

CPU = torch.device('cpu')


def test_all_of_it_runs_small_and_goes_on_where_it_was(tmp_path, capsys, monkeypatch, shipped):
    for name, value in (('TURN', 3), ('NOISES', (0., .005)), ('WAYS', (WAYS[0], WAYS[1], WAYS[-1])),
                        ('QUESTIONS', {question: [
                            replace(variant, hidden_layer=variant.hidden_layer // 16)
                            for variant in (group[0], group[-1])]
                            for question, group in QUESTIONS.items()})):
        monkeypatch.setattr(experiments, name, value)
    monkeypatch.setattr(charts, 'TURN', 3)
    monkeypatch.setattr(sys, 'argv', ['experiments', '--poses', '300', '--epochs', '1', '--seeds',
                                      '0', '--weights', str(shipped), '--plots',
                                      str(tmp_path)])
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
    experiments.main()
    assert capsys.readouterr().out.count('\n') == 1 + 4
    assert {path.name: path.read_text() for path in tmp_path.glob('*.csv')} == tables


@pytest.mark.parametrize('script, what', ((experiments, 'errors'), (benchmark, 'accuracy')))
@pytest.mark.parametrize('options, words', (
    (('--data', 'none.pkl'), '--test'), (('--data', 'none.pkl', '--test', 'none.pkl'), 'none.pkl'),
    (('wrong',), 'wrong')))
def test_mistakes_are_named_in_one_line(script, what, options, words, fails, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['', what, *options])
    assert words in fails(lambda _: script.main())


def test_the_tables_of_the_report_are_those_of_its_numbers():
    text = tables.README.read_text()
    assert tables.filled(text, tables.TABLES, tables.COMMAND) == text
    changed = text.replace('0.01195 ±', '0.00123 ±')
    assert changed != text and tables.filled(changed, tables.TABLES, tables.COMMAND) == text


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


def test_a_node_is_on_for_as_many_poses_as_the_report_says(shipped):
    model = LiftModel.from_state_dict(torch.load(shipped, weights_only=True))
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
    pose = sample(300, seed=1)['joint_3d']
    turned = (pose - ROOT) @ np.float32([[0, 0, 1], [0, 1, 0], [-1, 0, 0]])  # a quarter
    assert distance_to_nearest(1.3 * turned + ROOT, pose).max() < 1e-2
    assert distance_to_nearest(pose[:100], pose[200:]).min() > 1e-2


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

def two_views():
    return as_tensors(prepare_views(sample(100, seed=6))[0], CPU)


@pytest.mark.parametrize('way', WAYS[2:])
def test_the_truth_has_no_loss_and_nothing_beside_it(way):
    """Lifts of view 1, then of every other view 2 in its own frame, the root at distance 1."""
    poses, root = two_views(), torch.from_numpy(ROOT)
    one = poses['truth'] - root
    two = one @ poses['rot'].mT / poses['distance'][:, None, None]
    truth = torch.cat([one, two[::2]]) + root

    def loss(shift_1, shift_2):
        wrong = torch.cat([shift_1.expand(100, 3), shift_2.expand(50, 3)])[:, None]
        return LOSSES[way](lambda joint_2d: (truth + wrong)[:len(joint_2d)], poses)

    shift, none = torch.tensor([.01, 0, .02]), torch.zeros(3)
    assert loss(none, none) < 1e-5 and loss(shift, none) > .005
    assert loss(none, shift) > .005 or 'agreement' not in way


def test_the_loss_of_training_is_one_of_them():
    assert LOSSES['reprojection, agreement'] is reprojection_loss and LOSSES.keys() == {*WAYS[1:]}


# ---- pictures -----------------------------------------------------------------------------------

def test_someone_walks_a_cycle_and_stands():
    steps, (stands,) = walking(40), walking(1, stride=0)
    assert np.linalg.norm(np.diff(steps[[*range(40), 0]], axis=0), axis=-1).max() < .12
    lengths = [np.linalg.norm(steps[:, a] - steps[:, b], axis=-1) for a, b in BONES if a < 15]
    assert np.ptp(lengths, axis=1).max() < 1e-6
    left, right = (steps[:, JOINTS.index(name), 2] for name in ('LAnkle', 'RAnkle'))
    assert (left > right).any() and (left < right).any()
    assert stands[JOINTS.index('Head'), 1] == stands[:, 1].max()
    np.testing.assert_allclose(stands[[0, 1, 2], 1], stands[[3, 4, 5], 1], atol=1e-9)
