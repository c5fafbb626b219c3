"""`edge-sdk audit`: measure what a repaired model has forgotten and kept."""

import argparse
from typing import Any

from edge_sdk.cli.arguments import group_of, path, text
from edge_sdk.cli.common import add_common, add_device, quiet_libraries, require_torch
from edge_sdk.cli.terminal import write_error
from edge_sdk.errors import EdgeSdkError, printable
from edge_sdk.zo.config import METHOD, OFTEN

EXAMPLE = "edge-sdk audit --after out/model --forget_data_dir targets --retain_data_dir kept --output_dir audit"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    often, method = group_of(parser, OFTEN), group_of(parser, METHOD)
    often.add_argument(
        "--before",
        type=path,
        default="pocket",
        metavar="MODEL",
        help="the base model: pocket (embedded), a diffusers folder or a hub id (default pocket)",
    )
    often.add_argument(
        "--after", type=path, required=True, metavar="MODEL", help="the repaired model: model/ of a run's folder"
    )
    often.add_argument(
        "--forget_data_dir",
        type=path,
        required=True,
        metavar="DIR",
        help="folder of the targets, of this run and earlier ones",
    )
    often.add_argument(
        "--retain_data_dir",
        type=path,
        required=True,
        metavar="DIR",
        help="folder of 20 or more pictures that must not change, best ones that were not trained on",
    )
    often.add_argument(
        "--control_data_dir",
        type=path,
        metavar="DIR",
        help="folder of pictures that no model has seen, beside "
        "which recovery is measured (default: the retained pictures least like targets, mirrored)",
    )
    often.add_argument(
        "--output_dir", type=path, required=True, metavar="DIR", help="new folder for audit.json and audit.html"
    )
    often.add_argument("--include_images", action="store_true", help="show the targets on the page")
    method.add_argument("--limits", type=path, metavar="FILE.json", help="file of limits in place of the default ones")
    method.add_argument(
        "--similarity",
        type=path,
        default="pixels",
        metavar="pixels|FILE.onnx",
        help="how alike two pictures are: by pixels, or by an ONNX graph such as a face encoder, which finds different "
        "people about 0 alike (default pixels)",
    )
    method.add_argument(
        "--samples", type=int, default=256, metavar="INT", help="free samples of each model (default 256)"
    )
    method.add_argument(
        "--prompt",
        type=text,
        default="",
        metavar="TEXT",
        help="prompt of the request, for a conditional model (default: none)",
    )
    method.add_argument(
        "--resolution", type=int, metavar="INT", help="side of a picture in pixels (default: the model's own)"
    )
    add_device(parser)
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    if not 2 <= args.samples <= 10**6:
        raise EdgeSdkError(f"samples is {args.samples}; it must be from 2 to 1000000")
    quiet_libraries()
    require_torch("an audit")
    from edge_sdk.unlearning.audit.audit import audit
    from edge_sdk.unlearning.audit.limits import Limits

    record = audit(
        args.before,
        args.after,
        args.forget_data_dir,
        args.retain_data_dir,
        args.output_dir,
        Limits.from_file(args.limits),
        args.control_data_dir,
        args.similarity,
        args.samples,
        args.prompt,
        args.resolution,
        args.seed or 0,
        args.device,
        args.include_images,
        (lambda message: None) if args.quiet else _say,
    )
    return say_checks(record, args.output_dir, args.quiet)


def say_checks(record: dict[str, Any], folder: str, quiet: bool) -> int:
    """Every limit with what was measured, and the exit status."""
    from edge_sdk.cli.main import DONE, FAILED_CHECK

    if not quiet:
        for check in record["checks"]:
            mark = "kept" if check["passed"] else "MISSED"
            print(f"{check['name']}: {check['measured']:.4f}, limit {check['limit']:g}: {mark}")
        print(f"wrote {folder}/audit.html; {record['wording']}")
    return DONE if record["passed"] else FAILED_CHECK


def _say(message: str) -> None:
    write_error(printable(message))
