"""The score, and the body in a photograph."""
import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from made import (ARRAYS, CPU, SKELETON, annotations, bare, pictures_in, random_pose, says, sized,
                  truth_of)
from metrics import cal_mpjpe, cal_pa_mpjpe
from pare import eval as scoring
from pare.body import EVALUATED, GENDERS, H36M, H36M_IN_S, KEYPOINTS, Body, Skeleton
from pare.eval import main
from pare.formats import write_npz
from pare.metrics import Meshes, describe_joints, evaluate, names_of, pointed, true_joints, validate
from pare.model import build
from pare.photo import box_of
from pare.pictures import sensitivity
from pare.render import rasterise


# ---- joints and keypoints -----------------------------------------------------------------------

class Fixed(nn.Module):
    """A regressor that finds what it is told, a batch at a time."""

    def __init__(self, *outputs):
        super().__init__()
        self.outputs = iter(outputs)

    def forward(self, image):
        return next(self.outputs)


def test_the_truth_has_no_error_and_a_wrong_pose_that_of_its_joints(batch):
    betas, rotations = random_pose(8)
    wrong = truth_of(batch, betas=betas, rotations=rotations)
    wrong['camera'] = wrong['camera'] + .1
    found = evaluate(Fixed(truth_of(batch), wrong), [batch, batch], SKELETON, CPU)
    torch.testing.assert_close(found['found'][:8], found['true'][:8])
    assert found['off'][:8].nanmean() < 1e-5
    joints = [torch.from_numpy(ARRAYS['J_regressor_h36m']) @ Body(ARRAYS)(*part)[0]
              for part in ((betas, rotations), (batch['betas'], batch['rotations']))]
    one, two = (part - part[:, :1] for part in joints)
    torch.testing.assert_close(found['found'][8:] - found['true'][8:], one - two, atol=1e-5, rtol=0)
    off = found['off'][8:]
    x, y = (16 * (1 + batch['keypoints'][..., :2])).long().clamp(0, 31).unbind(dim=2)
    seen = batch['labels'][torch.arange(8)[:, None], y, x] > 0  # none is unknown
    assert off.isnan().equal(~seen) and off.isnan().any()
    result = validate(Fixed(wrong), [batch], SKELETON, CPU, 64)  # in millimetres and pixels
    assert result == pytest.approx({
        'val_mpjpe': 1e3 * cal_mpjpe(one, two).item(), 'val_pixels': 32 * off.nanmean().item(),
        'val_pa_mpjpe': 1e3 * cal_pa_mpjpe(one, two).item()}, rel=1e-4)


def test_without_a_regressor_keypoints_are_compared(batch):
    """Only those that the body has, from the middle of the shoulders."""
    skeleton = Skeleton(bare('face'))
    points = skeleton(batch['betas'], batch['rotations']).keypoints
    expected = points[:, [KEYPOINTS.index(name) for name in names_of(skeleton)]]
    expected = expected - points[:, 8:10].mean(dim=1, keepdim=True)
    torch.testing.assert_close(true_joints(batch, skeleton), expected)
    assert expected.shape == (8, 10, 3) and '10 keypoints of SPIN' in describe_joints(skeleton)


# ---- vertices and the attention -----------------------------------------------------------------

def test_joints_and_meshes_are_compared_with_those_of_the_true_gender(batch):
    """Against the definitions: 17 joints of Human3.6M, 14 of 3DPW, and the vertex error."""
    (betas, rotations), bodies = random_pose(8), (ARRAYS, ARRAYS, sized(1.1))
    truth = batch | {'gender': torch.arange(8) % 3, 'has_smpl': (torch.arange(8) < 6).float(),
                     'points_3d': torch.ones(8, 24, 4)}
    truth['points_3d'][..., :3] = torch.randn(8, 24, 3)
    found = Meshes(dict(zip(GENDERS, bodies)), CPU)(
        {'betas': betas, 'rotations': rotations}, truth)
    true_17 = true_joints(truth, SKELETON, {'m': Skeleton(ARRAYS), 'f': Skeleton(bodies[2])})
    rows = [H36M.index(name) for name in EVALUATED]
    regressor = torch.from_numpy(ARRAYS['J_regressor_h36m'])
    for row in range(8):
        own = (batch[key][[row]] for key in ('betas', 'rotations'))
        mesh, far = Body(ARRAYS)(betas[[row]], rotations[[row]])[0], Body(bodies[row % 3])(*own)[0]
        off = (mesh - far).norm(dim=2).mean() if row < 6 else torch.tensor(torch.nan)
        torch.testing.assert_close(found['vertices'][row], off, equal_nan=True)
        true = (regressor @ far)[0] if row < 6 else truth['points_3d'][row, H36M_IN_S, :3]
        torch.testing.assert_close(true_17[row], true - true[0], atol=1e-5, rtol=0)
        off = (regressor @ mesh)[0] - (regressor @ mesh)[0, 0] - true + true[0]
        torch.testing.assert_close((found['found_14'] - found['true_14'])[row], off[rows],
                                   atol=1e-5, rtol=0)
    without = Meshes({'neutral': bare()}, CPU)(truth_of(batch), batch)
    assert not without.keys() & {'found_49', 'found_14'} and without['vertices'].max() < 1e-6


