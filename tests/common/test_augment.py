"""What an epoch shows: virtual views, crossed poses, a detector's points, noise."""
import numpy as np
import torch

from common.augment import CROSSED, DETECTED, NOISY, augment, cross
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
    changed = augment(poses, bones=BONES)
    assert not torch.allclose(changed['joint_3d'], poses['joint_3d'], atol=.01)
    assert changed['truth'] is poses['truth']
    seen = project(changed['joint_3d'], poses['focal_len']) + .01  # what is unexplained stays
    noise = (changed['joint_2d'] - seen).std(dim=(1, 2)) / seen.std()
    assert abs((noise > 1e-5).float().mean() - NOISY) < .06 and .08 < noise.max() < .2
    exact = augment(poses, bones=BONES, noise=0)
    seen = project(exact['joint_3d'], poses['focal_len']) + .01
    torch.testing.assert_close(exact['joint_2d'], seen, atol=1e-5, rtol=0)


def test_poses_that_are_not_crossed_are_those_of_the_file():
    poses = poses_of(PEOPLE)

    def back(**options):
        turned = augment(poses, **options)
        return (turned['joint_3d'] - CENTRE) @ turned['turn'] + CENTRE

    for options in ({}, {'bones': BONES, 'done': CROSSED}):
        torch.testing.assert_close(back(**options), poses['joint_3d'], atol=1e-5, rtol=0)
    assert (back(bones=BONES, done=CROSSED - .01) - poses['joint_3d']).abs().max() > .05


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


def test_poses_that_no_camera_explains_stay_as_they_are():
    poses = as_tensors(PEOPLE, CPU)
    assert augment(poses, bones=BONES) is poses


def test_a_pose_too_near_to_its_virtual_camera_keeps_its_own_view():
    joint_3d = torch.tensor([[[0, 0, -3.], [0, 0, -.5]], [[0, 0, -1.1], [0, 0, -.9]]])
    joint_3d = joint_3d.repeat(50, 1, 1)
    arrays = {'joint_2d_1': torch.zeros(100, 2, 2), 'joint_3d': joint_3d,
              'residual': torch.zeros(100, 2, 2), 'focal_len_1': torch.ones(100, 2)}
    torch.manual_seed(0)
    turned = augment(as_tensors(arrays, CPU))
    assert (turned['joint_3d'][..., 2] < -.1).all()
    own = (turned['turn'] == torch.eye(3)).all(dim=(1, 2))
    assert own[::2].any() and not own[1::2].any()
    assert torch.equal(turned['joint_3d'][own], joint_3d[own])


def test_some_poses_are_as_a_detector_shows_them():
    poses = poses_of(DETECTED_PEOPLE)
    changed = augment(poses, bones=BONES, noise=0)
    seen = project(changed['joint_3d'], poses['focal_len'])
    limbs = list(LIMBS)
    torch.testing.assert_close(changed['joint_2d'][:, limbs], seen[:, limbs], atol=1e-3, rtol=0)
    image = changed['joint_2d'].numpy()
    between = joints_of(np.concatenate([image[:, :3], image[:, limbs]], axis=1))[:, 6:8]
    off = np.linalg.norm(between - image[:, 6:8], axis=2).max(axis=1)  # spine, neck; perspective
    shown = torch.from_numpy(off < 1.5e-3)
    assert DETECTED - .1 < shown.float().mean() < DETECTED + .1
    beside = (changed['joint_2d'] - seen).abs().amax(dim=(1, 2)) > 2e-3
    assert beside[shown].float().mean() > .8
    # the pose is that of the file but for where its root is
    about = (changed['joint_3d'] - CENTRE)[shown & beside] @ changed['turn'][shown & beside]
    offset = about - (poses['joint_3d'] - CENTRE)[shown & beside]
    torch.testing.assert_close(offset, offset[:, :1].expand_as(offset), atol=1e-5, rtol=0)


def test_crossed_poses_have_a_part_of_another():
    """Found again by trying all other poses, all joints, and angles in steps of a degree."""
    poses = sample(120, seed=2)['joint_3d'][::20] - ROOT  # each of another person
    torch.manual_seed(1)
    crossed = cross(torch.from_numpy(poses), BONES).numpy()
    parents = {child: parent for parent, child in BONES}

    def path(joint):
        return [joint, *path(parents[joint])] if joint in parents else []

    def bones(joints):
        joints = np.vstack([joints, np.zeros(3)])
        return np.stack([joints[child] - joints[parents[child]] for child in range(15)])

    beyond = [[other for other in parents if other != joint and joint in path(other)]
              for joint in parents]
    angles = np.radians(np.arange(360))
    turns = np.stack([[[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]]
                      for a in angles])
    changed = 0
    for own, result in zip(poses, crossed):
        own, result = bones(own), bones(result)
        lengths = np.linalg.norm(own, axis=1)
        np.testing.assert_allclose(np.linalg.norm(result, axis=1), lengths, atol=1e-5)
        errors = [np.abs(result - own).max()]
        changed += errors[0] > .01
        for other in poses:
            turned = bones(other) @ turns.mT
            turned = turned[(turned * own).sum((1, 2)).argmax()]
            turned *= (lengths / np.linalg.norm(turned, axis=1))[:, None]
            for joints in beyond:
                expected = own.copy()
                expected[joints] = turned[joints]
                errors.append(np.abs(result - expected).max())
        assert min(errors) < .004  # a bone is up to .15 long, and half a degree of it .0013
    assert changed > 0
