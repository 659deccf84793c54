"""How the commands of pare/ are interrupted."""
import os
import signal
import sys
from contextlib import contextmanager

INTERRUPTS = signal.SIGINT, signal.SIGTERM  # Ctrl-C, and what a machine that shuts down sends


def end_at_once() -> None:
    """From now on an interrupt ends the process in a line: for while packages are imported."""
    for number in INTERRUPTS:
        signal.signal(number, lambda *_: os._exit(os.write(2, b'interrupted\n') and 130))


@contextmanager
def held_back():
    """Interrupts come afterwards; a process that is begun within gets none, not even at first.

    The mask is for that process, which inherits it. The handlers are for this one, of which another
    thread may take the signal.
    """
    came = []
    handlers = {number: signal.signal(number, lambda number, _: came.append(number))
                for number in INTERRUPTS}
    masked = hasattr(signal, 'pthread_sigmask')  # not on Windows
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS) if masked else None
    try:
        yield
    finally:
        if masked:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def command(main) -> None:
    """Ends the process by what main() returns; an interrupt raises KeyboardInterrupt in it."""
    for number in INTERRUPTS:
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
