"""All of it on the files of the field, but small: convert, train from two sets, score, hand in.

The folder is that of the course in which the report was written: SMPL's 6,890 vertices, and no
J_regressor_h36m.npy.
"""
import numpy as np
import pytest
import torch
from PIL import Image

from made import grown, pickle_as_field, sequence, smpl_parts
from pare import eval as scoring, files, model as models, training
from pare.body import Body, axis_angle_to_matrix
from test_spin import MAP, VERTICES

CPU = torch.device('cpu')
SIZES = {'NEUTRAL': 1, 'MALE': 1.1, 'FEMALE': .9}
SMPL = ('--body', 'data/body_models/smpl', '--device', 'cpu', '--plots', 'plots')
SETS = {'mpii_train_eft': 'mpii/images', '3dpw_validation_subset': '3dpw/imageFiles',
        '3dpw_test_subset_cleaned': '3dpw/imageFiles'}
N = 8


def extras(name: str) -> str:
    return f'data/dataset_extras/{name}.npz'


def images(name: str) -> str:
    return f'data/dataset_folders/{name}'


def annotated(name: str, folder: str, rng) -> dict:
    """A set of N samples in the keys of its kind; the test set has no truth."""
    found = {'imgname': np.array([f'{folder}/{number}.jpg' for number in range(N)]),
             'center': np.full((N, 2), 45.), 'scale': np.full(N, .4)}
    if 'test' not in name:
        pose = rng.normal(0, .2, (N, 72))
        pose[:, 0] += np.pi
        found |= {'pose': pose, 'shape': rng.normal(0, 1, (N, 10))}
    if 'mpii' in name:
        sure = np.ones((N, 24, 1))
        return found | {'part': np.concatenate([rng.uniform(20, 80, (N, 24, 2)), sure], axis=2),
                        'S': np.concatenate([rng.normal(0, .3, (N, 24, 3)), sure], axis=2)}
    return found | {'gender': np.array(N // 2 * ['m', 'f'])}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder, body, rng = tmp_path_factory.mktemp('course'), grown(), np.random.default_rng(0)
    for name in ('sequenceFiles', 'data/body_models/smpl', 'data/dataset_extras',
                 images('3dpw/imageFiles/walk_00'), images('mpii/images')):
        (folder / name).mkdir(parents=True)
    for name, size in SIZES.items():
        pickle_as_field(folder / f'data/body_models/smpl/SMPL_{name}.pkl',
                        smpl_parts(body | {'v_template': size * body['v_template']}), protocol=2)
    np.save(folder / 'data/J_regressor_extra.npy', body['J_regressor_extra'].astype(float))
    pickle_as_field(folder / 'sequenceFiles/walk_00.pkl', sequence(), protocol=2)
    photographs = [f'3dpw/imageFiles/walk_00/image_{frame:05}.jpg' for frame in range(4)]
    for name, place in SETS.items():
        np.savez(folder / extras(name), **annotated(name, place.partition('/')[2], rng))
        photographs += [f'{place}/{number}.jpg' for number in range(N)]
    for name in photographs:
        Image.fromarray(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(
            folder / images(name))
    np.save(folder / 'fits.npy', rng.normal(0, .2, (N, 82)))
    torch.save(models.build('pare', 'small').backbone.state_dict()
               | {'fc.weight': torch.zeros(1000, 128)}, folder / 'resnet.pth')
    return folder


@pytest.fixture
def course(folder, small, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(scoring.pictures, 'draw_all', lambda *_: None)
    return folder


def test_the_files_of_the_field_are_trained_on_scored_and_handed_in(course, capsys, fails):
    files.main(['sequenceFiles', '3dpw.npz'])
    val = extras('3dpw_validation_subset')
    training.main([*SMPL, '--init', 'resnet.pth', '--train', f'{extras("mpii_train_eft")}:0.4',
                   '3dpw.npz:0.6', '--val', val, '--images', images('mpii'), images('3dpw'),
                   '--fits', 'fits.npy', '-', '--epochs', '1', '--batch-size', '4',
                   '--resolution', '32', '--out', 'mine'])
    said = capsys.readouterr().out
    assert '0 weights of the backbone missing' in said and 'nan' not in said
    assert 'MPJPE: 24 keypoints of SPIN from the middle of RHip and LHip, truth: bodies of the ' \
        'gender in the file' in said
    assert said.splitlines()[-3].split()[4] == '-'  # the set to validate has no keypoints
    _, kept = models.load_model('mine', CPU)
    assert kept['options']['vertices'] == 6890 and kept['options']['rendered'] is False
    assert 'a body of 6,890 vertices, expected the same' in fails(scoring.main, 'mine')
    errors = {}
    for gender in ('neutral', 'file'):
        scoring.main(['mine', '--data', val, *SMPL, '--images', images('3dpw'), '--gt-gender',
                      gender, '--predict', 'found.npz'])
        said = capsys.readouterr().out
        errors[gender] = {line[:10].strip(): float(line[10:].split()[0])
                          for line in said.splitlines() if ' mm ' in line}
    assert 'found no J_regressor_h36m.npy' in said and 'MPJPE 14' not in said
    assert 'the 49 joints of SPIN from the nose, truth: bodies of the gender in the file' in said
    assert errors['file']['vertices'] != errors['neutral']['vertices']
    found, truth = np.load('found.npz'), np.load(val)
    assert {key: found[key].shape for key in found.files} == {
        'pose': (N, 72), 'betas': (N, 10), 'pred_cam': (N, 3), 'joints': (N, 49, 3),
        'imgname': (N,)}
    neutral = joints_of('NEUTRAL', found['pose'], found['betas'])
    np.testing.assert_allclose(found['joints'], neutral, atol=1e-4)
    true = joints_of('MALE', truth['pose'], truth['shape'])
    true[1::2] = joints_of('FEMALE', truth['pose'], truth['shape'])[1::2]
    off = np.linalg.norm((neutral - neutral[:, :1]) - (true - true[:, :1]), axis=2)
    assert errors['file']['MPJPE 49'] == pytest.approx(1000 * off.mean(), abs=.1)


def joints_of(name: str, pose, betas) -> np.ndarray:
    """The 49 joints (N, 49, 3), of all vertices."""
    body = grown()
    layer = Body(body | {'v_template': np.float32(SIZES[name] * body['v_template'])})
    mesh, joints = layer(torch.tensor(betas).float(),
                         axis_angle_to_matrix(torch.tensor(pose).float().view(-1, 24, 3)))
    points = torch.cat([joints, mesh[:, VERTICES]], dim=1)
    regressed = torch.from_numpy(body['J_regressor_extra']) @ mesh
    own = [8, 5, None, None, 4, 7, 21, 19, 17, 16, 18, 20, *7 * [None], 24, 26, 25, 28, 27]
    extra = iter(regressed.unbind(dim=1))
    last = [next(extra) if row is None else points[:, row] for row in own]
    return np.concatenate([points[:, MAP], torch.stack(last, dim=1)], axis=1)


@pytest.mark.slow
def test_the_full_plain_network_takes_a_step_is_scored_and_runs(course):
    body = '--body', 'data/body_models/smpl/SMPL_NEUTRAL.pkl', *SMPL[2:4]
    training.main([*body, '--size', 'full', '--kind', 'mlp', '--train', extras('mpii_train_eft'),
                   '--images', images('mpii'), '--epochs', '1', '--batch-size', '3', '--workers',
                   '0', '--resolution', '32', '--out', 'mlp'])
    scoring.main(['mlp', '--data', extras('3dpw_validation_subset'), *body, '--images',
                  images('3dpw')])
    scoring.main(['run', images('mpii/images/0.jpg'), '--model', 'mlp', *body])
    assert np.isfinite(np.load('person.npz')['verts']).all()


def test_images_without_truth_are_handed_in(course, trained, capsys, fails):
    options = [str(trained.out), '--data', extras('3dpw_test_subset_cleaned'), *SMPL, '--images',
               images('3dpw')]
    scoring.main([*options, '--predict', 'joints.csv'])
    said = capsys.readouterr().out
    assert f'wrote {N} bodies to joints.csv' in said and 'MPJPE' not in said
    assert 'warning: ' in said  # the weights know the stand-in
    joints = np.loadtxt('joints.csv', delimiter=',')
    scoring.main([*options, '--predict', 'joints.npz'])
    np.testing.assert_allclose(joints, np.load('joints.npz')['joints'].reshape(N, 147), atol=1e-6)
    assert 'found neither pose and shape' in fails(scoring.main, *options)
