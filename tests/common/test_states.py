"""The state of an unfinished training, and what --resume makes of it."""
import io
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch

from common.files import save_pickle
from common.people import sample
from conftest import SMALL
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


@pytest.mark.parametrize('options', (('--precision', 'bfloat16', '--dropout', '.1'), ('--weak',)))
def test_resume_ends_with_the_same_bits(here, capsys, fails, options):
    """All options are remembered, those of the precision and of two views too."""
    options = *SMALL, '--seed', '4', *options
    main([*options, '--out', 'whole'])
    capsys.readouterr()
    interrupt(*options, '--out', 'cut')
    error = capsys.readouterr().err.strip()
    assert 'python training.py --resume --out cut' in error and '\n' not in error
    assert not Path('cut').exists()
    assert '--epochs' in fails(main, '--resume', '--out', 'cut', '--epochs', '9')
    main(['--out', 'cut', '--resume', '--plots', 'others', '--epochs', '3'])
    output = capsys.readouterr().out
    assert '\n    3  ' in output and '\n    2  ' not in output
    assert Path('whole').read_bytes() == Path('cut').read_bytes()
    lines = (Path(folder, 'history.csv').read_text().splitlines() for folder in ('plots', 'others'))
    for whole, resumed in zip(*lines, strict=True):  # but for the speed
        assert whole.rpartition(',')[0] == resumed.rpartition(',')[0]
    assert not Path('cut.state').exists()


def test_without_resume_a_state_is_replaced_and_that_is_said(here, capsys):
    interrupt(*SMALL)
    main([*SMALL, '--epochs', '1'])
    assert 'note: liftModel.state' in capsys.readouterr().out
    assert Path('liftModel').exists() and not Path('liftModel.state').exists()


def test_resume_without_a_state_or_on_other_data_is_refused(here, fails):
    assert 'liftModel.state' in fails(main, '--resume')
    interrupt(*SMALL)
    save_pickle('data_train_lift.pkl', {key: array[:, :9] if key.startswith('joint') else array
                                        for key, array in sample(300, seed=0).items()})
    assert 'another training' in fails(main, '--resume')
    save_pickle('data_train_lift.pkl', sample(300, seed=9))
    assert '--data' in fails(main, '--resume')
    assert not Path('liftModel').exists()


class Code:
    def __reduce__(self):
        return Path.touch, (Path('ran'),)


@pytest.mark.parametrize('damage', ('other', 'cut', 'code', 'keys'))
def test_a_damaged_state_is_refused_in_one_line(here, fails, damage):
    interrupt(*SMALL)
    path = Path('liftModel.state')
    content = path.read_bytes()
    if damage in ('code', 'keys'):
        torch.save({'options': Code(), 'history': [], 'random': {}, 'parts': {}} if damage == 'code'
                   else {}, path)
    else:
        path.write_bytes(b'no state' if damage == 'other' else content[:len(content) // 2])
    assert 'liftModel.state' in fails(main, '--resume')
    assert not Path('liftModel').exists() and not Path('ran').exists()


def test_a_state_that_cannot_be_written_is_named_and_leaves_the_old_weights(here, fails):
    Path('liftModel').write_bytes(b'old')
    Path('liftModel.state').mkdir()
    assert 'liftModel.state: ' in fails(main, *SMALL)
    assert Path('liftModel').read_bytes() == b'old' and not list(here.glob('*.tmp'))
