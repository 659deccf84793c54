from argparse import Namespace

import pytest
import torch
from torch import nn

from made import ARRAYS, random_pose
from pare.body import H36M, PARENTS, Skeleton, project, relative_rotations
from pare.model import (SIZES, Branch, PartMLPs, Plain, build, grid, load_backbone, load_model,
                        mirrored_output, pool)
from pare.resnet import ResNet

CPU = torch.device('cpu')
UPRIGHT = torch.diag(torch.tensor([1., -1, -1]))


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


@pytest.mark.parametrize('depth, sizes', ((50, (56, 28, 14, 7)), (18, (56, 28, 14, 7))))
def test_each_stage_is_half_as_wide(depth, sizes):
    stages = ResNet(depth, 4).eval()(torch.zeros(1, 3, 224, 224))
    assert tuple(stage.shape[2] for stage in stages) == sizes
    fine = ResNet(18, 4, fine=True).eval()(torch.zeros(1, 3, 64, 64))
    assert [stage.shape[2] for stage in fine] == [32, 16, 8, 4]


@pytest.mark.parametrize('wrap', (
    lambda state: state | {'fc.weight': torch.zeros(1000, 512), 'fc.bias': torch.zeros(1000)},
    lambda state: {f'module.{name}': value for name, value in state.items()},
    lambda state: {'state_dict': {f'backbone.{name}': value for name, value in state.items()}},
    lambda state: {'teacher': state, 'args': Namespace(arch='resnet')},
    lambda state: {'model': state | {'fc1.weight': torch.zeros(3, 3), 'decpose.bias': torch.ones(4)
                                     }}))
def test_weights_of_a_backbone_are_found_in_any_wrapping(wrap, tmp_path, capsys):
    one, two = ResNet(18, 4), nn.Module()
    two.backbone = ResNet(18, 4)
    torch.save(wrap(one.state_dict()), tmp_path / 'weights.pth')
    load_backbone(two, tmp_path / 'weights.pth')
    assert '0 weights of the backbone missing' in capsys.readouterr().out
    image = torch.randn(1, 3, 64, 64)
    for found, expected in zip(one.eval()(image), two.backbone.eval()(image)):
        assert torch.equal(found, expected)


def test_weights_of_another_network_are_refused(tmp_path):
    model, path = nn.Module(), tmp_path / 'weights.pth'
    deeper = ResNet(18, 4).state_dict() | {'layer3.2.conv1.weight': torch.zeros(16, 16, 3, 3)}
    for backbone, state, message in (
            (ResNet(18, 4), ResNet(18, 8).state_dict(), 'conv1.weight'),
            (ResNet(18, 4), ResNet(18, 4).state_dict() | {'bn1.bias': torch.full((4,), torch.nan)},
             'bn1.bias: found numbers that are not finite'),
            (ResNet(18, 4), deeper, 'layer3.2.conv1.weight: found a ResNet of more layers'),
            (ResNet(50), zeros(resnet(23)), 'found a ResNet of more layers'),
            (ResNet(18, 4), {'layers.weight': torch.zeros(1)}, 'found no weights of a ResNet')):
        torch.save(state, path)
        model.backbone = backbone
        with pytest.raises(ValueError, match=f'{path}: (?s:.*){message}'):
            load_backbone(model, path)


def test_what_is_no_checkpoint_is_named(tmp_path):
    path = tmp_path / 'model'
    with pytest.raises(OSError, match=f'{path}: No such file'):
        load_model(path, CPU)
    options = {'kind': 'mlp', 'size': 'small', 'shared': False, 'placed': False}
    for content, named in (
            (None, ''), ([1], ''), ({'first.weight': torch.zeros(1)}, 'options'),
            ({'options': options, 'mean_pose': None, 'weights': {}}, 'Missing')):
        torch.save(content, path)
        if content is None:
            path.write_bytes(b'nothing')
        with pytest.raises(ValueError, match=f'{path}: .*{named}.*weights of pare.training'):
            load_model(path, CPU)


def test_weights_come_back_as_they_were_saved(tmp_path):
    kind = {'kind': 'pare', 'size': 'small', 'placed': False, 'shared': True}
    model, options = build(**kind).eval(), kind | {'resolution': 64, 'rendered': True}
    torch.save({'options': options, 'mean_pose': None, 'weights': model.state_dict()},
               tmp_path / 'model')
    again, kept = load_model(tmp_path / 'model', CPU)
    image = torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8)
    assert not again.training and kept == {'options': options, 'mean_pose': None}
    assert torch.equal(again(image)['rotations'], model(image)['rotations'])


def test_weights_that_are_not_finite_are_refused(tmp_path):
    options = {'kind': 'mlp', 'size': 'small', 'placed': True, 'shared': False}
    weights = build(**options).state_dict()
    weights['backbone.bn1.weight'] *= torch.nan
    torch.save({'options': options, 'mean_pose': None, 'weights': weights}, tmp_path / 'model')
    with pytest.raises(ValueError, match='model: .*not finite'):
        load_model(tmp_path / 'model', CPU)


