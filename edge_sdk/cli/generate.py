"""`edge-sdk generate`: pictures from prompts and learned embeddings."""

import argparse
from pathlib import Path

from edge_sdk.cli.arguments import group_of, path, text
from edge_sdk.cli.common import add_common, add_execution, add_model, quiet_libraries
from edge_sdk.cli.progress import Progress
from edge_sdk.errors import EdgeSdkError
from edge_sdk.zo.config import METHOD, OFTEN

EXAMPLE = (
    'edge-sdk generate --embedding run/learned_embeds.safetensors --prompt "a picture of <subject>" --output x.png'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    often, method = group_of(parser, OFTEN), group_of(parser, METHOD)
    often.add_argument(
        "--prompt",
        type=text,
        nargs="+",
        required=True,
        metavar="TEXT",
        help="one or several sentences to draw, in which learned words stand for their subjects",
    )
    often.add_argument(
        "--embedding",
        type=path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="learned_embeds.safetensors files that define words of either prompt, in any letters (default: none)",
    )
    often.add_argument(
        "--output",
        type=path,
        required=True,
        metavar="FILE.png",
        help="where the picture goes; several pictures of "
        "a prompt get -0, -1, ..., several prompts -0, -1, ... before that",
    )
    often.add_argument("--num_images", type=int, default=1, metavar="INT", help="pictures of each prompt (default 1)")
    often.add_argument(
        "--resolution",
        type=int,
        metavar="INT",
        help="side of a picture in pixels, a multiple of 8 (default: the model's own)",
    )
    often.add_argument(
        "--enlarge",
        action="store_true",
        help="enlarge pictures smaller than 64 pixels to 256 or more, without smoothing",
    )
    method.add_argument(
        "--negative_prompt",
        type=text,
        default="",
        metavar="TEXT",
        help="what the pictures are to keep away from (default: nothing)",
    )
    method.add_argument(
        "--num_inference_steps",
        type=int,
        default=25,
        metavar="INT",
        help="denoising steps of DDIM, each one or two forward passes (default 25)",
    )
    method.add_argument(
        "--guidance_scale",
        type=float,
        default=4.0,
        metavar="FLOAT",
        help="how closely pictures follow the prompt; 1 or less: no guidance, which halves the time (default 4)",
    )
    add_model(parser)
    add_execution(parser)
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    from edge_sdk.cli.main import DONE
    from edge_sdk.generation import generate
    from edge_sdk.images import enlarge, save_png
    from edge_sdk.system.memory import leave_out_tracing

    output = Path(args.output)
    if output.suffix.lower() != ".png":
        raise EdgeSdkError(f"output is {args.output}; it must end in .png")
    if not output.parent.is_dir():
        raise EdgeSdkError(f"output is {args.output}, but there is no folder {output.parent}; make it first")
    files = names(output, len(args.prompt), min(args.num_images, 1000))
    if taken := [name for name in files if name.is_dir()]:
        raise EdgeSdkError(f"output is {taken[0]}, which is a folder; give the name of a file")
    quiet_libraries()
    if args.bundle is None:
        leave_out_tracing()
    progress = Progress(args.quiet)
    try:
        pictures = generate(
            args.prompt,
            args.pretrained_model_name_or_path,
            args.embedding,
            negative_prompt=args.negative_prompt,
            num_images=args.num_images,
            num_inference_steps=args.num_inference_steps,
            guidance_scale=args.guidance_scale,
            resolution=args.resolution,
            weights=args.weights,
            execution=args.execution,
            residency=args.residency,
            device=args.device,
            prediction_type=args.prediction_type,
            seed=args.seed or 0,
            bundle=args.bundle,
            notify=progress.say,
            on_progress=progress.stage,
        )
    finally:
        progress.close()
    for name, picture in zip(files, pictures, strict=True):
        save_png(enlarge(picture) if args.enlarge else picture, name)
        if not args.quiet:
            print(f"wrote {name}")
    return DONE


def names(output: Path, prompts: int, images: int) -> list[Path]:
    """A file for each picture, in the order in which they are drawn."""
    marks = [
        ("" if prompts == 1 else f"-{prompt}") + ("" if images == 1 else f"-{image}")
        for prompt in range(prompts)
        for image in range(images)
    ]
    return [output.with_stem(output.stem + mark) for mark in marks]
