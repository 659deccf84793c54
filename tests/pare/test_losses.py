"""The terms of the loss, against loops and SPIN's formulas."""
import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from made import ARRAYS, SKELETON, bare, random_pose, truth_of
from pare.body import KEYPOINTS, Body, Skeleton, fit_camera, project
from pare.losses import both_points, losses, part_loss, skeleton_loss
from pare.model import build
from pare.people import sample_skeletons
from pare.recipes import FULL, SMALL

BODY = Body(ARRAYS)
ZERO_OF_THE_TRUTH = ('keypoints', 'points_3d', 'pose', 'betas', 'parts', 'places')


def wrong() -> dict:
    betas, rotations = random_pose(8)
    return {'betas': betas, 'rotations': rotations, 'camera': torch.rand(8, 3) + .5,
            'parts': torch.randn(8, 25, 16, 16), 'places': torch.randn(8, 24, 2)}


def partial(batch) -> dict:
    """Of the batch one with all, two with 2D alone, one with 3D points, one with nothing but the
    body, three with nothing."""
    labels, keypoints = batch['labels'].long(), batch['keypoints'].clone()
    labels[1:], keypoints[4:, :, 2] = -1, 0
    points = torch.randn(8, 24, 4)
    points[..., 3] = 0
    points[3, :17, 3] = 1
    return batch | {'has_smpl': torch.tensor([1., 0, 0, 0, 1, 0, 0, 0]), 'labels': labels,
                    'keypoints': keypoints, 'points_3d': points}


def test_the_truth_has_no_loss(batch):
    truth = truth_of(batch, parts=50. * one_hot(batch['labels'].long(), 25).movedim(3, 1))
    joints = BODY.posed_joints(batch['betas'], batch['rotations'])
    truth['places'] = project(joints, truth['camera'])
    for body in (SKELETON, Skeleton(bare())):  # which lacks the hips
        known = batch['keypoints'] * torch.stack([*2 * [torch.ones(24)], body.known], dim=1)
        terms = losses(truth, batch | {'keypoints': known}, body, squared=False)
        assert set(terms) == {*ZERO_OF_THE_TRUTH, 'camera'} == set(SMALL.weights) - {'skeletons'}
        assert 0 < terms['camera'] < .01 and all(terms[key] < 1e-5 for key in ZERO_OF_THE_TRUTH)
    others = losses(wrong(), batch, SKELETON, squared=False)
    assert all(others[name] > .01 for name in ZERO_OF_THE_TRUTH)


def test_what_a_sample_lacks_teaches_nothing(batch):
    for rows, taught in ((slice(1, 3), {'keypoints'}), (slice(3, 4), {'keypoints', 'points_3d'}),
                         (slice(4, 5), {'points_3d', 'pose', 'betas'}), (slice(5, 8), set())):
        leaves = {key: value[rows].requires_grad_() for key, value in wrong().items()}
        some = {key: value[rows] for key, value in partial(batch).items()}
        terms = losses(leaves, some, SKELETON, squared=False)
        assert {name for name in ZERO_OF_THE_TRUTH if terms[name] > 0} == taught
        sum(terms.values()).backward()
        assert all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in leaves.values())


@pytest.mark.parametrize('squared', (False, True))
def test_the_full_size_weighs_as_spin_does(batch, squared):
    """In numpy, as SPIN writes it: 49 keypoints, 25 of OpenPose with a weight of zero, and means
    over the samples that have a body, all times 60 there and times 1 here. Or with distances."""
    found, some = wrong(), partial(batch)
    some['points_3d'][0, :3, 3] = 1  # one hip alone: too little to know the middle
    points = SKELETON(found['betas'], found['rotations'])[0].numpy()
    true = SKELETON(batch['betas'], batch['rotations'])[0].numpy()
    places, seen = np.split(some['keypoints'].numpy(), (2,), axis=2)
    s, x, y = found['camera'].numpy().T[..., None]
    off_2d = np.stack([s * (points[..., 0] + x), s * (points[..., 1] + y)], axis=2) - places
    hips = [KEYPOINTS.index(name) for name in ('RHip', 'LHip')]
    given, off_3d = some['points_3d'].numpy(), []
    for row in (0, 3, 4):
        target, sure = (given[row, :, :3], given[row, :, 3:]) if row == 3 else (true[row], 1)
        off_3d.append(sure * ((points[row] - points[row, hips].mean(axis=0)) - (
            target - target[hips].mean(axis=0))))
    if squared:
        sizes = {'keypoints': 5 * (seen * off_2d ** 2).sum() / (8 * 49 * 2),
                 'points_3d': 5 * np.square(off_3d).mean()}
    else:
        sizes = {'keypoints': 5 * 24 / 49 * np.linalg.norm(seen * off_2d, axis=2).mean(),
                 'points_3d': 5 * np.linalg.norm(off_3d, axis=2).mean()}
    turned = (found['rotations'] - batch['rotations'])[[0, 4]].numpy() ** 2
    shaped = (found['betas'] - batch['betas'])[[0, 4]].numpy() ** 2
    expected = sizes | {'pose': turned.mean(), 'betas': .001 * shaped.mean(),
                        'camera': (np.exp(-10 * s) ** 2).mean()}
    terms = losses(found, some, SKELETON, squared)
    for name, value in expected.items():
        assert FULL.weights[name] * terms[name] == pytest.approx(value, rel=1e-4), name


@pytest.mark.parametrize('size', (16, 32))
def test_labels_are_compared_at_the_size_of_the_maps(size):
    """Against a loop over cells; the background weighs a fifth, and unknown cells nothing."""
    torch.manual_seed(0)
    coarse = torch.randint(-1, 25, (2, 16, 16))
    labels = coarse.repeat_interleave(size // 16, 1).repeat_interleave(size // 16, 2)
    maps = torch.randn(2, 25, 16, 16)
    expected = []
    for image, wanted in zip(maps.log_softmax(dim=1), coarse):
        total, weight = 0., 0.
        for row, column in np.ndindex(16, 16):
            label = wanted[row, column].item()
            share = {-1: 0., 0: .2}.get(label, 1.)
            total, weight = total - share * image[label, row, column], weight + share
        expected.append(total / weight)
    assert part_loss(maps, labels) == pytest.approx(np.mean(expected), rel=1e-5)


def test_a_body_told_of_exact_places_has_a_loss_that_teaches_the_heads_alone():
    torch.manual_seed(0)
    model, bodies = build('pare', 'small'), sample_skeletons(np.random.default_rng(0), 8, BODY)
    loss = skeleton_loss(model, bodies, BODY)
    loss.backward()
    reached = {name.split('.')[0] for name, weight in model.named_parameters()
               if weight.grad is not None and weight.grad.any()}
    assert reached == {'pose', 'shape', 'camera'}
    camera = fit_camera(bodies['joints'], bodies['places'], torch.ones(8, 24))
    model.regress = lambda pooled, places: bodies | {'camera': camera}
    assert skeleton_loss(model, bodies, BODY) < 1e-5 < loss


def test_one_call_for_found_and_true_bodies_has_the_same_points_and_gradients(batch):
    results = []
    for together in (False, True):
        found = {key: value.requires_grad_() for key, value in wrong().items()}
        points, true = both_points(found, batch, SKELETON, together)
        assert not any(part.requires_grad for part in true)
        points.square().sum().backward()
        results += [[points.detach(), *true, found['betas'].grad, found['rotations'].grad]]
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-4)
