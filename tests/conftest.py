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
def no_charts(monkeypatch):
    """Charts are empty files: to draw them takes most of the time of many tests."""
    monkeypatch.setattr('plots.save_figure', lambda figure, path: Path(path).touch())


@pytest.fixture
def mocap():
    """Real motion capture in the lab's format, where it is there."""
    if not MOCAP.exists():
        pytest.skip(f'no motion capture in {MOCAP}')
    return MOCAP
