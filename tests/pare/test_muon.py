import pytest
import torch

from pare.model import build
from pare.muon import RATE, Muon, make_optimisers, orthogonal


@pytest.mark.parametrize('shape', ((1, 20, 20), (1, 8, 30), (2, 30, 8)))
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
        gradient, moved = ([value.flatten(1)] if value.ndim == 4 else list(value.mT)
                           for value in (weight.grad, weight - old))
        for matrix, found in zip(gradient, moved):
            scale = max(1, matrix.shape[0] / matrix.shape[1]) ** .5
            torch.testing.assert_close(found, -.1 * scale * orthogonal(matrix[None])[0],
                                       atol=1e-5, rtol=0)


@pytest.mark.parametrize('options', (('mlp', 'small'), ('pare', 'small'),
                                     ('pare', 'small', False, True)))
@pytest.mark.parametrize('muon', (False, True))
def test_each_parameter_is_in_one_optimiser(options, muon):
    model = build(*options)
    optimisers = make_optimisers(model, 1e-3, muon)
    found = [id(weight) for optimiser in optimisers for group in optimiser.param_groups
             for weight in group['params']]
    assert sorted(found) == sorted(map(id, model.parameters())) and len(set(found)) == len(found)
    assert len(optimisers) == 1 + muon
    if muon:
        inside = {id(weight) for weight in optimisers[1].param_groups[0]['params']}
        assert optimisers[1].param_groups[0]['lr'] == RATE
        for name, weight in model.named_parameters():
            others = 'backbone.conv1', 'parts', 'joints', 'pose.biases', 'shape', 'backbone.bn1'
            assert not (name.startswith(others) and id(weight) in inside), name
            assert not name.startswith('pose.weights') or id(weight) in inside
