"""What the tests of pare/ share."""
import pytest

from pare.formats import write_npz
from pare.people import render_people


@pytest.fixture(scope='session')
def people(tmp_path_factory):
    """A file of 40 rendered people."""
    path = tmp_path_factory.mktemp('people') / 'people.npz'
    write_npz(path, render_people(40, 64, seed=0))
    return path