# ---- what is computed ---------------------------------------------------------------------------

@pytest.mark.parametrize('options', (('mlp', 'small'), ('pare', 'small'),
                                     ('pare', 'small', False, True)))
def test_an_untrained_regressor_begins_upright(options):
    torch.manual_seed(0)
    model = build(*options).eval()
    found = model(torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8))
    expected = torch.eye(3).repeat(2, 24, 1, 1)
    expected[:, 0] = UPRIGHT
    torch.testing.assert_close(found['rotations'], expected, atol=.4, rtol=0)
    torch.testing.assert_close(found['camera'], torch.tensor([[.9, 0, 0]] * 2), atol=.2, rtol=0)
    if options[0] == 'pare':
        torch.testing.assert_close(found['attention'].sum(dim=(2, 3)), torch.ones(2, 24))
        assert found['parts'].shape == (2, 25, 32, 32) and found['places'].shape == (2, 24, 2)


def test_relative_rotations_undo_the_tree():
    _, rotations = random_pose(3)
    world = [rotations[:, 0]]
    for joint in range(1, 24):
        world.append(world[PARENTS[joint]] @ rotations[:, joint])
    torch.testing.assert_close(relative_rotations(torch.stack(world, dim=1)), rotations)


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


def test_features_come_from_where_the_attention_is():
    torch.manual_seed(0)
    features, attention = torch.randn(2, 6, 8, 8), torch.zeros(2, 24, 8, 8)
    attention[:, :, 3, 5] = 1
    torch.testing.assert_close(pool(features, attention), features[:, None, :, 3, 5].expand(
        2, 24, 6))
    attention = torch.rand(2, 24, 8, 8).flatten(2).softmax(dim=2).view(2, 24, 8, 8)
    expected = torch.einsum('bjhw,bchw->bjc', attention, features)
    torch.testing.assert_close(pool(features, attention), expected)
    coarse = features[..., ::2, ::2]  # each cell is that of four of the attention
    expected = torch.einsum('bjhw,bchw->bjc', attention,
                            coarse.repeat_interleave(2, 2).repeat_interleave(2, 3))
    torch.testing.assert_close(pool(coarse, attention), expected)


@pytest.mark.parametrize('placed', (False, True))
def test_places_are_where_the_attention_is(placed):
    """A network whose 2D branch is sure of one pixel, and whose own pose hears of it."""
    model = build('pare', 'small', placed).eval()
    maps = torch.full((1, 24 if placed else 25, 32, 32), -50.)
    maps[0, 4 if placed else 5, 3, 12] = 50.  # joint 4
    given, heard = nn.Module(), []
    given.forward = lambda *_: maps
    if placed:
        model.joints = given
    else:
        given.in_channels, model.parts = 32, given
    model.pose.register_forward_pre_hook(lambda _, args: heard.append(args[0]))
    found = model.look(torch.rand(1, 3, 64, 64))
    place = torch.tensor([12.5 / 16 - 1, 3.5 / 16 - 1])
    torch.testing.assert_close(found['places'][0, 4], place)
    torch.testing.assert_close(found['places'][0, 0], torch.zeros(2), atol=1e-6, rtol=0)  # even
    assert found['attention'][0, 4, 3, 12] > .999
    if placed:  # all parts hear of all places
        assert heard[0].shape[2] == 32 + 48
        assert all(torch.equal(part[-48:].view(24, 2), found['places'][0]) for part in heard[0][0])
    else:
        torch.testing.assert_close(heard[0][0, :, 32:], found['places'][0])


def test_the_grid_counts_along_rows_and_ends_inside_the_crop():
    found = grid(torch.zeros(1, 1, 2, 4))
    assert found.tolist() == [[x, y] for y in (-.5, .5) for x in (-.75, -.25, .25, .75)]


def test_a_branch_with_skips_is_as_sharp_as_its_stages():
    """A pixel of an early stage changes few pixels of the maps, one of the last stage many."""
    torch.manual_seed(0)
    branch = Branch([4, 8, 16, 32], 6, 3, skips=True).eval()
    stages = [torch.randn(1, 4 << stage, 32 >> stage, 32 >> stage) for stage in range(4)]
    before = branch(stages)
    assert before.shape == (1, 6, 32, 32)
    extents = []
    for stage in (0, 3):
        moved = [value.clone() for value in stages]
        moved[stage][0, :, 1, 1] += 1
        extents.append(((branch(moved) - before).abs() > 0).any(dim=1).sum().item())
    assert extents[0] <= 9 < 50 < extents[1]
    plain = Branch([4, 8, 16, 32], 6, 2, skips=False).eval()
    assert plain(stages).shape == (1, 6, 16, 16)


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
    one, other = (model.look(model.standardise(each)) for each in (image, image.flip(3)))
    for key in {'betas', 'parts'} & found.keys():
        other[key] = mirrored_output(other)[key]
        torch.testing.assert_close(found[key], (one[key] + other[key]) / 2)
