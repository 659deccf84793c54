"""All of it on a folder as a user has it, but small: convert, train from two sets, evaluate."""
import numpy as np
import pytest
import torch
from PIL import Image

from made import ARRAYS, grown, pickle_as_field, sequence, smpl_parts
from pare import eval as scoring, files, model as models, training
from pare.body import N_BETAS, Body, axis_angle_to_matrix
from test_spin import MAP, VERTICES

N_MPII = 8


@pytest.fixture
def folder(tmp_path, monkeypatch, small):
    """smpl/ with three bodies and both regressors, a sequence of 3DPW, MPII with fits, a ResNet."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ('smpl', 'sequenceFiles', 'imageFiles/walk_00', 'images'):
        (tmp_path / name).mkdir(parents=True)
    for name, size in (('NEUTRAL', 1), ('MALE', 1.1), ('FEMALE', .9)):
        model = smpl_parts() | {'v_template': size * ARRAYS['v_template']}
        pickle_as_field(tmp_path / f'smpl/SMPL_{name}.pkl', model, protocol=2)
    for key in ('J_regressor_h36m', 'J_regressor_extra'):
        np.save(tmp_path / f'smpl/{key}.npy', ARRAYS[key].astype(float))
    pickle_as_field(tmp_path / 'sequenceFiles/walk_00.pkl', sequence(), protocol=2)
    names = [f'imageFiles/walk_00/image_{frame:05}.jpg' for frame in range(4)]
    mpii = [f'images/{number:09}.jpg' for number in range(N_MPII)]
    for name in names + mpii:
        Image.fromarray(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(tmp_path / name)
    part = np.concatenate([rng.uniform(20, 70, (N_MPII, 24, 2)), np.ones((N_MPII, 24, 1))], axis=2)
    np.savez(tmp_path / 'mpii.npz', imgname=np.array(mpii), center=np.full((N_MPII, 2), 45.),
             scale=np.full(N_MPII, .4), part=part, openpose=np.zeros((N_MPII, 25, 3)))
    np.save(tmp_path / 'mpii_fits.npy', rng.normal(0, .2, (N_MPII, 72 + N_BETAS)))
    weights = models.build('pare', 'small').backbone.state_dict()
    torch.save(weights | {'fc.weight': torch.zeros(1000, 128)}, tmp_path / 'resnet.pth')
    return tmp_path


def test_from_the_files_of_the_field_to_an_error(folder, capsys, monkeypatch):
    files.main(['sequenceFiles', '3dpw.npz'])
    training.main([
        '--body', 'smpl', '--init', 'resnet.pth', '--train', 'mpii.npz:0.7',
        '3dpw.npz:0.3', '--val', '3dpw.npz', '--fits', 'mpii_fits.npy', '-', '--epochs', '1',
        '--batch-size', '4', '--resolution', '64', '--device', 'cpu', '--out', 'mine',
        '--plots', 'plots'])
    assert '0 weights of the backbone missing' in capsys.readouterr().out
    _, kept = models.load_model('mine', torch.device('cpu'))
    assert kept['options']['rendered'] is False and kept['mean_pose'].shape == (17, 3)
    errors = {}
    for gender in ('file', 'neutral'):
        with monkeypatch.context() as patch:
            if gender == 'neutral':  # no pictures again
                patch.setattr(scoring.pictures, 'draw_all', lambda *_: None)
            scoring.main(['mine', '--data', '3dpw.npz', '--body', 'smpl', '--gt-gender',
                                 gender, '--device', 'cpu', '--plots', 'plots'])
        errors[gender] = {line[:10].strip(): line[10:].split()[0]
                          for line in capsys.readouterr().out.splitlines() if ' mm ' in line}
    assert {'MPJPE', 'PA-MPJPE', 'MPJPE 14'} < errors['file'].keys()
    for name in ('MPJPE', 'MPJPE 14', 'vertices'):
        assert errors['file'][name] != errors['neutral'][name]
    assert len(list((folder / 'plots').glob('*.png'))) > 3


# ---- the files of the course that the report was written in -------------------------------------

SIZES = {'NEUTRAL': 1, 'MALE': 1.1, 'FEMALE': .9}
KEYWORDS = ('--images', 'data/dataset_folders/{}', '--body', 'data/body_models/smpl', '--device',
            'cpu', '--plots', 'plots')


@pytest.fixture(scope='module')
def course(tmp_path_factory):
    """The folder data/ of the course, with SMPL's 6,890 vertices and no J_regressor_h36m.npy."""
    folder, body, rng = tmp_path_factory.mktemp('course'), grown(), np.random.default_rng(0)
    for name in ('body_models/smpl', 'dataset_extras', 'dataset_folders/3dpw/imageFiles',
                 'dataset_folders/mpii/images'):
        (folder / 'data' / name).mkdir(parents=True)
    for name, size in SIZES.items():
        pickle_as_field(folder / f'data/body_models/smpl/SMPL_{name}.pkl',
                        smpl_parts(body | {'v_template': size * body['v_template']}), protocol=2)
    np.save(folder / 'data/J_regressor_extra.npy', body['J_regressor_extra'].astype(float))
    for name, images in (('3dpw_train_subset', 'imageFiles'), ('mpii_train_eft', 'images'),
                         ('3dpw_validation_subset', 'imageFiles'),
                         ('3dpw_test_subset_cleaned', 'imageFiles')):
        n = 8
        root = folder / 'data/dataset_folders' / name.partition('_')[0]
        names = [f'{images}/{number}.jpg' for number in range(n)]
        for file in names:
            Image.fromarray(rng.integers(0, 256, (90, 160, 3), dtype=np.uint8)).save(root / file)
        found = {'imgname': np.array(names), 'center': np.full((n, 2), 45.),
                 'scale': np.full(n, .4)}
        if 'test' not in name:
            pose = rng.normal(0, .2, (n, 72))
            pose[:, 0] += np.pi
            found |= {'pose': pose, 'shape': rng.normal(0, 1, (n, 10))}
        if 'mpii' in name:
            sure = np.ones((n, 24, 1))
            found |= {'part': np.concatenate([rng.uniform(20, 80, (n, 24, 2)), sure], axis=2),
                      'S': np.concatenate([rng.normal(0, .3, (n, 24, 3)), sure], axis=2)}
        else:
            found['gender'] = np.array(n // 2 * ['m', 'f'])
        np.savez(folder / f'data/dataset_extras/{name}.npz', **found)
    return folder


def extras(name: str) -> str:
    return f'data/dataset_extras/{name}.npz'


def of_3dpw() -> list[str]:
    return [word.format('3dpw') for word in KEYWORDS]


def test_the_course_is_trained_scored_and_handed_in(course, small, monkeypatch, capsys):
    monkeypatch.chdir(course)
    monkeypatch.setattr(scoring.pictures, 'draw_all', lambda *_: None)
    training.main([*of_3dpw(), '--train', f'{extras("mpii_train_eft")}:0.4',
                   f'{extras("3dpw_train_subset")}:0.6', '--val', extras('3dpw_validation_subset'),
                   '--images', 'data/dataset_folders/mpii', 'data/dataset_folders/3dpw',
                   '--epochs', '1', '--batch-size', '4', '--resolution', '64', '--out', 'mine'])
    said = capsys.readouterr().out
    assert 'MPJPE: 24 keypoints of SPIN from the middle of RHip and LHip, truth: bodies of the ' \
        'gender in the file' in said
    assert 'nan' not in said and said.splitlines()[-3].split()[4] == '-'  # 3DPW has no keypoints
    assert torch.load('mine', weights_only=True)['options']['vertices'] == 6890
    scoring.main(['mine', '--data', extras('3dpw_validation_subset'), *of_3dpw(), '--predict',
                  'found.npz'])
    said = capsys.readouterr().out
    assert 'found no J_regressor_h36m.npy' in said and 'MPJPE 14' not in said
    assert 'the 49 joints of SPIN from the nose, truth: bodies of the gender in the file' in said
    scores = {line[:10].strip(): float(line[10:].split()[0])
              for line in said.splitlines() if ' mm ' in line}
    found, truth = np.load('found.npz'), np.load(extras('3dpw_validation_subset'))
    assert {key: found[key].shape for key in found.files} == {
        'pose': (8, 72), 'betas': (8, 10), 'pred_cam': (8, 3), 'joints': (8, 49, 3),
        'imgname': (8,)}
    neutral = joints_of('NEUTRAL', found['pose'], found['betas'])
    np.testing.assert_allclose(found['joints'], neutral, atol=1e-4)
    true = joints_of('MALE', truth['pose'], truth['shape'])
    true[1::2] = joints_of('FEMALE', truth['pose'], truth['shape'])[1::2]
    errors = np.linalg.norm((neutral - neutral[:, :1]) - (true - true[:, :1]), axis=2)
    assert scores['MPJPE 49'] == pytest.approx(1000 * errors.mean(), abs=.1)


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


def test_images_without_truth_are_handed_in(course, small, trained, monkeypatch, capsys, fails):
    monkeypatch.chdir(course)
    options = [str(trained.out), '--data', extras('3dpw_test_subset_cleaned'), *of_3dpw()]
    scoring.main([*options, '--predict', 'joints.csv'])
    said = capsys.readouterr().out
    assert 'wrote 8 bodies to joints.csv' in said and 'MPJPE' not in said
    assert 'warning: ' in said  # the weights know the stand-in
    joints = np.loadtxt('joints.csv', delimiter=',')
    scoring.main([*options, '--predict', 'joints.npz'])
    np.testing.assert_allclose(joints, np.load('joints.npz')['joints'].reshape(8, 147), atol=1e-6)
    assert 'found neither pose and shape' in fails(scoring.main, *options)
