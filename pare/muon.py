"""Muon (Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024).

torch.optim.Muon takes matrices alone and multiplies in bfloat16, which most processors emulate.
This one also takes filters and stacks of matrices, and multiplies in their own precision.
"""
import torch
from torch import Tensor, nn

RATE = .04                                   # whatever the rate of Adam is
STEPS, A, B, C = 5, 3.4445, -4.7750, 2.0315  # iteration, tuned by its author

# If a unit is dead, its mean gradient decays to denormals, below 1e-38. Products with them take ten
# times as long, so they are flushed to zero. Threads inherit the setting, so it is set on import.
torch.set_flush_denormal(True)


def make_optimisers(model: nn.Module, lr: float, muon: bool) -> list[torch.optim.Optimizer]:
    """Return Adam and, with `muon`, Muon for the matrices of the parts' MLPs and the filters of
    convolutions, except the first and those that make maps of parts and joints."""
    others = 'backbone.conv1.', 'parts.', 'joints.', 'pose.biases.'
    matrices = {name: weight for name, weight in model.named_parameters()
                if muon and weight.ndim > 2 and not name.startswith(others)}
    rest = [weight for name, weight in model.named_parameters() if name not in matrices]
    adam = torch.optim.Adam(rest, lr, betas=(.9, .99), fused=True)
    return [adam, Muon(matrices.values(), RATE)] if matrices else [adam]


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose update has all singular values near one.

    So no direction of a weight is left behind. Weights are filters (O, I, k, k) or stacks of
    matrices (N, I, O). Matrices of the same shape are made orthogonal in one stack.
    """

    def __init__(self, weights, lr: float, momentum: float = .95):
        super().__init__(weights, {'lr': lr, 'momentum': momentum})
        for group in self.param_groups:
            for weight in group['params']:
                self.state[weight]['mean'] = torch.zeros_like(weight)

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            stacks = {}
            for weight, update in self.updates(group):
                matrices = update.flatten(1)[None] if weight.ndim == 4 else update.mT
                stacks.setdefault(matrices.shape[1:], []).append((weight, matrices))
            for (rows, columns), stack in stacks.items():
                weights, matrices = zip(*stack)
                updates = orthogonal(torch.cat(matrices)).split([len(part) for part in matrices])
                updates = [update.view_as(weight) if weight.ndim == 4 else update.mT
                           for weight, update in zip(weights, updates)]
                step = -group['lr'] * max(1, rows / columns) ** .5  # rows are outputs
                torch._foreach_add_(weights, updates, alpha=step)

    def updates(self, group: dict):
        """Return the weights that have a gradient, each with its update before it is orthogonal.

        All weights share a call: on a GPU starting a call takes longer than its computation.
        """
        weights = [weight for weight in group['params'] if weight.grad is not None]
        if not weights:
            return []
        gradients = [weight.grad for weight in weights]
        means, momentum = [self.state[weight]['mean'] for weight in weights], group['momentum']
        torch._foreach_lerp_(means, gradients, 1 - momentum)
        return zip(weights, torch._foreach_lerp(gradients, means, momentum))


def orthogonal(matrices: Tensor) -> Tensor:
    """Return matrices (N, R, C) with the same singular vectors and singular values near one.

    A Newton-Schulz iteration of odd polynomials of degree five brings them to about .7 to 1.2.
    """
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(STEPS):
        square = x @ x.mT
        polynomial = torch.baddbmm(square, square, square, beta=B, alpha=C)
        x = torch.baddbmm(x, polynomial, x, beta=A)
    return x if wide else x.mT
