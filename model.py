"""LiftModel: residual linear blocks that lift a 2D skeleton to 3D.

After Martinez et al., "A simple yet effective baseline for 3d human pose estimation", ICCV 2017.
"""
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from common.files import one_line

GAIN = .3  # initial weight of a block's last batch norm: small, so a block begins near the identity


class Block(nn.Module):
    """Linear, batch norm, ReLU, dropout, all twice; then add the input (B, hidden_layer)."""

    def __init__(self, hidden_layer: int, dropout: float):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(hidden_layer, hidden_layer), nn.BatchNorm1d(hidden_layer),
            nn.ReLU(inplace=True), nn.Dropout(dropout),
            nn.Linear(hidden_layer, hidden_layer), nn.BatchNorm1d(hidden_layer),
            nn.ReLU(inplace=True), nn.Dropout(dropout))
        nn.init.constant_(self.layers[5].weight, GAIN)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class LiftModel(nn.Module):
    """Lifts 2D joints (B, J, 2) to 3D joints (B, J, 3) in the camera's frame, (B, 2J) to (B, 3J).

    A joint lies on the ray through its point, so x and y follow from depth. The network predicts
    depth, and a small correction of x and y for points that are not exact. `output_nodes` is 3J.
    The statistics of inputs and outputs are buffers, so the state_dict is complete; before
    `set_statistics` they are 0 and 1 and change nothing. If `in_bfloat16` is set, training runs the
    blocks in bfloat16 and all else in float32. Raises ValueError for invalid sizes.
    """

    in_bfloat16 = False

    def __init__(self, n_blocks: int = 2, hidden_layer: int = 1024, dropout: float = 0.1,
                 output_nodes: int = 15 * 3):
        super().__init__()
        if min(n_blocks, hidden_layer, output_nodes // 3) < 1 or output_nodes % 3:
            raise ValueError(f'found n_blocks {n_blocks}, hidden_layer {hidden_layer}, '
                             f'output_nodes {output_nodes}, expected at least 1 of each, and three '
                             f'output_nodes a joint')
        input_nodes = output_nodes // 3 * 2
        self.first = nn.Linear(input_nodes, hidden_layer)
        self.blocks = nn.Sequential(*(Block(hidden_layer, dropout) for _ in range(n_blocks)))
        self.last = nn.Linear(hidden_layer, output_nodes)
        self.register_buffer('mean_2d', torch.zeros(input_nodes))
        self.register_buffer('std_2d', torch.ones(input_nodes))
        self.register_buffer('mean_out', torch.zeros(output_nodes))
        self.register_buffer('std_out', torch.ones(output_nodes))
        self.register_buffer('inverse_focal', torch.zeros(2))
        self.register_buffer('fitted', torch.tensor(False))

    def forward(self, joint_2d: Tensor) -> Tensor:
        """Lift joints (B, J, 2) to (B, J, 3), or flat (B, 2J) to (B, 3J)."""
        joint_2d = joint_2d.to(self.mean_2d.dtype)
        x = (joint_2d.flatten(1) - self.mean_2d) / self.std_2d  # (B, 2J)
        x = self.first(x)                                       # (B, hidden_layer)
        with (torch.autocast(x.device.type, torch.bfloat16) if self.in_bfloat16 and self.training
              else nullcontext()):
            x = self.blocks(x).to(x.dtype)                      # (B, hidden_layer)
        x = self.last(x)                                        # (B, 3J)
        x = (self.mean_out + self.std_out * x).unflatten(1, (-1, 3))
        correction, z = x.split((2, 1), dim=-1)                 # (B, J, 2), (B, J, 1)
        ray = self.inverse_focal * joint_2d.reshape(len(x), -1, 2)
        joint_3d = torch.cat([correction - z * ray, z], dim=-1)  # (B, J, 3)
        return joint_3d if joint_2d.ndim == 3 else joint_3d.flatten(1)

    @property
    def n_joints(self) -> int:
        return self.mean_2d.numel() // 2

    @torch.no_grad()
    def set_statistics(self, joint_2d: Tensor, joint_3d: Tensor) -> None:
        """Take the statistics of training poses (N, J, 2), (N, J, 3).

        These are mean and standard deviation of each coordinate of the points and of each output,
        and the inverse focal lengths 1 / f that bring depth * point / f closest to x and y (least
        squares). If no camera fits, they are near zero and the rays contribute little.
        """
        ray = -joint_3d[..., 2:] * joint_2d
        square = ray.square().sum((0, 1)).clamp(min=1e-12)
        self.inverse_focal.copy_((ray * joint_3d[..., :2]).sum((0, 1)) / square)
        outputs = torch.cat([joint_3d[..., :2] - self.inverse_focal * ray, joint_3d[..., 2:]], -1)
        for joints, mean, std in ((joint_2d, self.mean_2d, self.std_2d),
                                  (outputs, self.mean_out, self.std_out)):
            mean.copy_(joints.flatten(1).mean(dim=0))
            std.copy_(joints.flatten(1).std(dim=0, correction=0))
        self.std_2d[self.std_2d < 1e-6] = 1  # no division by zero for a coordinate that never moves
        self.fitted.fill_(True)

    @torch.no_grad()
    def lift(self, joint_2d, batch_size: int = 4096):
        """Lift one pose or many, in evaluation mode and without gradients.

        Takes (J, 2), (N, J, 2) or flat (2J,), (N, 2J) of any number type, as a tensor, an array or
        a list. Returns the same type and shape, with 3 coordinates instead of 2; integers become
        floats. Raises ValueError for another shape.
        """
        if not torch.is_tensor(joint_2d):
            array = np.asarray(joint_2d)
            lifted = self.lift(torch.tensor(np.ascontiguousarray(array, np.float32)), batch_size)
            dtype = array.dtype if array.dtype.kind == 'f' else np.float32
            return (lifted.numpy().astype(dtype) if isinstance(joint_2d, np.ndarray) else
                    lifted.tolist())
        shape, n_joints = joint_2d.shape, self.n_joints
        flat = shape[-1:] == (2 * n_joints,)
        if not flat and shape[-2:] != (n_joints, 2):
            raise ValueError(f'found points of shape {tuple(shape)}, expected ({n_joints}, 2), '
                             f'(N, {n_joints}, 2) or (N, {2 * n_joints})')
        points = joint_2d.reshape(-1, n_joints, 2)
        dtype = joint_2d.dtype if joint_2d.is_floating_point() else self.mean_2d.dtype
        joint_3d = points.new_empty(len(points), n_joints, 3, dtype=dtype)
        training = self.training
        self.eval()
        for batch, lifted in zip(points.split(batch_size), joint_3d.split(batch_size)):
            lifted.copy_(self(batch.to(self.mean_2d.device)))
        self.train(training)
        return joint_3d.reshape(*shape[:-1], 3 * n_joints if flat else 3)

    @classmethod
    def from_state_dict(cls, state: dict) -> 'LiftModel':
        """Build a LiftModel of any size from its state_dict. Raises ValueError."""
        try:
            state = {name.removeprefix('module.').removeprefix('_orig_mod.'): value
                     for name, value in state.items()}
            n_blocks = len({key.split('.')[1] for key in state if key.startswith('blocks.')})
            model = cls(n_blocks, len(state['first.weight']),
                        output_nodes=len(state['last.weight']))
            model.load_state_dict(state)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            names = one_line(', '.join(map(str, state))[:99] if isinstance(state, dict) else
                             type(state).__name__)
            raise ValueError(f'found no state_dict of a LiftModel but {names or "nothing"} '
                             f'({one_line(error)[:200]})') from error
        if not all(tensor.isfinite().all() for tensor in state.values()):
            raise ValueError('found weights that are NaN or infinite')
        return model
