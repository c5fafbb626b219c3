"""`edge-sdk generate`: pictures from a prompt and learned embeddings."""

import argparse

HELP = "draw pictures from a prompt and learned embeddings"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from edge_sdk.cli.common import add_bundle, add_common, add_execution, add_model

    add_model(parser)
    add_execution(parser)
    add_bundle(parser)
    parser.add_argument("--embedding", nargs="+", default=[], metavar="FILE", help="learned_embeds.safetensors files")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--negative_prompt", default="")
    parser.add_argument("--num_inference_steps", type=int, default=25)
    parser.add_argument("--guidance_scale", type=float, default=4.0)
    parser.add_argument("--num_images", type=int, default=1)
    parser.add_argument("--resolution", type=int, help="side in pixels, a multiple of 8 (default: the model's own)")
    parser.add_argument(
        "--output", required=True, metavar="FILE.png", help="one file; several pictures get -0, -1, ..."
    )
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from edge_sdk.cli.common import quiet_libraries
    from edge_sdk.cli.main import DONE
    from edge_sdk.errors import EdgeSdkError
    from edge_sdk.generation import generate
    from edge_sdk.images import save_png
    from edge_sdk.system.memory import leave_out_tracing

    output = Path(args.output)
    if output.suffix.lower() != ".png":
        raise EdgeSdkError(f"output is {args.output}; it must end in .png")
    if not output.parent.is_dir():
        raise EdgeSdkError(f"output is {args.output}, but there is no folder {output.parent}; make it first")
    quiet_libraries()
    if args.bundle is None:
        leave_out_tracing()
    pictures = generate(
        args.prompt, args.pretrained_model_name_or_path, args.embedding, negative_prompt=args.negative_prompt,
        num_images=args.num_images, num_inference_steps=args.num_inference_steps, guidance_scale=args.guidance_scale,
        resolution=args.resolution, weights=args.weights, execution=args.execution,
        residency=args.residency, device=args.device, seed=args.seed or 0, bundle=args.bundle,
    )  # fmt: skip
    names = [output] if len(pictures) == 1 else [output.with_stem(f"{output.stem}-{i}") for i in range(len(pictures))]
    for name, picture in zip(names, pictures, strict=True):
        save_png(picture, name)
        if not args.quiet:
            print(f"wrote {name}")
    return DONE
