"""Pictures and regressors of pare/."""
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import ROOT
from pare import data, eval as scoring, model as models, render, training
from pare.body import JOINTS, KEYPOINTS, PARENTS, Skeleton, axis_angle_to_matrix
from pare.data import People, render_set
from pare.standin import make_body

ARRAYS = {key: array.astype(np.int64 if array.dtype.kind in 'ui' else np.float32)
          for key, array in make_body().items()}
EYE = torch.eye(3).expand(1, 24, 3, 3)


def random_pose(n, seed=0, angle=.6):
    torch.manual_seed(seed)
    return torch.randn(n, 10), axis_angle_to_matrix(angle * torch.randn(n, 24, 3))


@pytest.fixture(scope='module')
def people(tmp_path_factory):
    """A file of 40 rendered people."""
    path = tmp_path_factory.mktemp('people') / 'people.npz'
    render_set(path, 40, 64, seed=0)
    return path


# ---- pictures -----------------------------------------------------------------------------------

def test_a_triangle_has_its_area_and_the_nearer_one_wins():
    points = np.array([[10., 10], [10, 90], [90, 10], [5, 5], [5, 95], [95, 5]])
    faces = np.array([[0, 1, 2], [3, 4, 5], [0, 2, 1]])
    depth = np.array([1., 1, 1, 2, 2, 2])
    which, shares = render.rasterise(points, depth, faces, (100, 100))
    assert (which == 0).sum() == pytest.approx(80 * 80 / 2, rel=.02)
    assert (which == 1).sum() == pytest.approx(90 * 90 / 2 - 80 * 80 / 2, rel=.05)
    assert not (which == 2).any()  # turned away
    y, x = np.argwhere(which == 0)[500]
    np.testing.assert_allclose(shares[y, x] @ points[:3], (x + .5, y + .5), atol=1e-4)
    crossing = render.rasterise(points, np.array([1, 3, 3, 2, 2, 2.]), faces[:2], (100, 100))[0]
    assert crossing[12, 12] == 0 and crossing[14, 80] == 1  # by the depth at the pixel


def test_parts_lie_where_their_joints_are(people):
    found = np.load(people)
    assert found['images'].shape == (40, 64, 64, 3) and found['images'].std() > 30
    hits = []
    for labels, points, visible in zip(found['labels'], found['part'], found['visible']):
        for name in ('LElbow', 'RElbow', 'LKnee', 'RKnee'):
            x, y, _ = points[KEYPOINTS.index(name)]
            window = labels[max(int(y) - 2, 0):int(y) + 3, max(int(x) - 2, 0):int(x) + 3]
            joint = JOINTS.index(name)
            if visible > .99:
                hits.append(bool({joint + 1, PARENTS[joint] + 1} & set(window.ravel())))
    assert np.mean(hits) > .8 and 0 < found['visible'].min() < .95


def test_hidden_parts_have_labels_too(people):
    found = np.load(people)
    same = found['labels'] == found['whole']
    assert (found['labels'][~same] == 0).all() and not same.all(axis=(1, 2)).all()
    np.testing.assert_allclose(same.all(axis=(1, 2)), found['visible'] == 1)
    samples, row = People(people, ARRAYS, seed=0), int(found['visible'].argmin())
    seen = samples[row]['labels']
    samples.amodal = True
    whole = samples[row]['labels']
    assert ((seen == whole) | (seen == 0)).all() and (whole > 0).sum() > (seen > 0).sum()


def test_rendering_is_reproducible(people, tmp_path):
    render_set(tmp_path / 'again.npz', 40, 64, seed=0)
    one, two = np.load(people), np.load(tmp_path / 'again.npz')
    assert all(np.array_equal(one[key], two[key]) for key in one.files)


# ---- regressors ---------------------------------------------------------------------------------

def resnet_50() -> dict:
    """Names and shapes of torchvision's ResNet-50 up to its pooling, by the table of its paper."""
    def conv_norm(conv, norm, n_in, n, size):
        return {f'{conv}.weight': (n, n_in, size, size), f'{norm}.num_batches_tracked': ()} | {
            f'{norm}.{part}': (n,) for part in ('weight', 'bias', 'running_mean', 'running_var')}

    found, n_in = conv_norm('conv1', 'bn1', 3, 64, 7), 64
    for stage, (width, count) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=1):
        for block in range(count):
            at, n = f'layer{stage}.{block}', 4 * width
            for number, sizes in enumerate(((n_in, width, 1), (width, width, 3), (width, n, 1)), 1):
                found |= conv_norm(f'{at}.conv{number}', f'{at}.bn{number}', *sizes)
            if block == 0:
                found |= conv_norm(f'{at}.downsample.0', f'{at}.downsample.1', n_in, n, 1)
            n_in = n
    return found


