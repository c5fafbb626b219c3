"""`edge-sdk personalize`: learn a token from a folder of photos."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sdk.cli.arguments import add_options, collect, describe, group_of, path, text
from edge_sdk.cli.common import (
    add_common,
    add_execution,
    add_model,
    add_resume,
    gentle_interrupt,
    quiet_libraries,
    say_how_to_go_on,
)
from edge_sdk.cli.parser import Parser
from edge_sdk.cli.progress import Progress
from edge_sdk.cli.record import add_config, settings_of
from edge_sdk.config import MODEL, PHOTOS, RUN, PersonalizeConfig
from edge_sdk.errors import Cancelled
from edge_sdk.zo import ZoConfig
from edge_sdk.zo.config import METHOD, OFTEN

if TYPE_CHECKING:
    from edge_sdk.run_log import RunRecord

EXAMPLE = "edge-sdk personalize --train_data_dir my_photos --output_dir run"
RESULTS = "results"
_INTEGERS, _FORWARD = "weights are integers; leave it out", "there are no gradients, only forward passes; leave it out"
ADVICE = {
    **dict.fromkeys(("mixed_precision", "allow_tf32", "gradient_checkpointing"), _INTEGERS),
    "enable_xformers_memory_efficient_attention": _INTEGERS,
    **dict.fromkeys(("gradient_accumulation_steps", "max_grad_norm", "adam_weight_decay"), _FORWARD),
    **dict.fromkeys(("scale_lr", "lr_warmup_steps", "lr_num_cycles"), "the learning rate is not scaled; leave it out"),
    "lr_scheduler": "give --lr_schedule constant or cosine, for --preset paper",
    "adam_epsilon": "it is part of --preset paper; leave it out",
    "repeats": "photos are drawn at random; leave it out",
    "num_train_epochs": "give --max_train_steps",
    "center_crop": "photos are cropped unless --no_center_crop is given; leave it out",
    "save_steps": "give --checkpointing_steps",
    "checkpoints_total_limit": "two checkpoints are kept; leave it out",
    "num_validation_images": "one picture is drawn each time; leave it out",
    "validation_epochs": "give --validation_steps",
    **dict.fromkeys(("push_to_hub", "hub_token", "hub_model_id"), "nothing leaves this machine; leave it out"),
    **dict.fromkeys(("revision", "variant", "tokenizer_name"), "give a folder as --pretrained_model_name_or_path"),
    "logging_dir": "logs lie in output_dir/logs; leave it out",
    **dict.fromkeys(("dataloader_num_workers", "local_rank"), "a run is one process; leave it out"),
    **dict.fromkeys(
        ("save_as_full_pipeline", "no_safe_serialization"), "a token is saved as .safetensors; leave it out"
    ),
}  # of diffusers' textual_inversion.py


def add_arguments(parser: Parser) -> None:
    parser.advice = ADVICE
    often = group_of(parser, OFTEN)
    often.add_argument(
        "--train_data_dir", type=path, required=True, metavar="DIR", help="folder with the photos (PNG, JPEG, WebP)"
    )
    often.add_argument(
        "--output_dir", type=path, required=True, metavar="DIR", help="folder of the run, new or to be resumed"
    )
    steps = next(each for each in ZoConfig.__dataclass_fields__.values() if each.name == "max_train_steps")
    often.add_argument(
        "--max_train_steps",
        type=_steps,
        metavar="INT",
        help=f"{describe(ZoConfig, steps)}; auto: until the loss on held-out draws is flat",
    )
    group_of(parser, MODEL), group_of(parser, METHOD), group_of(parser, PHOTOS)
    results, run = group_of(parser, RESULTS), group_of(parser, RUN)
    add_model(parser)
    add_execution(parser)
    add_options(parser, PersonalizeConfig, leave_out=("weights", "execution", "residency", "device"))
    add_options(parser, ZoConfig, leave_out=("max_train_steps",))
    group_of(parser, PHOTOS).add_argument(
        "--no_center_crop",
        dest="center_crop",
        action="store_const",
        const=False,
        help="squeeze photos to a square instead of cropping them",
    )
    add_config(parser)
    add_resume(parser)
    run.add_argument(
        "--time_budget_s",
        type=float,
        metavar="S",
        help="seconds from the start of the command within "
        "which everything ends; what is learned by then is kept (default: no limit)",
    )
    run.add_argument(
        "--memory_budget_mb",
        type=float,
        metavar="MB",
        help="largest resident memory in MB (10^6 bytes); "
        "chooses residency and max_batch, and refuses what cannot fit (default: no limit)",
    )
    run.add_argument(
        "--dry_run",
        action="store_true",
        help="load the model, measure a little, say what steps, time and memory the run will take, and write nothing",
    )
    results.add_argument(
        "--validation_prompt",
        type=text,
        metavar="TEXT",
        help="prompt with the placeholder token that is drawn "
        "while the run learns, to output_dir/validation (default: none)",
    )
    results.add_argument(
        "--validation_steps",
        type=int,
        metavar="INT",
        help="steps between pictures of the validation prompt, each of which takes 50 forward passes (default 10)",
    )
    results.add_argument(
        "--report_to",
        choices=("tensorboard",),
        help="write loss curves and validation pictures to output_dir/logs (default: none)",
    )
    results.add_argument(
        "--no_preview", action="store_true", help="do not draw preview.png, which holds small copies of the photos"
    )
    results.add_argument("--a1111", action="store_true", help="write learned_embeds_a1111.safetensors for web UIs, too")
    add_common(parser, seed=False)


def _steps(value: str) -> int | str:
    """A number of steps, or auto."""
    if value != "auto" and not value.isdecimal():
        raise argparse.ArgumentTypeError(f"{value!r} is neither a number of steps nor auto")
    return value if value == "auto" else int(value)


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of a record and of the command line, which wins, for `PersonalizeConfig.from_options`."""
    given = collect(args, PersonalizeConfig, ZoConfig)
    return given if args.config is None else settings_of(args.config, given, args)


