"""What the tests of pare/ share."""
from concurrent.futures import Future
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from made import TINY
from pare import batches, eval as scoring, people as rendering, training
from pare.formats import write_npz
from pare.people import render_people


@pytest.fixture(scope='session')
def people(tmp_path_factory):
    """A file of 20 rendered people."""
    path = tmp_path_factory.mktemp('people') / 'people.npz'
    write_npz(path, render_people(20, 64, seed=0))
    return path


class AtOnce:
    """Renders at once and in this process."""

    def __init__(self, *_):
        pass

    def submit(self, function, *values) -> Future:
        future = Future()
        future.set_result(function(*values))
        return future

    def shutdown(self, **_) -> None:
        pass


once = cache(render_people)  # the same people in many tests


def make_small(patch) -> None:
    """Few people, each shown once, few bodies without images, no other process, no charts."""
    for module, name, value in (
            (rendering, 'PASSES', 1), (rendering, 'render_people', once),
            (rendering, 'ProcessPoolExecutor', AtOnce), (batches, 'N_VAL', 20),
            (batches, 'N_MEAN', 500), (training, 'N_SKELETONS', 16), (scoring, 'N_TEST', 20)):
        patch.setattr(module, name, value)
    for module in ('common.charts', 'pare.plots'):
        patch.setattr(f'{module}.save_figure', lambda figure, path: Path(path).touch())


@pytest.fixture
def small(monkeypatch):
    make_small(monkeypatch)


@pytest.fixture
def here(tmp_path, monkeypatch, small):
    """A new current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope='session')
def trained(tmp_path_factory):
    """A tiny training: weights `out`, charts in `plots`, and what it `said`."""
    folder = tmp_path_factory.mktemp('trained')
    out, plots = folder / 'model', folder / 'plots'
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as said:
        make_small(patch)
        training.main([*TINY, '--out', str(out), '--plots', str(plots)])
    return SimpleNamespace(out=out, plots=plots, said=said.getvalue())
