"""What several commands share: common options, a gentle Ctrl-C."""

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

from edge_sdk.cli.arguments import add_options, group_of, path
from edge_sdk.cli.terminal import STOPPING, Interrupted, handling, write_error
from edge_sdk.config import DEVICES, MODEL, OF_A_MODEL, PREDICTION_TYPES, RUN, PersonalizeConfig
from edge_sdk.errors import require


def add_common(parser: argparse.ArgumentParser, seed: bool = True) -> None:
    """Options of every command; ``seed`` is left out where a config brings it."""
    group = group_of(parser, RUN)
    if seed:
        group.add_argument("--seed", type=int, help="seed of every random number (default 0)")
    group.add_argument("--quiet", action="store_true", help="print nothing but errors")


def add_model(parser: argparse.ArgumentParser, weights: tuple[str, ...] = ()) -> None:
    """The model, and its weights where a command accepts only some."""
    group = group_of(parser, MODEL)
    group.add_argument(
        "--pretrained_model_name_or_path",
        default="pocket",
        type=path,
        metavar="MODEL",
        help="pocket (embedded), a diffusers folder, a single-file checkpoint (.safetensors), an integer checkpoint, "
        "or a hub id, hub:org/name (default pocket)",
    )
    group.add_argument(
        "--prediction_type",
        choices=PREDICTION_TYPES,
        help="what a single-file checkpoint's denoiser predicts (default: what the file says, else v_prediction for "
        "Stable Diffusion 2.x and epsilon for the others)",
    )
    if weights:
        floats = ", or none for floats" if "none" in weights else ""
        group.add_argument(
            "--weights",
            choices=weights,
            default="int8",
            help=f"weights to write: integers of 8 or 4 bits{floats} (default int8)",
        )


def add_execution(parser: argparse.ArgumentParser) -> None:
    """How a model runs, or a bundle instead: options beside a bundle are refused, so none has a default."""
    add_options(parser, PersonalizeConfig, only=OF_A_MODEL)
    group_of(parser, MODEL).add_argument(
        "--bundle",
        type=path,
        metavar="DIR",
        help="a folder made by edge-sdk export, run without "
        "PyTorch; instead of a model and its weights, execution, residency and "
        "device",
    )
    parser.set_defaults(pretrained_model_name_or_path=None)


def add_device(parser: argparse.ArgumentParser) -> None:
    group_of(parser, MODEL).add_argument(
        "--device", choices=DEVICES, default="cpu", help="where the model runs (default cpu)"
    )


def add_resume(parser: argparse.ArgumentParser) -> None:
    group_of(parser, RUN).add_argument(
        "--resume_from_checkpoint",
        type=path,
        metavar="latest|PATH",
        help="resume an interrupted run, with the same command otherwise",
    )


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
    """`edge_sdk.export.bundle.export`; raises MissingExtraError where PyTorch or a companion is not installed."""
    require("exporting a model", "torch", "torch", "optimum", "onnx")
    from edge_sdk.export.bundle import export

    return export


def require_torch(feature: str) -> None:
    """Raises MissingExtraError where PyTorch or one of its companions is not installed; loads none of them."""
    require(feature, "torch", "torch", "diffusers", "transformers", "optimum")


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
