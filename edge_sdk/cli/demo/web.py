"""`edge-sdk demo --web`: the page, served to this computer or to its network, or written as a static site."""

import argparse
import shlex
import time
from pathlib import Path

from edge_sdk import pocket
from edge_sdk.cli.common import exporter, gentle_interrupt, quiet_libraries
from edge_sdk.errors import EdgeSdkError

TO_EVERYONE = "everyone in the network can open the page and this bundle; photos stay in the browser they are chosen in"


def serve(args: argparse.Namespace) -> int:
    """Serve a bundle of the embedded model, or the one given, until Ctrl-C; or write the page with it and end."""
    from edge_sdk.cli.main import DONE
    from edge_sdk.export.http_server import HOST
    from edge_sdk.export.web_page import runtime_folder
    from edge_sdk.export.web_server import checked_host, is_loopback, serving, urls
    from edge_sdk.export.web_site import write_site
    from edge_sdk.system.files import free_place

    refuse_contradictions(args)
    host = checked_host(HOST if args.host is None else args.host)
    site = None if args.site is None else Path(args.site)
    runtime = runtime_folder(None if args.runtime is None else Path(args.runtime))
    if site is not None:
        free_place(site, "site")
    bundle = Path(args.bundle or args.output_dir or pocket.BUNDLE)
    if args.output_dir:
        quiet_libraries()
        _say(args, "making a bundle of the embedded model")
        exporter()("pocket", bundle, seed=args.seed or 0)
    if site is not None:
        size = write_site(bundle, site, runtime)
        server = f"python -m http.server -d {shlex.quote(str(site))}"
        _say(args, f"wrote {site} ({size / 1e6:.0f} MB); any web server can serve it, such as {server}")
        return DONE
    with serving(bundle, args.port or 0, host=host, runtime=runtime) as url, gentle_interrupt() as stop:
        if not is_loopback(host):
            _say(args, TO_EVERYONE, always=True)
        _say(args, f"open {' or '.join(urls(url))} in a browser; Ctrl-C ends it", always=True)
        while not stop():
            time.sleep(0.1)
    return DONE


def refuse_contradictions(args: argparse.Namespace) -> None:
    """Raises EdgeSdkError for options that exclude one another."""
    if args.bundle and args.output_dir:
        raise EdgeSdkError(
            "both bundle and output_dir are given; give --bundle to serve one or --output_dir to make one"
        )
    for name in ("host", "port"):
        if args.site is not None and getattr(args, name) is not None:
            raise EdgeSdkError(f"both site and {name} are given; a site is only written, so leave --{name} out")


def _say(args: argparse.Namespace, message: str, always: bool = False) -> None:
    if always or not args.quiet:
        print(message, flush=True)
