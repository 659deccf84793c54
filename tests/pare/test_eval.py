from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from made import ARRAYS, annotations, bare, random_pose
from metrics import cal_mpjpe
from pare import eval as scoring
from pare.body import EVALUATED, GENDERS, H36M, KEYPOINTS, Body
from pare.data import People
from pare.eval import main
from pare.formats import write_npz
from pare.metrics import Meshes, pointed, pointing, shrunk

CPU, BODY = torch.device('cpu'), Body(ARRAYS)
PICTURES = {'examples.png', 'worst.png', 'joint_error.png', 'attention.png'}


# ---- joints and vertices ------------------------------------------------------------------------

def truth_of(betas, rotations, **changes):
    n = len(betas)
    return {'labels': torch.zeros(n, 16, 16).long(), 'betas': betas, 'rotations': rotations,
            'has_smpl': torch.ones(n), 'points_3d': torch.zeros(n, 24, 4),
            'gender': torch.zeros(n).long()} | changes


def test_true_bodies_of_a_gender_are_used():
    wide = ARRAYS | {'v_template': 1.1 * ARRAYS['v_template']}
    betas, rotations = random_pose(2)
    output, truth = {'betas': betas, 'rotations': rotations}, truth_of(
        betas, rotations, gender=torch.tensor([0, GENDERS.index('f')]))
    found = Meshes({'neutral': ARRAYS, 'm': ARRAYS, 'f': wide}, CPU)(output, truth)
    errors = cal_mpjpe(found['found_14'], found['true_14'], avg=False)
    assert errors[0] < 1e-6 and found['vertices'][0] < 1e-6
    mesh, other = (Body(arrays)(betas, rotations)[0][1] for arrays in (ARRAYS, wide))
    assert found['vertices'][1] == pytest.approx((mesh - other).norm(dim=1).mean().item(), rel=1e-5)
    joints = torch.from_numpy(ARRAYS['J_regressor_h36m']) @ torch.stack([mesh, other])
    rows = [H36M.index(name) for name in EVALUATED]
    near, far = (joints - joints[:, :1])[:, rows]
    assert errors[1] == pytest.approx((near - far).norm(dim=1).mean().item(), rel=1e-5)
    neutral = Meshes({'neutral': ARRAYS}, CPU)(output, truth)
    assert neutral['vertices'].max() < 1e-6  # without the others


def test_without_a_body_the_joints_s_are_the_truth():
    """Not the zero pose: an untrained network would be nearly right."""
    betas, rotations = random_pose(3)
    points = torch.cat([torch.randn(3, 24, 3), torch.ones(3, 24, 1)], dim=2)
    found = Meshes({'neutral': ARRAYS}, CPU)(
        {'betas': betas, 'rotations': rotations},
        truth_of(betas, rotations, points_3d=points, has_smpl=torch.tensor([1., 0, 0])))
    assert cal_mpjpe(found['found_14'], found['true_14'], avg=False)[0] < 1e-6
    expected = points[1:, [KEYPOINTS.index(name) for name in EVALUATED], :3]
    expected = expected - points[1:, [KEYPOINTS.index('Pelvis')], :3]
    torch.testing.assert_close(found['true_14'][1:], expected)
    assert found['vertices'].isnan().tolist() == [False, True, True]


def test_rows_without_truth_are_left_out(tmp_path):
    points = np.random.default_rng(0).normal(0, .3, (3, 24, 4))
    points[..., 3] = 1
    points[1, KEYPOINTS.index('LKnee'), 3] = 0  # one of the 14 joints is not known
    points[2, KEYPOINTS.index('Thorax'), 3] = 0
    none = np.zeros(3)
    for has_smpl, kept in ((none, [0, 2]), (np.array([0, 1, 0]), [0, 1, 2])):
        people = People(annotations(tmp_path, S=points, has_smpl=has_smpl), ARRAYS, tmp_path)
        names = people.set['imgname'][kept].tolist()
        assert people.keep_scored() == 3 - len(kept)
        assert people.set['imgname'].tolist() == names
    for changes, arrays in (({'S': points}, bare()), ({'S': None}, ARRAYS),
                            ({'S': None, 'pose': None, 'shape': None}, ARRAYS)):
        people = People(annotations(tmp_path, has_smpl=none, **changes), arrays, tmp_path)
        with pytest.raises(ValueError, match='set.npz: found neither pose and shape nor'):
            people.keep_scored()


