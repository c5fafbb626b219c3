"""`edge-sdk benchmark`: run one of the repository's benchmarks."""

import argparse
import importlib
import shlex
import sys

from edge_sdk.cli.common import add_common
from edge_sdk.cli.parser import Parser
from edge_sdk.errors import EdgeSdkError

EXAMPLE = "edge-sdk benchmark speed --rounds 1"
BENCHMARKS = {
    "arm64": "benchmarks.speed.arm64",
    "device": "benchmarks.device.benchmark",
    "dreambooth": "benchmarks.dreambooth.benchmark",
    "memory": "benchmarks.memory.benchmark",
    "speed": "benchmarks.speed.benchmark",
    "quality": "benchmarks.quality",
    "unlearning": "benchmarks.unlearning",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=BENCHMARKS, help="which benchmark to run")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="options of the benchmark; --help lists them")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    from edge_sdk.cli.main import DONE

    sys.path.insert(0, "")
    try:
        module = importlib.import_module(BENCHMARKS[args.name])
    except ModuleNotFoundError as error:
        raise EdgeSdkError(
            f"benchmark {args.name} needs a source checkout with the dev extra ({error}); run it in the checkout"
        ) from error
    parser = Parser(prog=f"edge-sdk benchmark {args.name}", description=(module.__doc__ or "").partition("\n")[0])
    module.add_arguments(parser)
    command = shlex.join(["edge-sdk", "benchmark", args.name, *args.arguments])
    module.run_benchmark(parser.parse_args(args.arguments), command)
    return DONE
