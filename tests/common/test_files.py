"""Files that are replaced whole or not at all, and numbers that are checked."""
import math
import pickle

import numpy as np
import pytest

from common.files import atomic, numbers, save_pickle


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


@pytest.mark.parametrize('value, words', (
    *((value, 'that makes no array') for value in (
        [[1, 2], [3]], {'a': 1}, None, [['1', '2']], [1j], [10 ** 400], np.zeros(3, 'M8[s]'))),
    ([], r'shape \(0,\)'), ([[0, 1], [2, math.nan], [3, 4]], '1 of 3 rows, first in row 1'),
    ([0, math.inf, 1e300], '2 of 3 rows, first in row 1')))
def test_anything_but_finite_numbers_is_refused(value, words):
    with pytest.raises(ValueError, match=f'key a: found .*{words}'):
        numbers('a', value)
