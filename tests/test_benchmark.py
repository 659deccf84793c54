"""Baselines: the peer is that of its paper, results are kept, the floor multiplies as much."""
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
from plots.benchmark import (MARTINEZ, OURS, RECIPES, Martinez, build, make_optimiser, products,
                             train)

CPU = torch.device('cpu')
SMALL = partial(LiftModel, 1, 32)


@pytest.fixture
def args(tmp_path, monkeypatch):
    """Few rows of small networks, 300 poses, and a new table."""
    monkeypatch.setattr(benchmark, 'RECIPES', {
        row: replace(RECIPES[row], network=SMALL, batch_size=64)
        for row in (OURS, MARTINEZ, 'without crossed poses')})
    for name, seed in (('train.pkl', 0), ('test.pkl', 1)):
        save_pickle(tmp_path / name, sample(300, seed))
    return SimpleNamespace(name='synthetic', data=tmp_path / 'train.pkl',
                           test=tmp_path / 'test.pkl', device='cpu', epochs=1, long=2,
                           seeds=[0, 1], table=tmp_path / 'a.csv')


def test_a_measurement_is_kept_and_not_repeated(args, capsys):
    benchmark.accuracy(args)
    first, table = capsys.readouterr().out, args.table.read_text()
    assert first.count('epochs, seed') == 8 + 2 and table.count('\n') == 1 + 6 + 2 * 2
    assert len({line.split(',')[6] for line in table.splitlines()[1:7]}) == 6  # all differ
    benchmark.accuracy(args)
    benchmark.target(args)
    again = capsys.readouterr().out
    assert again.startswith(first[first.index('\nMPJPE on'):]) and 'of the time' in again
    assert args.table.read_text() == table


def random_poses(n=99):
    generator = torch.Generator().manual_seed(0)
    return as_tensors({'joint_2d_1': torch.randn(n, 15, 2, generator=generator),
                       'joint_3d': torch.randn(n, 15, 3, generator=generator)}, CPU)


@pytest.mark.parametrize('row', RECIPES)
def test_every_recipe_trains(row):
    recipe = replace(RECIPES[row], network=SMALL, batch_size=50)
    (model, first), (_, both) = train(recipe, random_poses(), epochs=2, seed=0)
    assert 0 < first < both and model.fitted == recipe.standardise


def test_the_peer_is_the_network_of_its_paper():
    kinds = [type(layer) for layer in Martinez().modules() if not list(layer.children())]
    unit = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout]
    assert kinds == 5 * unit + [nn.Linear]
    assert {layer.p for layer in Martinez().modules() if isinstance(layer, nn.Dropout)} == {.5}
    poses, recipe = random_poses(), RECIPES[MARTINEZ]
    model = build(recipe, poses)
    assert all((layer.weight == 1).all() for layer in model.modules()
               if isinstance(layer, nn.BatchNorm1d))
    torch.testing.assert_close(model.mean_out, poses['joint_3d'].flatten(1).mean(dim=0))
    model.last.weight.data.zero_(), model.last.bias.data.zero_()
    torch.testing.assert_close(model(poses['joint_2d'])[0].flatten(), model.mean_out)  # no ray


def test_the_peer_is_trained_as_in_its_paper():
    """The norm of the gradient is at most 1, the rate falls by 0.96 in 100,000 steps."""
    recipe, model = RECIPES[MARTINEZ], SMALL()
    poses = {'joint_2d': torch.empty(64 * 50_000, 0)}  # 50,000 steps an epoch
    parts = make_optimiser(recipe, model, poses, epochs=5)
    for weights in model.parameters():
        weights.grad = torch.full_like(weights, 7.)
    parts['optimiser'].step()
    norm = torch.stack([weights.grad.norm() for weights in model.parameters()]).norm()
    assert norm.item() == pytest.approx(1, rel=1e-3)
    parts['scheduler'].step()
    assert parts['scheduler'].get_last_lr() == pytest.approx([1e-3 * .96 ** .5])


@pytest.mark.parametrize('dtype', (torch.float32, torch.bfloat16))
def test_the_floor_multiplies_as_the_network_does(monkeypatch, dtype):
    """Counted in multiplications: forward once, backward twice, but never for the first input."""
    counted = []

    def multiply(a, b, out):
        assert a.dtype == b.dtype == out.dtype == dtype and a.shape[1] == b.shape[0]
        counted.append(a.shape[0] * a.shape[1] * b.shape[1])

    monkeypatch.setattr(torch, 'mm', multiply)
    model = build(RECIPES[OURS], random_poses(9))
    products(model, 64, 128, backward=True, dtype=dtype)
    layers = 30 * 1024 + 4 * 1024 * 1024 + 1024 * 45
    assert sum(counted) == 128 * (3 * layers - 30 * 1024)
