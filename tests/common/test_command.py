"""The command line: one line of error, exit statuses, device and precision, the live line."""
import os
import subprocess
import sys
from itertools import count

import pytest
import torch

from common import command
from common.command import (Parser, add_device, bounded, exit_status, keep_inputs, live,
                            pick_device, pick_precision)
from conftest import ROOT


def make_parser():
    parser = Parser(prog='python -m some.program')
    parser.add_argument('--size', type=bounded(int, 2), default=3, help='how large')
    parser.add_argument('--share', type=bounded(float, 0, 1), help='how much')
    add_device(parser, precision=True)
    return parser


def test_a_default_is_shown_in_the_help():
    text = make_parser().format_help()
    assert 'how large (default: 3)' in text and text.count('None') == 0


@pytest.mark.parametrize('options, words', (
    (('--size', '1'), ('--size', '1', '2')), (('--size', 'many'), ('--size', 'int', 'many')),
    (('--share', '1'), ('--share', '0', '1')), (('--share', 'nan'), ('--share', 'nan')),
    (('--colour', 'red'), ('--colour',)), (('--device', 'tpu'), ('--device', 'tpu'))))
def test_a_mistake_is_one_line_and_status_2(fails, options, words):
    error = fails(make_parser().parse_args, *options)
    assert error.startswith('some.program: ') and all(word in error for word in words)


@pytest.mark.parametrize('error, status, line', (
    (ValueError('wrong'), 2, 'some.program: wrong'), (OSError('a.pkl'), 2, 'some.program: '),
    (KeyboardInterrupt(), 130, 'interrupted: as it was')))
def test_exit_statuses(capsys, error, status, line):
    with pytest.raises(SystemExit) as end:
        with exit_status(make_parser(), interrupted=lambda: 'as it was'):
            raise error
    assert end.value.code == status and line in capsys.readouterr().err


def test_output_that_nobody_reads_ends_quietly():
    script = 'from common.command import *\nwith exit_status(Parser()):\n    print("unread")'
    read, write = os.pipe()
    os.close(read)
    run = subprocess.run([sys.executable, '-c', script], cwd=ROOT, stdout=write,
                         stderr=subprocess.PIPE, env=os.environ | {'PYTHONUNBUFFERED': ''})
    os.close(write)
    assert run.returncode == 130 and run.stderr == b''


def test_other_errors_are_not_hidden():
    with exit_status(make_parser()):
        pass
    with pytest.raises(ZeroDivisionError):
        with exit_status(make_parser()):
            1 / 0


def test_pick_device():
    assert pick_device('cpu').type == 'cpu'
    assert pick_device('auto').type == ('cuda' if torch.cuda.is_available() else 'cpu')
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match='--device cuda'):
            pick_device('cuda')


@pytest.mark.parametrize('feature', ('avx512_bf16', 'amx_bf16', 'avx2'))
def test_pick_precision(monkeypatch, feature):
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: {feature: True})
    cpu, found = torch.device('cpu'), 'float32' if feature == 'avx2' else 'bfloat16'
    assert [pick_precision(name, cpu) for name in ('auto', 'float32', 'bfloat16')] == [
        found, 'float32', 'bfloat16']
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: False)
    assert pick_precision('auto', torch.device('cuda')) == 'float32'


def test_a_terminal_shows_when_the_epoch_ends(capsys, monkeypatch):
    monkeypatch.setattr(command.time, 'perf_counter', count(step=.15).__next__)
    assert list(live(3, range(10), 10)) == list(range(10))
    assert capsys.readouterr().out == ''
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    assert list(live(3, range(10), 10)) == list(range(10))
    _, *shown = capsys.readouterr().out.split('\r')
    assert len(shown) == 5 and not any('\n' in line for line in shown)
    assert 'batch 2 of 10, epoch ends in 0:00:01' in shown[0] and '0:00:00' in shown[-1]


def test_an_old_python_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'version_info', (3, 10, 13))
    with pytest.raises(SystemExit, match='expected 3.11 or newer'):
        Parser()


@pytest.mark.parametrize('output', ('a.pkl', './a.pkl', 'link', 'frames', 'frames/1.json'))
def test_an_output_is_no_input_nor_in_a_folder_of_inputs(tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'link').symlink_to('a.pkl')
    with pytest.raises(ValueError, match=f'--out: found {output}'):
        keep_inputs({'--data': 'a.pkl', '--keypoints': 'frames', '--val': None}, {'--out': output})
    keep_inputs({'--data': 'a.pkl', '--keypoints': 'frames'}, {'--out': 'b.pkl', '--more': None})
    keep_inputs({'--keypoints': '.'}, {'--plots': 'plots/people.png', '--predict': 'new.npy'})
