"""`edge-sdk demo --web`: the page, served to this computer."""

import argparse
import contextlib
import time
from pathlib import Path

from edge_sdk import pocket
from edge_sdk.cli.common import exporter, gentle_interrupt, quiet_libraries
from edge_sdk.errors import EdgeSdkError


def serve(args: argparse.Namespace) -> int:
    """Serve a bundle of the embedded model, or the one given, until Ctrl-C."""
    from edge_sdk.cli.main import DONE
    from edge_sdk.export import web_server

    if args.bundle and args.output_dir:
        raise EdgeSdkError(
            "both bundle and output_dir are given; give --bundle to serve one or --output_dir to make one"
        )
    if why := web_server.missing():
        raise EdgeSdkError(why)
    with contextlib.ExitStack() as stack:
        bundle = Path(args.bundle or args.output_dir or pocket.BUNDLE)
        if args.output_dir:
            quiet_libraries()
            _say(args, "making a bundle of the embedded model")
            exporter()("pocket", bundle, seed=args.seed or 0)
        url = stack.enter_context(web_server.serving(bundle, args.port or 0))
        _say(args, f"open {url} in a browser; Ctrl-C ends it", always=True)
        with gentle_interrupt() as stop:
            while not stop():
                time.sleep(0.1)
    return DONE


def _say(args: argparse.Namespace, message: str, always: bool = False) -> None:
    if always or not args.quiet:
        print(message, flush=True)
