"""`edge-sdk export`: write the bundle that an app embeds."""

import argparse

HELP = "write a bundle for ONNX Runtime or Core ML that an app embeds"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from edge_sdk.cli.common import add_common, add_model

    add_model(parser)
    parser.add_argument("--format", choices=("onnx", "coreml"), default="onnx")
    parser.add_argument("--precision", choices=("mixed", "float32"), help="of a Core ML graph (default mixed: products "
                        "in float16)")  # fmt: skip
    parser.add_argument("--num_vectors", type=int, metavar="K", help="vectors of a token that a Core ML graph takes "
                        "(default 1); one for ONNX Runtime takes any number")  # fmt: skip
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="the bundle's folder, new or empty")
    parser.add_argument("--resolution", type=int, metavar="INT", help="side in pixels, a multiple of 8 (default: the "
                        "model's own); a bundle has one")  # fmt: skip
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    from edge_sdk.cli.common import exporter, quiet_libraries
    from edge_sdk.cli.main import DONE
    from edge_sdk.cli.terminal import write_error
    from edge_sdk.memory import peak_rss_mb

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
    )
    if not args.quiet:
        size = sum(file["bytes"] for file in manifest["files"].values()) / 1e6
        print(
            f"wrote {args.output_dir}: {len(manifest['graphs'])} graphs, {size:.1f} MB, weights {manifest['weights']}, "
            f"mu_min {manifest['mu_min']:g}, peak memory {peak_rss_mb():.0f} MB"
        )
    return DONE
