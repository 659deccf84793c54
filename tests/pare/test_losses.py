import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from made import ARRAYS, bare, random_pose, rendered_batch, truth_of
from pare.body import KEYPOINTS, Body, Skeleton, fit_camera, project
from pare.losses import about_middle, both_points, losses, part_loss, skeleton_loss
from pare.model import build
from pare.people import sample_skeletons
from pare.recipes import FULL, SMALL

SKELETON, BODY = Skeleton(ARRAYS), Body(ARRAYS)
ZERO_OF_THE_TRUTH = ('keypoints', 'points_3d', 'pose', 'betas', 'parts', 'places')


@pytest.fixture(scope='module')
def batch():
    return rendered_batch(6)


def whole_truth_of(batch) -> dict:
    """With the maps of the labels and the places of the joints."""
    truth = truth_of(batch)
    joints = BODY.posed_joints(batch['betas'], batch['rotations'])
    return truth | {'parts': 50. * one_hot(batch['labels'].long(), 25).movedim(3, 1),
                    'places': project(joints, truth['camera'])}


def wrong(seed=0) -> dict:
    betas, rotations = random_pose(6, seed)
    return {'betas': betas, 'rotations': rotations, 'camera': torch.rand(6, 3) + .5,
            'parts': torch.randn(6, 25, 16, 16), 'places': torch.randn(6, 24, 2)}


@pytest.mark.parametrize('squared', (False, True))
def test_the_truth_has_no_loss(batch, squared):
    terms = losses(whole_truth_of(batch), batch, SKELETON, squared)
    assert set(terms) == {*ZERO_OF_THE_TRUTH, 'camera'} == set(SMALL.weights) - {'skeletons'}
    assert 0 < terms['camera'] < .01 and all(terms[name] < 1e-5 for name in ZERO_OF_THE_TRUTH)
    others = losses(wrong(), batch, SKELETON, squared)
    assert all(others[name] > .01 for name in ZERO_OF_THE_TRUTH)
    body = Skeleton(bare())  # without nine keypoints, the hips among them
    changed = batch | {'keypoints': batch['keypoints'].clone()}
    changed['keypoints'][..., 2] = body.known.float()
    terms = losses(whole_truth_of(batch), changed, body, squared)
    assert all(terms[name] < 1e-5 for name in ZERO_OF_THE_TRUTH)


def partial(batch) -> dict:
    """Of the batch one with all, two with 2D alone, one with 3D points, one with nothing but the
    body, one with nothing."""
    batch = {key: value.clone() for key, value in batch.items()}
    batch['has_smpl'] = torch.tensor([1., 0, 0, 0, 1, 0])
    batch['labels'] = batch['labels'].long()
    batch['labels'][1:] = -1
    batch['keypoints'][4:, :, 2] = 0
    batch['points_3d'] = torch.randn(6, 24, 4)
    batch['points_3d'][..., 3] = 0
    batch['points_3d'][3, :17, 3] = 1
    return batch


@pytest.mark.parametrize('squared', (False, True))
def test_what_a_sample_lacks_teaches_nothing(batch, squared):
    found, some, reached = wrong(), partial(batch), {}
    for name in ZERO_OF_THE_TRUTH:
        leaves = {key: value.clone().requires_grad_() for key, value in found.items()}
        losses(leaves, some, SKELETON, squared)[name].backward()
        reached[name] = [row for row in range(6) if any(
            leaf.grad is not None and leaf.grad[row].any() for leaf in leaves.values())]
    assert reached == {'keypoints': [0, 1, 2, 3], 'points_3d': [0, 3, 4], 'pose': [0, 4],
                       'betas': [0, 4], 'parts': [0], 'places': [0]}
    nothing = some | {'has_smpl': torch.zeros(6), 'labels': torch.full((6, 64, 64), -1),
                      'keypoints': torch.zeros(6, 24, 3), 'points_3d': torch.zeros(6, 24, 4)}
    leaves = {key: value.clone().requires_grad_() for key, value in found.items()}
    terms = losses(leaves, nothing, SKELETON, squared)
    assert all(terms[name] == 0 for name in ZERO_OF_THE_TRUTH)
    sum(terms.values()).backward()
    assert all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in leaves.values())


