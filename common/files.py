"""Files and arrays: replace a file whole or not at all, tables as CSV, checked numbers."""
import csv
import math
import os
import pickle
from contextlib import contextmanager
from pathlib import Path

import numpy as np


def one_line(error) -> str:
    """Return the text of an error as one line of printable characters, cut if it is long."""
    text = ' '.join(str(error).split()) or type(error).__name__
    text = ''.join(character if character.isprintable() else '?' for character in text)
    return text if len(text) < 500 else f'{text[:500]}...'


@contextmanager
def atomic(path, mode: str = 'wb', **options):
    """Open a file to write; it replaces `path` only if everything was written.

    A symbolic link stays one. Raises OSError that names the path, also for a full disk.
    """
    target = Path(os.path.realpath(path))
    # a file system allows names of 255 bytes
    temporary = target.with_name(f'{target.name[:200]}.{os.getpid()}.tmp')
    try:
        with open(temporary, mode, **options) as file:
            yield file
        temporary.replace(target)
    except OSError as error:
        reason = error.strerror or error
        raise type(error)(f'{path}: {reason}; the old file is unchanged') from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def errors_of(path):
    """Put the path before the message of a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f'{path}: {one_line(error)}') from error


def make_folder(path: Path) -> None:
    """Make a folder, and those above it. Raises ValueError if a file is in its place."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f'{path}: found a file in its place, expected a folder') from error


def save_array(path, array: np.ndarray) -> None:
    """Save an array as .npy."""
    with atomic(path) as file:
        np.save(file, array)


def save_pickle(path, data: dict) -> None:
    """Pickle a dictionary."""
    with atomic(path) as file:
        pickle.dump(data, file)


def numbers(key: str, value) -> np.ndarray:
    """Return an array, a list of arrays or an array of arrays as float32 of at least one sample.

    Raises ValueError, a line that names the key, for anything else and for NaN or infinity.
    """
    try:
        array = np.asarray(value)
        if array.dtype == object:
            array = np.asarray(array.tolist())
        if array.dtype.kind not in 'biuf':  # strings, dates, complex numbers, None, objects
            raise TypeError(array.dtype)
        with np.errstate(over='ignore'):  # overflow becomes infinity, which is refused below
            array = np.ascontiguousarray(array, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f'key {key}: found a {type(value).__name__} that makes no array of '
                         f'numbers, expected equally many for each sample') from error
    if array.size == 0:
        raise ValueError(f'key {key}: found shape {array.shape}, expected at least one sample')
    bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if bad.any():
        raise ValueError(f'key {key}: found NaN or infinity in {bad.sum()} of {len(bad)} rows, '
                         f'first in row {bad.argmax()}, expected finite numbers')
    return array


# ---- tables -------------------------------------------------------------------------------------

def write_csv(path, columns, rows) -> None:
    """Write a table as CSV; NaN becomes an empty field."""
    with atomic(path, 'w', newline='') as file:
        csv.writer(file, lineterminator='\n').writerows([columns, *(
            ['' if isinstance(value, float) and math.isnan(value) else value for value in row]
            for row in rows)])


class Table:
    """A CSV file of results. Each measurement appends a row, so an interrupted run can continue.

    A row holds a key, which says what was measured, and values, which are numbers. `keys` and
    `values` name the columns. Raises ValueError if the file has other columns.
    """

    def __init__(self, path, keys, values):
        self.path, self.n_keys, columns = Path(path), len(keys), [*keys, *values]
        if not self.path.exists():
            write_csv(self.path, columns, [])
        with open(self.path, newline='') as file:
            header = next(csv.reader(file), [])
        if header != columns:
            raise ValueError(f'{path}: found columns {", ".join(header) or "none"}, expected '
                             f'{", ".join(columns)}')

    def read(self) -> dict[tuple[str, ...], tuple[float, ...]]:
        """Return keys and values, in the order of the measurements."""
        with open(self.path, newline='') as file:
            _, *rows = csv.reader(file)
        return {tuple(row[:self.n_keys]): tuple(map(float, row[self.n_keys:])) for row in rows}

    def __contains__(self, key) -> bool:
        """Tell if there is a row whose key begins with these parts."""
        start = tuple(map(str, key))
        return any(row[:len(start)] == start for row in self.read())

    def add(self, key, values) -> None:
        """Append a row, with 6 digits of each value."""
        with open(self.path, 'a', newline='') as file:
            csv.writer(file, lineterminator='\n').writerow([*key, *(f'{v:.6g}' for v in values)])


def mean_std(values, digits: int = 5) -> str:
    """Return mean and standard deviation as text."""
    return f'{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}'


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def filled(text: str, tables: dict, command: str) -> str:
    """Replace each table of a text, between its markers. Raises ValueError for a missing marker."""
    for name, make in tables.items():
        start, end = f'<!-- {name}: {command} -->\n', f'<!-- end of {name} -->'
        if not text.count(start) == text.count(end) == 1:
            raise ValueError(f'found no markers of table {name}, expected {start}{end}')
        before, _, rest = text.partition(start)
        text = before + start + make() + '\n' + end + rest.partition(end)[2]
    return text
