"""The ladder from ResNet and MLP to part attention, and the README's tables."""
import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from made import CPU, SKELETON, pictures_in, truth_of
from common.files import filled
from metrics import cal_mpjpe, cal_pa_mpjpe
from pare import ladder
from pare.body import project
from pare.ladder import FLOOR, MEAN, RUNGS, main
from pare.people import rendered_samples
from pare.plots import tables
from pare.recipes import SMALL


def test_scores_are_of_all_and_of_the_most_hidden():
    torch.manual_seed(0)
    samples, visible = rendered_samples(20, 64, 1)
    test = ladder.Test(list(DataLoader(samples, 8)), visible, SKELETON, CPU)
    batch = default_collate(samples)
    points = SKELETON(batch['betas'], batch['rotations']).h36m
    pixels = 32 * (1 + project(points, truth_of(batch)['camera']))
    x, y = pixels.long().clamp(0, 63).unbind(dim=2)
    seen = batch['labels'][torch.arange(20)[:, None], y, x] > 0
    joints, off = test.true + .1 * torch.randn(20, 17, 3), torch.rand(20, 24)
    off[3] = torch.nan
    each = 1000 * (joints - test.true).norm(dim=-1)
    expected = {'mpjpe': 1000 * cal_mpjpe(joints, test.true),
                'hidden': each[visible <= np.sort(visible)[5]].mean(),
                'pa_mpjpe': 1000 * cal_pa_mpjpe(joints, test.true),
                'pixels': 32 * np.nanmean(off.numpy()), 'seen_joints': each[seen].mean(),
                'hidden_joints': each[~seen].mean()}
    assert test.score(joints, off) == pytest.approx({key: float(value)
                                                     for key, value in expected.items()})


def test_the_last_rung_is_the_default_and_all_have_a_network():
    assert replace([*RUNGS.values()][-1], epochs=SMALL.epochs) == SMALL
    for recipe in (RUNGS | ladder.ABLATION).values():
        model = ladder.build(**recipe.network)
        assert model(torch.zeros(2, 3, 64, 64))['rotations'].shape == (2, 24, 3, 3)


@pytest.mark.slow
def test_a_ladder_is_climbed_once(tmp_path, small, monkeypatch):
    rungs = {'short': ladder.rung({}, kind='mlp'), 'long': ladder.rung({}, kind='mlp', times=2)}
    for name, value in (('N_TEST', 20), ('N_EXACT', 1000), ('RUNGS', rungs),
                        ('SMALL', replace(SMALL, resolution=32))):
        monkeypatch.setattr(ladder, name, value)
    options = '--people 100 --epochs 1 --seeds 0 --device cpu --folder'.split()
    for _ in range(2):  # the second time there is nothing to do
        main([*options, str(tmp_path)])
    with open(tmp_path / 'ladder.csv', newline='') as file:
        rows = {row.pop('rung'): {key: float(value) for key, value in row.items()}
                for row in csv.DictReader(file)}
    assert list(rows) == [MEAN, FLOOR, 'short', 'long']
    top, low = rows[MEAN]['mpjpe'], rows[FLOOR]['mpjpe']
    assert low < .9 * top
    for row in rows.values():
        assert row['learnt'] == pytest.approx(100 * (top - row['mpjpe']) / (top - low), abs=.01)
    assert rows['long']['samples'] == 2 * rows['short']['samples'] > 0
    assert len((tmp_path / 'ladder_history.csv').read_text().splitlines()) == 1 + 1 + 2
    assert pictures_in(tmp_path) == {'ladder.png', 'ladder_history.png'}


def test_the_tables_of_the_readme_are_those_of_its_numbers():
    text = tables.README.read_text()
    assert filled(text, tables.TABLES, tables.COMMAND) == text
