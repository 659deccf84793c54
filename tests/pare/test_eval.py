from pathlib import Path

import numpy as np
import pytest
import torch

from made import ARRAYS, annotations, bare, random_pose
from metrics import cal_mpjpe
from pare import eval as scoring
from pare.body import EVALUATED, GENDERS, H36M, KEYPOINTS, Body
from pare.eval import main
from pare.formats import write_npz
from pare.metrics import Meshes, pointed, pointing
from pare.spin import Spin

CPU = torch.device('cpu')
WIDE = ARRAYS | {'v_template': 1.1 * ARRAYS['v_template']}


# ---- joints and vertices ------------------------------------------------------------------------

def truth_of(betas, rotations, **changes):
    n = len(betas)
    return {'labels': torch.zeros(n, 16, 16).long(), 'betas': betas, 'rotations': rotations,
            'has_smpl': torch.ones(n), 'points_3d': torch.zeros(n, 24, 4),
            'gender': torch.zeros(n).long()} | changes


def test_meshes_are_compared_with_those_of_the_true_gender():
    """Against the definitions: 14 joints of Human3.6M, 49 of SPIN, and all vertices."""
    (betas, rotations), (other_betas, other) = random_pose(3), random_pose(3, seed=1)
    truth = truth_of(betas, rotations, gender=torch.tensor([0, GENDERS.index('f'), 0]),
                     has_smpl=torch.tensor([1., 1, 0]))
    found = Meshes({'neutral': ARRAYS, 'm': ARRAYS, 'f': WIDE}, CPU)(
        {'betas': other_betas, 'rotations': other}, truth)
    rows = [H36M.index(name) for name in EVALUATED]
    regressor = torch.from_numpy(ARRAYS['J_regressor_h36m'])
    for row, arrays in enumerate((ARRAYS, WIDE)):
        pairs = ((ARRAYS, other_betas[[row]], other[[row]]), (arrays, betas[[row]],
                                                              rotations[[row]]))
        meshes = [Body(body)(*pose)[0][0] for body, *pose in pairs]
        near, far = ((regressor @ mesh - (regressor @ mesh)[:1])[rows] for mesh in meshes)
        one, two = (Spin(body)(*pose)[0] for body, *pose in pairs)
        for found_of, true_of, expected in (
                (found['found_14'], found['true_14'], near - far),
                (found['found_49'], found['true_49'], one - one[:1] - two + two[:1])):
            assert cal_mpjpe(found_of, true_of, avg=False)[row] == pytest.approx(
                expected.norm(dim=1).mean().item(), rel=1e-4)
        off = (meshes[0] - meshes[1]).norm(dim=1).mean().item()
        assert found['vertices'][row] == pytest.approx(off, rel=1e-5)
    assert found['vertices'].isnan().tolist() == [False, False, True]
    without = Meshes({'neutral': bare()}, CPU)({'betas': betas, 'rotations': rotations}, truth)
    assert not without.keys() & {'found_49', 'found_14'} and without['vertices'][0] < 1e-6


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
    assert pointed(peaks, labels, meshes.attention) == [100, 0, 0]


# ---- the score ----------------------------------------------------------------------------------

def read(output: str) -> dict[str, str]:
    """The lines of a score by their names."""
    return {line[:10].strip(): line[10:] for line in output.splitlines()}


def test_a_training_is_scored_on_rendered_people(trained, here, capsys):
    main([str(trained.out), '--device', 'cpu', '--sensitivity'])
    said = read(capsys.readouterr().out)
    numbers = {name: float(text.split()[0]) for name, text in said.items() if ' mm ' in text + ' '}
    assert '17 joints of Human3.6M from the pelvis' in said['MPJPE']
    assert numbers['mean pose'] > numbers['floor']
    assert numbers['MPJPE 16'] == pytest.approx(17 / 16 * numbers['MPJPE'], abs=.1)
    assert numbers['MPJPE'] == pytest.approx(np.mean([numbers[name] for name in H36M]), abs=.1)
    assert {'PA-MPJPE', 'MPJPE 14', 'MPJPE 49', 'PA 49', 'vertices', 'keypoints',
            'pointing'} <= said.keys()
    assert {path.name for path in Path('pare/plots').iterdir()} == {
        'score.csv', *scoring.pictures.NAMES}


def test_a_set_with_s_alone_is_scored_by_it(trained, here, capsys):
    """Human3.6M's protocol files; one row of them has no truth."""
    mesh, _ = Body(ARRAYS)(*random_pose(3))
    points = np.zeros((3, 24, 4))
    columns = [KEYPOINTS.index(name) for name in H36M]
    points[:, columns, :3] = torch.from_numpy(ARRAYS['J_regressor_h36m']) @ mesh
    points[:2, columns, 3] = 1
    path = annotations(here, S=points, pose=None, shape=None, has_smpl=None, part=None)
    main([str(trained.out), '--data', str(path), '--images', str(here), '--device', 'cpu'])
    output = capsys.readouterr().out
    assert output.startswith('note: --body names no SMPL model')
    assert '2 samples; 1 without truth are left out' in output
    assert 'truth: S' in output and 'vertices' not in output and 'nan' not in output


@pytest.mark.parametrize('words, message', (
    ('nothing', 'nothing: No such file or directory, expected weights'),
    ('text', 'text: found'), ('page', 'page: found a web page'),
    ('{} --body bare.npz', '--body: found one without --data'),
    ('{} --data set.npz --predict a.txt', '--predict: found a.txt, expected'),
    ('{} --predict a.csv', '--predict: found one without --data'),
    ('{} --data set.npz --body bare.npz --predict a.csv', 'which are left out'),
    ('{} --data set.npz --predict set.npz', '--predict: found set.npz, the input'),
    ('examples.png --plots .', 'examples.png, the input MODEL'),
    ('{} --data no.npz', 'no.npz: No such file'),
    ('{} --data set.npz --images no', 'no/images/worst.png: found no readable'),
    ('{} --data set.npz --plots images', 'worst.png, the input photograph images/worst.png'),
    ('{} --data set.npz --body .', 'found neither SMPL_NEUTRAL.npz nor SMPL_NEUTRAL.pkl'),
    ('{} --plots text', 'text')))
def test_mistakes_are_said_in_a_line(trained, here, fails, words, message):
    annotations(here, imgname=np.array(3 * ['images/worst.png']))
    write_npz(here / 'bare.npz', bare())
    (here / 'text').write_text('v 0 0 0')
    (here / 'page').write_text('<!DOCTYPE html>')
    assert message in fails(main, '--device', 'cpu', '--workers', '0',
                            *words.format(trained.out).split())
