"""LiftModel against its layers in plain numpy."""
import numpy as np
import pytest
import torch
from torch import nn

from model import GAIN, LiftModel


def trained_model(**sizes):
    """A small model whose batch norm and statistics are not those of the start."""
    torch.manual_seed(0)
    model = LiftModel(**{'hidden_layer': 16, **sizes})
    n_joints = model.mean_2d.numel() // 2
    joint_2d = 3 * torch.randn(64, n_joints, 2) + 1
    model.fit(joint_2d, torch.randn(64, n_joints, 3) - 1)
    model(joint_2d)
    return model


def by_hand(model, joint_2d):
    """The handout's network in evaluation mode, in plain numpy, from the names of the weights."""
    w = {name: value.double().numpy() for name, value in model.state_dict().items()}
    x = (joint_2d.flatten(1).numpy() - w['mean_2d']) / w['std_2d']
    x = x @ w['first.weight'].T + w['first.bias']
    for block in range(len(model.blocks)):
        skip = x
        for linear, norm in ((0, 1), (4, 5)):
            layer, batch = f'blocks.{block}.layers.{linear}.', f'blocks.{block}.layers.{norm}.'
            x = x @ w[layer + 'weight'].T + w[layer + 'bias']
            x = (x - w[batch + 'running_mean']) / np.sqrt(w[batch + 'running_var'] + 1e-5)
            x = np.maximum(x * w[batch + 'weight'] + w[batch + 'bias'], 0)
        x = skip + x
    x = x @ w['last.weight'].T + w['last.bias']
    x = (w['mean_out'] + w['std_out'] * x).reshape(len(x), -1, 3)
    x[..., :2] += w['inverse_focal'] * joint_2d.reshape(len(x), -1, 2).numpy() * -x[..., 2:]
    return x


@pytest.mark.parametrize('n_blocks', (1, 2, 3))
def test_forward_is_the_handouts_network(n_blocks):
    model = trained_model(n_blocks=n_blocks).eval()
    joint_2d = torch.randn(5, 15, 2)
    np.testing.assert_allclose(model(joint_2d).detach(), by_hand(model, joint_2d), atol=1e-5)


def test_layers_and_sizes_of_the_handout():
    model = LiftModel()
    kinds = [type(layer) for layer in model.blocks[0].layers]
    assert kinds == 2 * [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout]
    assert {layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)} == {0.1}
    for block in model.blocks:  # each adds little at first
        assert (block.layers[1].weight == 1).all() and (block.layers[5].weight == GAIN).all()
    expected = (30 + 1) * 1024 + 4 * (1024 + 1 + 2) * 1024 + (1024 + 1) * 45
    assert sum(weights.numel() for weights in model.parameters()) == expected


@pytest.mark.parametrize('n_joints', (1, 15, 17))
def test_both_input_shapes(n_joints):
    """Flat input gives flat output, and float64 is taken too."""
    model = trained_model(output_nodes=3 * n_joints).eval()
    joint_2d = torch.randn(4, n_joints, 2)
    assert model(joint_2d).shape == (4, n_joints, 3)
    assert torch.equal(model(joint_2d).flatten(1), model(joint_2d.flatten(1)))
    assert torch.equal(model(joint_2d.double()), model(joint_2d))


@pytest.mark.parametrize('shape', ((15, 2), (30,), (7, 15, 2), (7, 30), (2, 3, 15, 2)))
@pytest.mark.parametrize('kind', ('float32', 'float64', 'float16', 'int64'))
def test_lift_gives_back_the_kind_that_it_gets(shape, kind):
    model = trained_model()
    tensor = torch.randint(-9, 9, shape).to(getattr(torch, kind))
    expected = by_hand(model, tensor.double().reshape(-1, 15, 2)).reshape(
        *shape[:-1], shape[-1] // 2 * 3)
    array = tensor.numpy()
    for points in (tensor, array, np.flip(np.flip(array).copy()), array.tolist(), list(array)):
        lifted = model.lift(points)
        assert type(lifted) is type(points)
        if not isinstance(points, list):
            assert str(lifted.dtype).endswith(kind if 'float' in kind else 'float32')
        np.testing.assert_allclose(lifted, expected, atol=1e-2 if kind == 'float16' else 1e-4)


@pytest.mark.parametrize('shape', ((), (15,), (17, 2), (4, 15, 3), (4, 34)))
def test_lift_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r'expected \(15, 2\), \(N, 15, 2\) or \(N, 30\)'):
        trained_model().lift(np.zeros(shape))


@pytest.mark.parametrize('sizes', ({'n_blocks': 0}, {'hidden_layer': 0}, {'output_nodes': 44},
                                   {'output_nodes': 0}))
def test_sizes_that_make_no_network(sizes):
    with pytest.raises(ValueError, match='expected at least 1'):
        LiftModel(**sizes)