def test_a_photograph_of_the_set_is_not_replaced(trained, here, fails):
    path = annotations(here, imgname=np.array(3 * ['images/worst.png']))
    Image.new('RGB', (120, 90)).save('images/worst.png')
    assert 'images/worst.png, the input photograph images/worst.png' in fails(
        main, str(trained.out), '--data', str(path), '--plots', 'images', '--device', 'cpu')
    assert Image.open('images/worst.png').size == (120, 90)


# ---- pointing -----------------------------------------------------------------------------------

def test_a_peak_within_a_cell_of_its_part_is_a_hit():
    """Against a look at each window."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 40, (5, 9, 7))
    labels[labels > 24] = 0
    peaks = rng.integers(0, 63, (5, 24))
    expected = np.full((5, 24), -1)
    for image, part in np.ndindex(5, 24):
        if (labels[image] == part + 1).any():
            row, column = divmod(peaks[image, part], 7)
            window = labels[image, max(row - 1, 0):row + 2, max(column - 1, 0):column + 2]
            expected[image, part] = (window == part + 1).any()
    found = pointing(torch.from_numpy(peaks), torch.from_numpy(labels).byte())
    np.testing.assert_array_equal(found, expected)
    assert {-1, 0, 1} == set(expected.ravel().tolist())


def test_attention_stands_beside_what_knows_nothing_of_the_image():
    """Two images with a part in other corners: only their own maps find it."""
    labels = torch.zeros(2, 16, 16)
    labels[0, 1, 1], labels[1, 14, 14] = 3, 3
    maps = torch.zeros(2, 24, 16, 16)
    maps[0, 2, 1, 2] = .6
    maps[1, 2, 14, 14] = .5
    maps[:, 2, 8, 8] = .4  # together more than either
    meshes, (betas, rotations) = Meshes({'neutral': ARRAYS}, CPU), random_pose(2)
    found = [meshes({'betas': betas[rows], 'rotations': rotations[rows], 'attention': maps[rows]},
                    truth_of(betas[rows], rotations[rows], labels=labels[rows]))
             for rows in ([0], [1])]  # in two batches
    peaks, labels = (torch.cat([part[key] for part in found]) for key in ('peaks', 'labels'))
    own, mean, other = pointed(peaks, labels, meshes.attention)
    assert own == 100 and mean == other == 0


def test_labels_shrink_to_the_nearest_and_unknown_ones_to_none():
    labels = torch.arange(16).view(1, 4, 4) - 1
    found = shrunk(labels, torch.zeros(1, 24, 2, 2))
    assert found.dtype == torch.uint8 and found.tolist() == [[[4, 6], [12, 14]]]
    assert shrunk(torch.full((1, 4, 4), -1), torch.zeros(1, 24, 2, 2)).max() == 0


# ---- the score ----------------------------------------------------------------------------------

def test_a_training_is_scored_on_rendered_people(trained, here, capsys):
    main([str(trained.out), '--device', 'cpu', '--sensitivity'])
    lines = capsys.readouterr().out.splitlines()
    said = {line[:10].strip(): line[10:] for line in lines}
    assert '17 joints of Human3.6M from the pelvis' in said['MPJPE']
    assert float(said['mean pose'].split()[0]) > float(said['floor'].split()[0])
    every, rest = (float(said[name].split()[0]) for name in ('MPJPE', 'MPJPE 16'))
    assert rest == pytest.approx(17 / 16 * every, abs=.1)  # the error of the pelvis is 0
    assert '49 joints of SPIN from the nose' in said['MPJPE 49'] and 'PA 49' in said
    assert '14 joints of 3DPW' in said['MPJPE 14'] and 'PA-MPJPE' in said
    assert {'vertices', 'keypoints', 'pointing', *H36M} <= said.keys()
    joints = [float(said[name].split()[0]) for name in H36M]
    assert float(said['MPJPE'].split()[0]) == pytest.approx(np.mean(joints), abs=.1)
    assert {path.name for path in Path('pare/plots').iterdir()} == PICTURES | {
        'visible.png', 'sensitivity.png', 'score.csv'}


def test_a_set_with_s_alone_is_scored_by_it(trained, here, capsys, monkeypatch):
    """Human3.6M's protocol files; one row of them has no truth."""
    monkeypatch.setattr(scoring.pictures, 'draw_all', lambda *_: None)
    betas, rotations = random_pose(3)
    mesh, _ = BODY(betas, rotations)
    joints = torch.from_numpy(ARRAYS['J_regressor_h36m']) @ mesh
    points = np.zeros((3, 24, 4))
    points[:, [KEYPOINTS.index(name) for name in H36M], :3] = joints
    points[:2, [KEYPOINTS.index(name) for name in H36M], 3] = 1
    path = annotations(here, S=points, pose=None, shape=None, has_smpl=None, part=None)
    main([str(trained.out), '--data', str(path), '--images', str(here), '--device', 'cpu'])
    output = capsys.readouterr().out
    assert output.startswith('note: --body names no SMPL model')
    assert '2 samples; 1 without truth are left out' in output
    assert 'truth: S' in output and 'vertices' not in output and 'nan' not in output


