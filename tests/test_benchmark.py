from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import data
from tests import benchmark
from tests.benchmark import MARTINEZ, OURS, RECIPES, Martinez, build, products, read_table

ROOT = Path(__file__).parent.parent
ARGS = SimpleNamespace(name='synthetic', data=None, test=None, device='cpu', epochs=1, long=2,
                       seeds=[0, 1])


@pytest.fixture
def small(tmp_path, monkeypatch):
    """300 poses, few rows, and a table of one's own."""
    monkeypatch.setattr(benchmark, 'TABLE', tmp_path / 'a.csv')
    monkeypatch.setattr(benchmark, 'sample', lambda n, seed: data.sample(300, seed))
    monkeypatch.setattr(benchmark, 'RECIPES',
                        {row: RECIPES[row] for row in (OURS, MARTINEZ, 'without crossed poses')})


def test_what_is_measured_is_kept_and_not_measured_again(small, capsys, monkeypatch):
    benchmark.accuracy(ARGS)
    first, table = capsys.readouterr().out, benchmark.TABLE.read_text()
    assert first.count('epochs, seed') == 8 + 2 and table.count('\n') == 1 + 6 + 2 * 2
    monkeypatch.setattr(benchmark, 'train', None)  # would fail
    benchmark.accuracy(ARGS)
    again = capsys.readouterr().out
    assert again in first and 'the mean pose' in again and 'after' in again
    assert benchmark.TABLE.read_text() == table
    runs = read_table('synthetic')
    assert runs[OURS, 1, 0] != runs[OURS, 1, 1] != runs['without crossed poses', 1, 1]


def test_the_figures_of_the_readme_are_those_of_the_table():
    text = (ROOT / 'README.md').read_text()
    prose = ' '.join(text.split())
    runs = read_table('data_train.pkl')
    for row in RECIPES:
        ends = np.array([runs[row, 8, seed][-1] for seed in range(3)])
        (_, mpjpe, noisy), (_, spread, _) = ends.mean(axis=0), ends.std(axis=0)
        assert f'| {row} | {mpjpe:.5f} ± {spread:.5f} | {noisy:.4f} |' in text
    for row in (OURS, MARTINEZ):
        seconds, mpjpe, noisy = runs[row, 40, 0][-1]
        assert f'| {row}, 40 epochs | {mpjpe:.5f} | {noisy:.4f} |' in text
        assert f'{seconds:,.0f} s' in prose
    reached = next(seconds for seconds, error, _ in runs[OURS, 8, 0] if error < mpjpe)
    assert f'after {reached:.0f} s, {reached / seconds:.3f} of its time' in prose


def test_the_peer_is_the_network_of_its_paper():
    kinds = [type(layer) for layer in Martinez().modules() if not list(layer.children())]
    unit = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout]
    assert kinds == 5 * unit + [nn.Linear]
    assert {layer.p for layer in Martinez().modules() if isinstance(layer, nn.Dropout)} == {.5}
    joint_2d, joint_3d = torch.randn(99, 15, 2), torch.randn(99, 15, 3)
    model, optimiser, schedule = build(RECIPES[MARTINEZ],
                                       {'joint_2d_1': joint_2d, 'joint_3d': joint_3d}, 1, seed=0)
    torch.testing.assert_close(model.mean_3d, joint_3d.flatten(1).mean(dim=0))
    model.last.weight.data.zero_(), model.last.bias.data.zero_()
    torch.testing.assert_close(model(joint_2d)[0].flatten(), model.mean_3d)  # no ray
    for weights in model.parameters():
        weights.grad = torch.full_like(weights, 7.)
    optimiser.step()
    norm = torch.stack([weights.grad.norm() for weights in model.parameters()]).norm()
    assert norm.item() == pytest.approx(1, rel=1e-3)


def test_the_floor_multiplies_as_the_network_does(monkeypatch):
    """Counted in multiplications: forward once, backward twice, but never for the first input."""
    counted, mm = [], torch.mm
    monkeypatch.setattr(torch, 'mm', lambda a, b, out: counted.append(
        a.shape[0] * a.shape[1] * b.shape[1]) or mm(a, b, out=out))
    model = build(RECIPES[OURS], {key: torch.randn(9, 15, width) for key, width in
                                  (('joint_2d_1', 2), ('joint_3d', 3))}, 1, seed=0)[0]
    products(model, 64, 128, backward=True)
    layers = 30 * 1024 + 4 * 1024 * 1024 + 1024 * 45
    assert sum(counted) == 128 * (3 * layers - 30 * 1024)
