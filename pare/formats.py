"""Formats of the field: pickles with chumpy and scipy, .npz, .npy, weights of other programs.

No file can run code. A damaged or wrong one raises an OSError or ValueError of one line that names
the file and the key.
"""
import argparse
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from common import pickles
from common.files import atomic, one_line
from common.states import load_tensors, refuse_pointers


@contextmanager
def named(file, expected: str):
    """Put the name of the file into any exception that the block raises."""
    try:
        yield
    except OSError as error:
        raise type(error)(f'{file}: {error.strerror}, expected {expected}') from error
    except Exception as error:  # malformed input may raise any exception
        raise ValueError(f'{file}: found something else ({one_line(error)}), expected '
                         f'{expected}') from error


# ---- pickles ------------------------------------------------------------------------------------

class Node:
    """An object of chumpy or scipy, of which only the state is kept."""

    def __setstate__(self, state):
        self.state = pickles.plain(state)


class Ch(Node):
    """An array that chumpy wrapped."""

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.state['x'], dtype)


class Select(Node):
    """A choice from an array of chumpy."""

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        chosen = np.asarray(self.state['a'], dtype).ravel()[self.state['idxs']]
        return chosen.reshape(self.state['preferred_shape'])


class ByRows(Node):
    """A sparse matrix of scipy, compressed by rows."""

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        dense = np.zeros(self.state.get('_shape', self.state.get('shape')), dtype)
        lines = dense.T if isinstance(self, ByColumns) else dense
        places = np.repeat(np.arange(len(lines)), np.diff(self.state['indptr']))
        np.add.at(lines, (places, self.state['indices']), self.state['data'])
        return dense


class ByColumns(ByRows):
    """A sparse matrix of scipy, compressed by columns."""


def reconstructor(kind, _base, _state):
    """Make an object as protocols 0 and 1 write it."""
    return kind()


STAND_INS = {'chumpy': Node, 'chumpy.Ch': Ch, 'chumpy.Select': Select, 'scipy': Node,
             'scipy.csr_matrix': ByRows, 'scipy.csc_matrix': ByColumns,
             'copy_reg._reconstructor': reconstructor, 'copyreg._reconstructor': reconstructor}


def read_pickle(path) -> dict:
    """Read a pickled dictionary; `checked` makes arrays of the objects of chumpy and scipy."""
    refuse_pointers(path)
    return pickles.read_pickle(path, STAND_INS)


# ---- arrays -------------------------------------------------------------------------------------

def keys_of(path) -> set[str]:
    """Return the names of all arrays of an .npz."""
    with _archive(path) as archive:
        return set(archive.keys())


def _archive(path) -> np.lib.npyio.NpzFile:
    """Open an .npz."""
    refuse_pointers(path)
    with named(path, 'an .npz'):
        archive = np.load(path)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError('a single array')
    return archive


def read_npz(path, keys) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz that have one of these keys, and no other."""
    found = {}
    with _archive(path) as archive:
        for key in archive.keys() & set(keys):
            with named(f'{path}: key {key}', 'an array of numbers or text'):
                found[key] = archive[key]
    return found


def read_npy(path) -> np.ndarray:
    """Read the array of an .npy."""
    refuse_pointers(path)
    with named(path, 'an .npy of numbers'):
        return np.asarray(np.load(path))


def write_npz(path, arrays: dict) -> None:
    """Write arrays, whole or not at all."""
    with atomic(path) as file:
        np.savez(file, **arrays)


def checked(where: str, value, shape: tuple, dtype=np.float32) -> np.ndarray:
    """Return a value as finite numbers of this shape; None stands for any length.

    Raises ValueError, a line that begins with `where`: the file and the key.
    """
    try:
        array = np.asarray(value)
    except Exception as error:  # an object of chumpy or scipy may lack anything
        raise ValueError(f'{where}: found no array, expected numbers') from error
    if array.dtype.kind not in ('biuf' if dtype == np.float32 else 'biu'):
        raise ValueError(f'{where}: found {array.dtype}, expected numbers like {np.dtype(dtype)}')
    if array.ndim != len(shape) or any(
            wanted not in (None, n) for wanted, n in zip(shape, array.shape)):
        expected = ', '.join('any' if n is None else str(n) for n in shape)
        raise ValueError(f'{where}: found shape {array.shape}, expected ({expected})')
    with np.errstate(over='ignore', invalid='ignore'):
        array = array.astype(dtype)
    bad = ~np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
    if bad.any():
        raise ValueError(f'{where}: found NaN or infinity in {bad.sum()} of {len(bad)} rows, first '
                         f'in row {bad.argmax()}, expected finite numbers')
    return array


# ---- weights ------------------------------------------------------------------------------------

def read_weights(path) -> dict[str, Tensor]:
    """Read the weights of a ResNet in torchvision's names (conv1.weight, ...).

    In a checkpoint, for instance of DINO or SPIN, they may be under state_dict, model, teacher or
    student. Their names may have a prefix, and other weights may be beside them.
    """
    with torch.serialization.safe_globals([argparse.Namespace]):  # in checkpoints of DINO
        found = load_tensors(path, 'a state_dict')
    for key in ('state_dict', 'model', 'teacher', 'student'):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    found = {name: value for name, value in found.items()
             if isinstance(value, Tensor)} if isinstance(found, dict) else {}
    prefixes = [name.removesuffix('conv1.weight') for name in found
                if name.endswith('conv1.weight') and 'layer' not in name]
    if not prefixes:
        raise ValueError(f'{path}: found no weights of a ResNet, expected names such as '
                         f'conv1.weight')
    prefix = min(prefixes, key=len)
    return {name.removeprefix(prefix): value for name, value in found.items()
            if name.startswith(prefix)}
