"""Body, pictures, samples and regressors of pare/."""
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import ROOT
from pare import body as bodies
from pare import data, eval as scoring, model as models, render, training
from pare.body import (EVALUATED, FACE, H36M, JOINTS, KEYPOINTS, PARENTS, Body, Skeleton,
                       axis_angle_to_matrix, full_translation, load_body, make_body,
                       matrix_to_axis_angle, matrix_to_rotation_6d, project, rotation_6d_to_matrix)
from pare.data import People, crop_matrix, load_annotations, render_set, turn_sample, warp

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


# ---- rotations ----------------------------------------------------------------------------------

def test_rotations_there_and_back():
    torch.manual_seed(0)
    axis = torch.nn.functional.normalize(torch.randn(1004, 3, dtype=torch.double), dim=1)
    angle = torch.rand(1004, 1, dtype=torch.double) * 3.1
    angle[:4, 0] = torch.tensor([0, 1e-8, np.pi - 1e-6, 1e-3])
    matrix = axis_angle_to_matrix(axis * angle)
    torch.testing.assert_close(matrix, torch.matrix_exp(cross(axis * angle)))
    torch.testing.assert_close(matrix_to_axis_angle(matrix), axis * angle, atol=1e-9, rtol=0)
    torch.testing.assert_close(rotation_6d_to_matrix(matrix_to_rotation_6d(matrix)), matrix)


def cross(vector):
    x, y, z = vector.unbind(-1)
    zero = 0 * x
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))


def test_six_numbers_are_two_columns_interleaved():
    found = rotation_6d_to_matrix(torch.tensor([0., 3, 2, 9, 0, 0]))
    expected = [[0., 1, 0], [1, 0, 0], [0, 0, -1]]  # a1 = (0, 2, 0), a2 = (3, 9, 0)
    torch.testing.assert_close(found, torch.tensor(expected))
    noise = rotation_6d_to_matrix(torch.randn(100, 6))
    torch.testing.assert_close(noise @ noise.mT, torch.eye(3).expand(100, 3, 3))
    assert (torch.linalg.det(noise) > .99).all()


# ---- skinning -----------------------------------------------------------------------------------

def test_the_template_at_rest():
    vertices, joints = Body(ARRAYS)(torch.zeros(1, 10), EYE)
    np.testing.assert_allclose(vertices[0], ARRAYS['v_template'], atol=1e-7)
    np.testing.assert_allclose(joints[0], ARRAYS['J_regressor'] @ ARRAYS['v_template'], atol=1e-6)


def by_hand(arrays, betas, rotations):
    """One body by 4 x 4 matrices, a vertex at a time, in double precision."""
    arrays = {key: array.astype(float) for key, array in arrays.items() if key in bodies.SHAPES}
    shaped = arrays['v_template'] + arrays['shapedirs'] @ betas
    joints = arrays['J_regressor'] @ shaped
    posed = shaped + arrays['posedirs'] @ (rotations[1:] - np.eye(3)).ravel()
    moves = []
    for joint, parent in enumerate(PARENTS):
        local = np.eye(4)
        local[:3, :3] = rotations[joint]
        local[:3, 3] = joints[joint] - (joints[parent] if parent >= 0 else 0)
        moves.append(moves[parent] @ local if parent >= 0 else local)
    places = np.array([move[:3, 3] for move in moves])
    rest = [move @ np.vstack([np.column_stack([np.eye(3), -joint]), (0, 0, 0, 1)])
            for move, joint in zip(moves, joints)]
    vertices = [(np.tensordot(weights, rest, 1) @ np.append(vertex, 1))[:3]
                for weights, vertex in zip(arrays['weights'], posed)]
    return np.array(vertices), places


def test_skinning_is_that_of_a_slow_loop():
    betas, rotations = random_pose(2)
    vertices, joints = Body(ARRAYS)(betas, rotations)
    for row in range(2):
        expected = by_hand(ARRAYS, betas[row].numpy(), rotations[row].double().numpy())
        np.testing.assert_allclose(vertices[row], expected[0], atol=2e-6)
        np.testing.assert_allclose(joints[row], expected[1], atol=2e-6)