def test_the_sizes_are_those_of_the_paper():
    full, plain = models.build('pare', 'full'), models.build('mlp', 'full')
    shapes = {name: tuple(value.shape) for name, value in full.backbone.state_dict().items()}
    assert shapes == resnet_50() and len(shapes) == 318
    assert sum(map(torch.numel, full.backbone.parameters())) == 23_508_032
    assert sum(map(torch.numel, plain.parameters())) == 26_816_733
    pose = 24 * (258 * 256 + 256 + 256 * 6 + 6)  # with the place of each part
    assert sum(map(torch.numel, full.parameters())) == (
        23_508_032 + 2 * 5_899_776 + 6_425 + 16_448 + pose + 15_370 + 4_611)


@pytest.mark.parametrize('kind', ('mlp', 'pare'))
def test_an_untrained_regressor_begins_upright(kind):
    model = models.build(kind, 'small').eval()
    found = model(torch.randn(2, 3, 64, 64))
    expected = EYE.repeat(2, 1, 1, 1)
    expected[:, 0] = torch.diag(torch.tensor([1., -1, -1]))
    torch.testing.assert_close(found['rotations'], expected, atol=.1, rtol=0)
    torch.testing.assert_close(found['camera'], torch.tensor([[.9, 0, 0]] * 2), atol=.1, rtol=0)
    if kind == 'pare':
        torch.testing.assert_close(found['attention'].sum(dim=(2, 3)), torch.ones(2, 24))
        assert found['parts'].shape == (2, 25, 16, 16)


def test_features_come_from_where_the_attention_is():
    model = models.build('pare', 'small').eval()
    maps = torch.full((1, 25, 16, 16), -50.)
    maps[0, 5, 3, 12] = 50.  # part 4
    x = torch.rand(1, 32, 16, 16)
    model.backbone, model.branch_2d, model.parts = nn_const(0), nn_const(0), nn_const(maps)
    model.branch_3d, pooled = nn_const(x), []
    model.pose.register_forward_pre_hook(lambda _, args: pooled.append(args[0]))
    model(torch.zeros(1, 3, 64, 64))
    torch.testing.assert_close(pooled[0][0, 4, :32], x[0, :, 3, 12])
    torch.testing.assert_close(pooled[0][0, 4, 32:], torch.tensor([12.5 / 8 - 1, 3.5 / 8 - 1]))
    torch.testing.assert_close(pooled[0][0, 0, :32], x[0].mean(dim=(1, 2)))  # even maps


def nn_const(value):
    module = torch.nn.Module()
    module.forward = lambda *_: value
    return module


@pytest.mark.parametrize('wrap', (
    lambda state: state | {'fc.weight': torch.zeros(1000, 512), 'fc.bias': torch.zeros(1000)},
    lambda state: {f'module.{name}': value for name, value in state.items()},
    lambda state: {'state_dict': {f'backbone.{name}': value for name, value in state.items()}},
    lambda state: {'model': state | {'fc1.weight': torch.zeros(3, 3), 'decpose.bias': torch.ones(4)
                                     }}))
def test_weights_of_a_backbone_are_found_in_any_wrapping(wrap):
    one, two = models.ResNet(18, 16), models.ResNet(18, 16)
    missing, unused = two.load(wrap(one.state_dict()))
    assert missing == [] and all('fc' in name or 'dec' in name for name in unused)
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(one.eval()(image), two.eval()(image))


def test_weights_of_another_network_are_refused():
    with pytest.raises(ValueError, match='conv1.weight: found shape .64, 3, 7, 7., expected'):
        models.ResNet(18, 16).load(models.ResNet(18, 64).state_dict())
    with pytest.raises(ValueError, match='found no weights of a ResNet'):
        models.ResNet(18, 16).load({'layers.weight': torch.zeros(1)})


# ---- training -----------------------------------------------------------------------------------

def batch_of(people, rows):
    return torch.utils.data.default_collate([people[row] for row in rows])


