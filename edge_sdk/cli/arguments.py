"""Options of the command line from the fields of configs, and back."""

import argparse
import os
import typing
from collections.abc import Collection
from dataclasses import Field, fields
from typing import Any

from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.paths import expanded
from edge_sdk.zo import PAPER, ZoConfig, fast
from edge_sdk.zo.config import OF_ADAM, OF_GAUSS_NEWTON


def group_of(parser: argparse.ArgumentParser, title: str) -> argparse._ArgumentGroup:
    """The group of a parser's options with a title; made where there is none yet."""
    for group in parser._action_groups:
        if group.title == title:
            return group
    return parser.add_argument_group(title)


def add_options(
    parser: argparse.ArgumentParser, kind: type, only: Collection[str] = (), leave_out: Collection[str] = ()
) -> None:
    """Add an option for every field of a config that has a group; None stands for the config's own default.

    Args:
        only: names of fields; all of them if empty.
    """
    for each in fields(kind):
        if each.metadata.get("group") and each.name not in leave_out and (not only or each.name in only):
            name = f"no_{each.name}" if each.default is True else each.name
            group_of(parser, each.metadata["group"]).add_argument(
                f"--{name}", dest=each.name, default=None, help=describe(kind, each), **_form(each)
            )


def collect(args: argparse.Namespace, *kinds: type) -> dict[str, Any]:
    """What parsed arguments say of the fields of configs, None where they say nothing."""
    values = {each.name: getattr(args, each.name, None) for kind in kinds for each in fields(kind)}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def path(value: str) -> str:
    """The type of every option that names a file or a folder: a home folder may be written as ``~``.

    Raises:
        argparse.ArgumentTypeError: see `expanded`.
    """
    try:
        return str(expanded(value)) if value.startswith("~") else value
    except EdgeSdkError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def text(value: str) -> str:
    """The type of every option that takes words: UTF-8, also where the locale says that arguments are ASCII.

    What is no UTF-8 stays as it is; the configs refuse it.
    """
    try:
        return os.fsencode(value).decode()
    except UnicodeError:
        return value


def describe(kind: type, each: "Field[Any]") -> str:
    """The help of a field with its default."""
    text = f"do not {each.metadata['help']}" if each.default is True else each.metadata["help"]
    if kind is ZoConfig:
        return f"{text} ({_presets(each.name)})"
    if "default" in text or each.default is None or isinstance(each.default, bool):
        return text
    shown = " ".join(map(str, each.default)) if isinstance(each.default, tuple) else each.default
    return f"{text} (default {shown})"


def _presets(name: str) -> str:
    """Values of a setting in both presets, such as "fast 32, paper 2"; the first may depend on the model."""
    values = {_shown(getattr(fast(std, width), name)) for std, width in ((0.01, 128), (0.02, 1024))}
    own = values.pop() if len(values) == 1 else "depends on the model"
    if name in OF_ADAM:
        return f"preset paper: {_shown(getattr(PAPER, name))}, not used by preset fast"
    if name in OF_GAUSS_NEWTON:
        return f"preset fast: {own}, not used by preset paper"
    return f"preset fast: {own}, paper: {_shown(getattr(PAPER, name))}"


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _form(each: "Field[Any]") -> dict[str, Any]:
    """How argparse reads a field."""
    if each.metadata["choices"]:
        return {"choices": each.metadata["choices"]}
    kind: Any = each.type
    if typing.get_origin(kind) is tuple:
        return {"nargs": 2, "type": int, "metavar": ("LO", "HI")}
    if kind is bool:
        return {"action": "store_const", "const": not each.default}
    kind = next((part for part in typing.get_args(kind) if part is not type(None)), kind)
    return {"type": text if kind is str else kind, "metavar": kind.__name__.upper()}