def test_a_joint_moves_what_hangs_on_it_and_nothing_else():
    rotations = EYE.clone()
    elbow = JOINTS.index('LElbow')
    rotations[0, elbow] = torch.tensor([[0., 1, 0], [-1, 0, 0], [0, 0, 1]])
    arrays = ARRAYS | {'posedirs': 0 * ARRAYS['posedirs']}
    moved = (Body(arrays)(torch.zeros(1, 10), rotations)[0][0].numpy() - arrays['v_template'])
    below = [elbow, JOINTS.index('LWrist'), JOINTS.index('LHand')]
    share = ARRAYS['weights'][:, below].sum(axis=1)
    assert np.abs(moved[share == 0]).max() < 1e-7
    assert (np.linalg.norm(moved[share > 0], axis=1) > 1e-3).mean() > .98  # but for the axis
    whole = ARRAYS['weights'][:, elbow] == 1
    place = (ARRAYS['J_regressor'] @ ARRAYS['v_template'])[elbow]
    expected = (ARRAYS['v_template'][whole] - place) @ rotations[0, elbow].numpy().T + place
    np.testing.assert_allclose((moved + ARRAYS['v_template'])[whole], expected, atol=1e-6)


def test_gradients_of_skinning():
    arrays = {key: array.astype(float) if array.dtype.kind == 'f' else array
              for key, array in ARRAYS.items()}
    body = Body(arrays, slice(0, None, 200)).double()
    betas, rotations = (values.double().requires_grad_() for values in random_pose(1))
    assert torch.autograd.gradcheck(body, (betas, rotations))


def test_a_skeleton_is_taken_from_the_whole_mesh():
    betas, rotations = random_pose(3)
    vertices, joints = Body(ARRAYS)(betas, rotations)
    keypoints, h36m = Skeleton(ARRAYS)(betas, rotations)
    np.testing.assert_allclose(h36m, ARRAYS['J_regressor_h36m'] @ vertices.numpy(), atol=1e-5)
    named = dict(zip(KEYPOINTS, keypoints.unbind(1)))
    torch.testing.assert_close(named['LKnee'], joints[:, JOINTS.index('LKnee')])
    torch.testing.assert_close(named['LEar'], vertices[:, ARRAYS['face'][list(FACE).index('LEar')]])
    assert Skeleton(ARRAYS).known.all()
    bare = {key: array for key, array in ARRAYS.items() if 'J_regressor_' not in key}
    known = dict(zip(KEYPOINTS, Skeleton(bare).known.tolist()))
    assert known['RAnkle'] and known['Nose'] and not known['LHip'] and sum(known.values()) == 15


def test_left_is_left_everywhere():
    joints = dict(zip(JOINTS, ARRAYS['J_regressor'] @ ARRAYS['v_template']))
    points = dict(zip(KEYPOINTS, Skeleton(ARRAYS)(torch.zeros(1, 10), EYE)[0][0]))
    human = dict(zip(H36M, ARRAYS['J_regressor_h36m'] @ ARRAYS['v_template']))
    for named in (joints, points, human):
        assert all((point[0] > .01) == name.startswith('L') for name, point in named.items()
                   if name[0] in 'LR' and 'Ear' not in name)
        assert named['Neck'][1] > .3 > named['LHip'][1]
    assert set(EVALUATED) <= set(H36M) and 1.6 < np.ptp(ARRAYS['v_template'][:, 1]) < 1.9


# ---- cameras ------------------------------------------------------------------------------------

def test_the_camera_of_the_whole_image_sees_the_same_pixel():
    torch.manual_seed(0)
    points, camera = torch.randn(4, 9, 3) * .3, torch.tensor([[.9, .1, -.2]]).repeat(4, 1)
    centre, side = torch.tensor([[300., 180]]).repeat(4, 1), torch.full((4,), 250.)
    size = torch.tensor([[640., 480]]).repeat(4, 1)
    crop = project(points, camera) * side[0] / 2 + centre[:, None]
    errors = []
    for focal in (5e3, 5e5):
        seen = points + full_translation(camera, centre, side, size, focal)[:, None]
        whole = focal * seen[..., :2] / seen[..., 2:] + size[:, None] / 2
        errors.append((whole - crop).abs().max().item())
    assert errors[0] < 5 and errors[1] < .05  # the same as it moves away
    shift = full_translation(camera, size / 2, torch.full((4,), 224.), size)[0]
    torch.testing.assert_close(shift, torch.tensor([.1, -.2, 2 * 5000 / (224 * .9)]))