def test_the_truth_has_no_loss(people):
    batch = batch_of(People(people, ARRAYS), range(8))
    points = Skeleton(ARRAYS)(batch['betas'], batch['rotations'])[0]
    camera = np.stack([data.fit_camera(one.numpy(), two[:, :2].numpy(), np.ones(24))
                       for one, two in zip(points, batch['keypoints'])])
    parts = 50. * torch.nn.functional.one_hot(batch['labels'], 25).movedim(3, 1)
    truth = {'betas': batch['betas'], 'rotations': batch['rotations'], 'parts': parts,
             'camera': torch.from_numpy(camera)}
    terms = training.losses(truth, batch, Skeleton(ARRAYS))
    assert terms.pop('camera') < .01 and all(term < 1e-6 for term in terms.values())
    terms = training.losses(truth | {'parts': -parts}, batch, Skeleton(ARRAYS))
    assert terms['parts'] > 1 and training.losses(truth, batch, Skeleton(ARRAYS), 0.)['parts'] == 0


def test_what_a_sample_lacks_teaches_nothing(people):
    batch = batch_of(People(people, ARRAYS), range(4))
    batch |= {'has_smpl': torch.tensor([1., 0, 0, 0]), 'labels': batch['labels'].clone()}
    batch['labels'][1:] = -1
    batch['points_3d'][2, :, 3] = 1  # one with 3D points alone
    found = {'betas': torch.randn(4, 10), 'rotations': random_pose(4)[1],
             'camera': torch.rand(4, 3) + .5, 'parts': torch.randn(4, 25, 16, 16)}
    reached = {}
    for name in ('keypoints', 'points_3d', 'pose', 'betas', 'parts'):
        leaves = {key: value.clone().requires_grad_() for key, value in found.items()}
        training.losses(leaves, batch, Skeleton(ARRAYS))[name].backward()
        reached[name] = [row for row in range(4) if any(
            leaf.grad is not None and leaf.grad[row].any() for leaf in leaves.values())]
    assert reached == {'keypoints': [0, 1, 2, 3], 'points_3d': [0, 2], 'pose': [0], 'betas': [0],
                       'parts': [0]}
    nothing = batch | {'has_smpl': torch.zeros(4), 'labels': torch.full_like(batch['labels'], -1)}
    terms = training.losses(found, nothing, Skeleton(ARRAYS))
    assert terms['pose'] == terms['parts'] == 0 and all(term.isfinite() for term in terms.values())


def test_sets_are_mixed_in_their_shares(people):
    sets = [People(people, ARRAYS, seed=0), People(people, ARRAYS, seed=1)]
    seen = [training.Mixture(sets, (.75, .25), 4, 5, rank=rank, n_ranks=2).epoch(3).batch_sampler
            for rank in (0, 1)]
    rows = np.array(seen)
    assert rows.shape == (2, 10, 4) and (rows < 40).mean() == .75
    whole = training.Mixture(sets, (.75, .25), 8, 5).epoch(3).batch_sampler
    assert [sorted(one + two) for one, two in zip(*seen)] == [sorted(batch) for batch in whole]
    assert sets[0].epoch == 3
    with pytest.raises(ValueError, match='at least a batch of 100'):
        training.Mixture(sets, (1, 1), 100, 5)


def test_losses_fall(people):
    torch.manual_seed(0)
    model, skeleton = models.build('pare', 'small'), Skeleton(ARRAYS)
    batch = batch_of(People(people, ARRAYS), range(16))
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimiser, 1)
    terms = [training.run_epoch(epoch, 5 * [batch], model, optimiser, schedule, skeleton, 1.)
             for epoch in range(10)]
    for name in ('keypoints', 'points_3d', 'parts'):
        assert terms[-1][name] < .6 * terms[0][name]
    bad = batch | {'betas': torch.full_like(batch['betas'], torch.nan)}
    with pytest.raises(ValueError, match='epoch 7: found a loss of nan'):
        training.run_epoch(7, [bad], model, optimiser, schedule, skeleton, 1.)


def test_the_full_network_makes_a_step(people):
    torch.manual_seed(0)
    model = models.build('pare', 'full')
    batch = batch_of(People(people, ARRAYS, resolution=224), range(2))
    before = model.pose.weight_2.detach().clone()
    optimiser = torch.optim.Adam(model.parameters(), 3e-4)
    terms = training.run_epoch(1, [batch], model, optimiser, torch.optim.lr_scheduler.ConstantLR(
        optimiser, 1), Skeleton(ARRAYS), 1.)
    assert 0 < terms['parts'] < 10 and not torch.equal(before, model.pose.weight_2)


