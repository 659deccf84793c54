"""Fixtures and data that several test files share."""
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault('OMP_NUM_THREADS', '1')  # before torch is imported; two threads are slower
os.environ['CUDA_VISIBLE_DEVICES'] = ''  # the last digits of a GPU's results differ

from common.files import save_pickle
from common.people import sample
from data import load

ROOT = Path(__file__).parent.parent
MOCAP = ROOT.parent / 'shared' / 'data' / 'mocap'
SMALL = ('--device', 'cpu', '--n-blocks', '1', '--hidden-layer', '16', '--epochs', '3',
         '--batch-size', '32')  # a training of a moment

# pixels of a person who faces the camera and waves with the left hand; left is where x grows
PERSON = {'nose': (960, 330), 'left ear': (990, 322), 'right ear': (930, 322),
          'left shoulder': (1015, 430), 'right shoulder': (905, 430), 'left elbow': (1070, 380),
          'right elbow': (890, 535), 'left wrist': (1075, 280), 'right wrist': (885, 630),
          'left hip': (990, 620), 'right hip': (930, 620), 'left knee': (992, 780),
          'right knee': (926, 782), 'left ankle': (994, 940), 'right ankle': (922, 942)}
COCO = """nose, left eye, right eye, left ear, right ear, left shoulder, right shoulder, left elbow,
right elbow, left wrist, right wrist, left hip, right hip, left knee, right knee, left ankle,
right ankle"""


def person_of(names, confidence=.9):
    """Return PERSON as points (K, 3) in the order of a format; a point without a place is at 7, 7.
    """
    return np.array([(*PERSON.get(' '.join(name.split()), (7, 7)), confidence)
                     for name in names.split(',')])


def pytest_configure(config):
    config.addinivalue_line('markers', 'slow: takes seconds; -m "not slow" leaves it out')


@pytest.fixture
def no_charts(monkeypatch):
    """Write charts as empty files, because drawing would take most of the time of many tests."""
    monkeypatch.setattr('common.charts.save_figure', lambda figure, path: Path(path).touch())


@pytest.fixture
def here(tmp_path, monkeypatch, no_charts):
    """A new current directory with 300 poses to train on and 50 to test on."""
    monkeypatch.chdir(tmp_path)
    save_pickle('data_train_lift.pkl', sample(300, seed=0))
    save_pickle('data_test_lift.pkl', sample(50, seed=6))
    return tmp_path


@pytest.fixture
def fails(capsys):
    """Call main(options), which must end with status 2; return its one line of error."""
    def call(main, *options) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([*options])
        error = capsys.readouterr().err
        assert end.value.code == 2 and error.count('\n') == 1
        return error
    return call


@pytest.fixture(scope='session')
def shipped():
    """The weights of this repository; skips if the user has trained his own."""
    if shutil.which('git') and subprocess.run(['git', 'status', '--porcelain', 'liftModel'],
                                              cwd=ROOT, capture_output=True).stdout:
        pytest.skip('liftModel is not the one of the repository')
    return ROOT / 'liftModel'


@pytest.fixture(scope='session')
def mocap_test():
    """The test poses of motion capture in the format of the lab; skips if there are none."""
    if not MOCAP.exists():
        pytest.skip(f'no motion capture in {MOCAP}')
    return load(MOCAP / 'data_test.pkl')
