"""The loop, its command, and what a training learns from."""
from dataclasses import replace

import numpy as np
import pytest
import torch

from made import (ARRAYS, CPU, SKELETON, TINY, annotations, pictures_in, refused, rendered_batch,
                  says)
from pare import options
from pare.batches import prepare
from pare.data import People
from pare.model import build, load_model
from pare.muon import RATE
from pare.options import COLUMNS
from pare.people import Rendered
from pare.recipes import FULL, SMALL
from pare.training import all_terms, fit, held, main


# ---- the loop -----------------------------------------------------------------------------------

class Again:
    """The same batch, several times an epoch."""
    seed = 0

    def __init__(self, batch, n_batches=4):
        self.batch, self.n_batches, self.batch_size = batch, n_batches, len(batch['image'])

    def epoch(self, number):
        return self.n_batches * [self.batch]


def test_losses_fall_and_the_part_loss_ends(batch, small):
    torch.manual_seed(0)
    recipe = replace(SMALL, epochs=4, part_epochs=3)
    rows = [row for row, _ in fit(build(**SMALL.network), Again(batch, 3), SKELETON, recipe)]
    for name in ('loss', 'points_3d', 'keypoints', 'pose'):
        assert rows[-1][name] < .9 * rows[0][name], name
    assert rows[2]['parts'] > 0 and rows[3]['parts'] == 0
    for row in rows:
        assert row['loss'] == pytest.approx(sum(row[name] for name in SMALL.weights))
    bad = batch | {'betas': torch.full_like(batch['betas'], torch.nan)}
    with refused('epoch 1: loss of nan'):
        next(fit(build('mlp', 'small'), Again(bad), SKELETON, SMALL))


def test_a_resumed_training_may_have_another_number_of_epochs(batch):
    """The rate is that of a training which had as many from the start."""
    done = np.linspace(0, 1, 41)
    np.testing.assert_allclose([held(part) for part in done],
                               np.interp(done, (0, .1, .75, 1), (0, 1, 1, 0)), atol=1e-9)
    recipe, model = replace(SMALL, epochs=4, lr=.003), build('mlp', 'small')
    _, parts = next(fit(model, Again(batch, 1), SKELETON, recipe))
    state = {'history': [1], 'random': {'cpu': torch.get_rng_state()},
             'parts': {name: part.state_dict() for name, part in parts.items()}}
    for epochs in (1, 3, 5):
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
    model.register_forward_hook(lambda _, images, output: seen.append(output))
    for coarse in (False, True):
        all_terms(model, batch, SKELETON, recipe, None, coarse)
    exact, found = seen
    assert found['parts'].dtype == torch.bfloat16  # the products of the convolutions are
    for key in ('attention', 'places', 'rotations', 'betas', 'camera'):
        torch.testing.assert_close(found[key], exact[key], atol=.1, rtol=0)
        assert not torch.equal(found[key], exact[key])
    torch.testing.assert_close(found['attention'].sum(dim=(2, 3)), torch.ones(8, 24))


@pytest.mark.slow
@pytest.mark.parametrize('kind', ('pare', 'mlp'))
def test_the_full_network_takes_a_step(kind):
    torch.manual_seed(0)
    model = build(**FULL.network | {'kind': kind})
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    (row, _), = fit(model, Again(rendered_batch(2, 32), 2), SKELETON, replace(FULL, epochs=1))
    assert (0 < row['parts'] < 10) == (kind == 'pare') and row['places'] == 0
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
    assert pictures_in(trained.plots) == {'history.png'}
    assert (trained.plots / 'history.csv').read_text().startswith(','.join(COLUMNS))
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
    state, (_, kept) = here / 'cut.state', load_model(here / 'cut.state', CPU)
    whole, expected = load_model(trained.out, CPU)
    assert kept['options'] == expected['options']
    assert torch.equal(kept['mean_pose'], expected['mean_pose'])
    content = state.read_bytes()
    state.write_bytes(content[:1000])
    assert 'cut.state' in fails(main, '--resume', '--out', 'cut')
    state.write_bytes(content)
    main(['--resume', '--out', 'cut', '--plots', 'plots', '--device', 'cpu'])
    torch.testing.assert_close(load_model('cut', CPU)[0].state_dict(), whole.state_dict(), atol=0,
                               rtol=0)
    assert not state.exists() and history(here / 'plots') == history(trained.plots)


