"""`edge-sdk unlearn`: make a model forget single pictures, on a server."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edge_sdk.cli.arguments import add_options, collect, group_of, path
from edge_sdk.cli.common import (
    add_common,
    add_resume,
    gentle_interrupt,
    quiet_libraries,
    require_torch,
    say_how_to_go_on,
)
from edge_sdk.cli.parser import Parser
from edge_sdk.cli.progress import Progress
from edge_sdk.cli.record import add_config, read_record
from edge_sdk.config import MODEL, RUN
from edge_sdk.errors import Cancelled, EdgeSdkError
from edge_sdk.unlearning.config import SURROGATES, UnlearnConfig
from edge_sdk.zo.config import METHOD, OFTEN

if TYPE_CHECKING:
    from edge_sdk.unlearning.training.loop import UnlearnStep

EXAMPLE = "edge-sdk unlearn --forget_data_dir targets --retain_data_dir kept --output_dir out"


def add_arguments(parser: Parser) -> None:
    often, surrogates, method = (group_of(parser, title) for title in (OFTEN, SURROGATES, METHOD))
    often.add_argument(
        "--forget_data_dir", type=path, required=True, metavar="DIR", help="folder of the pictures to forget"
    )
    often.add_argument(
        "--retain_data_dir",
        type=path,
        required=True,
        metavar="DIR",
        help="folder of the pictures to keep, none of the pictures to forget",
    )
    often.add_argument(
        "--output_dir", type=path, required=True, metavar="DIR", help="a new folder: patch/, model/, unlearn.json"
    )
    surrogates.add_argument(
        "--surrogate_data_dir",
        type=path,
        metavar="DIR",
        help="folder of what replaces each target, in order of names (default: see --surrogate)",
    )
    surrogates.add_argument(
        "--mask_data_dir",
        type=path,
        metavar="DIR",
        help="folder of masks, white where a target may be edited; "
        "one each, or one for all (default: a portrait's ellipse)",
    )
    method.add_argument(
        "--similarity",
        type=path,
        default="pixels",
        metavar="pixels|FILE.onnx",
        help="how alike two pictures are: by pixels, or by an ONNX graph such as a face encoder, which finds different "
        "people about 0 alike (default pixels)",
    )
    group_of(parser, MODEL).add_argument(
        "--pretrained_model_name_or_path",
        type=path,
        default="pocket",
        metavar="MODEL",
        help="pocket (embedded), a diffusers folder or a hub id, hub:org/name, with float weights (default pocket)",
    )
    add_options(parser, UnlearnConfig)
    group_of(parser, RUN).add_argument(
        "--dry_run",
        action="store_true",
        help="check everything, make surrogates, say what memory and time training will take, and write nothing",
    )
    add_config(parser, "unlearn.json")
    add_resume(parser)
    add_common(parser, seed=False)


def config_of(args: argparse.Namespace) -> UnlearnConfig:
    """The settings of a record and of the command line, which wins."""
    given = {name: value for name, value in collect(args, UnlearnConfig).items() if value is not None}
    if args.surrogate_data_dir and args.surrogate is None:
        given["surrogate"] = "given"
    options = {}
    if args.config is not None:
        record = read_record(args.config, "unlearn.json")["config"]
        options = {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}
        del options["schema_version"]
    options |= given
    if args.timestep_window and options.get("timestep_weight") != "window":
        raise EdgeSdkError("timestep_window goes with --timestep_weight window; give both or neither")
    return UnlearnConfig.from_options(**options)


def run(args: argparse.Namespace) -> int:
    from edge_sdk.cli.main import DONE

    config = config_of(args)
    resume = goes_on(args.resume_from_checkpoint)
    quiet_libraries()
    require_torch("unlearning")
    from edge_sdk.unlearning.unlearn import Sources, unlearn

    sources = Sources(
        args.pretrained_model_name_or_path,
        args.forget_data_dir,
        args.retain_data_dir,
        args.surrogate_data_dir,
        args.mask_data_dir,
        args.similarity,
    )
    progress = Progress(args.quiet)
    with gentle_interrupt() as stop:
        try:
            record = unlearn(
                sources,
                args.output_dir,
                config,
                resume,
                args.dry_run,
                progress.say,
                shown_by(progress, config.max_train_steps),
                stop,
            )
        except Cancelled as cancelled:
            progress.close()
            return say_how_to_go_on(cancelled)
        finally:
            progress.close()
    if record and not args.quiet:
        print("dry run: nothing is written" if args.dry_run else summary(record, args.output_dir))
    return DONE


def goes_on(given: str | None) -> bool:
    """Whether an interrupted run is to go on; raises EdgeSdkError for a path."""
    if given not in (None, "latest"):
        raise EdgeSdkError(
            f"resume_from_checkpoint is {given}; it takes latest here, the state that lies beside --output_dir"
        )
    return given is not None


def shown_by(progress: Progress, steps: int) -> "Callable[[UnlearnStep], None]":
    """What shows a step of so many on the progress bar."""

    def show(step: "UnlearnStep") -> None:
        losses = f"surrogate loss {step.forget_loss:.4f}  retain loss {step.retain_loss:.4f}"
        progress.show(step.step, steps, losses, (steps - step.step) * step.seconds)

    return show


def summary(record: dict[str, Any], folder: str) -> str:
    """What a run did, in two lines."""
    (forget_before, forget_after), (retain_before, retain_after) = record["forget_loss"], record["retain_loss"]
    return (
        f"surrogate loss {forget_before:.4f} -> {forget_after:.4f}, retain loss {retain_before:.4f} -> "
        f"{retain_after:.4f} (it did not rise in {record['share_of_steps_without_rise']:.0%} of {record['steps']} "
        f"steps), {record['seconds']:.0f} s\nwrote {folder}; look at what it forgot and kept with edge-sdk audit"
    )
