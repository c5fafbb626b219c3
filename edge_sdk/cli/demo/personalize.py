"""`edge-sdk demo`: learn the bundled subject and draw it in four prompts."""

import argparse
import importlib.util
from pathlib import Path
from typing import Any

from edge_sdk.cli.common import gentle_interrupt, quiet_libraries, say_how_to_go_on
from edge_sdk.cli.personalize import summary
from edge_sdk.cli.progress import Progress
from edge_sdk.errors import Cancelled

COLORS = ("white", "green", "orange", "purple")
PICTURES = 5  # of a prompt


def learn(args: argparse.Namespace) -> int:
    """Learn from the bundled photos, then draw."""
    from edge_sdk.system.memory import leave_out_tracing

    quiet_libraries()
    leave_out_tracing()
    from edge_sdk import pocket
    from edge_sdk.cli.main import DONE
    from edge_sdk.generation import generate
    from edge_sdk.images import contact_sheet, save_png
    from edge_sdk.run_folder import run_personalization

    progress = Progress(args.quiet)
    progress.say("learning a person that the embedded model has never seen, from 5 pictures, on int8 weights")
    where: dict[str, Any] = {"model": "pocket", "device": args.device}
    if importlib.util.find_spec("torch") is None and args.device == "cpu":
        progress.say("PyTorch is not installed, so the embedded model runs as a bundle, on ONNX Runtime")
        where = {"bundle": pocket.BUNDLE}
    folder = Path(args.output_dir)
    prompts = [f"a picture of <subject> on a {color} background" for color in COLORS]
    try:
        with gentle_interrupt() as stop:
            record = run_personalization(
                pocket.PHOTOS,
                args.output_dir,
                **where,
                notify=progress.say,
                on_progress=progress.stage,
                on_step=progress,
                stop=stop,
                resume_from_checkpoint=args.resume_from_checkpoint,
                command="demo",
                seed=args.seed,
            )
        pictures = generate(
            prompts,
            embeddings=[folder / "learned_embeds.safetensors"],
            **where,
            num_images=PICTURES,
            seed=args.seed or 0,
            notify=progress.say,
            on_progress=progress.stage,
        )
    except Cancelled as cancelled:
        progress.close()
        return say_how_to_go_on(cancelled)
    finally:
        progress.close()
    rows = [(prompt, pictures[i * PICTURES : (i + 1) * PICTURES]) for i, prompt in enumerate(prompts)]
    save_png(contact_sheet(rows), folder / "prompts.png")
    if not args.quiet:
        print(summary(record, args.output_dir))
        print(
            f"wrote {folder}/preview.png (photos, before, after) and {folder}/prompts.png (the subject in four prompts)"
        )
    return DONE