def test_a_training_that_is_resumed_may_end_at_once(here, monkeypatch, fails):
    interrupted(monkeypatch, '--epochs', '4', epoch=3)
    assert '--epochs: found 1, expected at least the 2 ' in fails(main, '--resume', '--epochs', '1')
    assert (here / 'pareModel.state').exists() and not (here / 'pareModel').exists()
    main(['--resume', '--epochs', '2', '--device', 'cpu'])
    assert len(history(here / 'pare/plots')) == 2 and (here / 'pareModel').exists()


@pytest.mark.parametrize('options, words', (
    ('--resume', '--resume: pareModel.state'),
    ('--resolution 80', '--resolution: 80 32'),
    ('--batch-size 128', '100 people batch'),
    ('--body smpl.npz', '--body: --train'), ('--val v.npz', '--val: --train'),
    ('--init none.pth', 'none.pth: No such file'),
    ('--train none.npz', 'none.npz: No such file'),
    ('--train none.npz:half', '--train: half none.npz'),
    ('--train none.npz:.4 none.npz', '--train: shares of each'),
    ('--train a.npz b.npz --fits - - -', '--fits: 3 expected 1 or 2'),
    ('--out .', '--out: folder'),
    ('--out file/a', 'file'),
    ('--train mine:.4 --out mine', '--out: the input --train mine'),
    ('--train a.npz --val m.state --out m', 'the input --val'),
    ('--train a.npz --fits m --out ./m', '--out: the input --fits m'),
    ('--init pare/plots/history.csv', 'the input --init')))
def test_mistakes_are_said_in_a_line(here, fails, options, words):
    (here / 'file').touch()
    says(fails(main, '--people', '100', '--device', 'cpu', *options.split()), words)
    assert not {path.name for path in here.iterdir()} - {'pare', 'file'}


def test_options_change_the_recipe():
    args = options.make_parser().parse_args(
        '--size full --kind mlp --lr .5 --epochs 7 --part-epochs 2 --batch-size 6 '
        '--resolution 96'.split())
    options.fill_in_defaults(args)
    assert options.recipe_of(args) == replace(
        FULL, network=FULL.network | {'kind': 'mlp'}, lr=.5, epochs=7, part_epochs=2, batch_size=6,
        resolution=96)


# ---- sets of photographs ------------------------------------------------------------------------

def prepared(folder, *words):
    args = options.make_parser().parse_args(
        ['--batch-size', '2', '--workers', '0', '--images', str(folder), '--train', *words])
    options.fill_in_defaults(args)
    return prepare(args, {'neutral': ARRAYS}, SKELETON)


def test_the_end_of_the_first_set_validates(tmp_path, people, capsys):
    path = annotations(tmp_path, has_smpl=np.array([1, 1, 1]))
    batches, (held_out,), constant = prepared(tmp_path, f'{path}:3', f'{path}:1')
    assert [len(part) for part in batches.sets] == [2, 3] and batches.counts.tolist() == [3, 1]
    for key, value in People(path, ARRAYS, tmp_path)[2].items():
        assert torch.equal(held_out[key][0], value), key  # not augmented
    assert constant.shape == (17, 3) and constant.isfinite().all()
    assert capsys.readouterr().out.count('note: --body names no SMPL model') == 1
    prepared(tmp_path, str(people))  # rendered people have the stand-in body
    assert 'note: ' not in capsys.readouterr().out
