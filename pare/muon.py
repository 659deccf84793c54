"""Muon (Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024).

torch.optim.Muon takes matrices alone and multiplies in bfloat16, which most processors emulate;
this one takes filters and stacks of matrices too, in their own precision.
"""
import torch
from torch import Tensor, nn

RATE = .04                                   # whatever that of Adam is
STEPS, A, B, C = 5, 3.4445, -4.7750, 2.0315  # of the iteration, tuned by its author

# Means of gradients fade below 1e-38 where a node is dead. A product with such numbers takes ten
# times the time, so they are zero. Threads keep what is set before they start: it is set here.
torch.set_flush_denormal(True)


def make_optimisers(model: nn.Module, lr: float, muon: bool) -> list[torch.optim.Optimizer]:
    """Adam; with `muon` Muon in its place for the filters of the convolutions, but not for the
    first and those that make maps of parts and joints, and for the matrices of the parts' MLPs."""
    others = 'backbone.conv1.', 'parts.', 'joints.', 'pose.biases.'
    matrices = {name: weight for name, weight in model.named_parameters()
                if muon and weight.ndim > 2 and not name.startswith(others)}
    rest = [weight for name, weight in model.named_parameters() if name not in matrices]
    adam = torch.optim.Adam(rest, lr, betas=(.9, .99), fused=True)
    return [adam, Muon(matrices.values(), RATE)] if matrices else [adam]


class Muon(torch.optim.Optimizer):
    """Momentum (Nesterov) whose update has all singular values near one, so that no direction of a
    weight is left behind. Weights are filters (O, I, k, k) or stacks of matrices (N, I, O)."""

    def __init__(self, weights, lr: float, momentum: float = .95):
        super().__init__(weights, {'lr': lr, 'momentum': momentum})
        for group in self.param_groups:
            for weight in group['params']:
                self.state[weight]['mean'] = torch.zeros_like(weight)

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for weight in group['params']:
                if weight.grad is None:
                    continue
                mean = self.state[weight]['mean'].lerp_(weight.grad, 1 - group['momentum'])
                update = weight.grad.lerp(mean, group['momentum'])
                matrix = update.flatten(1) if weight.ndim == 4 else update
                rows, columns = matrix.shape[-2:] if weight.ndim == 4 else matrix.mT.shape[-2:]
                scale = max(1, rows / columns) ** .5  # rows are outputs
                weight.add_(orthogonal(matrix).view_as(weight), alpha=-group['lr'] * scale)


def orthogonal(matrix: Tensor) -> Tensor:
    """The matrices (..., M, N) with singular values between about .7 and 1.2 and the same singular
    vectors, by a Newton-Schulz iteration of odd polynomials of degree five."""
    wide = matrix.shape[-2] <= matrix.shape[-1]
    x = matrix if wide else matrix.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(STEPS):
        square = x @ x.mT
        x = A * x + (B * square + C * square @ square) @ x
    return x if wide else x.mT
