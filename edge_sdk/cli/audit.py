"""`edge-sdk audit`: measure what a repaired model has forgotten and kept."""

import argparse
from typing import Any

HELP = "measure forgetting, integrity and recovery of a model that unlearned, against limits"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from edge_sdk.cli.common import add_common, add_device

    parser.add_argument("--before", default="pocket", metavar="MODEL", help="the base model")
    parser.add_argument("--after", required=True, metavar="MODEL", help="the repaired one: model/ of a run's folder")
    parser.add_argument("--forget_data_dir", required=True, metavar="DIR", help="the targets, of this and earlier runs")
    parser.add_argument("--retain_data_dir", required=True, metavar="DIR", help="20 pictures or more that must not "
                        "change, best ones that were not trained on")  # fmt: skip
    parser.add_argument("--control_data_dir", metavar="DIR", help="pictures that no model has seen, beside which "
                        "recovery is measured (default: retained ones least like targets, mirrored)")  # fmt: skip
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="gets audit.json and audit.html")
    parser.add_argument("--limits", metavar="FILE.json", help="limits in place of the default ones")
    parser.add_argument("--similarity", default="pixels", metavar="pixels|FILE.onnx",
                        help="how alike two pictures are: an ONNX graph, say of a face encoder")  # fmt: skip
    parser.add_argument("--samples", type=int, default=256, help="free samples of each model (default 256)")
    parser.add_argument("--prompt", default="", help="what a conditional model is told: that of the "
                        "request (default: nothing)")  # fmt: skip
    parser.add_argument("--resolution", type=int, help="side in pixels (default: the model's own)")
    parser.add_argument(
        "--include_images", "--include-images", action="store_true", help="show the targets on the page"
    )
    add_device(parser)
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    from edge_sdk.cli.common import quiet_libraries, require_torch
    from edge_sdk.errors import EdgeSdkError

    if not 2 <= args.samples <= 10**6:
        raise EdgeSdkError(f"samples is {args.samples}; it must be from 2 to 1000000")
    quiet_libraries()
    require_torch("an audit")
    from edge_sdk.unlearning.audit.audit import audit
    from edge_sdk.unlearning.audit.limits import Limits

    record = audit(
        args.before, args.after, args.forget_data_dir, args.retain_data_dir, args.output_dir,
        Limits.from_file(args.limits), args.control_data_dir, args.similarity, args.samples, args.prompt,
        args.resolution, args.seed or 0, args.device, args.include_images,
        (lambda message: None) if args.quiet else _say,
    )  # fmt: skip
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
    from edge_sdk.cli.terminal import write_error
    from edge_sdk.errors import printable

    write_error(printable(message))