def run(args: argparse.Namespace) -> int:
    from edge_sdk.cli.main import DONE
    from edge_sdk.run_folder import run_personalization
    from edge_sdk.system.memory import leave_out_tracing

    options = options_of(args)
    PersonalizeConfig.from_options(**options)  # refused before PyTorch is loaded
    progress = Progress(args.quiet)
    quiet_libraries()
    if args.bundle is None:
        leave_out_tracing()
    with gentle_interrupt() as stop:
        try:
            record = run_personalization(
                args.train_data_dir,
                args.output_dir,
                args.pretrained_model_name_or_path,
                bundle=args.bundle,
                prediction_type=args.prediction_type,
                resume_from_checkpoint=args.resume_from_checkpoint,
                time_budget_s=args.time_budget_s,
                started=args.started,
                memory_budget_mb=args.memory_budget_mb,
                preview=not args.no_preview,
                validation_prompt=args.validation_prompt,
                validation_steps=args.validation_steps,
                report_to=args.report_to,
                dry_run=args.dry_run,
                notify=progress.say,
                on_progress=progress.stage,
                on_step=progress,
                stop=stop,
                **options,
            )
        except Cancelled as cancelled:
            progress.close()
            return say_how_to_go_on(cancelled)
        finally:
            progress.close()
    if args.dry_run:
        if not args.quiet:
            print(foretold(record, args.time_budget_s))
        return DONE
    if args.a1111:
        from edge_sdk.embedding import load_embedding, save_a1111

        folder = Path(args.output_dir)
        save_a1111(folder / "learned_embeds_a1111.safetensors", load_embedding(folder / "learned_embeds.safetensors"))
    if not args.quiet:
        print(summary(record, args.output_dir))
    return DONE


def summary(record: "RunRecord", folder: str) -> str:
    """What a run did, in two lines."""
    return (
        f"loss {record['loss_initial']:.4f} -> {record['loss_final']:.4f} on draws it never trained on, "
        f"{record['steps']} steps, {record['unet_forwards']} forward passes, {record['seconds']:.0f} s, "
        f"peak memory {record['peak_rss_mb']:.0f} MB ({record['weights']}, {record['execution']})\n"
        f"wrote {folder}/learned_embeds.safetensors"
    )


def foretold(forecast: "RunRecord", time_budget_s: float | None) -> str:
    """What a dry run says."""
    from edge_sdk.forecast import within

    parts = forecast["forwards_of"]
    named = [f"{parts['steps']:,} in {forecast['steps']:,} steps"]
    named += [
        f"{forwards:,} for {text}"
        for forwards, text in (
            (parts["floor of mu"], "the floor of mu"),
            (parts["held-out losses"], "two held-out losses"),
            (parts["preview"], "preview.png"),
            (parts["validation"], "the validation prompt"),
        )
        if forwards
    ]
    lines = [
        f"at most {forecast['forwards']:,} forward passes: {', '.join(named)}",
        f"about {within(forecast['seconds'])} in all, at {forecast['seconds_per_forward']:.3g} s a forward pass, "
        f"peak memory about {forecast['peak_rss_mb']:.0f} MB",
        "dry run: nothing is written",
    ]
    if time_budget_s is not None and forecast["seconds"] > time_budget_s:
        lines.insert(2, f"the time budget of {time_budget_s:g} s ends the run before its last step")
    return "\n".join(lines)
