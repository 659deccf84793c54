"""What an epoch shows: virtual views, crossed poses, a detector's points, noise."""
import numpy as np
import pytest
import torch

from common.augment import CROSSED, DETECTED, NOISY, TILT, augment, cross
from common.camera import ROOT, project, second_view
from common.people import sample
from common.poses import as_tensors
from common.skeleton import BONES, LIMBS, joints_of
from common.views import prepare_views
from data import find_camera

CPU = torch.device('cpu')
DETECTED_PEOPLE = sample(400, seed=5)
PEOPLE = {key: array for key, array in DETECTED_PEOPLE.items() if key != 'joint_detected'}
CENTRE = torch.from_numpy(ROOT)


def poses_of(joints):
    """Poses with the camera that the joints have."""
    torch.manual_seed(0)
    return as_tensors(find_camera(joints)[0], CPU)


def test_virtual_views_are_what_another_camera_sees():
    poses = poses_of({**PEOPLE, 'joint_2d_1': PEOPLE['joint_2d_1'] + np.float32(.01)})
    changed, exact = augment(poses, bones=BONES), augment(poses, bones=BONES, noise=0)
    assert not torch.allclose(changed['joint_3d'], poses['joint_3d'], atol=.01)
    assert changed['truth'] is poses['truth']
    tilt = torch.rad2deg(changed['turn'][:, 1, 1].acos()).square().mean().sqrt()
    assert tilt.item() == pytest.approx(TILT, rel=.15)
    noise, none = ((view['joint_2d'] - project(view['joint_3d'], poses['focal_len']) - .01)
                   for view in (changed, exact))  # what is unexplained stays
    assert none.abs().max() < 1e-5
    noise = noise.std(dim=(1, 2)) / poses['joint_2d'].std()
    assert abs((noise > 1e-5).float().mean() - NOISY) < .06 and .08 < noise.max() < .2


@pytest.mark.parametrize('options, crossed', (
    ({}, False), ({'bones': BONES, 'done': CROSSED}, False),
    ({'bones': BONES, 'done': CROSSED - .01}, True)))
def test_poses_are_crossed_until_a_part_of_the_training_is_over(options, crossed):
    poses = poses_of(PEOPLE)
    turned = augment(poses, **options)
    back = (turned['joint_3d'] - CENTRE) @ turned['turn'] + CENTRE
    assert ((back - poses['joint_3d']).abs().max() > .01) == crossed


def test_no_joint_comes_behind_its_virtual_camera():
    joint_3d = torch.tensor([[[0, 0, -3.], [0, 0, -.5]]]).repeat(50, 1, 1)
    none = torch.zeros(50, 2, 2)
    arrays = {'joint_2d_1': none, 'joint_3d': joint_3d, 'residual': none,
              'focal_len_1': torch.ones(50, 2)}
    assert (augment(as_tensors(arrays, CPU))['joint_3d'][..., 2] < 0).all()


def test_some_poses_are_as_a_detector_shows_them():
    poses = poses_of(DETECTED_PEOPLE)
    changed = augment(poses, bones=BONES, noise=0)
    image, seen = changed['joint_2d'], project(changed['joint_3d'], poses['focal_len'])
    limbs = list(LIMBS)
    torch.testing.assert_close(image[:, limbs], seen[:, limbs], atol=1e-3, rtol=0)
    points = torch.cat([image[:, :3], image[:, limbs]], dim=1).numpy()
    off = np.linalg.norm(joints_of(points)[:, 6:8] - image[:, 6:8].numpy(), axis=2).max(axis=1)
    shown = torch.from_numpy(off < 1.5e-3)  # spine and neck are between points, but perspective
    assert DETECTED - .1 < shown.float().mean() < DETECTED + .1
    # the pose is that of the file but for where its root is
    about = (changed['joint_3d'] - CENTRE)[shown] @ changed['turn'][shown]
    offset = about - (poses['joint_3d'] - CENTRE)[shown]
    assert (offset - offset[:, :1]).abs().amax(dim=(1, 2)).median() < 1e-5


def test_both_cameras_see_crossed_poses():
    """By projection in numpy; of the file only what the cameras leave unexplained is there."""
    off = np.random.default_rng(0).normal(0, .003, (2, *PEOPLE['joint_2d_1'].shape))
    views, _ = prepare_views({**PEOPLE, 'joint_2d_1': PEOPLE['joint_2d_1'] + np.float32(off[0]),
                              'joint_2d_2': PEOPLE['joint_2d_2'] + np.float32(off[1])})
    poses = poses_of(views)
    changed = augment(poses, bones=BONES)
    moved = ((changed['joint_3d'] - CENTRE) @ changed['turn'] + CENTRE).numpy()
    assert (np.abs(moved - views['triangulated']).max(axis=(1, 2)) > .01).mean() > .5

    def images(joints):
        unit = np.ones(2, np.float32)
        return (project(joints, unit),
                project(second_view(joints, views['rot'], views['transl']), unit))

    for view, before, after in zip('12', images(views['triangulated']), images(moved)):
        left = poses[f'image_{view}'] - torch.from_numpy(before)
        still = changed[f'image_{view}'] - torch.from_numpy(after)
        assert left.std() > .001
        torch.testing.assert_close(still, left, atol=1e-4, rtol=0)
    torch.testing.assert_close(changed['joint_2d_2'],
                               poses['focal_len'][:, None] * changed['image_2'])
    uncrossed = augment(poses, bones=BONES, done=CROSSED)
    assert uncrossed['image_2'] is poses['image_2']


def test_crossed_poses_have_a_part_of_another():
    """Found again by trying all other poses, all joints, and angles in steps of a degree."""
    poses = sample(120, seed=2)['joint_3d'][::20] - ROOT  # each of another person
    torch.manual_seed(1)
    crossed = cross(torch.from_numpy(poses), BONES).numpy()
    parents = {child: parent for parent, child in BONES}

    def path(joint):
        return [joint, *path(parents[joint])] if joint in parents else []

    def bones(pose):
        joints = np.vstack([pose, np.zeros(3)])
        return np.stack([joints[child] - joints[parents[child]] for child in range(15)])

    sin, cos = np.sin(np.radians(np.arange(360))), np.cos(np.radians(np.arange(360)))
    turns = np.moveaxis([[cos, 0 * cos, sin], [0 * cos, 0 * cos + 1, 0 * cos],
                         [-sin, 0 * cos, cos]], 2, 0)
    for own, result in zip(map(bones, poses), map(bones, crossed)):
        lengths = np.linalg.norm(own, axis=1, keepdims=True)
        np.testing.assert_allclose(np.linalg.norm(result, axis=1), lengths[:, 0], atol=1e-5)
        errors = [np.abs(result - own).max()]
        for other in map(bones, poses):
            turned = other @ turns.mT
            turned = turned[(turned * own).sum((1, 2)).argmax()]  # most alike
            turned *= lengths / np.linalg.norm(turned, axis=1, keepdims=True)
            for joint in parents:
                beyond = [[other != joint and joint in path(other)] for other in range(15)]
                errors.append(np.abs(result - np.where(beyond, turned, own)).max())
        assert min(errors) < .004  # a bone is up to .15 long, and half a degree of it .0013
    assert np.abs(crossed - poses).max() > .02
