"""What the tests of pare/ share."""
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from made import TINY, rendered_batch
from pare import batches, eval as scoring, people as rendering, training
from pare.people import render_people


@pytest.fixture(scope='session')
def people(tmp_path_factory):
    """A file of 20 rendered people, as the command writes it."""
    path = tmp_path_factory.mktemp('people') / 'people.npz'
    rendering.main([str(path), '--n', '20', '--size', '64', '--seed', '0'])
    return path


@pytest.fixture(scope='session')
def batch():
    """Eight rendered people; do not change them."""
    return rendered_batch(8, 32)


once = cache(render_people)  # the same people in many tests


def make_small(patch) -> None:
    """Few people, each shown once, few bodies without images, and no other process."""
    for module, name, value in (
            (rendering, 'PASSES', 1), (rendering, 'render_people', once),
            (rendering, 'ProcessPoolExecutor', lambda *_: ThreadPoolExecutor(1)),
            (batches, 'N_VAL', 20),
            (batches, 'N_MEAN', 500), (training, 'N_SKELETONS', 16), (scoring, 'N_TEST', 20)):
        patch.setattr(module, name, value)


@pytest.fixture
def small(monkeypatch):
    make_small(monkeypatch)


@pytest.fixture
def here(tmp_path, monkeypatch, small, no_charts):
    """A new current directory; charts are empty files."""
    monkeypatch.setattr('pare.plots.save_figure', lambda figure, path: Path(path).touch())
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
