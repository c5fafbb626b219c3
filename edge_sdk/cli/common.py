"""What several commands share: common flags, the progress bar, a gentle Ctrl-C."""

import argparse
import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from edge_sdk.cli.terminal import STOPPING, Interrupted, handling, write_error
from edge_sdk.errors import MissingExtraError, printable, require
from edge_sdk.memory import rss_mb

if TYPE_CHECKING:
    from edge_sdk.zo import Step


def add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, help="of every random number (default 0)")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def add_model(parser: argparse.ArgumentParser, weights: tuple[str, ...] = ("int8", "int4", "none")) -> None:
    parser.add_argument("--pretrained_model_name_or_path", default="pocket", metavar="MODEL",
                        help="pocket (embedded), a diffusers folder, an integer checkpoint, or a hub id, "
                        "hub:org/name")  # fmt: skip
    parser.add_argument("--weights", choices=weights, default="int8")


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """After the flags of a model, whose defaults it makes None: what is given beside a bundle is refused."""
    parser.add_argument("--bundle", metavar="DIR", help="a folder made by edge-sdk export, run without PyTorch; "
                        "instead of a model and its weights, execution, residency and device")  # fmt: skip
    parser.set_defaults(pretrained_model_name_or_path=None, weights=None, execution=None, device=None)


def add_execution(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--execution", choices=("integer", "fused"), default="integer",
                        help="integer products, or float activations on integer weights")  # fmt: skip
    parser.add_argument("--residency", choices=("resident", "mapped", "streamed"),
                        help="where an integer checkpoint's weights are: in memory, in the file as far as there is "
                        "room, or in the file and dropped after each use (default resident)")  # fmt: skip
    add_device(parser)


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the model runs (default cpu)")


def add_resume(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--resume_from_checkpoint", metavar="latest|PATH", help="go on with an interrupted run")


def say_how_to_go_on(cancelled: Exception) -> int:
    """The line of a run that was stopped; returns its exit status."""
    from edge_sdk.cli.main import CANCELLED

    how = "go on with the same command and --resume_from_checkpoint latest"
    write_error(f"edge-sdk: {cancelled}; {how}")
    return CANCELLED


def quiet_libraries() -> None:
    """Keep the bars and notices of other libraries off the terminal."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")


def exporter() -> Callable[..., dict[str, Any]]:
    """`export.bundle.export`; raises MissingExtraError where PyTorch and its companions are not installed."""
    try:
        from export.bundle import export
    except ModuleNotFoundError as error:
        raise MissingExtraError("exporting a model", "torch") from error
    return export


def require_torch(feature: str) -> None:
    """Raises MissingExtraError where PyTorch or one of its companions is not installed; loads none of them."""
    require(feature, "torch", "torch", "diffusers", "transformers", "optimum")


class Progress:
    """One line on stderr: redrawn on a terminal, else a new one every few seconds."""

    def __init__(self, quiet: bool, every_s: float = 10.0) -> None:
        self.quiet, self.every_s = quiet, every_s
        self.live = sys.stderr.isatty()
        self._last, self._loss = float("-inf"), float("nan")

    def __call__(self, step: "Step") -> None:
        if step.skipped:
            self.say(f"step {step.step}: the loss was not finite, the step was left out")
        else:
            before = step.loss if math.isnan(self._loss) else self._loss
            self._loss = before + min(1.0, max(0.05, 8 / step.steps)) * (step.loss - before)  # draws differ a lot
        self.show(step.step, step.steps, f"loss {self._loss:.4f}  forwards {step.forwards}", step.eta_s)

    def show(self, number: int, total: int, measured: str, eta_s: float) -> None:
        """The state after a step, if it is time for a line."""
        now = time.monotonic()
        wait = 0.1 if self.live else self.every_s
        if self.quiet or (now - self._last < wait and number != total):
            return
        self._last = now
        done = int(24 * number / total)
        line = (
            f"[{'#' * done}{'.' * (24 - done)}] {number}/{total}  {measured}  ETA {_clock(eta_s)}  "
            f"memory {rss_mb():.0f} MB"
        )
        write_error(f"\r\033[K{line}" if self.live else line, end="" if self.live else "\n")

    def say(self, message: str) -> None:
        """A line of its own."""
        message = printable(message)
        if not self.quiet:
            write_error(f"\r\033[K{message}" if self.live else message)

    def close(self) -> None:
        if self.live and not self.quiet:
            write_error("")


def _clock(seconds: float) -> str:
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"


class Stop:
    """Set by the first signal to stop: the step at hand is finished and saved. The second one interrupts."""

    def __init__(self) -> None:
        self.requested = False

    def __call__(self) -> bool:
        return self.requested


@contextlib.contextmanager
def gentle_interrupt() -> Iterator[Stop]:
    """Within, SIGINT, SIGTERM and SIGHUP ask for a stop instead of breaking off."""
    stop = Stop()

    def handler(_number: int, _frame: object) -> None:
        if stop.requested:
            raise Interrupted
        stop.requested = True

    with handling(STOPPING, handler):
        yield stop
