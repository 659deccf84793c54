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
from pare.body import Skeleton, fit_camera, project
from pare.ladder import FLOOR, MEAN, RUNGS, joints_seen, main, rung
from pare.metrics import true_joints
from pare.people import as_tensors, render_people, rendered_samples
from pare.plots import tables
from pare.recipes import SMALL

SKELETON = Skeleton(ARRAYS)


@pytest.fixture(scope='module')
def test():
    samples, visible = rendered_samples(20, 64, 1)
    return ladder.Test(list(DataLoader(samples, 8)), visible, SKELETON, torch.device('cpu'))


def test_scores_are_of_all_and_of_the_most_hidden(test):
    torch.manual_seed(0)
    joints, off = test.true + .1 * torch.randn(20, 17, 3), torch.rand(20, 24)
    off[3] = torch.nan
    _, visible = rendered_samples(20, 64, 1)
    errors = 1000 * cal_mpjpe(joints, test.true, avg=False)
    scores = test.score(joints, off)
    assert scores['mpjpe'] == pytest.approx(errors.mean().item())
    assert scores['hidden'] == pytest.approx(errors[visible <= np.sort(visible)[5]].mean().item())
    assert scores['pa_mpjpe'] == pytest.approx(1000 * cal_pa_mpjpe(joints, test.true).item())
    assert scores['pixels'] == pytest.approx(32 * np.nanmean(off.numpy()))
    assert np.isnan(test.score(joints)['pixels'])
    of_joints = 1000 * (joints - test.true).norm(dim=-1)
    assert scores['seen_joints'] == pytest.approx(of_joints[test.seen].mean().item())
    assert scores['hidden_joints'] == pytest.approx(of_joints[~test.seen].mean().item())


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


def test_the_constant_is_one_and_the_floor_knows_more(test, small, monkeypatch):
    monkeypatch.setattr(ladder, 'N_EXACT', 1000)
    constant = ladder.constant(0, test)
    assert constant.shape == (20, 17, 3) and (constant == constant[:1]).all()
    floor = ladder.from_exact_keypoints(0, test)
    assert test.score(floor)['mpjpe'] < .9 * test.score(constant)['mpjpe']


def test_exact_keypoints_are_the_projections_of_the_joints():
    """By the camera that suits them: in 2D nothing of the joints is lost but depth."""
    places, joints = ladder.exact(np.random.default_rng(3), 30, SKELETON)
    bodies = ladder.sample_bodies(np.random.default_rng(3), 30)
    torch.testing.assert_close(joints, true_joints(
        bodies | {'has_smpl': torch.ones(30), 'points_3d': torch.zeros(30, 24, 4)}, SKELETON))
    points = SKELETON(bodies['betas'], bodies['rotations']).keypoints
    camera = fit_camera(points, places, torch.ones(30, 24))
    torch.testing.assert_close(project(points, camera), places, atol=1e-5, rtol=0)


def test_each_rung_lacks_what_the_next_adds():
    every = RUNGS | ladder.ABLATION
    assert all(set(recipe.weights) == set(SMALL.weights) for recipe in every.values())
    *_, default, longer = RUNGS.values()
    assert replace(default, epochs=SMALL.epochs) == SMALL and longer == replace(default, epochs=2)
    assert all(one != two for one, two in combinations(every.values(), 2))
    for recipe in ladder.ABLATION.values():
        model = ladder.build(**recipe.network)
        assert model(torch.zeros(2, 3, 64, 64))['rotations'].shape == (2, 24, 3, 3)


@pytest.mark.slow
def test_a_ladder_is_climbed_once(tmp_path, small, monkeypatch, capsys):
    monkeypatch.setattr(ladder, 'N_TEST', 20)
    monkeypatch.setattr(ladder, 'N_EXACT', 1000)
    some = {name: RUNGS[name] for name in ('ResNet and MLP', '+ branches and attention')}
    longer = {'twice as long': rung(ladder.BLIND, kind='mlp', times=2)}
    monkeypatch.setattr(ladder, 'RUNGS', some | longer)
    options = ['--people', '100', '--epochs', '1', '--seeds', '0', '--device', 'cpu', '--folder',
               str(tmp_path)]
    fit = ladder.fit

    def interrupted(*args, **options):  # after the two ends and an epoch
        yield next(fit(*args, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(ladder, 'fit', interrupted)
    with pytest.raises(SystemExit, match='130'):
        main(options)
    assert 'the same command' in capsys.readouterr().err
    monkeypatch.setattr(ladder, 'fit', fit)
    main(options)
    with open(tmp_path / 'ladder.csv', newline='') as file:
        rows = {row['rung']: row for row in csv.DictReader(file)}
    assert list(rows) == [MEAN, FLOOR, *ladder.RUNGS]
    assert float(rows[MEAN]['learnt']) == 0 and float(rows[FLOOR]['learnt']) == 100
    top, low = (float(rows[name]['mpjpe']) for name in (MEAN, FLOOR))
    for name in ladder.RUNGS:
        learnt = 100 * (top - float(rows[name]['mpjpe'])) / (top - low)
        assert float(rows[name]['learnt']) == pytest.approx(learnt, abs=.01)
        assert float(rows[name]['seconds']) > 0 and float(rows[name]['pixels']) > 0
    assert float(rows['twice as long']['samples']) == 2 * float(rows['ResNet and MLP']['samples'])
    courses = (tmp_path / 'ladder_history.csv').read_text().splitlines()
    assert len(courses) == 1 + 1 + 1 + 2
    assert {'ladder.png', 'ladder_history.png'} < {path.name for path in tmp_path.iterdir()}

    before = (tmp_path / 'ladder.csv').read_text()
    monkeypatch.setattr(ladder, 'fit', None)  # would fail
    main(options)
    assert (tmp_path / 'ladder.csv').read_text() == before


def test_mistakes_are_said_in_a_line(tmp_path, fails):
    (tmp_path / 'ladder.csv').write_text('rung,seed\n')
    assert 'ladder.csv: found columns rung, seed, expected rung, seed, samples' in fails(
        main, '--folder', str(tmp_path))
    assert '--people: found 5, expected at least 100' in fails(main, '--people', '5')
    assert '--seeds: found -1, expected at least 0' in fails(main, '--seeds', '-1')


def test_the_table_of_the_readme_is_that_of_its_numbers():
    text = tables.README.read_text()
    assert filled(text, tables.TABLES, tables.COMMAND) == text
    changed = text.replace('| mean pose | 0 |', '| mean pose | 7 |')
    assert changed != text and filled(changed, tables.TABLES, tables.COMMAND) == text
