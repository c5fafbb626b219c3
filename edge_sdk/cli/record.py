"""``--config``: the settings of a run's record, to run it again."""

import argparse
from typing import Any

from edge_sdk.cli.arguments import group_of, path
from edge_sdk.config import OF_A_MODEL, RUN
from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.json import read_json
from edge_sdk.zo import ZoConfig

SCHEMA_VERSION = 1  # of run.json, of unlearn.json, and of the settings in both


def add_config(parser: argparse.ArgumentParser, name: str = "run.json") -> None:
    group_of(parser, RUN).add_argument(
        "--config",
        type=path,
        metavar="FILE",
        help=f"take the settings of an earlier run's {name}; options that are given win (default: none)",
    )


def read_record(path: str, name: str) -> dict[str, Any]:
    """A record with its settings under ``config``.

    Raises:
        EdgeSdkError: it cannot be read, is no record of this name, or is of another schema version.
    """
    hint = f"give the {name} of a run"
    record = read_json(path, hint)
    if not isinstance(record.get("config"), dict):
        raise EdgeSdkError(f"config {path} is no record of a run, which has the key config; {hint}")
    for what, values in (("it", record), ("its config", record["config"])):
        if values.get("schema_version") != SCHEMA_VERSION:
            raise EdgeSdkError(
                f"config {path}: schema_version of {what} is {values.get('schema_version')!r}; this version reads "
                f"{SCHEMA_VERSION}; {hint} of this version"
            )
    return record


def settings_of(path: str, given: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Settings for `PersonalizeConfig.from_options`: those of a ``run.json``, and of the command line, which win.

    The record's own settings of the optimizer are taken, also where a preset has other ones by now. A mu that was
    raised to its floor is measured again, since the floor belongs to the machine as well.

    Raises:
        EdgeSdkError: see `read_record`; or the record's model is not given.
    """
    record = read_record(path, "run.json")
    if record.get("model") != "pocket" and not (args.pretrained_model_name_or_path or args.bundle):
        raise EdgeSdkError(
            f"config {path} is of the model {record.get('model')!r}, without the place where it lies; give it as "
            "--pretrained_model_name_or_path or --bundle"
        )
    settings = {name: value for name, value in record["config"].items() if name != "schema_version"}
    own = settings.pop("zo_options", {})
    if args.bundle is None and not set(OF_A_MODEL) <= set(settings) and not args.pretrained_model_name_or_path:
        raise EdgeSdkError(f"config {path} is of a bundle; give it as --bundle")
    if args.bundle is not None:
        settings = {name: value for name, value in settings.items() if name not in OF_A_MODEL}
    try:
        zo = ZoConfig.from_dict(record["zo"])
        if not isinstance(own, dict):
            raise TypeError("zo_options is not an object")
    except (KeyError, TypeError, ValueError) as error:
        raise EdgeSdkError(f"config {path}: zo cannot be used ({error}); give the run.json of a run") from error
    if given["preset"] in (None, settings.get("preset")):
        recorded = {name: value for name, value in zo.to_dict().items() if name != "schema_version"}
        raised = "zo_mu" not in own and (record.get("mu_min") or 0) >= zo.zo_mu
        leave_out = set(zo.without_effect(recorded)) | ({"zo_mu"} if raised else set())
        own = {name: value for name, value in recorded.items() if name not in leave_out - set(own)}
    settings |= {**own, **({"timestep_range": tuple(own["timestep_range"])} if "timestep_range" in own else {})}
    if given["max_train_steps"] is not None:
        settings["stop_when_flat"] = False
    return settings | {name: value for name, value in given.items() if value is not None}