# ---- files --------------------------------------------------------------------------------------

class Ch:
    """Pickled as chumpy pickles its arrays."""

    def __init__(self, **state):
        self.__dict__.update(state)


class Select(Ch):
    pass


class csc_matrix(Ch):
    pass


def smpl_pickle(path, protocol, changes=None):
    """A file with the class names and keys of SMPL's own, of the stand-in's numbers."""
    for kind, module in ((Ch, 'chumpy.ch'), (Select, 'chumpy.reordering'),
                         (csc_matrix, 'scipy.sparse.csc')):
        kind.__module__ = module
        package = sys.modules.setdefault(module, type(sys)(module))
        sys.modules.setdefault(module.split('.')[0], type(sys)(module.split('.')[0]))
        setattr(package, kind.__name__, kind)
    regressor = ARRAYS['J_regressor']
    columns, rows = np.nonzero(regressor.T)
    shapes = np.concatenate([ARRAYS['shapedirs'], np.ones((1728, 3, 2), np.float32)], axis=2)
    raw = {key: ARRAYS[key] for key in bodies.SHAPES}
    raw |= {'v_template': Ch(x=ARRAYS['v_template'], dirty={1}), 'bs_style': 'lbs',
            'shapedirs': Select(a=Ch(x=shapes), idxs=np.arange(shapes.size),
                                preferred_shape=shapes.shape),
            'J_regressor': csc_matrix(_shape=regressor.shape, data=regressor[rows, columns],
                                      indices=rows,
                                      indptr=np.searchsorted(columns, np.arange(1729)))}
    try:
        path.write_bytes(pickle.dumps(raw | (changes or {}), protocol=protocol))
    finally:
        for module in ('chumpy.ch', 'chumpy.reordering', 'scipy.sparse.csc'):
            sys.modules.pop(module), sys.modules.pop(module.split('.')[0], None)
    return path


@pytest.mark.parametrize('protocol', (0, 2, 4))
def test_smpl_files_are_read_without_their_packages(tmp_path, protocol):
    found = load_body(smpl_pickle(tmp_path / 'SMPL_NEUTRAL.pkl', protocol))
    for key in bodies.SHAPES:
        np.testing.assert_array_equal(found[key][1:] if key == 'kintree_table' else found[key],
                                      ARRAYS[key][1:] if key == 'kintree_table' else ARRAYS[key])
    assert found['face'].tolist() == list(FACE.values())
    out = tmp_path / 'smpl.npz'
    assert bodies.main(['convert', str(tmp_path / 'SMPL_NEUTRAL.pkl'), str(out)]) == 0
    np.testing.assert_array_equal(load_body(out)['shapedirs'], ARRAYS['shapedirs'])


def test_regressors_beside_a_model_are_found_and_turned_to_its_left(tmp_path):
    path = smpl_pickle(tmp_path / 'a.pkl', 2)
    swapped = ARRAYS['J_regressor_h36m'][[0, 4, 5, 6, 1, 2, 3, *range(7, 17)]]
    np.save(tmp_path / 'J_regressor_h36m.npy', swapped)
    found = load_body(path)
    np.testing.assert_array_equal(found['J_regressor_h36m'], ARRAYS['J_regressor_h36m'])
    np.save(tmp_path / 'J_regressor_h36m.npy', swapped[:, 1:])
    with pytest.raises(ValueError, match=r'J_regressor_h36m.npy: found shape \(17, 1727\)'):
        load_body(path)


def refusing(tmp_path, name, value):
    (tmp_path / name).write_bytes(value if isinstance(value, bytes) else pickle.dumps(value))
    return tmp_path / name


class Evil:
    def __reduce__(self):
        return os.system, ('touch evil',)


