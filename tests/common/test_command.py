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
    assert 'how large (default: 3)' in text and 'None' not in text


@pytest.mark.parametrize('options', (('--size', '1'), ('--size', 'many'), ('--share', '1'),
                                     ('--share', 'nan'), ('--colour', 'red'), ('--device', 'tpu')))
def test_a_mistake_is_one_line_and_status_2(fails, options):
    error = fails(make_parser().parse_args, *options)
    assert error.startswith('some.program: ') and all(word in error for word in options)


@pytest.mark.parametrize('error, status, line', (
    (ValueError('wrong'), 2, 'some.program: wrong\n'), (OSError('a.pkl'), 2, 'some.program: a.pkl'),
    (KeyboardInterrupt(), 130, 'interrupted: as it was')))
def test_exit_statuses(capsys, error, status, line):
    with pytest.raises(SystemExit) as end:
        with exit_status(make_parser(), interrupted=lambda: 'as it was'):
            raise error
    assert end.value.code == status and line in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError), exit_status(make_parser()):  # a bug is not hidden
        1 / 0


def test_output_that_nobody_reads_ends_quietly():
    script = 'from common.command import *\nwith exit_status(Parser()):\n    print("unread")'
    read, write = os.pipe()
    os.close(read)
    run = subprocess.run([sys.executable, '-c', script], cwd=ROOT, stdout=write,
                         stderr=subprocess.PIPE, env=os.environ | {'PYTHONUNBUFFERED': ''})
    os.close(write)
    assert run.returncode == 130 and run.stderr == b''


def test_a_missing_gpu_is_named():
    assert pick_device('cpu').type == pick_device('auto').type == 'cpu'  # conftest.py hides others
    with pytest.raises(ValueError, match='--device cuda'):
        pick_device('cuda')


@pytest.mark.parametrize('feature, found', (('amx_bf16', 'bfloat16'), ('avx2', 'float32')))
def test_bfloat16_is_the_default_if_the_processor_has_it(monkeypatch, feature, found):
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: {feature: True})
    cpu = torch.device('cpu')
    assert pick_precision('auto', cpu) == found and pick_precision('float32', cpu) == 'float32'


def test_only_a_terminal_shows_when_the_epoch_ends(capsys, monkeypatch):
    monkeypatch.setattr(command.time, 'perf_counter', count(step=.15).__next__)
    for terminal in (False, True):
        monkeypatch.setattr(sys.stdout, 'isatty', lambda: terminal)
        assert list(live(3, range(10), 10)) == list(range(10))
        assert ('batch 2 of 10, epoch ends in 0:00:01' in capsys.readouterr().out) == terminal


@pytest.mark.parametrize('output', ('a.pkl', './a.pkl', 'link', 'frames', 'frames/1.json'))
def test_an_output_replaces_no_input_and_adds_no_frame(tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'link').symlink_to('a.pkl')
    inputs = {'--data': 'a.pkl', '--keypoints': 'frames', '--val': None}
    with pytest.raises(ValueError, match=f'--out: found {output}'):
        keep_inputs(inputs, {'--out': output})
    keep_inputs(inputs, {'--out': 'b.pkl', '--more': None, '--predict': 'frames/new.npy'})
    keep_inputs({'--keypoints': '.'}, {'--plots': 'plots/people.png'})
