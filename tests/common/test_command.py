"""The command line: defaults, one line of error, exit statuses, inputs that stay."""
import os
import subprocess
import sys

import pytest

from common.command import Parser, bounded, exit_status, keep_inputs
from conftest import ROOT


def make_parser():
    parser = Parser(prog='python -m some.program')
    parser.add_argument('--size', type=bounded(int, 2), default=3, help='how large')
    parser.add_argument('--share', type=bounded(float, 0, 1), help='how much')
    return parser


def test_a_default_is_shown_in_the_help():
    text = make_parser().format_help()
    assert 'how large (default: 3)' in text and 'None' not in text


@pytest.mark.parametrize('options', (
    ('--size', '1'), ('--size', 'many'), ('--share', '1'), ('--share', 'nan'), ('--colour', 'red')))
def test_a_mistake_is_one_line_and_status_2(fails, options):
    error = fails(make_parser().parse_args, *options)
    assert error.startswith('some.program: ') and all(word in error for word in options)


def test_a_bug_is_not_hidden():
    with pytest.raises(ZeroDivisionError), exit_status(make_parser()):
        1 / 0


def test_output_that_nobody_reads_ends_quietly():
    script = 'from common.command import *\nwith exit_status(Parser()):\n    print("unread")'
    read, write = os.pipe()
    os.close(read)
    run = subprocess.run([sys.executable, '-c', script], cwd=ROOT, stdout=write,
                         stderr=subprocess.PIPE, env=os.environ | {'PYTHONUNBUFFERED': ''})
    os.close(write)
    assert run.returncode == 130 and run.stderr == b''


@pytest.mark.parametrize('output', ('a.pkl', './a.pkl', 'link', 'frames', 'frames/1.json'))
def test_an_output_replaces_no_input_and_adds_no_frame(tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'link').symlink_to('a.pkl')
    inputs = {'--data': 'a.pkl', '--keypoints': 'frames', '--val': None}
    with pytest.raises(ValueError, match=f'--out: found {output}'):
        keep_inputs(inputs, {'--out': output})
    keep_inputs(inputs, {'--out': 'b.pkl', '--more': None, '--predict': 'frames/new.npy'})
    keep_inputs({'--keypoints': '.'}, {'--plots': 'plots/people.png'})