@pytest.mark.parametrize('value, message', (
    ({'v_template': Evil()}, 'system is not of a body model'), (b'nothing', 'no readable pickle'),
    ([1], 'found a list'), ({'v_template': np.zeros((5, 3))}, 'key shapedirs is missing'),
    ({'v_template': 'text'}, 'key v_template: could not convert'),
    ({'v_template': np.zeros((5, 2))}, r'key v_template: found shape \(5, 2\)')))
def test_other_files_are_refused_and_run_nothing(tmp_path, monkeypatch, value, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        load_body(refusing(tmp_path, 'a.pkl', value))
    assert '\n' not in str(error.value) and not (tmp_path / 'evil').exists()


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


# ---- samples ------------------------------------------------------------------------------------

def test_the_crop_is_exact():
    matrix = crop_matrix((50, 40), 80, 64)
    np.testing.assert_allclose(matrix @ (50, 40, 1), (32, 32))
    np.testing.assert_allclose(matrix @ (10, 0, 1), (0, 0))
    photo = np.zeros((100, 100, 3), np.uint8)
    photo[60:64, 70:74] = 255  # centred on (72, 62)
    found = warp(Image.fromarray(photo), matrix, 64).mean(axis=2)
    y, x = np.indices((64, 64)) + .5
    centre = (found * x).sum() / found.sum(), (found * y).sum() / found.sum()
    np.testing.assert_allclose(centre, matrix @ (72, 62, 1), atol=.05)


@pytest.mark.parametrize('flip', (False, True))
@pytest.mark.parametrize('angle', (0., .7))
def test_an_augmented_body_projects_onto_augmented_keypoints(flip, angle):
    """Of a body that is its own mirror image."""
    betas, rotations = random_pose(1, seed=3, angle=.3)
    skeleton, camera = Skeleton(ARRAYS), torch.tensor([[.8, .1, -.05]])
    points = skeleton(betas, rotations)[0]
    pixels = (project(points, camera)[0].numpy() + 1) * 32
    matrix = crop_matrix((32, 32), 64, 64, angle, flip)
    expected = pixels @ matrix[:, :2].T + matrix[:, 2]
    expected = expected[data.FLIP_KEYPOINTS] if flip else expected
    turned, turned_points = turn_sample(rotations[0].numpy(), points[0].numpy(), angle, flip)
    again = skeleton(betas, torch.from_numpy(turned)[None].float())[0]
    shift = np.array([-1 if flip else 1, 1]) * (.1, -.05)
    shift = [np.cos(angle) * shift[0] - np.sin(angle) * shift[1],
             np.sin(angle) * shift[0] + np.cos(angle) * shift[1]]
    # the pelvis is not at the origin, and turns about itself
    pelvis = Body(ARRAYS).joints(betas)[0, 0].numpy()
    moved = turn_sample(rotations[0].numpy(), np.tile(pelvis, (24, 1)), angle, flip)[1][0] - pelvis
    found = (.8 * (again[0, :, :2].numpy() + moved[:2] + shift) + 1) * 32
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(again[0].numpy() + moved, turned_points, atol=1e-5)


def test_flipping_twice_changes_nothing():
    _, rotations = random_pose(1)
    points = np.random.default_rng(0).normal(size=(24, 3))
    once = turn_sample(rotations[0].numpy(), points, 0., True)
    twice = turn_sample(*once, 0., True)
    np.testing.assert_allclose(twice[0], rotations[0], atol=1e-6)
    np.testing.assert_allclose(twice[1], points)
    for order in (data.FLIP_JOINTS, data.FLIP_KEYPOINTS, data.FLIP_LABELS):
        assert np.array_equal(np.array(order)[order], np.arange(len(order)))
    swapped = {name: JOINTS[data.FLIP_JOINTS[joint]] for joint, name in enumerate(JOINTS)}
    assert swapped['LKnee'] == 'RKnee' and swapped['Head'] == 'Head'


def test_samples_are_augmented_by_the_epoch(people):
    plain, moving = People(people, ARRAYS), People(people, ARRAYS, seed=3)
    for name in ('image', 'labels', 'keypoints'):
        assert torch.equal(moving[5][name], moving[5][name])
        assert not torch.equal(moving[5][name].float(), plain[5][name].float())
    before, moving.epoch = moving[5], 1
    assert not torch.equal(before['image'], moving[5]['image'])
    sample = plain[5]
    assert sample['image'].shape == (3, 64, 64) and sample['labels'].shape == (16, 16)
    image = scoring.picture(sample['image']).astype(int)
    assert np.abs(image - plain.set['images'][5]).max() <= 1


def annotations(tmp_path, **changes):
    """Three photographs with the keys of SPIN, the pose of one known to be wrong."""
    rng, n = np.random.default_rng(0), 3
    (tmp_path / 'images').mkdir(exist_ok=True)
    for number in range(n):
        Image.fromarray(rng.integers(0, 255, (90, 120, 3), dtype=np.uint8)).save(
            tmp_path / f'images/{number}.jpg')
    pose = np.float32(rng.normal(0, .2, (n, 72)))
    pose[:, :3] += (np.pi, 0, 0)
    points, _ = Skeleton(ARRAYS)(torch.zeros(n, 10), axis_angle_to_matrix(
        torch.from_numpy(pose).view(n, 24, 3)))
    part = np.concatenate([40 * points[..., :2].numpy() + (60, 45), np.ones((n, 24, 1))], axis=2)
    found = {'imgname': np.array([f'images/{number}.jpg' for number in range(n)]),
             'center': np.tile([60., 45], (n, 1)), 'scale': np.full(n, .4), 'part': part,
             'pose': pose, 'shape': np.zeros((n, 10), np.float32),
             'has_smpl': np.array([1, 1, 0])} | changes
    found = {key: array for key, array in found.items() if array is not None}
    np.savez(tmp_path / 'set.npz', **found)
    return tmp_path / 'set.npz'


def test_photographs_are_read_in_the_keys_of_spin(tmp_path):
    people = People(annotations(tmp_path), ARRAYS, tmp_path)
    assert people[0]['has_smpl'] == 1 and people[2]['has_smpl'] == 0
    assert (people[2]['labels'] == -1).all() and set(people[0]['labels'].flatten().tolist()) - {0}
    expected = (np.load(tmp_path / 'set.npz')['part'][0, 4, :2] - (60, 45)) / 40
    np.testing.assert_allclose(people[0]['keypoints'][4, :2], expected, atol=1e-5)
    only_2d = People(annotations(tmp_path, pose=None, shape=None, has_smpl=None), ARRAYS, tmp_path)
    assert only_2d[0]['has_smpl'] == 0


def test_fits_take_the_place_of_pose_and_shape(tmp_path):
    fits = np.random.default_rng(0).normal(0, .3, (3, 82)).astype(np.float32)
    one, other, wrong = (tmp_path / name for name in ('fits.npy', 'fits.npz', 'wrong.npz'))
    np.save(one, fits)
    np.savez(other, pose=fits[:, :72], betas=fits[:, 72:], valid_fit=[True, False, True])
    np.savez(wrong, pose=fits[:, :72], shape=fits[:, 72:])
    path = annotations(tmp_path, pose=None, shape=None, has_smpl=None)
    for fitted, valid in ((one, [1, 1, 1]), (other, [1, 0, 1])):
        people = People(path, ARRAYS, tmp_path, fits=fitted)
        assert [people[row]['has_smpl'].item() for row in range(3)] == valid
        np.testing.assert_allclose(people[2]['betas'], fits[2, 72:])
        expected = axis_angle_to_matrix(torch.from_numpy(fits[2, :72]).view(24, 3))
        torch.testing.assert_close(people[2]['rotations'], expected)
    with pytest.raises(ValueError, match='wrong.npz: key betas: found none, expected'):
        load_annotations(path, wrong)
    np.save(one, fits[:2])
    with pytest.raises(ValueError, match=r'fits.npy: found shape \(2, 82\), expected \(3, 82\)'):
        load_annotations(path, one)
    for content in (b'no array', b''):
        one.write_bytes(content)
        with pytest.raises(ValueError, match='fits.npy: found no readable .npy'):
            load_annotations(path, one)


@pytest.mark.parametrize('changes, message', (
    ({'center': None}, 'key center is missing'), ({'scale': np.ones(2)}, r'key scale: found shape'),
    ({'pose': np.full((3, 72), np.nan)}, 'key pose: found NaN'),
    ({'shape': None}, 'found only one of pose and shape')))
def test_wrong_annotations_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=f'set.npz: .*{message}|set.npz: {message}'):
        load_annotations(annotations(tmp_path, **changes))


