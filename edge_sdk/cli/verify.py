"""`edge-sdk verify`: a bundle against its manifest and its golden vectors."""

import argparse

from edge_sdk.cli.arguments import path
from edge_sdk.cli.common import add_common

EXAMPLE = "edge-sdk verify bundle"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=path, metavar="DIR", help="a folder written by edge-sdk export")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    from edge_sdk.cli.main import DONE, FAILED_CHECK
    from edge_sdk.cli.terminal import write_error
    from edge_sdk.errors import printable
    from edge_sdk.export.verify import verify

    def notify(line: str) -> None:
        if not args.quiet:
            write_error(printable(line))

    outcomes = verify(args.bundle, notify)
    for outcome in outcomes:
        if not (args.quiet and outcome.good):
            print(printable(str(outcome)))
    return DONE if all(outcome.good for outcome in outcomes) else FAILED_CHECK
