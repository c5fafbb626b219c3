"""What a command shows while it works."""

import math
import sys
import time
from typing import TYPE_CHECKING

from edge_sdk.cli.terminal import write_error
from edge_sdk.errors import printable
from edge_sdk.system.memory import rss_mb

if TYPE_CHECKING:
    from edge_sdk.zo import Step

WIDTH = 24  # characters of the bar


class Progress:
    """One line on stderr: redrawn on a terminal, else a new one every few seconds and at the end of a stage."""

    def __init__(self, quiet: bool, every_s: float = 10.0) -> None:
        self.quiet, self.every_s = quiet, every_s
        self.live = sys.stderr.isatty()
        self._last, self._loss = float("-inf"), float("nan")
        self._stage, self._began, self._first = "", 0.0, 0.0
        self._unfinished = False  # whether the line of a terminal is to be ended

    def __call__(self, step: "Step") -> None:
        if step.skipped:
            self.say(f"step {step.step}: the loss was not finite, the step was left out")
        else:
            before = step.loss if math.isnan(self._loss) else self._loss
            self._loss = before + min(1.0, max(0.05, 8 / step.steps)) * (step.loss - before)  # draws differ a lot
        self.show(step.step, step.steps, f"step loss {self._loss:.4f}  forwards {step.forwards}", step.eta_s)

    def stage(self, name: str, done: int, total: int) -> None:
        """The state of a stage of ``total`` parts, or of one that has no parts to count (0)."""
        if name != self._stage or done == 0:
            self._stage, self._began = name, time.monotonic()
            self._last = float("-inf") if self.live or not total else time.monotonic()
        spent = time.monotonic() - self._began
        if not total:
            self._draw(name, False)
            return
        if done <= 1:
            self._first = spent  # the first part may include loading
        left = (spent - self._first) / (done - 1) * (total - done) if 1 < done < total else 0.0
        eta = f"  ETA {clock(left)}" if left else ""
        self._draw(f"{name} {done}/{total}  {clock(spent)}{eta}", done == total)

    def show(self, number: int, total: int, measured: str, eta_s: float) -> None:
        """The state after a step, if it is time for a line."""
        self._stage = ""
        bar = "#" * int(WIDTH * number / total)
        self._draw(
            f"[{bar:.<{WIDTH}}] {number}/{total}  {measured}  ETA {clock(eta_s)}  memory {rss_mb():.0f} MB",
            number == total,
        )

    def say(self, message: str) -> None:
        """A line of its own."""
        if not self.quiet:
            message = printable(message)
            write_error(f"\r\033[K{message}" if self.live else message)
            self._unfinished = False

    def close(self) -> None:
        """End the line that is redrawn."""
        if self._unfinished:
            write_error("")
            self._unfinished = False

    def _draw(self, line: str, last: bool) -> None:
        """Show a line if it is the last of its kind, or if it is time for one."""
        now = time.monotonic()
        if self.quiet or (now - self._last < (0.1 if self.live else self.every_s) and not last):
            return
        self._last, self._unfinished = now, self.live
        write_error(f"\r\033[K{line}" if self.live else line, end="" if self.live else "\n")


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, with hours where there are any."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
