"""`edge-sdk demo`: the main job on the embedded model and the photos that come with it."""

import argparse

from edge_sdk.cli.arguments import group_of, path, text
from edge_sdk.cli.common import add_common, add_device, add_resume
from edge_sdk.errors import EdgeSdkError
from edge_sdk.zo.config import OFTEN

EXAMPLE = "edge-sdk demo --output_dir demo_out"
OUTPUT = "demo_out"  # of a demo without --web
OF_THE_PAGE = ("bundle", "port", "host", "site", "runtime")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    often = group_of(parser, OFTEN)
    often.add_argument(
        "--output_dir",
        type=path,
        metavar="DIR",
        help=f"a new folder for the results (default: {OUTPUT}); with --web for a new bundle of the embedded model",
    )
    often.add_argument("--web", action="store_true", help="learn in a browser instead: serve a page on this computer")
    often.add_argument(
        "--unlearn",
        action="store_true",
        help="forget instead: the embedded model unlearns one of its own faces, and a page shows what it kept",
    )
    page = group_of(parser, "the page of --web")
    page.add_argument(
        "--bundle",
        type=path,
        metavar="DIR",
        help="a folder that edge-sdk export wrote (default: that of the embedded model)",
    )
    page.add_argument("--port", type=int, metavar="N", help="port of the page (default: any free one)")
    page.add_argument(
        "--host",
        type=text,
        metavar="ADDRESS",
        help="an IPv4 address of this computer, or 0.0.0.0 for all of them, so that phones in its network can open the "
        "page (default: this computer alone)",
    )
    page.add_argument(
        "--site",
        type=path,
        metavar="DIR",
        help="serve nothing; write the page to a new folder that any web server can serve",
    )
    page.add_argument(
        "--runtime",
        type=path,
        metavar="DIR",
        help="a folder of onnxruntime-web (default: that of this installation, if it was made with it)",
    )
    add_resume(parser)
    add_device(parser)
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """The demo of the options; its module is loaded when it is needed."""
    if args.web and args.unlearn:
        raise EdgeSdkError("both web and unlearn are given; give one of them")
    if args.web:
        from edge_sdk.cli.demo.web import serve

        return serve(args)
    for name in OF_THE_PAGE:
        if getattr(args, name) is not None:
            raise EdgeSdkError(f"--{name} is for the page only; add --web")
    args.output_dir = args.output_dir or OUTPUT
    if args.unlearn:
        from edge_sdk.cli.demo.unlearn import forget

        return forget(args)
    from edge_sdk.cli.demo.personalize import learn

    return learn(args)
