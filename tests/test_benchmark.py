from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import data
from model import LiftModel
from plots import benchmark
from plots.benchmark import MARTINEZ, OURS, RECIPES, Martinez, build, optimise, products
from training import as_poses

CPU = torch.device('cpu')


@pytest.fixture
def args(tmp_path, monkeypatch):
    """300 poses, few rows, small networks, and a table of one's own."""
    monkeypatch.setattr(benchmark, 'sample', lambda n, seed: data.sample(300, seed))
    rows, small = (OURS, MARTINEZ, 'without crossed poses'), partial(LiftModel, 1, 32)
    monkeypatch.setattr(benchmark, 'RECIPES',
                        {row: replace(RECIPES[row], network=small, batch_size=64)
                         for row in rows})
    return SimpleNamespace(name='synthetic', data=None, test=None, device='cpu', epochs=1, long=2,
                           seeds=[0, 1], table=tmp_path / 'a.csv')


def test_what_is_measured_is_kept_and_not_measured_again(args, capsys, monkeypatch):
    benchmark.accuracy(args)
    first, table = capsys.readouterr().out, args.table.read_text()
    assert first.count('epochs, seed') == 8 + 2 and table.count('\n') == 1 + 6 + 2 * 2
    monkeypatch.setattr(benchmark, 'train', None)  # would fail
    benchmark.accuracy(args)
    benchmark.target(args)
    again = capsys.readouterr().out
    assert again.startswith(first[first.index('\nMPJPE on'):]) and 'of the time' in again
    assert args.table.read_text() == table
    assert len({line.split(',')[6] for line in table.splitlines()[1:7]}) == 6


def random_poses(n=99):
    generator = torch.Generator().manual_seed(0)
    return as_poses({'joint_2d_1': torch.randn(n, 15, 2, generator=generator),
                     'joint_3d': torch.randn(n, 15, 3, generator=generator)}, CPU)


def test_the_peer_is_the_network_of_its_paper():
    kinds = [type(layer) for layer in Martinez().modules() if not list(layer.children())]
    unit = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout]
    assert kinds == 5 * unit + [nn.Linear]
    assert {layer.p for layer in Martinez().modules() if isinstance(layer, nn.Dropout)} == {.5}
    poses, recipe = random_poses(), RECIPES[MARTINEZ]
    model = build(recipe, poses)
    assert all((layer.weight == 1).all() for layer in model.modules()
               if isinstance(layer, nn.BatchNorm1d))
    torch.testing.assert_close(model.mean_out, poses.joint_3d.flatten(1).mean(dim=0))
    model.last.weight.data.zero_(), model.last.bias.data.zero_()
    torch.testing.assert_close(model(poses.joint_2d)[0].flatten(), model.mean_out)  # no ray
    optimiser, schedule = optimise(recipe, 5, model, 1e-3, n_steps=5 * 50_000)
    for weights in model.parameters():
        weights.grad = torch.full_like(weights, 7.)
    optimiser.step()
    norm = torch.stack([weights.grad.norm() for weights in model.parameters()]).norm()
    assert norm.item() == pytest.approx(1, rel=1e-3)
    schedule.step()
    assert schedule.get_last_lr() == pytest.approx([1e-3 * .96 ** .5])


@pytest.mark.parametrize('dtype', (torch.float32, torch.bfloat16))
def test_the_floor_multiplies_as_the_network_does(monkeypatch, dtype):
    """Counted in multiplications: forward once, backward twice, but never for the first input."""
    counted = []

    def count(a, b, out):
        assert a.dtype == b.dtype == out.dtype == dtype and a.shape[1] == b.shape[0]
        counted.append(a.shape[0] * a.shape[1] * b.shape[1])
    monkeypatch.setattr(torch, 'mm', count)
    model = build(RECIPES[OURS], random_poses(9))
    products(model, 64, 128, backward=True, dtype=dtype)
    layers = 30 * 1024 + 4 * 1024 * 1024 + 1024 * 45
    assert sum(counted) == 128 * (3 * layers - 30 * 1024)
