"""Files that are replaced whole or not at all, tables, and arrays that are checked."""
import math
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from common.files import (Table, atomic, filled, markdown, numbers, one_line, save_pickle, spread,
                          write_csv)
from conftest import ROOT


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize('error', (OSError(28, 'No space left on device'), ValueError('wrong'),
                                   KeyboardInterrupt()))
def test_a_file_that_is_not_written_whole_leaves_the_old_one(tmp_path, error):
    save_pickle(tmp_path / 'a.pkl', {'a': 1})
    with pytest.raises(type(error)) as raised:
        with atomic(tmp_path / 'a.pkl') as file:
            file.write(b'half')
            raise error
    assert pickle.loads((tmp_path / 'a.pkl').read_bytes()) == {'a': 1}
    assert names(tmp_path) == ['a.pkl']
    assert not isinstance(error, OSError) or f'{tmp_path / "a.pkl"}: No space' in str(raised.value)


def test_two_processes_may_write_to_one_file_at_once(tmp_path):
    script = 'from common.files import save_pickle; save_pickle("a.pkl", {"a": 1})'
    with atomic(tmp_path / 'a.pkl') as file:
        subprocess.run([sys.executable, '-c', script], cwd=tmp_path, check=True,
                       env=os.environ | {'PYTHONPATH': str(ROOT)})
        file.write(b'the last')
    assert (tmp_path / 'a.pkl').read_bytes() == b'the last'
    assert names(tmp_path) == ['a.pkl']


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / 'link').symlink_to('a.pkl')
    save_pickle(tmp_path / 'link', {'a': 1})
    assert (tmp_path / 'link').is_symlink() and (tmp_path / 'a.pkl').exists()


@pytest.mark.parametrize('path', ('none/a.pkl', 'folder'))
def test_a_place_that_cannot_be_written_is_named(tmp_path, path):
    (tmp_path / 'folder').mkdir()
    with pytest.raises(OSError, match=f'{tmp_path / path}: '):
        save_pickle(tmp_path / path, {})


def test_the_longest_name_can_be_written(tmp_path):
    save_pickle(tmp_path / (254 * 'a'), {'a': 1})
    assert [path.name for path in tmp_path.iterdir()] == [254 * 'a']


def test_an_error_becomes_one_line():
    assert one_line(ValueError('a\n  b\x1b')) == 'a b?'
    assert one_line(KeyError()) == 'KeyError'
    assert len(one_line('long ' * 1000)) < 510


# ---- numbers ------------------------------------------------------------------------------------

def array_of(values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


ROWS = np.arange(6.).reshape(2, 3)


@pytest.mark.parametrize('value', (ROWS, ROWS.astype('>f8'), ROWS.astype(int), ROWS.tolist(),
                                   list(ROWS), np.asfortranarray(ROWS), array_of(list(ROWS))))
def test_numbers_of_any_spelling(value):
    array = numbers('a', value)
    assert array.dtype == np.float32 and array.flags['C_CONTIGUOUS']
    np.testing.assert_array_equal(array, ROWS)


@pytest.mark.parametrize('value', (
    [[1, 2], [3]], {'a': 1}, 'text', None, [['1', '2']], b'123', [1j], [10 ** 400],
    np.zeros(3, 'M8[s]'), np.zeros(3, 'f4, O'), [object()]))
def test_only_numbers_are_numbers(value):
    with pytest.raises(ValueError, match='key a: found a .* that makes no array'):
        numbers('a', value)


def test_numbers_must_be_finite_and_at_least_one():
    with pytest.raises(ValueError, match=r'key a: found shape \(0,\)'):
        numbers('a', [])
    for bad in (math.nan, math.inf, 1e300):
        with pytest.raises(ValueError, match='key a: .* 2 of 4 rows, first in row 1'):
            numbers('a', [[0, 1], [2, bad], [3, 4], [bad, bad]])


# ---- tables -------------------------------------------------------------------------------------

def test_a_csv_file_has_empty_fields_for_nan(tmp_path):
    write_csv(tmp_path / 'a.csv', ('x', 'y'), [(1, .5), (2, math.nan)])
    assert (tmp_path / 'a.csv').read_text() == 'x,y\n1,0.5\n2,\n'


def test_a_table_grows_and_knows_what_it_holds(tmp_path):
    path = tmp_path / 'a.csv'
    table = Table(path, ('row', 'seed'), ('mpjpe', 'seconds'))
    assert table.read() == {} and ('a',) not in table
    table.add(('a', 0), (1 / 3, 20))
    table.add(('b, c', 1), (.5, math.nan))
    again = Table(path, ('row', 'seed'), ('mpjpe', 'seconds'))
    assert list(again.read()) == [('a', '0'), ('b, c', '1')]
    assert again.read()['a', '0'] == (.333333, 20)
    assert ('a',) in again and ('b, c', 1) in again and ('a', 1) not in again
    with pytest.raises(ValueError, match='a.csv: found columns row, seed, mpjpe, seconds'):
        Table(path, ('row',), ('mpjpe',))


def test_tables_of_a_text_are_replaced_between_their_markers():
    text = 'before\n<!-- one: make -->\nold\n<!-- end of one -->\nafter'
    new = filled(text, {'one': lambda: markdown(['', 'x'], [['row', spread([1, 3], 1)]])}, 'make')
    assert new == ('before\n<!-- one: make -->\n|  | x |\n| --- | --- |\n| row | 2.0 ± 1.0 |\n'
                   '<!-- end of one -->\nafter')
    with pytest.raises(ValueError, match='markers of table two'):
        filled(text, {'two': str}, 'make')
