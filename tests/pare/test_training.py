import socket
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
import torch

from made import ARRAYS, TINY, annotations, gradients, refused, rendered_batch, scores, share
from pare import options
from pare.batches import prepare
from pare.body import Skeleton
from pare.data import People
from pare.model import build, load_model
from pare.muon import RATE
from pare.options import COLUMNS
from pare.people import Rendered
from pare.recipes import FULL, SMALL
from pare.training import all_terms, fit, held, main, make_scheduler

CPU, SKELETON = torch.device('cpu'), Skeleton(ARRAYS)
MLP = {'kind': 'mlp', 'size': 'small'}


# ---- the loop -----------------------------------------------------------------------------------

class Again:
    """The same batch, several times an epoch."""
    seed = 0

    def __init__(self, batch, n_batches=4):
        self.batch, self.n_batches, self.batch_size = batch, n_batches, len(batch['image'])

    def epoch(self, number):
        return self.n_batches * [self.batch]


@pytest.fixture(scope='module')
def batch():
    return rendered_batch(8, 32)


def test_losses_fall_and_the_part_loss_ends(batch, small):
    torch.manual_seed(0)
    recipe = replace(SMALL, epochs=4, part_epochs=3)
    rows = [row for row, _ in fit(build(**SMALL.network), Again(batch, 3), SKELETON, recipe)]
    for name in ('loss', 'points_3d', 'keypoints', 'pose'):
        assert rows[-1][name] < .9 * rows[0][name], name
    assert rows[2]['parts'] > 0 and rows[3]['parts'] == 0
    for row in rows:
        assert row['loss'] == pytest.approx(sum(row[name] for name in SMALL.weights))


def test_a_loss_that_is_not_finite_ends_a_training(batch):
    bad = batch | {'betas': torch.full_like(batch['betas'], torch.nan)}
    with refused('epoch 1: found a loss of nan'):
        next(fit(build(**MLP), Again(bad), SKELETON, SMALL))


@pytest.mark.parametrize('one_cycle, expected', (
    (False, [2 * min(step / 4, 1, (40 - step) / 10) for step in range(41)]),
    (True, [2 - 1.92 * (3 - step) / 3 for step in (0, 3)])))
def test_the_rate_rises_is_held_and_falls_to_zero(one_cycle, expected):
    found = []
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 2.)
    scheduler = make_scheduler(optimiser, 40, 0, one_cycle)
    for _ in range(40):
        found.append(optimiser.param_groups[0]['lr'])
        optimiser.step()
        scheduler.step()
    found = [found[0], found[3]] if one_cycle else [*found, optimiser.param_groups[0]['lr']]
    np.testing.assert_allclose(found, expected)


def test_a_resumed_training_may_have_another_number_of_epochs(batch):
    """The rate is that of a training which had as many from the start."""
    recipe, model = replace(SMALL, epochs=4, lr=.003), build(**MLP)
    _, parts = next(fit(model, Again(batch, 1), SKELETON, recipe))
    state = {'history': [1], 'random': {'cpu': torch.get_rng_state()},
             'parts': {name: part.state_dict() for name, part in parts.items()}}
    for epochs in (1, 3):
        found = [(row['epoch'], *(parts[name].param_groups[0]['lr'] for name in ('Adam', 'Muon')))
                 for row, parts in fit(model, Again(batch, 1), SKELETON,
                                       replace(recipe, epochs=epochs), state)]
        expected = [(epoch, .003 * held(epoch / epochs), RATE * held(epoch / epochs))
                    for epoch in range(2, epochs + 1)]
        assert len(found) == epochs - 1 and np.allclose(found, expected)


def test_in_bfloat16_what_follows_the_maps_stays_exact(batch):
    torch.manual_seed(0)
    model, seen = build('pare', 'small'), []
    recipe = replace(SMALL, weights=SMALL.weights | {'skeletons': 0.})
    for coarse in (False, True):
        all_terms(model, lambda *inputs: seen.append(model(*inputs)) or seen[-1], batch, SKELETON,
                  recipe, None, coarse)
    exact, found = seen
    assert found['parts'].dtype == torch.bfloat16  # the products of the convolutions are
    for key in ('attention', 'places', 'rotations', 'betas', 'camera'):
        torch.testing.assert_close(found[key], exact[key], atol=.1, rtol=0)
        assert not torch.equal(found[key], exact[key])
    torch.testing.assert_close(found['attention'].sum(dim=(2, 3)), torch.ones(8, 24))