def test_unreadable_photographs_are_named(tmp_path):
    people = People(annotations(tmp_path), ARRAYS, tmp_path)
    (tmp_path / 'images/0.jpg').write_bytes(b'no image')
    (tmp_path / 'images/1.jpg').unlink()
    for row in (0, 1):
        with pytest.raises(ValueError, match=f'images/{row}.jpg: found no readable image'):
            people[row]


def test_unreadable_photographs_stop_a_training_or_are_left_out(tmp_path, capsys):
    people = People(annotations(tmp_path), ARRAYS, tmp_path)
    whole = (tmp_path / 'images/1.jpg').read_bytes()
    (tmp_path / 'images/1.jpg').write_bytes(whole[:len(whole) // 2])  # truncated
    assert people.unreadable().tolist() == [False, True, False]
    with pytest.raises(ValueError, match='set.npz: found 1 of 3 images unreadable, .*images/1.jpg'):
        training.leave_out_unreadable(people, False)
    training.leave_out_unreadable(people, True)
    assert len(people) == 2 and 'they are left out' in capsys.readouterr().out
    assert people[1]['has_smpl'] == 0


def test_a_box_beside_the_image_is_named(tmp_path):
    centres = np.array([[60., 45], [161, 45], [60, -39]])  # with boxes of 80 pixels
    people = People(annotations(tmp_path, center=centres), ARRAYS, tmp_path)
    assert people[2]['image'].isfinite().all()
    with pytest.raises(ValueError, match='set.npz: row 1: found a box beside its image'):
        people[1]


def test_sequences_of_3dpw_are_converted(tmp_path):
    turn = axis_angle_to_matrix(torch.tensor([.3, -.2, .1], dtype=torch.double)).numpy()
    camera = np.eye(4)
    camera[:3, :3] = turn
    points = np.zeros((3, 3, 18))
    points[0, :, 3] = (10, 20, .9)
    points[0, :, 4] = (30, 60, .8)
    points[1] = points[0]
    pose = np.random.default_rng(0).normal(0, .3, (3, 72))
    sequence = {'sequence': 'walk', 'genders': ['f'], 'betas': [np.arange(12.)], 'poses': [pose],
                'cam_poses': np.stack(3 * [camera]), 'poses2d': [points], 'trans': [pose[:, :3]],
                'campose_valid': [np.array([1, 0, 1])], 'img_frame_ids': np.arange(7, 10)}
    (tmp_path / 'walk.pkl').write_bytes(pickle.dumps(sequence, protocol=2))
    assert data.main(['convert-3dpw', str(tmp_path), str(tmp_path / 'out.npz')]) == 0
    found = load_annotations(tmp_path / 'out.npz')  # the second frame is invalid, the third empty
    assert found['imgname'].tolist() == ['imageFiles/walk/image_00000.jpg']
    np.testing.assert_allclose(found['center'], [[20, 40]])
    np.testing.assert_allclose(found['scale'], 1.2 * 40 / 200, rtol=1e-6)
    np.testing.assert_allclose(found['part'][0, KEYPOINTS.index('RElbow')], (10, 20, .9), rtol=1e-6)
    expected = turn @ axis_angle_to_matrix(torch.from_numpy(pose[0, :3])).numpy()
    world = axis_angle_to_matrix(torch.from_numpy(found['pose'][0, :3])).numpy()
    np.testing.assert_allclose(world, expected, atol=1e-6)
    assert found['shape'].tolist() == [list(range(10))] and found['gender'].tolist() == ['f']
    del sequence['cam_poses']
    (tmp_path / 'walk.pkl').write_bytes(pickle.dumps(sequence, protocol=2))
    with pytest.raises(ValueError, match='walk.pkl: key cam_poses is missing'):
        data.convert_3dpw(tmp_path)


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
