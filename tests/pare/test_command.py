import os
import signal
import subprocess
import sys
import time

import pytest

from conftest import ROOT
from pare.command import INTERRUPTS, held_back
from training import Parser, status

SCRIPT = '''
import subprocess, sys, time
from pare.command import command, end_at_once, held_back

end_at_once()
from training import Parser, status
if sys.argv[1] == 'early':
    print('begun', flush=True)
    time.sleep(30)

def work():
    if sys.argv[1] == 'child':
        with held_back():
            child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(.5)'])
        try:
            print('begun', flush=True)
            time.sleep(30)
        finally:
            print(child.wait(), flush=True)
    print('begun', flush=True)
    while sys.argv[1] == 'late':
        time.sleep(.01)
    for _ in range(10 ** 5):
        print('a line that nobody reads')

command(lambda: status(Parser(), work, lambda: 'all is left'))
'''


def begun(when: str) -> subprocess.Popen:
    """A command in a group of its own, from the moment that it printed a line."""
    process = subprocess.Popen([sys.executable, '-c', SCRIPT, when], cwd=ROOT, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True)
    assert process.stdout.readline() == 'begun\n'
    return process


@pytest.mark.parametrize('number', INTERRUPTS)
@pytest.mark.parametrize('when, said', (('early', 'interrupted'),
                                        ('late', 'interrupted: all is left')))
def test_an_interrupt_ends_in_a_line(number, when, said):
    process = begun(when)
    process.send_signal(number)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 130 and error.strip() == said


@pytest.mark.parametrize('number', INTERRUPTS)
def test_a_process_that_is_begun_meanwhile_gets_no_interrupt(number):
    """Though all of the group do: it ends by itself, with status 0."""
    process = begun('child')
    os.killpg(process.pid, number)
    output, error = process.communicate(timeout=20)
    assert output == '0\n' and error.strip() == 'interrupted: all is left'


def test_an_interrupt_is_held_back_not_lost():
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    reached = False
    try:
        with pytest.raises(KeyboardInterrupt):
            with held_back():
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(.01)
                reached = True
    finally:
        signal.signal(signal.SIGTERM, before)
    assert reached


def test_output_that_nobody_reads_ends_a_command():
    process = begun('write')
    process.stdout.close()
    assert process.stderr.read().strip() == 'interrupted: all is left'
    assert process.wait(20) == 130


@pytest.mark.parametrize('error', (ValueError('a: found b'), FileNotFoundError('a: found b')))
def test_a_mistake_is_the_error_of_the_parser(error, capsys):
    def work():
        raise error
    parser = Parser(prog='python -m pare.name')
    with pytest.raises(SystemExit) as end:
        status(parser, work)
    assert end.value.code == 2 and capsys.readouterr().err == 'pare.name: a: found b\n'
