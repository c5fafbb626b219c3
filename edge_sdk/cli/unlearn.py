"""`edge-sdk unlearn`: make a model forget single pictures, on a server."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edge_sdk.unlearning import choices as accepted

if TYPE_CHECKING:
    from edge_sdk.cli.common import Progress
    from edge_sdk.unlearning.loop import UnlearnStep

HELP = "make a model forget pictures, with gradients, before it is quantized and shipped"

# option name -> (type or choices, help); None is the default of `UnlearnConfig`
_OPTIONS: dict[str, tuple[Any, str]] = {
    "surrogate": (accepted.SURROGATES, "what replaces a target: the people of the nearest retained "
                  "pictures (default), edits by the model itself, or pictures given by --surrogate_data_dir"),
    "num_surrogates": (int, "for each target (default: up to 64 nearest, 4 edits; of given ones as many as there are)"),
    "edit_strength": (float, "how far a target is noised before it is edited, 0 to 1 (default 0.7)"),
    "surrogate_tries": (int, "edits for each wanted surrogate (default 16)"),
    "max_target_similarity": (float, "a surrogate that is more like its target is refused (default 0.75)"),
    "max_retained_similarity": (float, "and one that is more like a retained picture (default 0.98)"),
    "max_background_change": (float, "and one with another background (default 0.05)"),
    "surrogate_path": (float, "how far towards its surrogate a target is moved at most before it is noised, 0 to 1 "
                       "(default 0.3)"),
    "timestep_weight": (accepted.TIMESTEP_WEIGHTS, "weight of the surrogate loss over timesteps (default "
                        "responsibility)"),
    "snr_gamma": (float, "where the signal-to-noise ratio is clamped (default 5)"),
    "neighbours": (int, "retained pictures nearest a target, told apart from it and retained more (default 16)"),
    "neighbour_share": (float, "of a step's retained pictures, drawn from neighbours (default 0.25)"),
    "surgery": (accepted.SURGERIES, "how conflicts with the retain loss are resolved (default one_sided)"),
    "surgery_scope": (accepted.SCOPES, "over all weights together or tensor by tensor (default global)"),
    "surgery_space": (accepted.SPACES, "what is projected (default update)"),
    "metric": (accepted.METRICS, "what makes a step long: what it does to retained pictures, or all changes alike "
               "(default retained)"),
    "metric_damping": (float, "share of the latter in the former (default 0.1)"),
    "retention": (accepted.RETENTIONS, "retain by the pictures' own noise or by the base model (default teacher)"),
    "unlearn_weight": (float, "of the surrogate loss beside the retain loss (default 4)"),
    "quantization_aware": (accepted.AWARENESS, "compute every other draw with weights so rounded (default none)"),
    "layers": (accepted.LAYERS, "train the layers in residual branches, or all of the denoiser (default branches)"),
    "lora_rank": (int, "train adapters of this rank instead of weights; they take 10 times the rate (default 0: none)"),
    "learning_rate": (float, "of Adam (default 5.4e-4)"),
    "lr_scheduler": (accepted.LR_SCHEDULERS, "whether it stays or falls to 0 over the run (default linear)"),
    "lr_warmup_steps": (int, "over which it rises first (default 5)"),
    "max_train_steps": (int, "(default 40)"),
    "forget_batch": (int, "noised copies of targets a step (default 8)"),
    "retain_batch": (int, "retained pictures a step (default 96)"),
    "micro_batch": (int, "pictures computed at once; gradients of larger batches are summed (default 32)"),
    "max_grad_norm": (float, "of each loss's gradient; 0 for no limit (default 1)"),
    "prompt": (str, "what a conditional model is told (default: nothing)"),
    "resolution": (int, "side in pixels (default: the model's own)"),
    "checkpointing_steps": (int, "steps between states that a run can go on from (default 20)"),
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from edge_sdk.cli.common import add_common, add_device, add_resume

    parser.add_argument("--pretrained_model_name_or_path", default="pocket", metavar="MODEL",
                        help="pocket (embedded), a diffusers folder or a hub id, hub:org/name; "
                        "float weights")  # fmt: skip
    parser.add_argument("--forget_data_dir", required=True, metavar="DIR", help="pictures to forget")
    parser.add_argument("--retain_data_dir", required=True, metavar="DIR", help="pictures to keep, none of the former")
    parser.add_argument("--surrogate_data_dir", metavar="DIR", help="what replaces each target, in order of names")
    parser.add_argument("--mask_data_dir", metavar="DIR", help="where a target may be edited, white; one each or for "
                        "all (default: a portrait's ellipse)")  # fmt: skip
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="a new folder: patch/, model/, unlearn.json")
    parser.add_argument("--similarity", default="pixels", metavar="pixels|FILE.onnx",
                        help="how alike two pictures are: an ONNX graph, say of a face encoder")  # fmt: skip
    for name, (kind, text) in _OPTIONS.items():
        chosen = {"choices": kind} if isinstance(kind, tuple) else {"type": kind, "metavar": kind.__name__.upper()}
        parser.add_argument(f"--{name}", help=text, **chosen)
    parser.add_argument("--timestep_window", nargs=2, type=int, metavar=("LO", "HI"), help="timesteps LO <= t < HI")
    parser.add_argument("--dry_run", action="store_true", help="check everything, make surrogates, say what "
                        "memory and time training will take; write nothing")  # fmt: skip
    add_device(parser)
    add_resume(parser)
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    from edge_sdk.cli.common import Progress, gentle_interrupt, quiet_libraries, require_torch, say_how_to_go_on
    from edge_sdk.cli.main import DONE
    from edge_sdk.errors import EdgeSdkError
    from edge_sdk.unlearning.config import UnlearnConfig

    options = {name: getattr(args, name) for name in (*_OPTIONS, "device", "seed")}
    if args.surrogate_data_dir and args.surrogate is None:
        options["surrogate"] = "given"
    options["timestep_window"] = tuple(args.timestep_window) if args.timestep_window else None
    if args.timestep_window and args.timestep_weight != "window":
        raise EdgeSdkError("timestep_window goes with --timestep_weight window; give both or neither")
    config = UnlearnConfig.from_options(**options)
    resume = goes_on(args.resume_from_checkpoint)
    quiet_libraries()
    require_torch("unlearning")
    from edge_sdk.run_folder import Cancelled
    from edge_sdk.unlearning.unlearn import Sources, unlearn

    sources = Sources(
        args.pretrained_model_name_or_path, args.forget_data_dir, args.retain_data_dir, args.surrogate_data_dir,
        args.mask_data_dir, args.similarity,
    )  # fmt: skip
    progress = Progress(args.quiet)
    with gentle_interrupt() as stop:
        try:
            record = unlearn(
                sources, args.output_dir, config, resume, args.dry_run, progress.say,
                shown_by(progress, config.max_train_steps), stop,
            )  # fmt: skip
        except Cancelled as cancelled:
            progress.close()
            return say_how_to_go_on(cancelled)
    progress.close()
    if record and not args.quiet:
        print("dry run: nothing is written" if args.dry_run else summary(record, args.output_dir))
    return DONE


def goes_on(given: str | None) -> bool:
    """Whether an interrupted run is to go on; raises EdgeSdkError for a path."""
    from edge_sdk.errors import EdgeSdkError

    if given not in (None, "latest"):
        raise EdgeSdkError(
            f"resume_from_checkpoint is {given}; it takes latest here, the state that lies beside --output_dir"
        )
    return given is not None


def shown_by(progress: "Progress", steps: int) -> "Callable[[UnlearnStep], None]":
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
