"""Formats of the field, read without trust: pickles with chumpy and scipy, .npz, .npy, weights.

Nothing in a file runs, it takes no more memory than its size allows, and what is wrong raises a
ValueError of one line that names the file and the key.
"""
import argparse
import math
import os
import sys
import zipfile

import numpy as np
import torch
from torch import Tensor

import data
from data import atomic, not_made, one_line

# ---- pickles ------------------------------------------------------------------------------------

LARGEST = 10 ** 7  # elements of a matrix that is written as a sparse one


def _chumpy(builder, call) -> np.ndarray:
    """An array that chumpy wrapped, or a choice from one."""
    state = call.state
    if call.name == 'chumpy.Ch' and 'x' in state:
        return np.asarray(builder.make(state['x']))
    if call.name == 'chumpy.Select':
        chosen = np.asarray(builder.make(state['a'])).ravel()[builder.make(state['idxs'])]
        return chosen.reshape(state['preferred_shape'])
    return not_made(builder, call)


def _sparse(builder, call) -> np.ndarray:
    """A matrix of scipy that is compressed by columns or by rows."""
    kind, state = call.name.split('.')[1][:3], call.state
    if kind not in ('csc', 'csr'):
        return not_made(builder, call)
    shape = state['_shape'] if '_shape' in state else state['shape']
    values, indices, starts = (builder.make(state[key]) for key in ('data', 'indices', 'indptr'))
    shape = shape[::-1] if kind == 'csc' else shape
    if (math.prod(shape) > LARGEST or len(starts) != shape[0] + 1 or starts[0] != 0
            or starts[-1] != len(values) or len(indices) != len(values)):
        raise ValueError(f'a sparse matrix of shape {shape} that does not fit its indices')
    dense = np.zeros(shape)
    np.add.at(dense, (np.repeat(np.arange(shape[0]), np.diff(starts)), indices), values)
    return dense.T if kind == 'csc' else dense


def _instance(builder, call):
    """An object as protocols 0 and 1 write it: its class stands among the arguments."""
    call.name = call.args[0].name
    return builder.maker(call.name)(builder, call)


MAKERS = data.MAKERS | {'chumpy': _chumpy, 'scipy': _sparse, 'copy_reg._reconstructor': _instance,
                        'copyreg._reconstructor': _instance}


def read_pickle(path, keys) -> dict:
    """Values of a pickled dictionary, for other keys than these None; arrays of chumpy and sparse
    matrices of scipy are read without either. Raises OSError or ValueError."""
    return data.read_pickle(path, keys, MAKERS)


# ---- arrays -------------------------------------------------------------------------------------

UNPACKED, FREE = 20, 2 ** 28  # what an .npz may unpack to: times its size, and bytes beyond


def _read_array(file, size: int) -> np.ndarray:
    """An array in the format of .npy, of numbers or text, in the `size` bytes of a file."""
    version = np.lib.format.read_magic(file)
    header = {(1, 0): np.lib.format.read_array_header_1_0,
              (2, 0): np.lib.format.read_array_header_2_0}
    shape, by_columns, dtype = header[version](file)
    if dtype.kind not in 'biufSU' or not dtype.itemsize:
        raise ValueError(f'an array of {"objects" if dtype.hasobject else dtype}')
    size -= file.tell()
    if math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f'{size} bytes in an array of shape {shape} of {dtype}')
    array = np.ndarray(shape, dtype, bytearray(file.read(size)), order='F' if by_columns else 'C')
    if dtype.kind == 'U' and (array.view(f'{dtype.str[0]}u4') > sys.maxunicode).any():
        raise ValueError('text that is none')
    return array


def read_npz(path, needed=()) -> dict[str, np.ndarray]:
    """The arrays of an .npz. One that cannot be read, such as one of objects, is left out if it is
    not `needed`. Raises OSError or ValueError."""
    found, room = {}, FREE
    try:
        with zipfile.ZipFile(path) as archive:
            room += UNPACKED * os.path.getsize(path)
            for part in archive.infolist():
                key = part.filename.removesuffix('.npy')
                room -= part.file_size
                if room < 0:
                    raise ValueError('more bytes than its size allows')
                try:
                    with archive.open(part) as file:
                        found[key] = _read_array(file, part.file_size)
                except Exception as error:  # what is damaged can raise nearly anything
                    if key in needed:
                        raise ValueError(f'key {key}: {one_line(error)}') from error
    except OSError as error:
        raise type(error)(f'{path}: {error.strerror}, expected an .npz') from error
    except Exception as error:
        raise ValueError(f'{path}: found no readable .npz ({one_line(error)}), expected arrays of '
                         f'numbers or text') from error
    return found


def read_npy(path) -> np.ndarray:
    """The array of an .npy. Raises OSError or ValueError."""
    try:
        with open(path, 'rb') as file:
            return _read_array(file, os.path.getsize(path))
    except OSError as error:
        raise type(error)(f'{path}: {error.strerror}, expected an .npy') from error
    except Exception as error:
        raise ValueError(f'{path}: found no readable .npy ({one_line(error)}), expected an array '
                         f'of numbers') from error


def write_npz(path, arrays: dict) -> None:
    """Writes arrays as they are; the file is whole or not there."""
    with atomic(path) as file:
        np.savez(file, **arrays)


def checked(where: str, value, shape: tuple, dtype=np.float32) -> np.ndarray:
    """The value as finite numbers of this shape, None for any length. Raises ValueError, a line
    that begins with `where`: the file and the key."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f'{where}: found no array, expected numbers') from error
    if array.dtype.kind not in ('biuf' if dtype == np.float32 else 'biu'):
        raise ValueError(f'{where}: found {array.dtype}, expected numbers')
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
    """Weights of a ResNet in torchvision's names, conv1.weight and so on, from a file of elsewhere.

    They may stand in a checkpoint, of DINO or SPIN for instance, as state_dict, model, teacher or
    student, with anything before their names and beside them. Raises OSError or ValueError.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # in which DINO keeps options
            found = torch.load(path, map_location='cpu', weights_only=True)
    except OSError as error:
        raise type(error)(f'{path}: {error.strerror}, expected weights') from error
    except Exception as error:  # what is no checkpoint can raise nearly anything
        raise ValueError(f'{path}: found no weights ({one_line(error)}), expected a '
                         f'state_dict') from error
    for key in ('state_dict', 'model', 'teacher', 'student'):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    found = {name: value for name, value in found.items()
             if isinstance(value, Tensor)} if isinstance(found, dict) else {}
    before = [name.removesuffix('conv1.weight') for name in found
              if name.endswith('conv1.weight') and 'layer' not in name]
    if not before:
        raise ValueError(f'{path}: found no weights of a ResNet, expected names such as '
                         f'conv1.weight')
    before = min(before, key=len)
    return {name.removeprefix(before): value for name, value in found.items()
            if name.startswith(before)}
