"""The command line in a forked child: how it ended, what it printed, what it left, within limits."""

import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.cli.main import main

SECONDS = 20.0  # of processor time; or of the clock, of a child that waits and has not been busy since
MEMORY = 2 << 30  # bytes
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Ending:
    """How a child ended.

    Attributes:
        status: exit status, negative for a signal.
        memory: most bytes in memory.
    """

    status: int
    out: str
    err: str
    seconds: float
    memory: int
    is_hang: bool

    def fault(self) -> str | None:
        """What is wrong with this ending, None for work done or a refusal in one line."""
        if self.memory > MEMORY:
            return "memory"
        if self.is_hang:
            return "hang"
        if self.status < 0:
            return "signal"
        if "Traceback (most recent call last)" in self.err or self.status not in (0, 1, 2):
            return "traceback"
        lines = self.err.splitlines()
        if self.status == 2 and (len(lines) != 1 or not lines[0].startswith("edge-sdk: error: ")):
            return "lines"
        if self.status == 1 and (lines or "FAILED" not in self.out):
            return "lines"
        return None


def run(arguments: list[str], scratch: Path) -> Ending:
    """Run a command line in a child of this process, which has loaded the libraries already."""
    out, err = scratch / "stdout", scratch / "stderr"
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _become(arguments, out, err)
    memory, is_hang, busy_at, used_before = 0, False, started, 0.0
    while True:
        ended, state, usage = os.wait4(child, os.WNOHANG)
        if ended:
            break
        memory = max(memory, _resident(child))
        used, is_waiting = _activity(child)
        if used > used_before or not is_waiting:
            busy_at, used_before = time.monotonic(), used
        is_hang = used > SECONDS or time.monotonic() - busy_at > SECONDS
        if is_hang or memory > MEMORY:
            os.kill(child, signal.SIGKILL)
            _, state, usage = os.wait4(child, 0)
            break
        time.sleep(0.01)
    memory = max(memory, usage.ru_maxrss << 10)
    texts = [path.read_text(errors="replace") if path.exists() else "" for path in (out, err)]
    status = os.waitstatus_to_exitcode(state)
    return Ending(status, *texts, time.monotonic() - started, memory, is_hang)


def _become(arguments: list[str], out: Path, err: Path) -> None:
    status = 99
    try:
        for path, number in ((out, 1), (err, 2)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        status = main(arguments)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 98
    except BaseException:
        traceback.print_exc()
        status = 97
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def _activity(process: int) -> tuple[float, bool]:
    """Seconds of processor time that a process has used, and whether it waits for something else than a processor."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0, False
    return (int(fields[11]) + int(fields[12])) / TICKS, fields[0] == "S"
