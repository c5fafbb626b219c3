"""The terminal that a command runs in: lines on stderr, and the signals that end a command."""

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from edge_sdk.system.platform import STOPPING

__all__ = ["STOPPING", "Interrupted", "handling", "interrupt", "write_error"]


class Interrupted(KeyboardInterrupt):
    """A signal that ends a command. Python ends itself by SIGINT where a plain KeyboardInterrupt has passed through
    ``exec``, as in an import, even if it was caught: the exit status would not be ours."""


def write_error(text: str, end: str = "\n") -> None:
    """Write to stderr, or nowhere once that is gone: a closed terminal must not end a run before it is saved."""
    try:
        print(text, end=end, file=sys.stderr, flush=True)
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def prepare_streams() -> None:
    """Make stdout and stderr take any text: what the console has no letters for becomes escapes.

    A stream that is closed leads nowhere, so that no file which is opened later gets its number.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def handling(numbers: tuple[signal.Signals, ...], handler: Callable[[int, object], None]) -> Iterator[None]:
    """Within, signals call a handler; SIGHUP stays switched off under ``nohup``. Elsewhere than in the main thread
    nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    chosen = [one for one in numbers if one.name != "SIGHUP" or signal.getsignal(one) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in chosen}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def interrupt(_number: int, _frame: object) -> None:
    """The handler that breaks a command off as Ctrl-C does, so that it leaves nothing half-written."""
    raise Interrupted
