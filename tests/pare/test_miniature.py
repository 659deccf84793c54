"""All of it on a folder as a user has it, but small: convert, train from two sets, evaluate."""
import numpy as np
import pytest
import torch
from PIL import Image

from made import ARRAYS, pickle_as_field, sequence, smpl_parts
from pare import eval as scoring, files, model as models, training
from pare.body import N_BETAS

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
    assert errors['file']['MPJPE'] == errors['neutral']['MPJPE']  # of neutral bodies alone
    for name in ('MPJPE 14', 'vertices'):
        assert errors['file'][name] != errors['neutral'][name]
    assert len(list((folder / 'plots').glob('*.png'))) > 3
