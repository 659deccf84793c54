"""LiftModel against its layers in plain numpy."""
from functools import partial

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
@pytest.mark.parametrize('kind', ('float32', 'float64', 'int64'))
def test_lift_gives_back_the_kind_that_it_gets(shape, kind):
    """It lifts in evaluation mode and in parts, and leaves no trace."""
    model = trained_model(dropout=.5)
    before = [value.clone() for value in model.state_dict().values()]
    tensor = torch.randint(-9, 9, shape).to(getattr(torch, kind))
    expected = by_hand(model, tensor.double().reshape(-1, 15, 2)).reshape(
        *shape[:-1], shape[-1] // 2 * 3)
    for points in (tensor, tensor.numpy(), tensor.tolist()):
        lifted = model.lift(points, batch_size=3)
        assert type(lifted) is type(points)
        if not isinstance(points, list):
            assert str(lifted.dtype).endswith(kind if 'float' in kind else 'float32')
        np.testing.assert_allclose(lifted, expected, atol=1e-4)
    assert model.training and all(map(torch.equal, before, model.state_dict().values()))


def test_statistics_standardise_and_the_focal_length_is_found():
    joint_3d = .2 * torch.randn(99, 15, 3) - torch.tensor([0, 0, 2.])
    joint_3d[:, 3] = torch.tensor([0, 1, -2.])  # a joint that never moves
    focal_len = torch.tensor((-1.2, 1.1))
    joint_2d = focal_len * joint_3d[..., :2] / -joint_3d[..., 2:]
    model = LiftModel(1, 16)
    model.set_statistics(joint_2d, joint_3d)
    inputs = (joint_2d.flatten(1) - model.mean_2d) / model.std_2d
    np.testing.assert_allclose(inputs.mean(dim=0), 0, atol=1e-5)
    deviation = inputs.std(dim=0, correction=0).view(15, 2)
    np.testing.assert_allclose(deviation, np.arange(15)[:, None] != [3, 3], atol=1e-5)
    depth = joint_3d[..., 2]
    torch.testing.assert_close(model.mean_out[2::3], depth.mean(dim=0))
    torch.testing.assert_close(model.std_out[2::3], depth.std(dim=0, correction=0))
    torch.testing.assert_close(model.inverse_focal, 1 / focal_len)
    assert model.mean_out.view(15, 3)[:, :2].abs().max() < 1e-5  # exact points need no correction


def test_only_the_blocks_are_in_bfloat16_and_only_in_training():
    model, joint_2d = trained_model(dropout=0), 3 * torch.randn(64, 15, 2) + 1
    exact, scored, model.in_bfloat16 = model(joint_2d), model.lift(joint_2d), True
    assert torch.equal(model.lift(joint_2d), scored)
    coarse = model(joint_2d)
    assert coarse.dtype == torch.float32 and not torch.equal(coarse, exact)
    torch.testing.assert_close(coarse, exact, atol=.02, rtol=0)


@pytest.mark.parametrize('call, value', (
    *((LiftModel(1, 8).lift, torch.zeros(shape)) for shape in ((), (15,), (17, 2), (4, 15, 3))),
    (LiftModel, 0), (partial(LiftModel, 2), 0), (partial(LiftModel, 2, 8, 0.), 44),
    *((LiftModel.from_state_dict, state) for state in ({}, 7, {'w1.weight': torch.zeros(3, 3)}))))
def test_other_shapes_sizes_and_weights_are_refused(call, value):
    with pytest.raises(ValueError, match='^found'):
        call(value)
