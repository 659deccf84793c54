import csv
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from made import ARRAYS
from common.files import filled
from metrics import cal_mpjpe, cal_pa_mpjpe
from pare import ladder
from pare.body import Skeleton
from pare.ladder import FLOOR, MEAN, RUNGS, joints_seen, main
from pare.people import as_tensors, render_people, rendered_samples
from pare.plots import tables
from pare.recipes import SMALL

SKELETON = Skeleton(ARRAYS)


def test_scores_are_of_all_and_of_the_most_hidden():
    torch.manual_seed(0)
    samples, visible = rendered_samples(20, 64, 1)
    test = ladder.Test(list(DataLoader(samples, 8)), visible, SKELETON, torch.device('cpu'))
    joints, off = test.true + .1 * torch.randn(20, 17, 3), torch.rand(20, 24)
    off[3] = torch.nan
    each = 1000 * (joints - test.true).norm(dim=-1)
    expected = {'mpjpe': 1000 * cal_mpjpe(joints, test.true),
                'hidden': each[visible <= np.sort(visible)[5]].mean(),
                'pa_mpjpe': 1000 * cal_pa_mpjpe(joints, test.true),
                'pixels': 32 * np.nanmean(off.numpy()), 'seen_joints': each[test.seen].mean(),
                'hidden_joints': each[~test.seen].mean()}
    assert test.score(joints, off) == pytest.approx({key: float(value)
                                                     for key, value in expected.items()})
    assert np.isnan(test.score(joints)['pixels'])


def test_joints_are_seen_where_a_part_is():
    people = as_tensors(render_people(6, 64, 1))
    points = SKELETON(people['betas'], people['rotations'])
    seen = joints_seen(people, SKELETON)
    assert .5 < seen.float().mean() < 1
    keypoints, truth = points.keypoints.numpy(), points.h36m.numpy()
    for row, places in enumerate(people['keypoints'][..., :2].numpy()):  # the camera, by x and y
        known = np.column_stack([keypoints[row, :, :2].ravel(), np.tile(np.eye(2), (24, 1))])
        scale, *shift = np.linalg.lstsq(known, places.ravel(), rcond=None)[0]
        pixels = 32 * (scale * truth[row, :, :2] + shift + 1)
        column, line = pixels.astype(int).clip(0, 63).T
        np.testing.assert_array_equal(seen[row], people['labels'][row].numpy()[line, column] > 0)


def test_each_rung_lacks_what_the_next_adds():
    every = RUNGS | ladder.ABLATION
    assert all(set(recipe.weights) == set(SMALL.weights) for recipe in every.values())
    *earlier, last = RUNGS.values()
    assert replace(last, epochs=SMALL.epochs) == SMALL
    assert replace(last, one_cycle=True) == RUNGS['+ bodies without images']
    assert all(recipe.one_cycle for recipe in (*earlier, *ladder.ABLATION.values()))
    assert all(one != two for one, two in combinations(every.values(), 2))
    for recipe in ladder.ABLATION.values():
        model = ladder.build(**recipe.network)
        assert model(torch.zeros(2, 3, 64, 64))['rotations'].shape == (2, 24, 3, 3)


@pytest.mark.slow
def test_a_ladder_is_climbed_once(tmp_path, small, monkeypatch):
    for name, value in (('N_TEST', 20), ('N_EXACT', 1000), ('SMALL', replace(SMALL, resolution=32)),
                        ('RUNGS', {'short': ladder.rung({}, kind='mlp'),
                                   'long': ladder.rung({}, kind='mlp', times=2)})):
        monkeypatch.setattr(ladder, name, value)
    options = '--people 100 --epochs 1 --seeds 0 --device cpu --folder'.split()
    for _ in range(2):  # the second time there is nothing to do
        main([*options, str(tmp_path)])
    with open(tmp_path / 'ladder.csv', newline='') as file:
        rows = [(row['rung'], {key: float(row[key]) for key in ladder.COLUMNS})
                for row in csv.DictReader(file)]
    assert [name for name, _ in rows] == [MEAN, FLOOR, 'short', 'long']
    rows = dict(rows)
    top, low = rows[MEAN]['mpjpe'], rows[FLOOR]['mpjpe']
    assert low < .9 * top
    for row in rows.values():
        learnt = 100 * (top - row['mpjpe']) / (top - low)
        assert row['learnt'] == pytest.approx(learnt, abs=.01)
    assert rows['long']['samples'] == 2 * rows['short']['samples'] > 0
    assert len((tmp_path / 'ladder_history.csv').read_text().splitlines()) == 1 + 1 + 2
    assert {'ladder.png', 'ladder_history.png'} < {path.name for path in tmp_path.iterdir()}


def test_the_tables_of_the_readme_are_those_of_its_numbers():
    text = tables.README.read_text()
    assert filled(text, tables.TABLES, tables.COMMAND) == text
