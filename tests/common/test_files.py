"""Files that are replaced whole or not at all, tables, and arrays that are checked."""
import math
import pickle

import numpy as np
import pytest

from common.files import Table, atomic, numbers, one_line, save_pickle


@pytest.mark.parametrize('error', (OSError(28, 'No space left on device'), KeyboardInterrupt()))
def test_a_file_that_is_not_written_whole_leaves_the_old_one(tmp_path, error):
    path = tmp_path / (254 * 'a')  # no temporary name is longer than a file system allows
    save_pickle(path, {'a': 1})
    with pytest.raises(type(error)) as raised:
        with atomic(path) as file:
            file.write(b'half')
            raise error
    assert pickle.loads(path.read_bytes()) == {'a': 1}
    assert list(tmp_path.iterdir()) == [path]
    assert not isinstance(error, OSError) or f'{path}: No space' in str(raised.value)


def test_a_link_stays_a_link_and_a_wrong_place_is_named(tmp_path):
    (tmp_path / 'link').symlink_to('a.pkl')
    save_pickle(tmp_path / 'link', {'a': 1})
    assert (tmp_path / 'link').is_symlink() and (tmp_path / 'a.pkl').exists()
    for path in (tmp_path / 'none' / 'a.pkl', tmp_path):
        with pytest.raises(OSError, match=f'{path}: '):
            save_pickle(path, {})


def test_an_error_becomes_one_line():
    assert one_line(ValueError('a\n  b\x1b')) == 'a b?'
    assert one_line(KeyError()) == 'KeyError'
    assert len(one_line('long ' * 1000)) < 510


# ---- numbers ------------------------------------------------------------------------------------

@pytest.mark.parametrize('value', ([[1, 2], [3]], {'a': 1}, 'text', None, [['1', '2']], [1j],
                                   [10 ** 400], np.zeros(3, 'M8[s]'), np.zeros(3, 'f4, O')))
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

def test_a_table_grows_and_knows_its_rows(tmp_path):
    columns = ('row', 'seed'), ('mpjpe', 'seconds')
    table = Table(tmp_path / 'a.csv', *columns)
    assert table.read() == {} and ('b, c',) not in table
    table.add(('a', 0), (1 / 3, 20))
    table.add(('b, c', 1), (.5, math.nan))
    again = Table(tmp_path / 'a.csv', *columns)
    assert list(again.read()) == [('a', '0'), ('b, c', '1')]
    assert again.read()['a', '0'] == (.333333, 20)
    assert ('b, c',) in again and ('b, c', 1) in again and ('a', 1) not in again
    with pytest.raises(ValueError, match='a.csv: found columns row, seed, mpjpe, seconds'):
        Table(tmp_path / 'a.csv', ('row',), ('mpjpe',))