SMALL = ('--epochs', '2', '--batch-size', '8', '--device', 'cpu')


@pytest.fixture
def here(tmp_path, monkeypatch, people):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'people_train.npz').symlink_to(people)
    (tmp_path / 'people_test.npz').symlink_to(people)
    return tmp_path


@pytest.mark.parametrize('average', ((), ('--average',)))
def test_a_resumed_training_ends_with_the_same_bits(here, monkeypatch, average, capsys):
    assert training.main([*SMALL, *average, '--out', 'whole']) == 0
    run_epoch = training.run_epoch

    def killed(epoch, *rest):
        if epoch == 2:
            raise KeyboardInterrupt
        return run_epoch(epoch, *rest)
    monkeypatch.setattr(training, 'run_epoch', killed)
    assert training.main([*SMALL, *average, '--out', 'cut']) == 130
    monkeypatch.setattr(training, 'run_epoch', run_epoch)
    assert training.main([*SMALL, *average, '--out', 'cut', '--resume']) == 0
    with pytest.raises(SystemExit):
        training.main([*SMALL, *average, '--out', 'cut', '--resume', '--seed', '7'])
    assert '--seed: found 7, expected 0 as this training began' in capsys.readouterr().err
    one, two = (torch.load(name, weights_only=True)['weights'] for name in ('whole', 'cut'))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert {'history.csv', 'history.png'} == {path.name for path in Path('pare/plots').iterdir()}


def test_a_ladder_is_climbed_once(here, capsys, monkeypatch):
    ladder = ('--ladder', '--seeds', '0', '--epochs', '1', '--batch-size', '16', '--device', 'cpu')
    assert training.main(ladder) == 0
    table = Path('pare/plots/ladder.csv').read_text()
    rows = [dict(zip(training.RUNG, line.split(','))) for line in table.splitlines()[1:]]
    assert [row['rung'] for row in rows] == list(training.LADDER)
    assert float(rows[0]['gain']) == 0 and int(rows[1]['samples']) == 2 * int(rows[0]['samples'])
    for row in rows[1:]:
        gain = float(rows[0]['mpjpe']) - float(row['mpjpe'])
        assert float(row['gain']) == pytest.approx(gain, abs=.02) and float(row['gain_error']) > 0
    groups = [float(rows[0][f'visible_{group}']) for group in range(training.GROUPS)]
    assert np.mean(groups) == pytest.approx(float(rows[0]['mpjpe']), rel=.05)
    pictures = {path.name for path in Path('pare/plots').glob('ladder*.png')}
    assert pictures == {'ladder.png', 'ladder_history.png', 'ladder_visible.png'}
    monkeypatch.setattr(training, 'train', None)  # would fail
    assert training.main(ladder) == 0
    assert Path('pare/plots/ladder.csv').read_text() == table


def test_the_ladder_of_the_readme_is_that_of_the_table():
    text = (ROOT / 'README.md').read_text()
    rows = training.read_rows(ROOT / 'pare/plots/ladder.csv')
    column = {(rung, name): np.array([float(row[name]) for row in rows if row['rung'] == rung])
              for rung in training.LADDER for name in training.RUNG[1:]}

    def spread(rung, name):
        values = column[rung, name]
        return f'{values.mean():.1f} ± {values.std():.1f}'

    for rung in training.LADDER:
        assert column[rung, 'seed'].tolist() == [0, 1, 2]
        assert (f'| {rung} | {column[rung, "samples"][0]:,.0f} '
                f'| {column[rung, "seconds"].min():.0f} s '
                f'| {spread(rung, "mpjpe")} | {spread(rung, "occluded")} |\n') in text
    _, as_long, *_ = training.LADDER
    prose, ours = ' '.join(text.split()), '+ part loss'
    assert f'{spread(ours, "gain")} mm image by image' in prose
    assert f'error of {column[ours, "gain_error"].max():.1f} mm at most' in prose
    gain = column[as_long, 'mpjpe'].mean() - column[ours, 'mpjpe'].mean()
    assert f'{gain:.1f} mm in about the same time' in prose
    assert f'gain less, {spread(ours, "occluded_gain")} mm' in prose


def test_processes_share_a_batch(here, capsys, monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '3')
    with pytest.raises(SystemExit):
        training.main([*SMALL, '--batch-size', '16'])
    assert 'found 16, expected a multiple of the 3 processes' in capsys.readouterr().err


