import os
import socket
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from made import ARRAYS, TINY, annotations, gradients, scores
from pare import options
from pare.batches import prepare
from pare.body import Skeleton
from pare.data import People
from pare.model import build, load_model
from pare.options import COLUMNS
from pare.people import Rendered, rendered_samples
from pare.recipes import FULL, SMALL
from pare.training import all_terms, fit, main

ROOT = Path(__file__).parents[2]
CPU, SKELETON = torch.device('cpu'), Skeleton(ARRAYS)


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
    return torch.utils.data.default_collate(rendered_samples(8, 64, 5)[0])


def test_losses_fall_and_the_part_loss_ends(batch, small):
    torch.manual_seed(0)
    recipe = replace(SMALL, epochs=4, part_epochs=3)
    rows = [row for row, _ in fit(build(**SMALL.network), Again(batch, 2), SKELETON, recipe)]
    for name in ('loss', 'points_3d', 'keypoints', 'pose'):
        assert rows[-1][name] < .9 * rows[0][name], name
    assert rows[2]['parts'] > 0 and rows[3]['parts'] == 0
    for row in rows:
        assert row['loss'] == pytest.approx(sum(row[name] for name in SMALL.weights))


def test_a_loss_that_is_not_finite_ends_a_training(batch, small):
    bad = batch | {'betas': torch.full_like(batch['betas'], torch.nan)}
    with pytest.raises(ValueError, match='epoch 1: found a loss of nan'):
        next(fit(build('mlp', 'small'), Again(bad), SKELETON, SMALL))


def test_in_bfloat16_places_and_attention_stay_exact(batch):
    torch.manual_seed(0)
    model, found = build('pare', 'small'), {}
    for coarse in (False, True):
        seen = []

        def learner(*inputs):
            seen.append(model(*inputs))
            return seen[0]
        recipe = replace(SMALL, weights=SMALL.weights | {'skeletons': 0.})
        terms = all_terms(model, learner, batch, SKELETON, recipe, None, coarse)
        found[coarse] = seen[0], sum(SMALL.weights[key] * term for key, term in terms.items())
    output, loss = found[True]
    assert output['parts'].dtype == torch.bfloat16  # the products of the convolutions are
    for key in ('attention', 'places', 'rotations', 'betas', 'camera'):
        assert output[key].dtype == torch.float32, key
        torch.testing.assert_close(output[key], found[False][0][key], atol=.1, rtol=0)
    torch.testing.assert_close(output['attention'].sum(dim=(2, 3)), torch.ones(8, 24))
    assert loss.item() == pytest.approx(found[False][1].item(), rel=.02)
    assert not torch.equal(output['places'], found[False][0]['places'])


@pytest.mark.slow
def test_the_full_network_makes_a_step(small):
    torch.manual_seed(0)
    model = build(**FULL.network)
    batch = torch.utils.data.default_collate(rendered_samples(2, 96, 5)[0])
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    (row, _), = fit(model, Again(batch, 2), SKELETON, replace(FULL, epochs=1))
    assert 0 < row['parts'] < 10 and row['places'] == 0
    still = [name for name, weight in model.named_parameters() if torch.equal(before[name], weight)]
    assert not still


# ---- the command --------------------------------------------------------------------------------

def weights(path) -> dict:
    return torch.load(path, weights_only=True)['weights']


def interrupted(monkeypatch, *options, epoch=2) -> None:
    """A training that is interrupted in an epoch."""
    begin = Rendered.epoch

    def epoch_of(self, number):
        if number == epoch:
            raise KeyboardInterrupt
        return begin(self, number)
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match='130'):
        patch.setattr(Rendered, 'epoch', epoch_of)
        main([*TINY, *options])


def test_a_training_leaves_weights_and_charts_and_no_state(trained):
    assert {path.name for path in trained.out.parent.iterdir()} == {'model', 'plots'}
    assert {path.name for path in trained.plots.iterdir()} == {'history.csv', 'history.png'}
    header, *rows = (trained.plots / 'history.csv').read_text().splitlines()
    assert tuple(header.split(',')) == COLUMNS and [row[:2] for row in rows] == ['1,', '2,']
    model, kept = load_model(trained.out, CPU)
    assert kept['options'] == SMALL.network | {
        'resolution': 64, 'rendered': True, 'vertices': 1728}
    assert kept['mean_pose'].shape == (17, 3) and (kept['mean_pose'][0] == 0).all()
    assert 'mean pose:' in trained.said and 'time left' in trained.said


def test_a_resumed_training_ends_with_the_same_bits(trained, here, monkeypatch, fails, capsys):
    """Until then the old weights stay."""
    (here / 'cut').write_bytes(b'older weights')
    interrupted(monkeypatch, '--out', 'cut', '--plots', 'plots')
    assert 'python -m pare.training --resume --out cut' in capsys.readouterr().err
    assert '--seed: found 7' in fails(main, '--out', 'cut', '--resume', '--seed', '7')
    assert (here / 'cut').read_bytes() == b'older weights'
    main(['--resume', '--out', 'cut', '--plots', 'plots', '--device', 'cpu'])
    found, expected = weights('cut'), weights(trained.out)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert not (here / 'cut.state').exists()
    rows, whole = ([line.split(',')[:-1] for line in (folder / 'history.csv').read_text()
                    .splitlines()] for folder in (here / 'plots', trained.plots))
    assert rows == whole  # without the speed