def test_fit_standardises():
    model = trained_model()
    joint_2d, joint_3d = 5 * torch.randn(99, 15, 2) + 2, torch.randn(99, 15, 3)
    joint_2d[:, 3, 0], joint_3d[:, 4, 2] = 5., -7.  # coordinates that never move
    model.fit(joint_2d, joint_3d)
    inputs = []
    model.first.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    model(joint_2d)
    np.testing.assert_allclose(inputs[0].mean(0), 0, atol=1e-5)
    expected = np.ones(30)
    expected[6] = 0
    np.testing.assert_allclose(inputs[0].std(0, correction=0), expected, atol=1e-5)
    means, deviations = joint_3d[..., 2].mean(dim=0), joint_3d[..., 2].std(dim=0, correction=0)
    torch.testing.assert_close(model.mean_out.view(15, 3)[:, 2], means)
    torch.testing.assert_close(model.std_out.view(15, 3)[:, 2], deviations)
    assert model.mean_out[14] == -7 and model.std_out[14] == 0
    assert model.fitted
    assert {'mean_2d', 'std_2d', 'mean_out', 'std_out'} <= model.state_dict().keys()


@pytest.mark.parametrize('focal_len', ((1.2, 1.1), (-1.2, 1.1)))
def test_exact_points_are_lifted_onto_their_rays(focal_len):
    """Whatever depth an untrained network guesses."""
    torch.manual_seed(0)
    joint_3d = .2 * torch.randn(200, 15, 3) - torch.tensor([0, 0, 2.])
    focal_len = torch.tensor(focal_len)
    joint_2d = focal_len * joint_3d[..., :2] / -joint_3d[..., 2:]
    model = LiftModel(1, 16)
    model.fit(joint_2d, joint_3d)
    torch.testing.assert_close(model.inverse_focal, 1 / focal_len)
    lifted = model(joint_2d)
    assert (lifted[..., 2] - joint_3d[..., 2]).abs().mean() > .05
    torch.testing.assert_close(focal_len * lifted[..., :2] / -lifted[..., 2:], joint_2d,
                               atol=1e-4, rtol=0)


def test_x_and_y_are_learnt_if_no_camera_explains_the_points():
    """Joints about the root, as in other data: their points say nothing about rays."""
    torch.manual_seed(0)
    joint_2d = torch.randn(500, 15, 2)
    joint_3d = torch.cat([100 * joint_2d, 100 * torch.randn(500, 15, 1)], dim=-1)
    model = LiftModel(1, 16)
    model.fit(joint_2d, joint_3d)
    assert (model.std_out.view(15, 3) > 90).all()


def test_lift_is_in_evaluation_mode_and_leaves_no_trace():
    model = trained_model(dropout=.5).train()
    joint_2d, before = torch.randn(10, 15, 2), {k: v.clone() for k, v in model.state_dict().items()}
    lifted = model.lift(joint_2d, batch_size=3)
    np.testing.assert_allclose(lifted, by_hand(model, joint_2d), atol=1e-5)
    assert model.training and not lifted.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_only_the_inside_of_the_blocks_is_in_bfloat16():
    model, found = trained_model(dropout=0).train(), {}
    model.in_bfloat16 = True
    for name, layer in model.named_modules():
        layer.register_forward_hook(lambda _, x, y, name=name: found.update({name: y.dtype}))
    joint_2d = 3 * torch.randn(64, 15, 2) + 1
    coarse = model(joint_2d)
    coarse.square().mean().backward()
    layers = {name for name, dtype in found.items() if dtype == torch.bfloat16}
    assert layers == {name for name in found if '.layers' in name}  # not the sum that blocks return
    kept = [*model.state_dict().values(), *(weights.grad for weights in model.parameters())]
    assert {part.dtype for part in kept if part.is_floating_point()} == {torch.float32}
    model.in_bfloat16 = False
    exact = model(joint_2d)
    assert not torch.equal(coarse, exact)
    torch.testing.assert_close(coarse, exact, atol=.02, rtol=0)
    scored, model.in_bfloat16 = model.lift(joint_2d), True
    assert torch.equal(model.lift(joint_2d), scored)  # scores are in float32


@pytest.mark.parametrize('sizes', ({}, {'n_blocks': 1}, {'n_blocks': 3, 'hidden_layer': 8},
                                   {'output_nodes': 48}))
def test_sizes_are_read_off_the_weights(sizes):
    model = trained_model(**sizes)
    twin = LiftModel.from_state_dict(model.state_dict())
    joint_2d = torch.randn(3, model.mean_2d.numel())
    assert torch.equal(twin.lift(joint_2d), model.lift(joint_2d))


@pytest.mark.parametrize('state', ({}, [], {'w1.weight': torch.zeros(3, 3)}, 7,
                                   {**trained_model().state_dict(), 'more': torch.zeros(1)},
                                   {**trained_model().state_dict(), 'mean_2d': torch.zeros(5)},
                                   {**trained_model().state_dict(), 'last.weight': 5}))
def test_weights_of_another_network_are_refused(state):
    with pytest.raises(ValueError, match='no state_dict of a LiftModel') as error:
        LiftModel.from_state_dict(state)
    assert '\n' not in str(error.value)