def test_two_processes_have_the_gradients_of_one(people, tmp_path):
    """With gloo on the CPU; batch norm as in evaluation, for it sees its own half alone."""
    script = tmp_path / 'two.py'
    script.write_text(f'''
import os, sys
import torch
sys.path[:0] = {[str(ROOT), str(ROOT / "tests")]!r}
from test_pare import ARRAYS, batch_of, models, training
from pare.body import Skeleton
from pare.data import People
rank, n = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))
torch.manual_seed(0)
model = models.build('pare', 'small').eval()
learner = model
if n > 1:
    torch.distributed.init_process_group('gloo')
    learner = torch.nn.parallel.DistributedDataParallel(model)
batch = batch_of(People({str(people)!r}, ARRAYS), range(8)[rank::n])
batch['has_smpl'][:] = torch.tensor([1., 1, 0, 1, 0, 0, 1, 1])[rank::n]
terms = training.losses(learner(batch['image']), batch, Skeleton(ARRAYS))
sum(terms.values()).backward()
if rank == 0:
    torch.save([weights.grad for weights in model.parameters()], f'{{n}}.pt')
''')
    environment = os.environ | {'OMP_NUM_THREADS': '1'}
    subprocess.run([sys.executable, script], cwd=tmp_path, check=True, env=environment)
    subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', '2',
                    '--master-port', '29517', script], cwd=tmp_path, check=True, env=environment,
                   capture_output=True)
    one, two = (torch.load(tmp_path / f'{n}.pt') for n in (1, 2))
    for whole, halves in zip(one, two):
        torch.testing.assert_close(halves, whole, atol=1e-6, rtol=1e-3)


# ---- the score ----------------------------------------------------------------------------------

def test_a_peak_within_a_cell_of_its_part_is_a_hit():
    labels = torch.zeros(1, 16, 16, dtype=torch.long)
    labels[0, 4, 4], labels[0, 10, 10] = 1, 2
    attention = torch.zeros(1, 24, 16, 16)
    attention[0, 0, 5, 5] = attention[0, 1, 10, 12] = 1
    assert scoring.pointing(attention, labels)[0, :3].tolist() == [1, 0, -1]


def test_a_training_is_scored_and_run_on_a_photograph(here, capsys):
    training.main([*SMALL])
    assert scoring.main([]) == 0
    output = capsys.readouterr().out
    assert 'MPJPE' in output and '40 images, 14 joints, pelvis = regressor row 0' in output
    assert 'pointing' in output and output.count(' mm') == 3 + 14
    pictures = {path.name for path in Path('pare/plots').glob('*.png')}
    assert pictures == {'history.png', 'examples.png', 'worst.png', 'joint_error.png',
                        'visible.png', 'attention.png', 'sensitivity.png'}
    Image.fromarray(np.load('people_test.npz')['images'][0]).save('photo.jpg')
    assert scoring.main(['run', 'photo.jpg', '--box', '5', '5', '50', '50', '--obj', 'a.obj']) == 0
    lines = Path('a.obj').read_text().splitlines()
    assert sum(line.startswith('v ') for line in lines) == 1728 and lines[-1].startswith('f ')
    found = np.load('person.npz')
    assert found['pose'].shape == (72,) and found['verts'].shape == (1728, 3)
    for options, message in ((['run', 'photo.jpg', '--box', '99', '0', '5', '5'], 'expected a box'),
                             (['run', 'a.obj'], 'a.obj: found no readable image'),
                             (['nothing'], 'nothing: '), (['a.obj'], 'no weights of pare.train')):
        with pytest.raises(SystemExit) as end:
            scoring.main(options)
        error = capsys.readouterr().err
        assert end.value.code == 2 and message in error and error.count('\n') == 1


def test_true_bodies_of_a_gender_are_used():
    wide = ARRAYS | {'v_template': 1.1 * ARRAYS['v_template']}
    betas, rotations = random_pose(2)
    sample = {'image': torch.zeros(3, 64, 64), 'labels': torch.zeros(16, 16, dtype=torch.long)}
    people = [sample | {'betas': betas[row], 'rotations': rotations[row]} for row in range(2)]

    def model(image):
        return {'betas': betas, 'rotations': rotations}
    found = scoring.measure(model, people, {'neutral': ARRAYS, 'f': wide}, ['neutral', 'f'],
                            torch.device('cpu'))
    errors = scoring.cal_mpjpe(found['found'], found['true'], avg=False)
    assert errors[0] < 1e-6 and .01 < errors[1] < .2 and found['vertices'][1] > .01
