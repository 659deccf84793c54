"""The report: it runs small and goes on where it was, and its tables are its numbers."""
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from common import film
from common.camera import ROOT
from common.files import save_pickle
from common.people import sample
from common.poses import as_tensors
from common.views import prepare_views
from model import LiftModel
from plots import benchmark, experiments, tables
from plots.experiments import LOSSES, QUESTIONS, WAYS, split_error

CPU = torch.device('cpu')


def test_all_of_it_runs_small_and_goes_on_where_it_was(tmp_path, capsys, monkeypatch, shipped):
    for name, value in (('TURN', 3), ('NOISES', (0., .005)), ('WAYS', (WAYS[0], WAYS[1], WAYS[-1])),
                        ('QUESTIONS', {question: [
                            replace(variant, hidden_layer=variant.hidden_layer // 16)
                            for variant in (group[0], group[-1])]
                            for question, group in QUESTIONS.items()})):
        monkeypatch.setattr(experiments, name, value)
    monkeypatch.setattr(film, 'TURN', 3)
    options = '--poses', '300', '--epochs', '1', '--seeds', '0', '--plots', str(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['experiments', *options, '--weights', str(shipped)])
    experiments.main()
    tables = {path.name: path.read_text() for path in tmp_path.glob('*.csv')}
    assert {name: table.count('\n') for name, table in tables.items()} == {
        'network.csv': 1 + 8, 'errors.csv': 1 + 15 + 12 + 10, 'weak.csv': 1 + 6,
        'detector.csv': 1 + 4}
    assert {path.stem for path in tmp_path.glob('*.png')} == {'network', 'errors', 'weak', 'joints'}
    with Image.open(tmp_path / 'turning.gif') as gif:
        assert gif.n_frames == 3
    lines = tables['weak.csv'].splitlines(keepends=True)
    (tmp_path / 'weak.csv').write_text(''.join(lines[:-1]))
    capsys.readouterr()
    experiments.main()
    assert capsys.readouterr().out.count('\n') == 1 + 4  # the detector's are not kept
    assert {path.name: path.read_text() for path in tmp_path.glob('*.csv')} == tables


def test_every_recipe_trains_and_a_measurement_is_not_repeated(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, 'RECIPES', {
        row: replace(recipe, network=partial(LiftModel, 1, 16), batch_size=64)
        for row, recipe in benchmark.RECIPES.items()})
    monkeypatch.chdir(tmp_path)
    save_pickle('train.pkl', sample(150, seed=0))
    save_pickle('test.pkl', sample(150, seed=1))
    options = ('--data', 'train.pkl', '--test', 'test.pkl', '--epochs', '1', '--long', '2',
               '--seeds', '0', '--table', 'a.csv')

    def output(what):
        monkeypatch.setattr(sys, 'argv', ['benchmark', what, *options])
        benchmark.main()
        return capsys.readouterr().out

    first, table = output('accuracy'), Path('a.csv').read_text()
    assert table.count('\n') == 1 + len(benchmark.RECIPES) + 2 * 2  # and 2 epochs of two of them
    assert len({line.split(',')[6] for line in table.splitlines()}) > len(benchmark.RECIPES)
    assert output('accuracy').partition('MPJPE on')[2] == first.partition('MPJPE on')[2] != ''
    assert 'of the time' in output('target') and Path('a.csv').read_text() == table


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


def test_a_node_is_on_for_as_many_poses_as_the_report_says(shipped):
    model = LiftModel.from_state_dict(torch.load(shipped, weights_only=True))
    shares = []
    for layer in model.modules():
        if isinstance(layer, nn.ReLU):
            layer.register_forward_hook(lambda *call: shares.append(
                (call[2] > 0).float().mean().item()))
    model.lift(torch.from_numpy(sample(2000, seed=1)['joint_2d_1']))
    assert f'{100 * min(shares):.0f} to {100 * max(shares):.0f} %' in tables.README.read_text()


def test_errors_along_the_ray_and_across_it():
    truth = np.array([[[0, 0, -2.], [3, 0, -4]]])
    parts = split_error(truth + [[[0, .3, .4], [.6, .5, -.8]]], truth)
    np.testing.assert_allclose(parts[:, 0], [[.5, 1.25 ** .5], [.4, 1], [.3, .5]])


@pytest.mark.parametrize('way', WAYS[2:])
def test_the_truth_has_no_loss_and_nothing_beside_it(way):
    """Lifts of view 1, then of every other view 2 in its own frame, the root at distance 1."""
    poses, root = as_tensors(prepare_views(sample(100, seed=6))[0], CPU), torch.from_numpy(ROOT)
    one = poses['truth'] - root
    two = one @ poses['rot'].mT / poses['distance'][:, None, None]
    truth = torch.cat([one, two[::2]]) + root
    right, wrong = (LOSSES[way](lambda joint_2d: (truth + shift)[:len(joint_2d)], poses)
                    for shift in (0, torch.tensor([.01, 0, .02])))
    assert right < 1e-5 and wrong > .005
