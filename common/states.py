"""The state of an unfinished training, from which --resume gives the same weights bit by bit."""
import argparse
import io
import re
import warnings
from pathlib import Path

import torch

from common.command import Parser
from common.files import atomic, one_line
from common.pickles import OTHERS

FREE = 'out', 'plots', 'device', 'workers', 'resume'  # options that may change on --resume


def save_tensors(path, values) -> None:
    """Save with torch.save, whole or not at all; raise an OSError that names the path."""
    buffer = io.BytesIO()  # torch.save itself raises RuntimeError if the disk is full
    torch.save(values, buffer)
    with atomic(path) as file:
        file.write(buffer.getbuffer())


def refuse_pointers(path) -> None:
    """Raise ValueError for a web page or a pointer of git-lfs in place of a file."""
    try:
        with open(path, 'rb') as file:
            start = file.read(23).lstrip()
    except OSError:
        return  # torch.load reports it
    for first in (b'version https://git-lfs', b'<'):
        if start.startswith(first):
            raise ValueError(f'{path}: found {OTHERS[first]}, expected the file itself')


def load_tensors(path, expected: str):
    """Load with weights_only; raise an OSError or ValueError that says what was `expected`."""
    refuse_pointers(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # torch may warn before it refuses a file
            return torch.load(path, map_location='cpu', weights_only=True)
    except OSError as error:
        raise type(error)(f'{path}: {error.strerror}, expected {expected}') from error
    except Exception as error:  # torch.load may raise any exception on a malformed file
        whole = re.search(r'Unsupported global: GLOBAL (\S+)', str(error))
        if whole:
            raise ValueError(f'{path}: found a pickled object ({whole[1]}), expected {expected}; '
                             f'save model.state_dict() with torch.save') from error
        raise ValueError(f'{path}: found no checkpoint of plain tensors, expected '
                         f'{expected}') from error


def state_path(out) -> Path:
    """Return the file of the state, beside the weights."""
    return Path(f'{out}.state')


def save_state(args: argparse.Namespace, parts: dict, history: list, **more) -> None:
    """Save options, history, random numbers, the state_dict of each part (model, ...), and more."""
    random = {'cpu': torch.get_rng_state()}
    if torch.cuda.is_available():
        random['cuda'] = torch.cuda.get_rng_state()
    save_tensors(state_path(args.out), {
        'options': options_of(args), 'history': history, 'random': random,
        'parts': {name: part.state_dict() for name, part in parts.items()}} | more)


def options_of(args: argparse.Namespace) -> dict:
    """Return the options that decide what is learnt, as plain values."""
    return {name: str(value) if isinstance(value, Path) else value
            for name, value in vars(args).items() if name not in FREE}


def parse(parser: Parser, argv: list, complete,
          may_change=()) -> tuple[argparse.Namespace, dict | None]:
    """Parse the options; with --resume read the state too, whose options become the defaults.

    complete(args) checks the options and fills in defaults that depend on others. Raises ValueError
    for a missing or damaged state, and for options that differ from its own, unless they
    `may_change`.
    """
    args, state = parser.parse_args(argv), None
    path = state_path(args.out)
    if args.out.is_dir():
        raise ValueError(f'--out: found the folder {args.out}, expected a file')
    if args.resume:
        state = load_state(path)
        parser.set_defaults(**{name: value for name, value in state['options'].items()
                               if name not in FREE})
        args = parser.parse_args(argv)
    elif path.exists():
        print(f'note: {path} of an unfinished training will be replaced; --resume continues it')
    complete(args)
    for name, value in options_of(args).items():
        if state and name not in may_change and state['options'].get(name) != value:
            raise ValueError(f'--{name.replace("_", "-")}: found {value}, expected '
                             f'{state["options"].get(name)} as in {path}')
    return args, state


def load_state(path: Path) -> dict:
    """Read what `save_state` wrote. Raises ValueError for a missing file or other content."""
    if not path.exists():
        raise ValueError(f'--resume: found no {path}, expected the state of an unfinished training')
    state = load_tensors(path, 'the state of a training')
    if not isinstance(state, dict) or not state.keys() >= {'options', 'history', 'random', 'parts'}:
        raise ValueError(f'{path}: found other tensors, expected the state of a training; start '
                         f'anew without --resume')
    return state


def restore(parts: dict, state: dict) -> list:
    """Set parts and random numbers to a state; return its history. Raises ValueError if the state
    is not of these parts."""
    try:
        for name, part in parts.items():
            part.load_state_dict(state['parts'][name])
        torch.set_rng_state(state['random']['cpu'])
        if torch.cuda.is_available() and 'cuda' in state['random']:
            torch.cuda.set_rng_state(state['random']['cuda'])
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f'--resume: found the state of another training ({one_line(error)}); '
                         f'start anew without it') from error
    return state['history']


def what_is_left(out, program: str = 'training.py') -> str:
    """Say what an interrupted training leaves."""
    if state_path(out).exists():
        return (f'{state_path(out)} holds all finished epochs; to go on: python {program} '
                f'--resume --out {out}')
    return f'no epoch is kept; only a finished training writes {out}'
