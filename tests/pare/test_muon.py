import pytest
import torch

from pare.model import build
from pare.muon import RATE, Muon, make_optimisers, orthogonal


@pytest.mark.parametrize('shape', ((1, 20, 20), (1, 8, 30), (2, 30, 8), (4, 12, 7)))
def test_an_orthogonal_matrix_keeps_its_singular_vectors(shape):
    """Against the singular value decomposition."""
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, values, vh = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.mT @ orthogonal(matrix) @ vh.mT
    new = inside.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(inside, torch.diag_embed(new), atol=2e-5, rtol=0)
    torch.testing.assert_close(u @ torch.diag_embed(new) @ vh, orthogonal(matrix), atol=5e-5,
                               rtol=0)
    large = values > .05 * values.max()
    assert .6 < new[large].min() and new.max() < 1.3
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
        matrices = [weight.grad.flatten(1)] if weight.ndim == 4 else list(weight.grad.mT)
        moved = weight - old
        moved = [moved.flatten(1)] if weight.ndim == 4 else list(moved.mT)
        for matrix, found in zip(matrices, moved):
            scale = max(1, matrix.shape[0] / matrix.shape[1]) ** .5
            torch.testing.assert_close(found, -.1 * scale * orthogonal(matrix[None])[0],
                                       atol=1e-5, rtol=0)


@pytest.mark.parametrize('shape', ((8, 6, 3, 3), (2, 9, 5)))
def test_muon_lowers_a_quadratic_loss(shape):
    torch.manual_seed(0)
    target, weight = torch.randn(shape), torch.nn.Parameter(torch.randn(shape))
    idle = torch.nn.Parameter(torch.ones(3, 3, 1, 1))
    optimiser, losses = Muon([weight, idle], .1), []
    for _ in range(200):
        loss = (weight - target).square().mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < .05 * losses[0] and (idle == 1).all()


def test_the_first_step_is_as_long_in_all_directions():
    """A linear loss of any size moves an (outputs, inputs) filter by rate times sqrt(O / I)."""
    torch.manual_seed(0)
    direction = torch.linalg.qr(torch.randn(16, 4))[0] @ torch.diag(torch.tensor([.5, 1., 2., 3.]))
    for factor in (1e-3, 1e3):
        weight = torch.nn.Parameter(torch.zeros(16, 4, 1, 1))
        (factor * direction.view_as(weight) * weight).sum().backward()
        Muon([weight], .1).step()
        moved = torch.linalg.svdvals(weight.detach().flatten(1))
        assert .6 * .2 < moved.min() and moved.max() < 1.3 * .2


@pytest.mark.parametrize('options', (('mlp', 'small'), ('pare', 'small'),
                                     ('pare', 'small', False, True), ('pare', 'small', False)))
@pytest.mark.parametrize('muon', (False, True))
def test_each_parameter_is_in_one_optimiser(options, muon):
    model = build(*options)
    optimisers = make_optimisers(model, 1e-3, muon)
    found = [id(weight) for optimiser in optimisers for group in optimiser.param_groups
             for weight in group['params']]
    assert sorted(found) == sorted(map(id, model.parameters()))
    assert len(optimisers) == 1 + muon and len(set(found)) == len(found)
    if muon:
        names = {id(weight): name for name, weight in model.named_parameters()}
        inside = {names[id(weight)] for weight in optimisers[1].param_groups[0]['params']}
        assert optimisers[1].param_groups[0]['lr'] == RATE
        assert {name for name in names.values() if name.startswith('pose.weights')} <= (
            inside if options[0] == 'pare' else set())
        for name in ('backbone.conv1.weight', 'parts.weight', 'joints.weight', 'pose.biases.0',
                     'shape.weight', 'backbone.bn1.weight'):
            assert name not in inside


def test_means_of_a_dead_node_fade_to_zero():
    """And not to numbers below 1e-38, with which processors are slow."""
    weight = torch.nn.Parameter(torch.ones(2, 2, 1, 1))
    optimiser = Muon([weight], .1)
    mean = optimiser.state[weight]['mean'].fill_(2e-38)
    weight.grad = torch.zeros_like(weight)
    for _ in range(20):
        optimiser.step()
    assert (mean == 0).all()
