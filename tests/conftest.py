"""What the tests share."""
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
MOCAP = ROOT.parent / 'shared' / 'data' / 'mocap'


def pytest_configure(config):
    config.addinivalue_line('markers', 'slow: takes seconds; -m "not slow" leaves it out')


@pytest.fixture
def mocap():
    """Real motion capture in the lab's format, where it is there."""
    if not MOCAP.exists():
        pytest.skip(f'no motion capture in {MOCAP}')
    return MOCAP
