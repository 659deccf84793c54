"""The command line: parsers, exit statuses, device and precision, the live line."""
import argparse
import math
import os
import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch

from common.files import one_line


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults of options that have one."""

    def _get_help_string(self, action):
        none = action.default is None or action.default is False
        return action.help if none else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that ends the process with one line and status 2 at a mistake."""

    def __init__(self, **options):
        if sys.version_info < (3, 11):
            sys.exit(f'found Python {sys.version.split()[0]}, expected 3.11 or newer')
        super().__init__(formatter_class=Help, **options)

    def error(self, message):
        self.exit(2, f'{self.prog.removeprefix("python -m ")}: {message}\n')


def bounded(kind, least, below=math.inf):
    """Return a type for argparse: a number of this kind, at least `least` and less than `below`."""
    def number(text):
        if not least <= kind(text) < below:
            raise argparse.ArgumentTypeError(f'found {text}, expected at least {least}' + (
                f' and less than {below}' if below < math.inf else ''))
        return kind(text)
    number.__name__ = kind.__name__  # argparse names it if the text is no number
    return number


@contextmanager
def exit_status(parser: Parser, interrupted=lambda: 'no file is half written'):
    """Turn the outcome of the block into an exit status, with at most one line of error.

    ValueError and OSError are a user's mistake, status 2. Ctrl-C is status 130, with the text of
    interrupted(). A closed pipe, for example to `head`, is 130 without a message.
    """
    if hasattr(sys.stdout, 'reconfigure'):
        sys.stdout.reconfigure(errors='replace')  # a terminal in ASCII cannot show every name
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(f'\ninterrupted: {interrupted()}', file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more
        sys.exit(130)
    except (ValueError, OSError) as error:
        parser.error(one_line(error))


def keep_inputs(inputs: dict, outputs: dict) -> None:
    """Raise ValueError if an output would replace an input, or a file in an input folder.

    Both map options to paths or None. A new .json in a folder would be read as a frame next time.
    """
    for name, path in outputs.items():
        for other, source in inputs.items():
            if path and source:
                target, kept = (Path(os.path.realpath(part)) for part in (path, source))
                inside = target.parent == kept and (target.is_file() or target.suffix == '.json')
                if target == kept or inside:
                    raise ValueError(f'{name}: found {path}, the input {other}, expected another '
                                     f'file')


# ---- device and precision -----------------------------------------------------------------------

def add_device(parser: Parser, precision: bool = False) -> None:
    """Add --device and, for a training, --precision."""
    parser.add_argument('--device', choices=('auto', 'cpu', 'cuda'), default='auto',
                        help='auto: a GPU if there is one')
    if precision:
        parser.add_argument('--precision', choices=('auto', 'float32', 'bfloat16'), default='auto',
                            help='of most layers; auto: bfloat16 if the device has it')


def pick_device(name: str) -> torch.device:
    """Return the device for auto, cpu or cuda. Raises ValueError for a missing GPU."""
    if name == 'cuda' and not torch.cuda.is_available():
        raise ValueError('--device cuda: found no CUDA device, expected one; --device cpu works')
    return torch.device('cuda' if name != 'cpu' and torch.cuda.is_available() else 'cpu')


def pick_precision(name: str, device: torch.device) -> str:
    """Return float32 or bfloat16; auto takes bfloat16 if the device multiplies in it."""
    return name if name != 'auto' else 'bfloat16' if has_bfloat16(device) else 'float32'


def has_bfloat16(device: torch.device) -> bool:
    """Tell if the device multiplies in bfloat16 and does not only emulate it."""
    if device.type == 'cuda':
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities()
    return found.get('avx512_bf16', False) or found.get('amx_bf16', False)


# ---- the live line ------------------------------------------------------------------------------

def live(epoch: int, batches, n_batches: int):
    """Yield the batches of an epoch; a terminal shows how many are done and the time left."""
    start = shown = time.perf_counter()
    for number, batch in enumerate(batches, start=1):
        yield batch
        now = time.perf_counter()
        if sys.stdout.isatty() and now - shown > .2:
            shown, left = now, (n_batches - number) * (now - start) / number
            print(f'\r{epoch:5}  batch {number} of {n_batches}, epoch ends in '
                  f'{timedelta(seconds=round(left))} ', end='', flush=True)
