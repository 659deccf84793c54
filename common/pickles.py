"""Read a pickled dictionary of arrays, whoever wrote it.

A pickle names classes and functions, and loading calls them. Here each name leads to a stand-in
that makes nothing but arrays and plain values, and a file with any other name is refused. So a file
cannot run code; it can still exhaust memory.
"""
import pickle
import re
import sys
import warnings

import numpy as np

from common.files import one_line

# ---- stand-ins, named after what they stand for -------------------------------------------------
# Each class defines __setstate__, for without one a file could set attributes of the class itself.


class dtype:
    """A type of numbers, text or objects; dates and records become raw bytes (V)."""

    def __init__(self, name: str, *_):
        self.name = name

    def __setstate__(self, state):
        _, order, *parts = state
        kind, size = re.fullmatch('([biufcSUVOMm])([0-9]*)', self.name).groups()
        if kind in 'Mm' or any(part is not None for part in parts[:3]):  # sub-array, names, fields
            kind = 'V'
        self.value = np.dtype(kind + size).newbyteorder(order)


class ndarray:
    """An array, or lists for an array of objects; also what numpy's _reconstruct returns."""

    def __init__(self, *_):
        pass

    def __setstate__(self, state):
        _, shape, dtype, by_columns, data = state
        self.value = frombuffer(data, dtype, shape, 'F' if by_columns else 'C')


def frombuffer(data, dtype: dtype, shape: tuple, order: str, axes=None) -> np.ndarray | list:
    """Make an array of this shape from bytes, lists from a list; order K: `axes` transpose it."""
    if isinstance(data, list):
        return np.fromiter(data, object, len(data)).reshape(shape).tolist()
    if isinstance(data, str):  # as Python 2 wrote bytes
        data = data.encode('latin1')
    array = np.frombuffer(data, dtype.value)
    if array.dtype.kind == 'U' and (
            array.view(f'{array.dtype.byteorder}u4') > sys.maxunicode).any():
        raise ValueError('characters that do not exist')
    array = array.reshape(shape[::-1] if order == 'F' else shape)
    return (array if order == 'C' else array.transpose(axes)).copy()  # in its own memory


def scalar(dtype: dtype, data):
    """Make a number or a text of numpy."""
    return frombuffer(data, dtype, (), 'C')[()]


def encode(text: str, _) -> bytes:
    """Make bytes, which protocols 0 to 2 write as text."""
    return text.encode('latin1')


STAND_INS = {
    'numpy.dtype': dtype, 'numpy.ndarray': ndarray, 'numpy._reconstruct': ndarray,
    'numpy._frombuffer': frombuffer, 'numpy.scalar': scalar, '_codecs.encode': encode,
    'collections.OrderedDict': dict,
    **{f'{module}.{kind.__name__}': kind for module in ('builtins', '__builtin__')
       for kind in (object, set, frozenset, bytes, bytearray, complex)}}
NESTED = {ndarray, list, tuple, dict}


def plain(value):
    """Put arrays in the place of their stand-ins, within lists, tuples and dictionaries too."""
    if isinstance(value, ndarray):
        value = value.value
    if isinstance(value, list) and not NESTED.isdisjoint(map(type, value)):
        value[:] = map(plain, value)  # in place, since new lists by the million take a while
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


# ---- reading ------------------------------------------------------------------------------------

class Unpickler(pickle.Unpickler):
    """Looks up names in a table of stand-ins, as 'package.name' or for a whole 'package'."""

    def __init__(self, file, stand_ins: dict):
        super().__init__(file, encoding='latin1')  # as Python 2 wrote bytes
        self.stand_ins = stand_ins

    def find_class(self, module: str, name: str):
        package = module.partition('.')[0]  # numpy 1 and 2 differ in the rest
        found = self.stand_ins.get(f'{package}.{name}') or self.stand_ins.get(package)
        if found is None:
            raise ValueError(f'{module}.{name} is neither a numpy array nor a plain type; save '
                             f'plain arrays with pickle.dump')
        return found if isinstance(found, type) else found.__call__  # without attributes to set


# files that are taken for a pickle, by their first bytes
OTHERS = {b'\x1f\x8b': 'a gzip file; gunzip unpacks it',
          b'PK\x03\x04': 'a zip archive, as np.savez and torch.save write; save with pickle.dump',
          b'\x93NUMPY': 'an array of np.save; save a dictionary with pickle.dump',
          b'\x89HDF': 'an HDF5 file', b'<': 'a web page or XML', b'{': 'JSON',
          b'version https://git-lfs': 'a pointer of git-lfs; git lfs pull brings the file'}


def read_pickle(path, extra: dict = {}) -> dict:
    """Read a pickled dictionary of arrays, numbers, strings, and lists and dictionaries of them.

    `extra` holds stand-ins for more names, or for whole packages. Keys are text or bytes; others
    are left out. Raises OSError for a file that cannot be opened, and ValueError, one line, for one
    that is damaged or holds something else.
    """
    try:
        with open(path, 'rb') as file, warnings.catch_warnings():
            start = file.read(23)
            file.seek(0)
            warnings.simplefilter('ignore')  # about escapes in damaged strings
            found = plain(Unpickler(file, STAND_INS | extra).load())
    except OSError as error:
        raise type(error)(f'{path}: {error.strerror}, expected a pickled dictionary') from error
    except Exception as error:  # malformed input may raise any exception
        other = next((text for bytes, text in OTHERS.items() if start.startswith(bytes)), None)
        raise ValueError(f'{path}: found {other or f"no readable pickle ({one_line(error)})"}, '
                         f'expected a pickled dictionary of arrays') from error
    if not isinstance(found, dict):
        raise ValueError(f'{path}: found a {type(found).__name__}, expected a pickled dictionary '
                         f'of arrays')
    return {key: value for key, value in found.items() if isinstance(key, (str, bytes))}
