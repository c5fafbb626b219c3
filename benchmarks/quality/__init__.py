"""Forward-only personalization beside backpropagation on people the model has never seen.

    edge-sdk benchmark quality                        # 24 subjects x 3 seeds, the main configurations: over an hour
    edge-sdk benchmark quality --subjects 12 --seeds 1 --configs fast-int8-integer backprop-float
    edge-sdk benchmark quality --people fresh --noise 1 --no_pictures --output benchmarks/results/quality_noise.json

Per run: loss on unseen views and unseen draws over all timesteps, by quarter of them too, the share of the subject's
six attributes that the ruler reads in new pictures, whether it picks the subject out of 12, and whether a prompted
background is obeyed. Intervals are 95 % bootstrap over subjects (the seeds of one subject stay together).
"""

import argparse
from pathlib import Path

from benchmarks.quality.configurations import CONFIGURATIONS, MAIN

PEOPLE = ("held_out", "fresh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="pocket", help="pocket, or the folder that python -m benchmarks.quality.wide makes"
    )
    parser.add_argument(
        "--people", choices=PEOPLE, default="held_out", help="fresh: those on whom no setting was chosen"
    )
    parser.add_argument("--subjects", type=int, choices=range(2, 25), metavar="{2..24}", help="default: all people")
    parser.add_argument("--seeds", type=int, choices=range(1, 11), metavar="{1..10}", default=3)
    parser.add_argument(
        "--configs", nargs="+", choices=CONFIGURATIONS, default=list(MAIN), help="default: the main ones"
    )
    parser.add_argument(
        "--noise",
        type=float,
        default=0.0,
        help="variance of white noise on the error while tokens are learned; 1 leaves a token a tenth of the loss, "
        "4.4 a thirtieth",
    )
    parser.add_argument("--no_pictures", action="store_true", help="measure the loss alone, which is much faster")
    parser.add_argument("--no_seconds", action="store_true", help="measure no seconds, where other things run beside")
    parser.add_argument("--resume", action="store_true", help="go on with what --output holds")
    parser.add_argument(
        "--seconds_only",
        action="store_true",
        help="with --resume: measure only the seconds of these configurations again, when nothing else runs",
    )
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/quality.json"))


def run_benchmark(args: argparse.Namespace, command: str) -> None:
    from benchmarks.quality.benchmark import run_all

    run_all(args, command)
