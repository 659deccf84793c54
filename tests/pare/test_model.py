import pytest
import torch
from torch import nn

from made import ARRAYS, random_pose, refused
from pare.body import H36M, Skeleton, project
from pare.model import (SIZES, PartMLPs, Plain, build, load_backbone, load_model, mirrored_output,
                        pool)
from pare.resnet import ResNet

CPU = torch.device('cpu')


# ---- sizes and weights --------------------------------------------------------------------------

def resnet(n_third=6) -> dict:
    """Names and shapes of torchvision's ResNet up to its pooling, by the table of its paper: with 6
    blocks in the third stage ResNet-50, with 23 ResNet-101."""
    def conv_norm(conv, norm, n_in, n, size):
        return {f'{conv}.weight': (n, n_in, size, size), f'{norm}.num_batches_tracked': ()} | {
            f'{norm}.{part}': (n,) for part in ('weight', 'bias', 'running_mean', 'running_var')}

    found, n_in = conv_norm('conv1', 'bn1', 3, 64, 7), 64
    for stage, (width, count) in enumerate(((64, 3), (128, 4), (256, n_third), (512, 3)), start=1):
        for block in range(count):
            at, n = f'layer{stage}.{block}', 4 * width
            for number, sizes in enumerate(((n_in, width, 1), (width, width, 3), (width, n, 1)), 1):
                found |= conv_norm(f'{at}.conv{number}', f'{at}.bn{number}', *sizes)
            if block == 0:
                found |= conv_norm(f'{at}.downsample.0', f'{at}.downsample.1', n_in, n, 1)
            n_in = n
    return found


def zeros(shapes: dict) -> dict:
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


def count(module: nn.Module) -> int:
    return sum(map(torch.numel, module.parameters()))


def test_the_sizes_are_those_of_the_paper():
    full = build('pare', 'full', placed=False)
    plain = Plain(full.backbone, SIZES['full']['mlp'])
    shapes = {name: tuple(value.shape) for name, value in full.backbone.state_dict().items()}
    assert shapes == resnet() and len(shapes) == 318
    assert count(full.backbone) == 23_508_032
    assert count(full.branch_2d) == count(full.branch_3d) == 5_899_776
    assert count(full.pose) == 24 * (258 * 256 + 256 + 256 * 6 + 6)  # with the place of each part
    assert count(full) == (23_508_032 + 2 * 5_899_776 + 6_425 + 16_448 + count(full.pose) + 15_370
                           + 4_611)
    assert count(full) - 24 * 2 * 256 == 36_966_454 and count(plain) == 26_816_733
    assert count(build('pare', 'small')) == 1_430_358  # of the weights that are shipped


def test_weights_of_another_network_are_refused(tmp_path):
    model, path = nn.Module(), tmp_path / 'weights.pth'
    right = ResNet(18, 4).state_dict()
    for backbone, state, message in (
            (ResNet(18, 4), ResNet(18, 8).state_dict(), 'conv1.weight'),
            (ResNet(18, 4), right | {'bn1.bias': torch.full((4,), torch.nan)},
             'bn1.bias: found numbers that are not finite'),
            (ResNet(50), zeros(resnet(23)), 'found a ResNet of more layers')):
        torch.save(state, path)
        model.backbone = backbone
        with pytest.raises(ValueError, match=f'{path}: (?s:.*){message}'):
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
    for content, message in (
            ([1], ''), ({'first.weight': torch.zeros(1)}, 'options'), ({'parts': {}}, 'kept'),
            (kept | {'weights': {}}, 'Missing'), (kept | {'weights': nan}, 'not finite')):
        torch.save(content, path)
        with refused(f'{path}: .*{message}.*weights of pare.training'):
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
    assert count(mlps) == (1 if shared else 24) * (5 * 7 + 7 + 7 * 3 + 3)


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
    layer.weight.data.zero_()
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
    pixels = image.double() * gain.double()[:, :, None, None]
    expected = (pixels.clamp(max=255) / 255 - torch.tensor([.485, .456, .406]).view(3, 1, 1)) / (
        torch.tensor([.229, .224, .225]).view(3, 1, 1))
    model = build('mlp', 'small').train()
    model.look = lambda image: image
    torch.testing.assert_close(model(image, gain).double(), expected, atol=1e-5, rtol=0)
    assert torch.equal(model(image), model(image, torch.ones(2, 3))) and (pixels > 255).any()


# ---- the mirror ---------------------------------------------------------------------------------

def test_a_mirrored_output_is_the_body_that_a_mirror_shows():
    """x of its joints and of their places is turned, and left is right."""
    skeleton = Skeleton(ARRAYS)
    swap = [H36M.index({'L': 'R', 'R': 'L'}.get(name[0], name[0]) + name[1:]) for name in H36M]
    betas, rotations = random_pose(5)
    one = {'rotations': rotations, 'betas': betas, 'camera': torch.rand(5, 3)}
    other = mirrored_output(one)
    joints, mirrored = (skeleton(each['betas'], each['rotations']).h36m for each in (one, other))
    turned = torch.tensor([-1., 1, 1])
    torch.testing.assert_close(mirrored, joints[:, swap] * turned, atol=1e-5, rtol=0)
    torch.testing.assert_close(project(mirrored, other['camera']),
                               project(joints, one['camera'])[:, swap] * turned[:2],
                               atol=1e-5, rtol=0)


@pytest.mark.parametrize('kind', ('mlp', 'pare'))
def test_what_is_found_in_a_mirror_is_mirrored(kind):
    """Of any network: the mean over both has no left nor right of its own."""
    torch.manual_seed(0)
    model = build(kind, 'small').eval()
    for weights in model.parameters():  # away from the start, where all are alike
        weights.data += .02 * torch.randn_like(weights)
    image = torch.randint(256, (3, 3, 64, 64), dtype=torch.uint8)
    found, mirrored = model(image), model(image.flip(3))
    expected = mirrored_output(found)
    assert mirrored.keys() == expected.keys()
    for key in mirrored:
        torch.testing.assert_close(mirrored[key], expected[key], atol=1e-4, rtol=0)
        assert key == 'betas' or not torch.allclose(mirrored[key], found[key], atol=1e-4)
    both = [model.look(model.standardise(each))['betas'] for each in (image, image.flip(3))]
    torch.testing.assert_close(found['betas'], (both[0] + both[1]) / 2)
