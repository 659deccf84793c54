"""LiftModel against its layers in plain numpy."""
import numpy as np
import pytest
import torch
from torch import nn

from model import LiftModel


def trained_model(**sizes):
    """A small model whose batch norm and statistics have moved."""
    torch.manual_seed(0)
    model = LiftModel(**{'hidden_layer': 16, **sizes})
    joint_2d = 3 * torch.randn(64, model.n_joints, 2) + 1
    model.set_statistics(joint_2d, torch.randn(64, model.n_joints, 3) - 1)
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


@pytest.mark.parametrize('n_blocks, n_joints', ((1, 15), (2, 1), (3, 17)))
def test_forward_is_the_handouts_network(n_blocks, n_joints):
    """Flat input gives flat output, and float64 is taken too."""
    model = trained_model(n_blocks=n_blocks, output_nodes=3 * n_joints).eval()
    joint_2d = torch.randn(5, n_joints, 2)
    joint_3d = model(joint_2d)
    np.testing.assert_allclose(joint_3d.detach(), by_hand(model, joint_2d), atol=1e-5)
    assert torch.equal(model(joint_2d.flatten(1)), joint_3d.flatten(1))
    assert torch.equal(model(joint_2d.double()), joint_3d)


def test_layers_and_sizes_of_the_handout():
    model = LiftModel()
    for block in model.blocks:
        kinds = [type(layer) for layer in block.layers]
        assert kinds == 2 * [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout]
        assert (block.layers[5].weight < .5).all()  # a block begins near the identity
    assert {layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)} == {0.1}
    expected = (30 + 1) * 1024 + 4 * (1024 + 1 + 2) * 1024 + (1024 + 1) * 45
    assert sum(weights.numel() for weights in model.parameters()) == expected


@pytest.mark.parametrize('shape', ((15, 2), (30,), (7, 15, 2), (7, 30)))
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


def test_lift_is_in_evaluation_mode_and_leaves_no_trace():
    model = trained_model(dropout=.5)
    joint_2d, before = torch.randn(10, 15, 2), {k: v.clone() for k, v in model.state_dict().items()}
    lifted = model.lift(joint_2d, batch_size=3)
    np.testing.assert_allclose(lifted, by_hand(model, joint_2d), atol=1e-5)
    assert model.training and not lifted.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_fit_standardises():
    model = trained_model()
    joint_2d, joint_3d = 5 * torch.randn(99, 15, 2) + 2, torch.randn(99, 15, 3)
    joint_2d[:, 3, 0], joint_3d[:, 4, 2] = 5., -7.  # coordinates that never move
    model.set_statistics(joint_2d, joint_3d)
    inputs = (joint_2d.flatten(1) - model.mean_2d) / model.std_2d
    expected = np.ones(30)
    expected[6] = 0
    np.testing.assert_allclose(inputs.mean(dim=0), 0, atol=1e-5)
    np.testing.assert_allclose(inputs.std(dim=0, correction=0), expected, atol=1e-5)
    depth = joint_3d[..., 2]
    torch.testing.assert_close(model.mean_out[2::3], depth.mean(dim=0))
    torch.testing.assert_close(model.std_out[2::3], depth.std(dim=0, correction=0))


@pytest.mark.parametrize('focal_len', ((1.2, 1.1), (-1.2, 1.1)))
def test_exact_points_are_lifted_onto_their_rays(focal_len):
    """This holds for any depth that an untrained network guesses."""
    torch.manual_seed(0)
    joint_3d = .2 * torch.randn(200, 15, 3) - torch.tensor([0, 0, 2.])
    focal_len = torch.tensor(focal_len)
    joint_2d = focal_len * joint_3d[..., :2] / -joint_3d[..., 2:]
    model = LiftModel(1, 16)
    model.set_statistics(joint_2d, joint_3d)
    torch.testing.assert_close(model.inverse_focal, 1 / focal_len)
    lifted = model(joint_2d)
    assert (lifted[..., 2] - joint_3d[..., 2]).abs().mean() > .05
    torch.testing.assert_close(focal_len * lifted[..., :2] / -lifted[..., 2:], joint_2d,
                               atol=1e-4, rtol=0)


def test_only_the_blocks_are_in_bfloat16_and_only_in_training():
    model, found = trained_model(dropout=0), {}
    joint_2d = 3 * torch.randn(64, 15, 2) + 1
    exact, scored, model.in_bfloat16 = model(joint_2d), model.lift(joint_2d), True
    assert torch.equal(model.lift(joint_2d), scored)
    for name, layer in model.named_modules():
        layer.register_forward_hook(lambda _, x, y, name=name: found.update({name: y.dtype}))
    coarse = model(joint_2d)
    layers = {name for name, dtype in found.items() if dtype == torch.bfloat16}
    assert layers == {name for name in found if '.layers' in name}  # but not their sums
    assert not torch.equal(coarse, exact)
    torch.testing.assert_close(coarse, exact, atol=.02, rtol=0)


@pytest.mark.parametrize('call, value, words', (
    *((LiftModel(1, 8).lift, torch.zeros(shape), r'expected \(15, 2\), \(N, 15, 2\) or \(N, 30\)')
      for shape in ((), (15,), (17, 2), (4, 15, 3), (4, 34))),
    *((lambda sizes: LiftModel(**sizes), sizes, 'expected at least 1')
      for sizes in ({'n_blocks': 0}, {'hidden_layer': 0}, {'output_nodes': 44})),
    *((LiftModel.from_state_dict, state, 'no state_dict of a LiftModel')
      for state in ({}, 7, {'w1.weight': torch.zeros(3, 3)},
                    LiftModel(1, 8).state_dict() | {'more': torch.zeros(1)}))))
def test_other_shapes_sizes_and_weights_are_refused(call, value, words):
    with pytest.raises(ValueError, match=words) as error:
        call(value)
    assert '\n' not in str(error.value)