def test_an_epoch_that_is_not_finished_leaves_nothing(here, monkeypatch, capsys):
    (here / 'cut').write_bytes(b'older weights')
    interrupted(monkeypatch, '--out', 'cut', epoch=1)
    assert 'no epoch is kept' in capsys.readouterr().err
    assert (here / 'cut').read_bytes() == b'older weights' and not (here / 'cut.state').exists()


@pytest.mark.parametrize('options, message', (
    (('--resume',), '--resume: found no pareModel.state'),
    (('--resolution', '80'), '--resolution: found 80, expected a multiple of 32'),
    (('--epochs', '0'), '--epochs: found 0'),
    (('--people', '99'), '--people: found 99'),
    (('--lr', 'nan'), '--lr: found nan'),
    (('--size', 'tiny'), '--size: invalid choice'),
    (('--batch-size', '128'), 'found 100 people, each shown 1 times, expected at least a batch'),
    (('--body', 'smpl.npz'), '--body: found one without --train'),
    (('--body', '.', '--train', 'none.npz'), 'found neither SMPL_NEUTRAL.npz'),
    (('--init', 'none.pth'), 'none.pth: No such file'),
    (('--out', '.'), '--out: found the folder .'),
    (('--out', 'file/a'), 'file'),
    (('--train', 'mine:.4', '--out', 'mine'), '--out: found mine, the input --train mine:.4'),
    (('--train', 'a.npz', '--val', 'm.state', '--out', 'm'), 'the input --val'),
    (('--train', 'a.npz', '--fits', 'm', '--out', './m'), '--out: found m, the input --fits m'),
    (('--init', 'm', '--out', 'm'), 'the input --init'),
    (('--train', 'a.npz', '--body', 'm', '--out', 'm'), 'the input --body m'),
    (('--init', 'pare/plots/history.csv'), 'the input --init'),
    (('--train', 'none.npz'), 'none.npz: No such file'),
    (('--train', 'none.npz:half'), '--train: found share half of none.npz, expected a number'),
    (('--train', 'none.npz:-1'), '--train: found share -1 of none.npz')))
def test_mistakes_are_said_in_a_line(here, fails, options, message):
    (here / 'file').touch()
    assert message in fails(main, '--people', '100', '--device', 'cpu', *options)
    assert not {path.name for path in here.iterdir()} - {'pare', 'file'}


@pytest.mark.parametrize('changes', ({'parts': {}}, {'history': None}, None))
def test_a_damaged_state_is_refused(here, monkeypatch, fails, changes):
    interrupted(monkeypatch, '--plots', 'plots')
    path = here / 'pareModel.state'
    if changes is None:
        path.write_bytes(path.read_bytes()[:1000])
    else:
        state = torch.load(path, weights_only=True) | changes
        torch.save({key: value for key, value in state.items() if value is not None}, path)
    assert 'state' in fails(main, '--resume', '--device', 'cpu', '--plots', 'plots')
    assert path.exists() and not (here / 'pareModel').exists()


# ---- sets of photographs ------------------------------------------------------------------------

def prepared(folder, *words):
    args = parsed('--batch-size', '2', '--images', str(folder), '--train', *words)
    return prepare(args, {'neutral': ARRAYS}, SKELETON)


def parsed(*words):
    """The options of a command line."""
    args = options.make_parser().parse_args(words)
    options.fill_in_defaults(args)
    return args


def test_the_end_of_the_first_set_validates(tmp_path, capsys):
    path = annotations(tmp_path, has_smpl=np.array([1, 1, 1]))
    batches, val_batches, constant = prepared(tmp_path, f'{path}:3', f'{path}:1')
    assert [len(part) for part in batches.sets] == [2, 3] and batches.counts.tolist() == [3, 1]
    held_out, = val_batches
    plain = People(path, ARRAYS, tmp_path)[2]
    for key, value in plain.items():
        assert torch.equal(held_out[key][0], value), key  # not augmented
    assert constant.shape == (17, 3) and constant.isfinite().all()
    assert 'without' not in capsys.readouterr().out


