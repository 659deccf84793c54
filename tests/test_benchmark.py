"""Baselines: each recipe trains, results are kept, and the peer is that of its paper."""
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from common.files import save_pickle
from common.people import sample
from common.poses import as_tensors
from model import LiftModel
from plots import benchmark
from plots.benchmark import MARTINEZ, RECIPES, Martinez, build, make_optimiser

SMALL = partial(LiftModel, 1, 16)


def test_every_recipe_trains_and_a_measurement_is_not_repeated(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, 'RECIPES', {
        row: replace(recipe, network=SMALL, batch_size=64) for row, recipe in RECIPES.items()})
    for name, seed in (('train.pkl', 0), ('test.pkl', 1)):
        save_pickle(tmp_path / name, sample(150, seed))
    args = SimpleNamespace(name='synthetic', data=tmp_path / 'train.pkl',
                           test=tmp_path / 'test.pkl', device='cpu', epochs=1, long=2, seeds=[0],
                           table=tmp_path / 'a.csv')
    benchmark.accuracy(args)
    first, table = capsys.readouterr().out, args.table.read_text()
    rows = [line.split(',') for line in table.splitlines()[1:]]
    assert len(rows) == len(RECIPES) + 2 * 2  # and 2 epochs of two of them
    assert len({mpjpe for *_, mpjpe, _ in rows[:len(RECIPES)]}) >= len(RECIPES) - 2
    benchmark.accuracy(args)
    benchmark.target(args)
    again = capsys.readouterr().out
    assert again.startswith(first[first.index('\nMPJPE on'):]) and 'of the time' in again
    assert args.table.read_text() == table


def test_the_peer_is_the_network_of_its_paper():
    kinds = [type(layer) for layer in Martinez().modules() if not list(layer.children())]
    unit = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout]
    assert kinds == 5 * unit + [nn.Linear]
    assert {layer.p for layer in Martinez().modules() if isinstance(layer, nn.Dropout)} == {.5}
    people = sample(99, seed=0)
    poses = as_tensors({key: people[key] for key in ('joint_2d_1', 'joint_3d')},
                       torch.device('cpu'))
    model = build(RECIPES[MARTINEZ], poses)
    assert all((layer.weight == 1).all() for layer in model.modules()
               if isinstance(layer, nn.BatchNorm1d))
    model.last.weight.data.zero_(), model.last.bias.data.zero_()
    torch.testing.assert_close(model(poses['joint_2d'])[0], poses['joint_3d'].mean(dim=0))  # no ray


def test_the_peer_is_trained_as_in_its_paper():
    """The norm of the gradient is at most 1, the rate falls by 0.96 in 100,000 steps."""
    model, poses = SMALL(), {'joint_2d': torch.empty(64 * 50_000, 0)}  # 50,000 steps an epoch
    parts = make_optimiser(RECIPES[MARTINEZ], model, poses, epochs=5)
    for weights in model.parameters():
        weights.grad = torch.full_like(weights, 7.)
    parts['optimiser'].step()
    norm = torch.stack([weights.grad.norm() for weights in model.parameters()]).norm()
    assert norm.item() == pytest.approx(1, rel=1e-3)
    parts['scheduler'].step()
    assert parts['scheduler'].get_last_lr() == pytest.approx([1e-3 * .96 ** .5])
