"""`edge-sdk verify`: a bundle against its manifest and its golden vectors."""

import argparse

HELP = "check a bundle: its files, then its golden vectors on every runtime that is here"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from edge_sdk.cli.common import add_common

    parser.add_argument("bundle", metavar="DIR", help="a folder written by edge-sdk export")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    from edge_sdk.cli.main import DONE, FAILED_CHECK
    from edge_sdk.errors import printable
    from export.verify import verify

    outcomes = verify(args.bundle)
    for outcome in outcomes:
        if not (args.quiet and outcome.good):
            print(printable(str(outcome)))
    return DONE if all(outcome.good for outcome in outcomes) else FAILED_CHECK