def bodies_in(folder) -> Path:
    folder.mkdir()
    for name, size in (('NEUTRAL', 1.), ('MALE', 1.1), ('FEMALE', .9)):
        write_npz(folder / f'SMPL_{name}.npz', ARRAYS | {'v_template': size * ARRAYS['v_template']})
    return folder


def test_gendered_bodies_are_those_of_the_set(trained, here, capsys, fails, monkeypatch):
    monkeypatch.setattr(scoring.pictures, 'draw_all', lambda *_: None)
    smpl = bodies_in(here / 'smpl')
    path = annotations(here, gender=np.array(['m', 'f', 'm']))
    options = [str(trained.out), '--data', str(path), '--images', str(here), '--body', str(smpl),
               '--device', 'cpu']
    printed = {}
    for gender in ('file', 'neutral'):
        main([*options, '--gt-gender', gender])
        printed[gender] = [line for line in capsys.readouterr().out.splitlines()
                           if line.startswith('MPJPE 14')][0]
    assert 'of the gender in the file' in printed['file'] and 'neutral' in printed['neutral']
    assert printed['file'].split()[2] != printed['neutral'].split()[2]
    annotations(here)
    assert 'key gender is missing' in fails(main, *options)
    (smpl / 'SMPL_MALE.npz').unlink()
    assert 'found neither SMPL_MALE.npz nor SMPL_MALE.pkl' in fails(main, *options)


def test_mistakes_are_said_in_a_line(trained, here, fails):
    path, model = str(annotations(here)), str(trained.out)
    write_npz(here / 'bare.npz', bare())
    (here / 'text').write_text('v 0 0 0')
    for options, message in (
            (['nothing'], 'nothing: No such file or directory, expected weights'),
            (['text'], 'text: found'),
            ([model, '--body', 'bare.npz'], '--body: found one without --data'),
            ([model, '--data', path, '--predict', 'a.txt'], '--predict: found a.txt, expected'),
            ([model, '--predict', 'a.csv'], '--predict: found one without --data'),
            ([model, '--data', path, '--body', 'bare.npz', '--predict', 'a.csv'],
             'which are left out'),
            ([model, '--data', path, '--predict', path], f'--predict: found {path}, the input'),
            ([model, '--data', path, '--body', 'a.csv', '--predict', 'a.csv'], 'the input --body'),
            (['examples.png', '--plots', '.'], 'examples.png, the input MODEL'),
            ([model, '--data', 'no.npz'], 'no.npz: No such file'),
            ([model, '--data', path, '--images', 'no'], 'no/images/0.jpg: found no readable'),
            ([model, '--plots', 'text'], 'text')):
        assert message in fails(main, '--device', 'cpu', *options), options
