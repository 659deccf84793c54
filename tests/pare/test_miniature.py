"""All of it on the files of the field, but small: convert, train from two sets, score, hand in.

The folder is that of the course in which the report was written: SMPL's 6,890 vertices, and no
J_regressor_h36m.npy.
"""
import numpy as np
import pytest
import torch
from PIL import Image

from made import CPU, grown, pickle_as_field, sequence, sized, smpl_parts
from pare import eval as scoring, files, model as models, training
from pare.body import Body, axis_angle_to_matrix

# SPIN's map: OpenPose's 25 among SMPL's 24 joints, then nose, eyes, ears, toes and heels
MAP = [24, 12, 17, 19, 21, 16, 18, 20, 0, 2, 5, 8, 1, 4, 7, 25, 26, 27, 28, *range(29, 35)]
VERTICES = [332, 6260, 2800, 4071, 583, 3216, 3226, 3387, 6617, 6624, 6787]
SIZES = {'NEUTRAL': 1, 'MALE': 1.1, 'FEMALE': .9}
SMPL = ('--body', 'data/body_models/smpl', '--device', 'cpu', '--plots', 'plots')
MPII, PW3D = 'data/dataset_folders/mpii', 'data/dataset_folders/3dpw'
TRAIN, VAL, TEST = (f'data/dataset_extras/{name}.npz' for name in (
    'mpii_train_eft', '3dpw_validation_subset', '3dpw_test_subset_cleaned'))
N = 8


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder, body, rng = tmp_path_factory.mktemp('course'), grown(), np.random.default_rng(0)
    for name in ('sequenceFiles', 'data/body_models/smpl', 'data/dataset_extras',
                 f'{PW3D}/imageFiles/walk_00', f'{MPII}/images'):
        (folder / name).mkdir(parents=True)
    for name, size in SIZES.items():
        pickle_as_field(folder / f'data/body_models/smpl/SMPL_{name}.pkl',
                        smpl_parts(sized(size, body)))
    np.save(folder / 'data/J_regressor_extra.npy', body['J_regressor_extra'].astype(float))
    pickle_as_field(folder / 'sequenceFiles/walk_00.pkl', sequence())
    names = [f'{number}.jpg' for number in range(N)]
    for name in (*(f'{MPII}/images/{name}' for name in names),
                 *(f'{PW3D}/imageFiles/{name}' for name in names),
                 *(f'{PW3D}/imageFiles/walk_00/image_{frame:05}.jpg' for frame in range(4))):
        noise = rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / name)
    pose = rng.normal(0, .2, (N, 72))
    pose[:, 0] += np.pi
    boxes, sure = {'center': np.full((N, 2), 45.), 'scale': np.full(N, .4)}, np.ones((N, 24, 1))
    bodies = {'pose': pose, 'shape': rng.normal(0, 1, (N, 10))}
    np.savez(folder / TRAIN, imgname=[f'images/{name}' for name in names], **boxes, **bodies,
             part=np.concatenate([rng.uniform(20, 80, (N, 24, 2)), sure], axis=2),
             S=np.concatenate([rng.normal(0, .3, (N, 24, 3)), sure], axis=2))
    boxes |= {'imgname': [f'imageFiles/{name}' for name in names], 'gender': N // 2 * ['m', 'f']}
    np.savez(folder / VAL, **boxes, **bodies)
    np.savez(folder / TEST, **boxes)  # without truth
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
    training.main([*SMPL, '--init', 'resnet.pth', '--train', f'{TRAIN}:0.4', '3dpw.npz:0.6',
                   '--val', VAL, '--images', MPII, PW3D, '--fits', 'fits.npy', '-', '--epochs', '1',
                   '--batch-size', '4', '--resolution', '32', '--out', 'mine'])
    said = capsys.readouterr().out
    assert '0 weights of the backbone missing' in said and 'nan' not in said
    assert 'MPJPE: 24 keypoints of SPIN from the middle of RHip and LHip, truth: bodies of the ' \
        'gender in the file' in said
    assert said.splitlines()[-3].split()[4] == '-'  # the set to validate has no keypoints
    _, kept = models.load_model('mine', CPU)
    assert kept['options']['vertices'] == 6890 and kept['options']['rendered'] is False
    assert 'a body of 6,890 vertices' in fails(scoring.main, 'mine')
    errors = {}
    for gender in ('neutral', 'file'):
        scoring.main(['mine', '--data', VAL, *SMPL, '--images', PW3D, '--gt-gender', gender,
                      '--predict', 'found.npz'])
        said = capsys.readouterr().out
        errors[gender] = {line[:10].strip(): float(line[10:].split()[0])
                          for line in said.splitlines() if ' mm ' in line}
    scoring.main(['run', f'{MPII}/images/0.jpg', '--model', 'mine', *SMPL[:4]])
    assert np.load('person.npz')['verts'].shape == (6890, 3)
    assert 'found no J_regressor_h36m.npy' in said and 'MPJPE 14' not in said
    assert errors['file']['vertices'] != errors['neutral']['vertices']
    joints = [float(line.split()[1]) for line in said.splitlines() if line.endswith(' mm')]
    history = np.genfromtxt('plots/history.csv', delimiter=',', names=True)
    assert np.mean(joints) == pytest.approx(history['val_mpjpe'], abs=.1)
    found, truth = np.load('found.npz'), np.load(VAL)
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
    mesh, joints = Body(sized(SIZES[name], body))(
        torch.tensor(betas).float(),
        axis_angle_to_matrix(torch.tensor(pose).float().view(-1, 24, 3)))
    points = torch.cat([joints, mesh[:, VERTICES]], dim=1)
    regressed = torch.from_numpy(body['J_regressor_extra']) @ mesh
    own = [8, 5, None, None, 4, 7, 21, 19, 17, 16, 18, 20, *7 * [None], 24, 26, 25, 28, 27]
    extra = iter(regressed.unbind(dim=1))
    last = [next(extra) if row is None else points[:, row] for row in own]
    return np.concatenate([points[:, MAP], torch.stack(last, dim=1)], axis=1)


def test_images_without_truth_are_handed_in(course, trained, capsys, fails):
    options = [str(trained.out), '--data', TEST, *SMPL, '--images', PW3D]
    scoring.main([*options, '--predict', 'joints.csv'])
    said = capsys.readouterr().out
    assert f'wrote {N} bodies to joints.csv' in said and 'MPJPE' not in said
    assert 'warning: ' in said  # the weights know the stand-in
    joints = np.loadtxt('joints.csv', delimiter=',')
    scoring.main([*options, '--predict', 'joints.npz'])
    np.testing.assert_allclose(joints, np.load('joints.npz')['joints'].reshape(N, 147), atol=1e-6)
    assert 'found neither pose and shape' in fails(scoring.main, *options)
