"""`edge-sdk personalize`: learn a token from a folder of photos."""

import argparse
from typing import Any

HELP = "learn a token from 3 to 5 photos"

# option name -> (type or choices, help); None is the preset's or the model's own value
_OPTIONS: dict[str, tuple[Any, str]] = {
    "placeholder_token": (str, "the word that will stand for the subject in prompts (default <subject>)"),
    "initializer_token": (str, "one known word to start from, such as dog; the embedded model starts from person"),
    "learnable_property": (("object", "style"), "what is learned; chooses the training prompts"),
    "num_vectors": (int, "vectors per token (default 1)"),
    "resolution": (int, "side in pixels, a multiple of 8 (default: the model's own)"),
    "preset": (("fast", "paper"), "zeroth-order settings to start from (default fast)"),
    "learning_rate": (float, "step size of Adam (preset paper)"),
    "train_batch_size": (int, "draws each direction is measured on"),
    "zo_samples": (int, "directions a step (n)"),
    "zo_mu": (float, "length of the perturbation (mu)"),
    "zo_difference": (("forward", "central"), "one-sided or two-sided difference"),
    "subspace_buffer": (int, "token values per subspace (tau); 0 switches the projection off"),
    "subspace_threshold": (float, "share of variance that is projected out (nu)"),
    "max_batch": (int, "rows per call of the denoiser (default 1 to 16, by the size of the latents)"),
    "eval_draws": (int, "draws for the loss before and after (default 32)"),
    "checkpointing_steps": (int, "steps between checkpoints (default: about 150 forward passes)"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from edge_sdk.cli.common import add_bundle, add_common, add_execution, add_model, add_resume

    add_model(parser)
    add_execution(parser)
    add_bundle(parser)
    parser.add_argument(
        "--train_data_dir", required=True, metavar="DIR", help="folder with the photos (PNG, JPEG, WebP)"
    )
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="the run's folder, new or to be resumed")
    for name, (kind, text) in _OPTIONS.items():
        chosen = {"choices": kind} if isinstance(kind, tuple) else {"type": kind, "metavar": kind.__name__.upper()}
        parser.add_argument(f"--{name}", help=text, **chosen)
    parser.add_argument("--max_train_steps", type=_steps, metavar="INT", help="updates of the token; auto: until the "
                        "loss on held-out draws is flat")  # fmt: skip
    parser.add_argument("--timestep_range", nargs=2, type=int, metavar=("LO", "HI"), help="timesteps LO <= t < HI")
    parser.add_argument(
        "--use_captions", action="store_true", help="take each photo's prompt from the .txt file beside it"
    )
    parser.add_argument("--no_center_crop", action="store_true", help="squeeze photos to a square instead of cropping")
    add_resume(parser)
    parser.add_argument("--time_budget_s", type=float, metavar="S", help="stop in time and keep what is learned")
    parser.add_argument("--memory_budget_mb", type=float, metavar="MB",
                        help="choose residency and max_batch to stay below; refuse if nothing fits")  # fmt: skip
    parser.add_argument("--report_to", choices=("tensorboard",), help="write loss curves to output_dir/logs")
    parser.add_argument(
        "--no_preview", action="store_true", help="do not draw preview.png (it holds copies of the photos)"
    )
    parser.add_argument("--a1111", action="store_true", help="also write learned_embeds_a1111.safetensors for web UIs")
    add_common(parser)


def _steps(value: str) -> int | str:
    """A number of steps, or auto."""
    if value != "auto" and not value.isdecimal():
        raise argparse.ArgumentTypeError(f"{value!r} is neither a number of steps nor auto")
    return value if value == "auto" else int(value)


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """The settings given on the command line, for `PersonalizeConfig.from_options`."""
    options = {name: getattr(args, name) for name in (*_OPTIONS, "max_train_steps")}
    options |= {name: getattr(args, name) for name in ("weights", "execution", "residency", "device", "seed")}
    options["timestep_range"] = tuple(args.timestep_range) if args.timestep_range else None
    options["use_captions"] = args.use_captions or None
    options["center_crop"] = False if args.no_center_crop else None
    return options


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from edge_sdk.cli.common import Progress, gentle_interrupt, quiet_libraries, say_how_to_go_on
    from edge_sdk.cli.main import DONE
    from edge_sdk.config import PersonalizeConfig
    from edge_sdk.system.memory import leave_out_tracing

    options = options_of(args)
    PersonalizeConfig.from_options(**options)  # refused before PyTorch is loaded
    progress = Progress(args.quiet)
    quiet_libraries()
    if args.bundle is None:
        leave_out_tracing()
    from edge_sdk.run_folder import Cancelled, run_personalization

    with gentle_interrupt() as stop:
        try:
            record = run_personalization(
                args.train_data_dir, args.output_dir, args.pretrained_model_name_or_path,
                bundle=args.bundle, resume_from_checkpoint=args.resume_from_checkpoint,
                time_budget_s=args.time_budget_s, memory_budget_mb=args.memory_budget_mb,
                preview=not args.no_preview, report_to=args.report_to,
                notify=progress.say, on_step=progress, stop=stop, **options,
            )  # fmt: skip
        except Cancelled as cancelled:
            progress.close()
            return say_how_to_go_on(cancelled)
    progress.close()
    if args.a1111:
        from edge_sdk.embedding import load_embedding, save_a1111

        folder = Path(args.output_dir)
        save_a1111(folder / "learned_embeds_a1111.safetensors", load_embedding(folder / "learned_embeds.safetensors"))
    if not args.quiet:
        print(summary(record, args.output_dir))
    return DONE


def summary(record: dict[str, Any], folder: str) -> str:
    """What a run did, in two lines."""
    return (
        f"loss {record['loss_initial']:.4f} -> {record['loss_final']:.4f} on draws it never trained on, "
        f"{record['steps']} steps, {record['unet_forwards']} forward passes, {record['seconds']:.0f} s, "
        f"peak memory {record['peak_rss_mb']:.0f} MB ({record['weights']}, {record['execution']})\n"
        f"wrote {folder}/learned_embeds.safetensors"
    )
