"""The networks and their optimiser."""
import pytest
import torch
from torch import nn

from made import CPU, SKELETON, random_pose, refused
from pare.body import H36M, project
from pare.model import (SIZES, PartMLPs, Plain, build, grid, load_backbone, load_model,
                        mirrored_output, pool)
from pare.muon import RATE, Muon, make_optimisers, orthogonal
from pare.resnet import ResNet


# ---- sizes and weights --------------------------------------------------------------------------

def count(module: nn.Module) -> int:
    return sum(map(torch.numel, module.parameters()))


def test_the_sizes_are_those_of_the_paper():
    full = build('pare', 'full', placed=False)
    plain = Plain(full.backbone, SIZES['full']['mlp'])
    state = full.backbone.state_dict()
    assert count(full.backbone) == 23_508_032 and len(state) == 318  # as torchvision's
    assert state['layer3.5.conv2.weight'].shape == (256, 256, 3, 3)
    assert state['layer4.0.downsample.1.running_mean'].shape == (2048,)
    assert {'conv1.weight', 'bn1.bias', 'layer1.2.bn3.num_batches_tracked'} < state.keys()
    assert count(full.branch_2d) == count(full.branch_3d) == 5_899_776
    assert count(full.pose) == 24 * (258 * 256 + 256 + 256 * 6 + 6)  # with the place of each part
    assert count(full) - 24 * 2 * 256 == 36_966_454 and count(plain) == 26_816_733
    assert count(build('pare', 'small')) == 1_430_358  # of the weights that are shipped


def test_weights_of_another_network_are_refused(tmp_path):
    model, path, right = nn.Module(), tmp_path / 'weights.pth', ResNet(18, 4).state_dict()
    model.backbone = ResNet(18, 4)
    for state, words in ((ResNet(18, 8).state_dict(), 'conv1.weight'),
                         (right | {'bn1.bias': torch.full((4,), torch.nan)}, 'bn1.bias: finite'),
                         (right | {'layer3.6.conv1.weight': torch.ones(1)}, 'more layers')):
        torch.save(state, path)
        with refused(f'{path}: {words}'):
            load_backbone(model, path)


@pytest.mark.parametrize('kind', ({'kind': 'mlp', 'placed': True, 'shared': False},
                                  {'kind': 'pare', 'placed': False, 'shared': True}))
def test_weights_come_back_as_they_were_saved_or_are_refused(tmp_path, kind):
    path, kind = tmp_path / 'model', kind | {'size': 'small'}
    model, kept = build(**kind).eval(), {'options': kind | {'resolution': 64}, 'mean_pose': None}
    weights = model.state_dict()
    torch.save(kept | {'weights': weights}, path)
    again, found = load_model(path, CPU)
    image = torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8)
    assert not again.training and found == kept
    assert torch.equal(again(image)['rotations'], model(image)['rotations'])
    nan = weights | {'backbone.bn1.weight': weights['backbone.bn1.weight'] * torch.nan}
    for content, word in (
            ([1], ''), ({'first.weight': torch.zeros(1)}, 'options'), ({'parts': {}}, 'kept'),
            (kept | {'weights': {}}, 'Missing'), (kept | {'weights': nan}, 'finite')):
        torch.save(content, path)
        with refused(f'{path}: weights of pare.training {word}'):
            load_model(path, CPU)


# ---- what is computed ---------------------------------------------------------------------------

@pytest.mark.parametrize('shared', (False, True))
def test_the_mlps_are_one_for_each_part_or_one_for_all(shared):
    torch.manual_seed(0)
    mlps, x = PartMLPs([5, 7, 3], shared), torch.randn(2, 24, 5)
    for bias in mlps.biases:
        nn.init.normal_(bias)
    expected = torch.empty(2, 24, 3)
    for part in range(24):
        at = 0 if shared else part
        hidden = (x[:, part] @ mlps.weights[0][at] + mlps.biases[0][at, 0]).clamp(min=0)
        expected[:, part] = hidden @ mlps.weights[1][at] + mlps.biases[1][at, 0]
    torch.testing.assert_close(mlps(x), expected)


@pytest.mark.parametrize('every', (1, 2))
def test_features_are_means_weighted_by_the_attention(every):
    """Each cell of coarse features is that of four of the attention."""
    torch.manual_seed(0)
    features = torch.randn(2, 6, 8, 8)[..., ::every, ::every]
    attention = torch.rand(2, 24, 8, 8).flatten(2).softmax(dim=2).view(2, 24, 8, 8)
    expected = torch.einsum('bjhw,bchw->bjc', attention, features.repeat_interleave(
        every, 2).repeat_interleave(every, 3))
    torch.testing.assert_close(pool(features, attention), expected)


@pytest.mark.parametrize('placed', (False, True))
def test_places_are_where_the_attention_is(placed):
    """A network whose 2D branch is sure of one pixel; the MLPs hear of all places or of their own.
    """
    model, heard = build('pare', 'small', placed).eval(), []
    layer = model.joints if placed else model.parts
    maps = torch.full((1, layer.out_channels, 32, 32), -50.)
    maps[0, 4 if placed else 5, 3, 12] = 50.  # joint 4
    layer.register_forward_hook(lambda *_: maps)
    model.pose.register_forward_pre_hook(lambda _, args: heard.append(args[0][0, :, 32:]))
    found = model.look(torch.rand(1, 3, 64, 64))
    places = torch.zeros(24, 2)  # an even map's
    places[4] = torch.tensor([12.5 / 16 - 1, 3.5 / 16 - 1])
    torch.testing.assert_close(found['places'][0], places, atol=1e-6, rtol=0)
    assert found['attention'][0, 4, 3, 12] > .999
    expected = found['places'][0]
    assert torch.equal(heard[0], expected.flatten().expand(24, 48) if placed else expected)


