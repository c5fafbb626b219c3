"""`edge-sdk export`: write the bundle that an app embeds."""

import argparse

from edge_sdk.cli.arguments import group_of, path
from edge_sdk.cli.common import add_common, add_model, exporter, quiet_libraries
from edge_sdk.config import SEARCH_BASES
from edge_sdk.zo.config import OFTEN

EXAMPLE = "edge-sdk export --weights int8 --output_dir bundle"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    often = group_of(parser, OFTEN)
    often.add_argument(
        "--output_dir", type=path, required=True, metavar="DIR", help="folder of the bundle, new or empty"
    )
    often.add_argument(
        "--format", choices=("onnx", "coreml"), help="runtime that the bundle is for (default: the target's, or onnx)"
    )
    often.add_argument(
        "--target",
        choices=("qnn", "ane"),
        help="processor that the graphs are for, which a CPU simulates; qnn: Qualcomm's, with 16-bit activations; ane: "
        "Apple's Neural Engine, in float16 (default: any)",
    )
    often.add_argument(
        "--rows",
        type=int,
        metavar="INT",
        help="rows of a call of a target's loss (default: 33, 11, 3 or 1, by the size of the latents)",
    )
    often.add_argument(
        "--resolution",
        type=int,
        metavar="INT",
        help="side of all pictures in pixels, a multiple of 8 (default: the model's own)",
    )
    often.add_argument(
        "--num_vectors",
        type=int,
        metavar="K",
        help="vectors of a token, for Core ML and for a target; other graphs take any number (default 1)",
    )
    often.add_argument(
        "--precision",
        choices=("mixed", "float32"),
        help="arithmetic of a Core ML graph; mixed: products in float16 (default mixed)",
    )
    often.add_argument(
        "--search_basis",
        choices=SEARCH_BASES,
        help="directions that a run on the bundle searches: principal, in which the vocabulary's words differ most, or "
        "readable, along which the text encoder's states change most (default: readable for tokens of 512 numbers or "
        "more, else principal)",
    )
    add_model(parser, weights=("int8", "int4", "none"))
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    from edge_sdk.cli.main import DONE
    from edge_sdk.cli.terminal import write_error
    from edge_sdk.system.memory import peak_rss_mb

    quiet_libraries()
    export = exporter()

    from edge_sdk.errors import printable

    def say(message: str) -> None:
        if not args.quiet:
            write_error(printable(message))

    manifest = export(
        args.pretrained_model_name_or_path,
        args.output_dir,
        args.format,
        args.weights,
        args.resolution,
        args.seed or 0,
        args.precision,
        args.num_vectors,
        say,
        args.prediction_type,
        args.search_basis,
        args.target,
        args.rows,
    )
    if not args.quiet:
        size = sum(file["bytes"] for file in manifest["files"].values()) / 1e6
        floor = "none found" if manifest["mu_min"] is None else f"{manifest['mu_min']:g}"
        print(
            f"wrote {args.output_dir}: {len(manifest['graphs'])} graphs, {size:.1f} MB, weights {manifest['weights']}, "
            f"mu_min {floor}, peak memory {peak_rss_mb():.0f} MB"
        )
    return DONE
