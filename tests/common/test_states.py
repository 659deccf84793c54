"""The state of an unfinished training, and --resume."""
import io
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from common.files import save_pickle
from common.people import sample
from conftest import SMALL
from data import SUPERVISED
from training import main


class Interrupted(io.StringIO):
    """Standard output at which the user presses Ctrl-C when the line of the second epoch comes."""

    def write(self, text):
        if text.startswith('    2  '):
            raise KeyboardInterrupt
        return super().write(text)


def interrupt(*options):
    with redirect_stdout(Interrupted()), pytest.raises(SystemExit) as end:
        main([*options])
    assert end.value.code == 130


def test_resume_ends_with_the_same_bits(here, capsys, fails):
    """All options are remembered, and those that decide the result cannot change."""
    options = *SMALL, '--weak', '--precision', 'bfloat16', '--dropout', '.1', '--seed', '4'
    main([*options, '--out', 'whole'])
    capsys.readouterr()
    interrupt(*options, '--out', 'cut')
    error = capsys.readouterr().err.strip()
    assert 'python training.py --resume --out cut' in error and '\n' not in error
    assert not Path('cut').exists()
    assert '--epochs' in fails(main, '--resume', '--out', 'cut', '--epochs', '9')
    main(['--out', 'cut', '--resume', '--plots', 'others'])
    output = capsys.readouterr().out
    assert '\n    3  ' in output and '\n    2  ' not in output
    assert Path('whole').read_bytes() == Path('cut').read_bytes()
    whole, resumed = ([line.rpartition(',')[0] for line in Path(folder, 'history.csv').open()]
                      for folder in ('plots', 'others'))  # without the speed
    assert whole == resumed and not Path('cut.state').exists()


def test_resume_without_a_whole_state_or_on_other_data_is_refused(here, fails):
    assert 'liftModel.state' in fails(main, '--resume')
    Path('liftModel.state').write_bytes(b'damaged')
    assert 'liftModel.state' in fails(main, '--resume')
    interrupt(*SMALL)
    other = sample(300, seed=9)
    for n_joints, words in ((15, '--data'), (9, 'another training')):
        save_pickle('data_train_lift.pkl', {key: other[key][:, :n_joints] for key in SUPERVISED})
        assert words in fails(main, '--resume')
    assert not Path('liftModel').exists()