def test_images_are_standardised_by_imagenet():
    torch.manual_seed(0)
    image = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    gain = torch.tensor([[.7, 1., 1.3], [1.4, .6, 1.]])
    pixels = (image * gain[:, :, None, None]).clamp(max=255) / 255
    expected = (pixels - torch.tensor([.485, .456, .406]).view(3, 1, 1)) / (
        torch.tensor([.229, .224, .225]).view(3, 1, 1))
    model = build('mlp', 'small').train()
    model.look = lambda image: image
    torch.testing.assert_close(model(image, gain), expected, atol=1e-5, rtol=0)
    assert torch.equal(model(image), model(image, torch.ones(2, 3)))


def test_a_mirrored_output_is_the_body_that_a_mirror_shows():
    """x of its joints and of their places is negated, and left is right."""
    swap = [H36M.index({'L': 'R', 'R': 'L'}.get(name[0], name[0]) + name[1:]) for name in H36M]
    betas, rotations = random_pose(5)
    one = {'rotations': rotations, 'betas': betas, 'camera': torch.rand(5, 3)}
    other = mirrored_output(one)
    joints, mirrored = (SKELETON(each['betas'], each['rotations']).h36m for each in (one, other))
    turned = torch.tensor([-1., 1, 1])
    torch.testing.assert_close(mirrored, joints[:, swap] * turned, atol=1e-5, rtol=0)
    torch.testing.assert_close(project(mirrored, other['camera']), atol=1e-5, rtol=0,
                               expected=project(joints, one['camera'])[:, swap] * turned[:2])


@pytest.mark.parametrize('kind', ('mlp', 'pare'))
def test_what_is_found_in_a_mirror_is_mirrored(kind):
    """By any network: the mean over both has no left nor right of its own."""
    torch.manual_seed(0)
    model = build(kind, 'small').eval()
    for weights in model.parameters():  # away from the start, where all are alike
        weights.data += .02 * torch.randn_like(weights)
    image = torch.randint(256, (3, 3, 64, 64), dtype=torch.uint8)
    found, mirrored = model(image), model(image.flip(3))
    torch.testing.assert_close(mirrored, mirrored_output(found), atol=1e-4, rtol=0)
    if kind == 'pare':  # the mean of the places is the place of the mean attention
        places = found['attention'].flatten(2) @ grid(found['attention'])
        torch.testing.assert_close(found['places'], places)
    both = [model.look(model.standardise(each))['betas'] for each in (image, image.flip(3))]
    torch.testing.assert_close(found['betas'], (both[0] + both[1]) / 2)


# ---- the optimiser ------------------------------------------------------------------------------

@pytest.mark.parametrize('shape', ((1, 20, 20), (1, 8, 30), (2, 30, 8)))
def test_an_orthogonal_matrix_keeps_its_singular_vectors(shape):
    """Against the singular value decomposition."""
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, values, vh = torch.linalg.svd(matrix, full_matrices=False)
    new = (u.mT @ orthogonal(matrix) @ vh.mT).diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(u @ torch.diag_embed(new) @ vh, orthogonal(matrix), atol=5e-5,
                               rtol=0)
    assert .6 < new[values > .05 * values.max()].min() and new.max() < 1.3
    assert orthogonal(torch.zeros(shape)).isfinite().all()


def test_stacks_move_as_single_matrices_do():
    """Filters and stacks, some of the same shape; the rows of each matrix are outputs."""
    torch.manual_seed(0)
    shapes = (8, 3, 2, 2), (8, 12, 1, 1), (2, 12, 8), (3, 5, 7)
    weights = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    before = [weight.detach().clone() for weight in weights]
    for weight in weights:
        weight.grad = torch.randn(weight.shape)
    Muon(weights, .1).step()
    for weight, old in zip(weights, before):
        gradient, moved = ([value.flatten(1)] if value.ndim == 4 else list(value.mT)
                           for value in (weight.grad, weight - old))
        for matrix, found in zip(gradient, moved):
            scale = max(1, matrix.shape[0] / matrix.shape[1]) ** .5
            torch.testing.assert_close(found, -.1 * scale * orthogonal(matrix[None])[0],
                                       atol=1e-5, rtol=0)


@pytest.mark.parametrize('options', (('mlp', 'small'), ('pare', 'small', False, True)))
def test_each_parameter_is_in_one_optimiser(options):
    model = build(*options)
    adam, muon = make_optimisers(model, 1e-3, True)
    one, two = ({id(weight) for weight in part.param_groups[0]['params']} for part in (adam, muon))
    assert not one & two and one | two == set(map(id, model.parameters()))
    for name, weight in model.named_parameters():
        others = 'backbone.conv1', 'parts', 'joints', 'pose.biases', 'shape', 'backbone.bn1'
        assert not (name.startswith(others) and id(weight) in two), name
        assert not name.startswith('pose.weights') or id(weight) in two
    assert muon.param_groups[0]['lr'] == RATE and len(make_optimisers(model, 1e-3, False)) == 1