def test_each_set_has_its_folder_and_its_fits(tmp_path):
    paths, folders = [], [tmp_path / name for name in 'abc']
    for number, folder in enumerate(folders):
        folder.mkdir()
        paths.append(str(annotations(folder, has_smpl=np.zeros(3))))
        fits = np.zeros((3, 82), np.float32)
        fits[:, 72] = number + 1
        np.save(folder / 'fits.npy', fits)
    val = str(annotations(folders[2]))
    options = ('--fits', '-', str(folders[1] / 'fits.npy'), '--val', val)
    batches, _, _ = prepared(tmp_path, *paths[:2], *options, '--images', *map(str, folders))
    assert [part.images for part in batches.sets] == folders[:2]
    assert [part.set['has_smpl'].tolist() for part in batches.sets] == [[False] * 3, [True] * 3]
    assert batches.sets[1].set['shape'][:, 0].tolist() == [2, 2, 2]
    batches, loader, _ = prepared(tmp_path, *paths[:2], *options, '--images',
                                  *map(str, folders[:2]))
    assert [part.images for part in batches.sets] == folders[:2]
    assert loader.dataset.images == folders[1]  # the last
    with pytest.raises(ValueError, match='--images: found 4, expected 1 or 3, one for each set'):
        prepared(tmp_path, *paths[:2], *options, '--images', *map(str, 2 * folders[:2]))


def test_a_set_without_bodies_is_learnt_and_cannot_validate(tmp_path, capsys):
    path = annotations(tmp_path, pose=None, shape=None, has_smpl=None)
    with pytest.raises(ValueError, match='found neither pose and shape nor the 14 joints.*--val'):
        prepared(tmp_path, str(path))
    (tmp_path / 'val').mkdir()
    other = annotations(tmp_path / 'val')
    (tmp_path / 'val/images').rename(tmp_path / 'val/moved')
    batches, val_batches, constant = prepared(tmp_path, str(path), '--val', str(other))
    assert constant is None and batches.n_batches == 1
    assert sum(len(batch['image']) for batch in val_batches) == 2
    assert f'{other}: 1 samples without a true pose are not' in capsys.readouterr().out


def test_without_a_body_photographs_are_learnt_with_the_stand_in(here, capsys):
    path = str(annotations(here))
    main(['--train', path, '--val', path, '--epochs', '1', '--batch-size', '2', '--device', 'cpu'])
    said = capsys.readouterr().out
    assert said.startswith('note: --body names no SMPL model')
    assert 'MPJPE: 17 joints of Human3.6M from the pelvis, truth: neutral bodies' in said
    assert 'nan' not in said


def test_photographs_alone_are_read_by_other_processes():
    assert parsed().workers == 0 and 1 <= parsed('--train', 'a.npz').workers <= 8
    assert parsed('--train', 'a.npz', '--workers', '3').workers == 3


def test_photographs_to_validate_are_read_before_the_training(tmp_path):
    path = annotations(tmp_path)
    (tmp_path / 'val').mkdir()
    other = annotations(tmp_path / 'val', imgname=np.array(['images/0.jpg', 'none.jpg', 'a.jpg']))
    with pytest.raises(ValueError, match=f'{other}: found 2 of 3 images unreadable'):
        prepared(tmp_path, str(path), '--val', str(other))
    _, val_batches, _ = prepared(tmp_path, str(path), '--val', str(other), '--skip-unreadable')
    assert len(val_batches.dataset) == 1


# ---- several processes --------------------------------------------------------------------------

def test_the_batch_is_shared_by_all_processes(here, fails, monkeypatch):
    monkeypatch.setattr(options, 'N_RANKS', 3)
    assert '--batch-size: found 64, expected a multiple of 3' in fails(main, '--device', 'cpu')


def test_each_process_renders_its_share_of_the_people(here):
    args = parsed('--people', '100', '--batch-size', '20')
    counts = []
    for rank in (0, 1):
        batches, *_ = prepare(args, {'neutral': ARRAYS}, SKELETON, rank, 2)
        with closing(batches):
            counts.append((batches.n, batches.batch_size, batches.seed))
    assert counts == [(50, 10, 0), (50, 10, 1)]


SCRIPT = '''
import sys
import torch
sys.path[:0] = {paths!r}
from made import gradients, scores
from pare.ranks import from_first

torch.distributed.init_process_group()
rank = torch.distributed.get_rank()
assert from_first(lambda: rank) == 0
found = gradients(), scores()
if rank == 0:
    torch.save(found, 'found.pt')
torch.distributed.destroy_process_group()
'''


@pytest.mark.slow
def test_two_processes_have_the_gradients_and_the_scores_of_one(tmp_path):
    script = tmp_path / 'two.py'
    script.write_text(SCRIPT.format(paths=[str(ROOT), str(Path(__file__).parent)]))
    with socket.create_server(('localhost', 0)) as server:
        port = server.getsockname()[1]  # one that is free
    shared = os.environ | {'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', 'WORLD_SIZE': '2',
                           'MASTER_ADDR': 'localhost', 'MASTER_PORT': str(port)}
    both = [subprocess.Popen([sys.executable, script], cwd=tmp_path, stderr=subprocess.PIPE,
                             env=shared | {'RANK': rank}) for rank in '01']
    for process in both:
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
    found, scored = torch.load(tmp_path / 'found.pt')
    assert scored == pytest.approx(scores(), rel=1e-4)
    for whole, halves in zip(gradients(), found, strict=True):
        torch.testing.assert_close(halves, whole, atol=1e-6, rtol=1e-3)