def test_a_peak_of_the_attention_within_a_cell_of_its_part_is_a_hit(batch):
    """Against a look at each window: also those of the mean map and of another image's."""
    rng = np.random.default_rng(0)
    labels, maps = rng.integers(0, 40, (8, 9, 9)), rng.random((8, 24, 9, 9))
    labels[labels > 24] = 0

    def hits(peaks) -> float:
        found = []
        for image, part in np.ndindex(8, 24):
            if (labels[image] == part + 1).any():
                row, column = divmod(peaks[image][part], 9)
                window = labels[image, max(row - 1, 0):row + 2, max(column - 1, 0):column + 2]
                found.append((window == part + 1).any())
        return 100 * np.mean(found)

    peaks = maps.reshape(8, 24, 81).argmax(axis=2)
    mean = 8 * [maps.mean(axis=0).reshape(24, 81).argmax(axis=1)]
    truth = batch | {'labels': torch.from_numpy(labels.repeat(2, axis=1).repeat(2, axis=2))}
    output = truth_of(batch, attention=torch.from_numpy(maps))
    meshes = Meshes({'neutral': ARRAYS}, CPU)
    found = [meshes(*({key: value[rows] for key, value in part.items()}
                      for part in (output, truth))) for rows in (slice(3), slice(3, 8))]
    peaks_found, labels_found = (torch.cat([part[key] for part in found])
                                 for key in ('peaks', 'labels'))
    assert pointed(peaks_found, labels_found, meshes.attention) == pytest.approx(
        [hits(peaks), hits(mean), hits(np.roll(peaks, 1, axis=0))])


def test_sensitivity_is_measured_from_the_given_truth(batch):
    """By a network that ignores its image."""
    output, truth = truth_of(batch), torch.randn(17, 3)
    expected = 1000 * cal_mpjpe(true_joints(batch, SKELETON)[0], truth).item()
    found = sensitivity(lambda images: {key: value[:1].repeat_interleave(len(images), dim=0)
                                        for key, value in output.items()},
                        batch['image'][0], truth, ARRAYS, CPU, n=3)
    np.testing.assert_allclose(found, np.full((3, 3), expected), rtol=1e-4)


# ---- the command --------------------------------------------------------------------------------

def test_a_training_is_scored_on_rendered_people(trained, tmp_path, small, capsys):
    main([str(trained.out), '--device', 'cpu', '--sensitivity', '--plots', str(tmp_path)])
    said = capsys.readouterr().out
    with open(tmp_path / 'score.csv', newline='') as file:
        numbers = {row['name']: float(row['value']) for row in csv.DictReader(file)}
    assert '17 joints of Human3.6M from the pelvis' in said and 'nan' not in said
    assert numbers['mean pose'] > numbers['floor']
    assert numbers['MPJPE 16'] == pytest.approx(17 / 16 * numbers['MPJPE'])
    joints = [float(line.split()[1]) for line in said.splitlines() if line.split()[:1] and
              line.split()[0] in H36M]
    assert numbers['MPJPE'] == pytest.approx(np.mean(joints), abs=.1)
    assert {'PA-MPJPE', 'MPJPE 14', 'MPJPE 49', 'PA 49', 'vertices', 'keypoints',
            'pointing'} <= numbers.keys()
    assert pictures_in(tmp_path) == set(scoring.pictures.NAMES)


def test_the_plain_network_is_scored_on_a_set_with_s_alone(here, capsys):
    """As Human3.6M's protocol files are; one row of them has no truth."""
    options = {'kind': 'mlp', 'size': 'small', 'placed': True, 'shared': False}
    torch.save({'options': options | {'resolution': 32, 'rendered': False}, 'mean_pose': None,
                'weights': build(**options).state_dict()}, 'mlp')
    mesh, _ = Body(ARRAYS)(*random_pose(3))
    points = np.zeros((3, 24, 4))
    points[:, H36M_IN_S, :3] = torch.from_numpy(ARRAYS['J_regressor_h36m']) @ mesh
    points[:2, H36M_IN_S, 3] = 1
    path = annotations(here, S=points, pose=None, shape=None, has_smpl=None, part=None)
    main(['mlp', '--data', str(path), '--images', str(here), '--device', 'cpu'])
    output = capsys.readouterr().out
    assert 'note: --body names no SMPL model' in output
    assert '2 samples; 1 without truth are not scored' in output
    assert 'truth: S' in output and 'vertices' not in output and 'nan' not in output