@pytest.mark.slow
def test_the_full_network_takes_a_step():
    torch.manual_seed(0)
    model = build(**FULL.network)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    (row, _), = fit(model, Again(rendered_batch(2, 32), 2), SKELETON, replace(FULL, epochs=1))
    assert 0 < row['parts'] < 10 and row['places'] == 0
    assert not [name for name, weight in model.named_parameters()
                if torch.equal(before[name], weight)]


# ---- the command --------------------------------------------------------------------------------

def interrupted(monkeypatch, *words, epoch=2) -> None:
    """A training that is interrupted in an epoch."""
    begin = Rendered.epoch

    def epoch_of(self, number):
        if number == epoch:
            raise KeyboardInterrupt
        return begin(self, number)
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match='130'):
        patch.setattr(Rendered, 'epoch', epoch_of)
        main([*TINY, *words])


def history(folder) -> list[list[str]]:
    """The rows of history.csv without the speed."""
    _, *rows = (folder / 'history.csv').read_text().splitlines()
    return [row.split(',')[:-1] for row in rows]


def test_a_training_leaves_weights_and_charts_and_no_state(trained):
    assert {path.name for path in trained.out.parent.iterdir()} == {'model', 'plots'}
    assert {path.name for path in trained.plots.iterdir()} == {'history.csv', 'history.png'}
    assert tuple((trained.plots / 'history.csv').read_text().split('\n')[0].split(',')) == COLUMNS
    assert [row[0] for row in history(trained.plots)] == ['1', '2']
    _, kept = load_model(trained.out, CPU)
    assert kept['options'] == SMALL.network | {'resolution': 32, 'rendered': True, 'vertices': 1728}
    assert kept['mean_pose'].shape == (17, 3) and (kept['mean_pose'][0] == 0).all()
    assert 'mean pose:' in trained.said and 'time left' in trained.said


def test_a_resumed_training_ends_with_the_same_bits(trained, here, monkeypatch, fails, capsys):
    """Until then the old weights stay, the history grows, and the state is read as weights."""
    (here / 'cut').write_bytes(b'older weights')
    interrupted(monkeypatch, '--out', 'cut', '--plots', 'plots', epoch=1)
    assert 'no epoch is kept' in capsys.readouterr().err and not (here / 'cut.state').exists()
    interrupted(monkeypatch, '--out', 'cut', '--plots', 'plots')
    assert 'python -m pare.training --resume --out cut' in capsys.readouterr().err
    assert '--seed: found 7' in fails(main, '--out', 'cut', '--resume', '--seed', '7')
    assert (here / 'cut').read_bytes() == b'older weights'
    assert history(here / 'plots') == history(trained.plots)[:1]
    (begun, kept), (whole, expected) = (load_model(path, CPU) for path in
                                        (here / 'cut.state', trained.out))
    assert kept['options'] == expected['options']
    assert torch.equal(kept['mean_pose'], expected['mean_pose'])
    assert not torch.equal(begun.parts.weight, whole.parts.weight)
    main(['--resume', '--out', 'cut', '--plots', 'plots', '--device', 'cpu'])
    found, expected = (load_model(path, CPU)[0].state_dict() for path in ('cut', trained.out))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert not (here / 'cut.state').exists()
    assert history(here / 'plots') == history(trained.plots)


def test_a_state_that_does_not_fit_is_refused(here, monkeypatch, fails):
    """Damaged, or with more epochs than wanted; with as many as wanted the weights are written."""
    interrupted(monkeypatch, '--epochs', '4', epoch=3)
    path = here / 'pareModel.state'
    whole, state = path.read_bytes(), torch.load(path, weights_only=True)
    for damage in ({'parts': {}}, {'options': {}}, None):
        path.write_bytes(whole[:1000])
        if damage is not None:
            torch.save(state | damage, path)
        assert 'state' in fails(main, '--resume', '--device', 'cpu')
    path.write_bytes(whole)
    assert '--epochs: found 1, expected at least the 2 ' in fails(main, '--resume', '--epochs', '1')
    assert path.exists() and not (here / 'pareModel').exists()
    main(['--resume', '--epochs', '2', '--device', 'cpu'])
    assert len(history(here / 'pare/plots')) == 2 and (here / 'pareModel').exists()


