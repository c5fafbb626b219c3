"""`edge-sdk quantize`: a float model to an integer checkpoint."""

import argparse

from edge_sdk.cli.arguments import group_of, path
from edge_sdk.cli.common import add_common, add_model, quiet_libraries
from edge_sdk.zo.config import OFTEN

EXAMPLE = "edge-sdk quantize --pretrained_model_name_or_path ./stable-diffusion --weights int8 --output_dir checkpoint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group_of(parser, OFTEN).add_argument(
        "--output_dir", type=path, required=True, metavar="DIR", help="a new folder for the checkpoint"
    )
    add_model(parser, weights=("int8", "int4"))
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    from edge_sdk.cli.main import DONE
    from edge_sdk.integer_checkpoint import quantize
    from edge_sdk.system.memory import peak_rss_mb

    quiet_libraries()
    record = quantize(args.pretrained_model_name_or_path, args.output_dir, args.weights, args.prediction_type)
    if not args.quiet:
        size = f"{record['integer_weights']:,} {args.weights} weights, {record['bytes'] / 1e6:.1f} MB"
        print(f"wrote {args.output_dir}: {size}, peak memory {peak_rss_mb():.0f} MB")
    return DONE
