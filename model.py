"""LiftModel: residual linear blocks that lift a 2D skeleton to 3D.

After Martinez et al., "A simple yet effective baseline for 3d human pose estimation", ICCV 2017.
"""
import textwrap
from contextlib import nullcontext
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

GAIN = .3  # of the last batch norm of a block when the training begins


class Block(nn.Module):
    """Twice linear, batch norm, ReLU, dropout; then the input (B, hidden_layer) is added."""

    def __init__(self, hidden_layer: int, dropout: float):
        super().__init__()
        self.layers = nn.Sequential(*(layer for _ in range(2) for layer in (
            nn.Linear(hidden_layer, hidden_layer), nn.BatchNorm1d(hidden_layer),
            nn.ReLU(inplace=True), nn.Dropout(dropout))))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class LiftModel(nn.Module):
    """Lifts 2D joints (B, J, 2) to 3D joints (B, J, 3) in the camera's frame, (B, 2J) to (B, 3J).

    A joint lies on the ray through its point, so its depth tells x and y too; what the network adds
    to them corrects points that are not exact. Its outputs are thus residuals of x and y, and
    depth, of `mean_out` and `std_out`. `output_nodes` is 3J. The statistics that `fit` takes are
    buffers, so that a state_dict is complete; until then they change nothing. While it learns with
    `in_bfloat16`, the products of the blocks are in bfloat16 and all else in float32. Raises
    ValueError for sizes that make no network.
    """

    in_bfloat16 = False

    def __init__(self, n_blocks: int = 2, hidden_layer: int = 1024, dropout: float = 0.1,
                 output_nodes: int = 15 * 3):
        super().__init__()
        if min(n_blocks, hidden_layer, output_nodes // 3) < 1 or output_nodes % 3:
            raise ValueError(f'found n_blocks {n_blocks}, hidden_layer {hidden_layer}, '
                             f'output_nodes {output_nodes}, expected at least 1, 1, and 3 a joint')
        input_nodes = output_nodes // 3 * 2
        self.first = nn.Linear(input_nodes, hidden_layer)
        self.blocks = nn.Sequential(*(Block(hidden_layer, dropout) for _ in range(n_blocks)))
        for block in self.blocks:  # adds little at first, and is learnt better
            nn.init.constant_(block.layers[-3].weight, GAIN)
        self.last = nn.Linear(hidden_layer, output_nodes)
        self.register_buffer('mean_2d', torch.zeros(input_nodes))
        self.register_buffer('std_2d', torch.ones(input_nodes))
        self.register_buffer('mean_out', torch.zeros(output_nodes))
        self.register_buffer('std_out', torch.ones(output_nodes))
        self.register_buffer('inverse_focal', torch.zeros(2))
        self.register_buffer('fitted', torch.tensor(False))

    def forward(self, joint_2d: Tensor) -> Tensor:
        joint_2d = joint_2d.to(self.mean_2d.dtype)
        x = (joint_2d.flatten(1) - self.mean_2d) / self.std_2d  # (B, 2J)
        x = self.first(x)                                       # (B, hidden_layer)
        with (torch.autocast(x.device.type, torch.bfloat16) if self.in_bfloat16 and self.training
              else nullcontext()):
            x = self.blocks(x).to(x.dtype)                      # (B, hidden_layer)
        x = self.last(x)                                        # (B, 3J)
        x = (self.mean_out + self.std_out * x).unflatten(1, (-1, 3))
        residual, z = x.split((2, 1), dim=-1)                   # (B, J, 2), (B, J, 1)
        ray = self.inverse_focal * joint_2d.reshape(len(x), -1, 2)
        joint_3d = torch.cat([residual - z * ray, z], dim=-1)   # (B, J, 3)
        return joint_3d if joint_2d.ndim == 3 else joint_3d.flatten(1)

    @torch.no_grad()
    def fit(self, joint_2d: Tensor, joint_3d: Tensor) -> None:
        """Takes its statistics from training poses (N, J, 2), (N, J, 3).

        The focal lengths are those with which the points at their depths lie closest to the joints;
        where there is no such camera they come out so that the rays tell little. Mean and standard
        deviation are of each coordinate of the points, and of each output of the network.
        """
        ray = -joint_3d[..., 2:] * joint_2d
        square = ray.square().sum((0, 1)).clamp(min=1e-12)
        self.inverse_focal.copy_((ray * joint_3d[..., :2]).sum((0, 1)) / square)
        rest = torch.cat([joint_3d[..., :2] - self.inverse_focal * ray, joint_3d[..., 2:]], dim=-1)
        for joints, mean, std in ((joint_2d, self.mean_2d, self.std_2d),
                                  (rest, self.mean_out, self.std_out)):
            mean.copy_(joints.flatten(1).mean(dim=0))
            std.copy_(joints.flatten(1).std(dim=0, correction=0))
        self.std_2d[self.std_2d < 1e-6] = 1  # a coordinate that never moves
        self.fitted.fill_(True)

    @torch.no_grad()
    def lift(self, joint_2d, batch_size: int = 4096):
        """Lifts one pose or many as a score must: in evaluation mode and without gradients.

        Takes (J, 2), (N, J, 2) or flat (2J,), (N, 2J) of any numbers, as a tensor, an array or a
        list. Gives the same kind back, with 3 for 2. Raises ValueError for another shape.
        """
        if not torch.is_tensor(joint_2d):
            array = np.asarray(joint_2d)
            lifted = self.lift(torch.tensor(np.ascontiguousarray(array, np.float32)), batch_size)
            kind = array.dtype if array.dtype.kind == 'f' else np.float32
            return (lifted.numpy().astype(kind) if isinstance(joint_2d, np.ndarray) else
                    lifted.tolist())
        shape, n_joints = joint_2d.shape, self.mean_2d.numel() // 2
        flat = shape[-1:] == (2 * n_joints,)
        if not flat and shape[-2:] != (n_joints, 2):
            raise ValueError(f'found points of shape {tuple(shape)}, expected ({n_joints}, 2), '
                             f'(N, {n_joints}, 2) or (N, {2 * n_joints})')
        points = joint_2d.reshape(-1, n_joints, 2)
        kind = joint_2d.dtype if joint_2d.is_floating_point() else self.mean_2d.dtype
        joint_3d = points.new_empty(len(points), n_joints, 3, dtype=kind)
        training = self.training
        self.eval()
        for batch, lifted in zip(points.split(batch_size), joint_3d.split(batch_size)):
            lifted.copy_(self(batch.to(self.mean_2d.device)))
        self.train(training)
        return joint_3d.reshape(*shape[:-1], 3 * n_joints) if flat else joint_3d.reshape(
            *shape[:-1], 3)

    @classmethod
    def from_state_dict(cls, state: dict) -> 'LiftModel':
        """The model of these weights, its sizes read off the shapes, or ValueError."""
        try:
            _check_weights(list(state.values()))
            n_blocks = len({key.split('.')[1] for key in state if key.startswith('blocks.')})
            hidden_layer, output_nodes = len(state['first.weight']), len(state['last.weight'])
            build = partial(cls, n_blocks, hidden_layer, output_nodes=output_nodes)
            with torch.device('meta'):  # needs no memory, however large a network the keys name
                expected = build().state_dict()
            if _shapes(state) != _shapes(expected):
                raise ValueError('other names or shapes')
            model = build()
            model.load_state_dict(state)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            reason = textwrap.shorten(f'{type(error).__name__}: {error}', 200)
            raise ValueError(f'found no state_dict of a LiftModel ({reason})') from error
        return model


def _check_weights(tensors: list) -> None:
    """Raises ValueError for weights that are larger than their file, or not finite."""
    stored = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
              for tensor in tensors}
    n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if n_bytes > sum(stored.values()):
        raise ValueError(f'found tensors of {n_bytes:,} bytes in {sum(stored.values()):,}')
    if not all(tensor.isfinite().all() for tensor in tensors):
        raise ValueError('found weights that are NaN or infinite')


def _shapes(state: dict) -> dict:
    return {name: tensor.shape for name, tensor in state.items()}


def pick_device(name: str) -> torch.device:
    """auto, cpu or cuda; auto takes a GPU if there is one. Raises ValueError for a missing GPU."""
    if name == 'cuda' and not torch.cuda.is_available():
        raise ValueError('--device cuda: found no CUDA device, expected one; --device cpu works')
    return torch.device('cuda' if name != 'cpu' and torch.cuda.is_available() else 'cpu')


def pick_precision(name: str, device: torch.device) -> str:
    """auto, float32 or bfloat16; auto takes bfloat16 where the device multiplies in it."""
    return name if name != 'auto' else 'bfloat16' if has_bfloat16(device) else 'float32'


def has_bfloat16(device: torch.device) -> bool:
    """Does the device multiply in bfloat16, not only emulate it?"""
    if device.type == 'cuda':
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities()
    return found.get('avx512_bf16', False) or found.get('amx_bf16', False)