@pytest.mark.parametrize('words, message', (
    ('--resume', '--resume: found no pareModel.state'),
    ('--resolution 80', '--resolution: found 80, expected a multiple of 32'),
    ('--batch-size 128', 'found 100 people, each shown 1 times, expected at least a batch'),
    ('--body smpl.npz', '--body: found one without --train'),
    ('--init none.pth', 'none.pth: No such file'), ('--train none.npz', 'none.npz: No such file'),
    ('--out .', '--out: found the folder .'), ('--out file/a', 'file'),
    ('--train mine:.4 --out mine', '--out: found mine, the input --train mine:.4'),
    ('--train a.npz --val m.state --out m', 'the input --val'),
    ('--train a.npz --fits m --out ./m', '--out: found m, the input --fits m'),
    ('--init pare/plots/history.csv', 'the input --init'),
    ('--train a.npz b.npz --fits - - -', '--fits: found 3, expected 1 or 2, one for each set'),
    ('--train none.npz:half', '--train: found share half of none.npz, expected a number')))
def test_mistakes_are_said_in_a_line(here, fails, words, message):
    (here / 'file').touch()
    assert message in fails(main, '--people', '100', '--device', 'cpu', *words.split())
    assert not {path.name for path in here.iterdir()} - {'pare', 'file'}


# ---- sets of photographs ------------------------------------------------------------------------

def prepared(folder, *words):
    args = options.make_parser().parse_args(
        ['--batch-size', '2', '--workers', '0', '--images', str(folder), '--train', *words])
    options.fill_in_defaults(args)
    return prepare(args, {'neutral': ARRAYS}, SKELETON)


def test_the_end_of_the_first_set_validates(tmp_path, people, capsys):
    path = annotations(tmp_path, has_smpl=np.array([1, 1, 1]))
    batches, val_batches, constant = prepared(tmp_path, f'{path}:3', f'{path}:1')
    assert [len(part) for part in batches.sets] == [2, 3] and batches.counts.tolist() == [3, 1]
    held_out, = val_batches
    for key, value in People(path, ARRAYS, tmp_path)[2].items():
        assert torch.equal(held_out[key][0], value), key  # not augmented
    assert constant.shape == (17, 3) and constant.isfinite().all()
    assert capsys.readouterr().out.count('note: --body names no SMPL model') == 1
    prepared(tmp_path, str(people))  # rendered people have the stand-in body
    assert 'note: ' not in capsys.readouterr().out


def test_sets_to_validate_have_bodies_and_photographs(tmp_path, capsys):
    path = str(annotations(tmp_path, pose=None, shape=None, has_smpl=None))
    with refused('found neither pose and shape nor the 14 joints.*--val'):
        prepared(tmp_path, path)
    (tmp_path / 'val').mkdir()
    other = str(annotations(tmp_path / 'val'))
    batches, val_batches, constant = prepared(tmp_path, path, '--val', other)
    assert constant is None and batches.n_batches == 1
    assert sum(len(batch['image']) for batch in val_batches) == 2
    assert f'{other}: 1 samples without a true pose are not' in capsys.readouterr().out
    annotations(tmp_path / 'val', imgname=np.array(['images/0.jpg', 'none.jpg', 'a.jpg']))
    with refused(f'{other}: found 2 of 3 images unreadable'):
        prepared(tmp_path, path, '--val', other)
    _, val_batches, _ = prepared(tmp_path, path, '--val', other, '--skip-unreadable')
    assert len(val_batches.dataset) == 1


# ---- several processes --------------------------------------------------------------------------

def test_a_batch_has_as_many_images_for_each_process(here, fails, monkeypatch):
    monkeypatch.setattr(options, 'N_RANKS', 3)
    assert '--batch-size: found 64, expected a multiple of 3' in fails(main, '--device', 'cpu')


@pytest.mark.slow
def test_two_processes_have_the_gradients_and_the_scores_of_one(tmp_path, monkeypatch):
    with socket.create_server(('localhost', 0)) as server:
        port = server.getsockname()[1]  # one that is free
    both = [get_context('spawn').Process(target=share, args=(tmp_path,)) for _ in range(2)]
    for rank, process in enumerate(both):
        for name, value in (('RANK', rank), ('WORLD_SIZE', 2), ('MASTER_ADDR', 'localhost'),
                            ('MASTER_PORT', port)):
            monkeypatch.setenv(name, str(value))
        process.start()
    for process in both:
        process.join(300)
        assert process.exitcode == 0
    for rank in range(2):
        found, scored = torch.load(tmp_path / f'{rank}.pt')
        assert scored == pytest.approx(scores(), rel=1e-4)
        for whole, halves in zip(gradients(), found, strict=True):
            torch.testing.assert_close(halves, whole, atol=1e-6, rtol=1e-3)