def test_the_full_size_weighs_as_spin_does(batch):
    """In numpy, as SPIN writes it: 49 keypoints, 25 of OpenPose with a weight of zero, and means
    over the samples that have a body, all times 60 there and times 1 here."""
    found, some = wrong(), partial(batch)
    points = SKELETON(found['betas'], found['rotations'])[0].numpy()
    true = SKELETON(batch['betas'], batch['rotations'])[0].numpy()
    s, x, y = found['camera'].numpy().T[..., None]
    places = np.stack([s * (points[..., 0] + x), s * (points[..., 1] + y)], axis=2)
    all_49 = np.zeros((6, 49, 2))
    all_49[:, 25:] = some['keypoints'][..., 2:].numpy() * (
        places - some['keypoints'][..., :2].numpy()) ** 2
    hips = [KEYPOINTS.index(name) for name in ('RHip', 'LHip')]
    given = some['points_3d'].numpy()
    squares = []
    for row in (0, 3, 4):
        target, sure = (given[row, :, :3], given[row, :, 3:]) if row == 3 else (true[row], 1)
        offset = (points[row] - points[row, hips].mean(axis=0)) - (
            target - target[hips].mean(axis=0))
        squares.append(sure * offset ** 2)
    turned = (found['rotations'] - batch['rotations'])[[0, 4]].numpy() ** 2
    shaped = (found['betas'] - batch['betas'])[[0, 4]].numpy() ** 2
    expected = {'keypoints': 5 * all_49.mean(), 'points_3d': 5 * np.mean(squares),
                'pose': turned.mean(), 'betas': .001 * shaped.mean(),
                'camera': (np.exp(-10 * s) ** 2).mean()}
    terms = losses(found, some, SKELETON, squared=True)
    for name, value in expected.items():
        assert FULL.weights[name] * terms[name] == pytest.approx(value, rel=1e-4), name


def test_keypoints_that_are_given_go_before_the_bodys_where_their_middle_is_known(batch):
    """As joints of the gendered body, where the neutral one has other joints; about the hips."""
    found, given = wrong(), torch.randn(6, 24, 4)
    given[..., 3] = 1
    given[3:, KEYPOINTS.index('LHip'), 3] = 0
    points = SKELETON(found['betas'], found['rotations']).keypoints
    true = about_middle(SKELETON(batch['betas'], batch['rotations']).keypoints, SKELETON)
    true[:3] = about_middle(given[:3, :, :3], SKELETON)
    off = {'points_3d': about_middle(points, SKELETON) - true,
           'keypoints': project(points, found['camera']) - batch['keypoints'][..., :2]}
    terms = losses(found, batch | {'points_3d': given}, SKELETON, squared=False)
    for name, value in off.items():
        assert terms[name] == pytest.approx(value.norm(dim=2).mean().item(), rel=1e-4)


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
            if label >= 0:
                share = .2 if label == 0 else 1
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


def test_one_call_for_found_and_true_bodies_has_the_same_points_and_gradients():
    skeleton, results = Skeleton(ARRAYS), []
    for together in (False, True):
        betas, rotations = (part.requires_grad_() for part in random_pose(3, seed=1))
        batch = dict(zip(('betas', 'rotations'), random_pose(3, seed=2)))
        points, true = both_points({'betas': betas, 'rotations': rotations}, batch, skeleton,
                                   together)
        assert not any(part.requires_grad for part in true)
        points.square().sum().backward()
        results.append([points.detach(), *true, betas.grad, rotations.grad])
    for apart, both in zip(*results):
        torch.testing.assert_close(apart, both, atol=1e-5, rtol=1e-4)
