"""Communication between the processes of torchrun; without torchrun nothing is sent."""
import torch
from torch import distributed


def from_first(make):
    """Return what make() returns in the first process; the others wait for it."""
    if not distributed.is_initialized():
        return make()
    values = [make() if distributed.get_rank() == 0 else None]
    distributed.broadcast_object_list(values)
    return values[0]


def gathered(found: dict) -> dict:
    """Concatenate tensors (N, ...) of all processes, in each of them; some may have none."""
    if not distributed.is_initialized():
        return found
    parts = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, found)
    parts = [part for part in parts if part]
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
