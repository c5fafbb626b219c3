"""Forward-only personalization beside backpropagation on people the model has never seen.

    edge-sdk benchmark quality                        # 3 seeds, without and with white noise: over two hours
    edge-sdk benchmark quality --subjects 12 --seeds 1 --noise 0 --configs fast-int8-integer backprop-float
    edge-sdk benchmark quality --noise 4.4 --output benchmarks/results/quality_noise_4.4.json

White noise on the error (`benchmarks.quality.noise`) is a standing condition: without ``--noise`` the main
configurations run without it on ``held_out`` people, then all methods with a variance of 1 on ``fresh`` ones, whose
record has ``_noise`` in its name and holds the loss alone.

Per run: loss on unseen views and unseen draws over all timesteps, by quarter of them too, the share of the subject's
six attributes that the ruler reads in new pictures, whether it picks the subject out of 12, and whether a prompted
background is obeyed. Intervals are 95 % bootstrap over subjects (the seeds of one subject stay together).
"""

import argparse
from pathlib import Path

from benchmarks.quality.configurations import CONFIGURATIONS

PEOPLE = ("held_out", "fresh")
STANDING = (0.0, 1.0)  # variances of the noise that are measured unless others are asked for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="pocket", help="pocket, or the folder that python -m benchmarks.quality.wide makes"
    )
    parser.add_argument(
        "--people",
        choices=PEOPLE,
        help="fresh: those on whom no setting was chosen; default: held_out without noise, fresh with it",
    )
    parser.add_argument("--subjects", type=int, choices=range(2, 25), metavar="{2..24}", help="default: all people")
    parser.add_argument("--seeds", type=int, choices=range(1, 11), metavar="{1..10}", default=3)
    parser.add_argument(
        "--configs", nargs="+", choices=CONFIGURATIONS, help="default: the main ones; with noise one of each method"
    )
    parser.add_argument(
        "--noise",
        type=float,
        nargs="+",
        default=list(STANDING),
        metavar="VARIANCE",
        help="of white noise on the error while tokens are learned; 1 leaves a token a tenth of the loss, 4.4 a "
        "fortieth; default: 0 and 1",
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
