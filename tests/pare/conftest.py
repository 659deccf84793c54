"""What the tests of pare/ share."""
import pytest

from pare.data import render_set


@pytest.fixture(scope='session')
def people(tmp_path_factory):
    """A file of 40 rendered people."""
    path = tmp_path_factory.mktemp('people') / 'people.npz'
    render_set(path, 40, 64, seed=0)
    return path