@pytest.mark.parametrize('options, words', (
    ('nothing', 'nothing: No such file'),
    ('text', 'text: found'),
    ('{} --body bare.npz', '--body: --data'),
    ('{} --predict a.csv', '--predict: --data'),
    ('{} --data set.npz --predict a.txt', '--predict: a.txt .csv'),
    ('{} --data set.npz --predict set.npz', '--predict: the input set.npz'),
    ('{} --data set.npz --body bare.npz --predict a.csv', 'RHip left out'),
    ('examples.png --plots .', 'the input MODEL'),
    ('{} --data no.npz', 'no.npz: No such file'),
    ('{} --data set.npz --images no', 'no/images/worst.png: readable'),
    ('{} --data set.npz --plots images', 'the input photograph worst.png'),
    ('{} --data set.npz --body .', 'SMPL_NEUTRAL.npz SMPL_NEUTRAL.pkl'),
    ('{} --plots text', 'text')))
def test_mistakes_are_said_in_a_line(trained, here, fails, options, words):
    annotations(here, imgname=np.array(3 * ['images/worst.png']))
    write_npz(here / 'bare.npz', bare())
    (here / 'text').write_text('v 0 0 0')
    options = options.format(trained.out).split()
    says(fails(main, '--device', 'cpu', '--workers', '0', *options), words)


# ---- a photograph -------------------------------------------------------------------------------

@pytest.fixture
def photo(here):
    Image.new('RGB', (200, 150), (9, 9, 9)).save('photo.png')
    return here


def test_the_mesh_lies_over_the_photograph_where_the_crop_has_it(photo, monkeypatch, capsys):
    """Its silhouette, of vertices that are put into the box by hand."""
    options, (betas, rotations) = {'resolution': 64, 'rendered': True}, random_pose(1, angle=.2)
    rotations[:, 0] = torch.diag(torch.tensor([1., -1, -1]))
    output = {'betas': betas, 'rotations': rotations, 'camera': torch.tensor([[.8, .1, -.05]])}
    monkeypatch.setattr(scoring.photo, 'load_model', lambda *_: (Fixed(output),
                                                                 {'options': options}))
    main(['run', 'photo.png', '--device', 'cpu', '--obj', 'a.obj', '--box', '80', '30', '60',
          '100'])
    assert 'wrote person.npz, person.png and a.obj' in capsys.readouterr().out
    found, mesh = np.load('person.npz'), Body(ARRAYS)(betas, rotations)[0][0].numpy()
    assert {key: found[key].shape for key in found.files} == {
        'verts': (1728, 3), 'pose': (72,), 'betas': (10,), 'pred_cam': (3,), 'translation': (3,),
        'joints': (24, 3)}
    np.testing.assert_allclose(found['verts'], mesh, atol=1e-6)
    crop = .8 * (mesh[:, :2] + (.1, -.05))  # -1 to 1
    pixels = crop * 1.2 * 100 / 2 + (110, 80)
    silhouette = rasterise(pixels, mesh[:, 2], ARRAYS['f'], (150, 200))[0] >= 0
    picture = np.asarray(Image.open('person.png'))
    assert picture.shape == (150, 200 + 150, 3)  # the photograph, and the crop as high
    drawn = (picture[:, :200] != 9).any(axis=2)
    assert silhouette.sum() > 500 and (drawn != silhouette).mean() < .01
    lines = Path('a.obj').read_text().splitlines()
    corners = np.array([line.split()[1:] for line in lines if line.startswith('v ')], dtype=float)
    np.testing.assert_allclose(corners, mesh * (1, -1, -1), atol=1e-6)  # y is up
    faces = np.array([line.split()[1:] for line in lines if line.startswith('f ')], dtype=int)
    np.testing.assert_array_equal(faces, ARRAYS['f'] + 1)


@pytest.mark.parametrize('options, words', (
    ('--box 200 0 5 5', '--box: 200 0 5 5'), ('--box -9 0 9 5', '--box: 200 by 150'),
    ('--box 0 0 nan 5', '--box:'), ('--box 0 0 1e9 5', '--box: 100000'), ('--focal 0', '--focal:'),
    ('--out photo.npz', 'photo.png the photograph'), ('--obj person.png', 'the picture of --out'),
    ('--model person.npz', '--out: the input --model'), ('--out person.png', '--out: .npz'),
    ('--out no/person.npz', 'no/person.npz'), ('--model photo.png', 'photo.png: weights')))
def test_mistakes_with_a_photograph_are_said_in_a_line(photo, fails, options, words):
    says(fails(main, 'run', '--device', 'cpu', 'photo.png', *options.split()), words)
    assert {path.name for path in photo.iterdir()} == {'photo.png'}


def test_the_shipped_weights_run_on_a_whole_photograph(photo, capsys):
    main(['run', 'photo.png', '--device', 'cpu'])
    assert 'rendered people' in capsys.readouterr().out
    assert all(np.isfinite(array).all() for array in np.load('person.npz').values())
    assert box_of(None, (200, 150)) == ((100, 75), 240)
    for box, warned in (((100, 50, 100, 100), False), ((100, 50, 190, 140), True)):
        box_of(box, (200, 150))
        assert ('not two corners' in capsys.readouterr().out) == warned
