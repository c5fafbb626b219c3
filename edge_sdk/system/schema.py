"""Values of JSON checked against a table of what is accepted: types, ranges, and which entries there must be.

A kind is one of:

- `Whole`, `Real`, `Many`, `Either`: a number in a range, a list, one of several kinds;
- ``bool``, ``str``, ``int``, ``float``, ``dict``: any value of this type; ``None``: null;
- a tuple: one of these values;
- a dict: an object with these entries (``{str: kind}``: any names). An entry of `Maybe` may be missing.

Entries that a table does not have are left alone.
"""

from dataclasses import dataclass
from typing import Any

LARGEST = 3e38  # of a float32, about


@dataclass(frozen=True)
class Whole:
    """An integer from ``least`` to ``most``."""

    least: int
    most: int


@dataclass(frozen=True)
class Real:
    """A finite number from ``least`` to ``most``."""

    least: float = -LARGEST
    most: float = LARGEST


@dataclass(frozen=True)
class Many:
    """A list of one kind, of ``least`` to ``most`` values."""

    kind: Any
    least: int = 0
    most: int = 1 << 24


@dataclass(frozen=True, init=False)
class Either:
    """A value of one of several kinds."""

    kinds: tuple[Any, ...]

    def __init__(self, *kinds: Any) -> None:
        object.__setattr__(self, "kinds", kinds)


@dataclass(frozen=True)
class Maybe:
    """An entry that may be missing."""

    kind: Any


def check(value: Any, kind: Any, name: str = "") -> None:
    """Check a value.

    Args:
        name: of the value, for messages, such as "embedding.0.scale".

    Raises:
        ValueError: one line that names the entry and says what is accepted.
    """
    if isinstance(kind, Maybe):
        kind = kind.kind
    if isinstance(kind, dict):
        _require(isinstance(value, dict), value, kind, name)
        for key in value if str in kind else kind:
            inner = kind[str] if str in kind else kind[key]
            if key in value:
                check(value[key], inner, f"{name}.{key}" if name else f"{key}")
            elif not isinstance(inner, Maybe):
                raise ValueError(f"{name}{'.' if name else ''}{key} is missing")
    elif isinstance(kind, Many):
        _require(isinstance(value, list) and kind.least <= len(value) <= kind.most, value, kind, name)
        for i, each in enumerate(value):
            check(each, kind.kind, f"{name}.{i}" if name else str(i))
    elif isinstance(kind, Either):
        _check_either(value, kind, name)
    else:
        _require(_fits(value, kind), value, kind, name)


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, tuple):
        return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in kind)
    if isinstance(kind, Whole | Real):
        types = int if isinstance(kind, Whole) else int | float
        return isinstance(value, types) and not isinstance(value, bool) and kind.least <= value <= kind.most
    return value is None if kind is None else isinstance(value, kind)


def _check_either(value: Any, kind: Either, name: str) -> None:
    """Of a list or an object that is accepted in one form only, the message names what is wrong inside."""
    errors = []
    for each in kind.kinds:
        try:
            return check(value, each, name)
        except ValueError as error:
            if isinstance(value, list | dict) and isinstance(each, Many | dict):
                errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    _require(False, value, kind, name)


def _require(holds: bool, value: Any, kind: Any, name: str) -> None:
    if not holds:
        raise ValueError(f"{name or 'the whole'} is {shorten(value)}, not {describe(kind)}")


def shorten(value: Any) -> str:
    """A value in at most 60 printable characters, without rendering the whole of a long one."""
    if isinstance(value, dict | list) and value:
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = ascii(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def describe(kind: Any) -> str:
    """A kind in words."""
    if isinstance(kind, tuple):
        words = [ascii(value) if isinstance(value, bool | int | float) else str(value) for value in kind]
        return words[0] if len(words) == 1 else f"one of {', '.join(words)}"
    if isinstance(kind, Whole):
        return f"an integer from {kind.least} to {kind.most}"
    if isinstance(kind, Real):
        if (kind.least, kind.most) == (-LARGEST, LARGEST):
            return "a finite number"
        if kind.most == LARGEST:
            return f"a number of at least {kind.least:g}"
        return f"a number from {kind.least:g} to {kind.most:g}"
    if isinstance(kind, Many):
        return f"a list of {kind.least} to {kind.most} values" if kind.most < 1 << 24 else "a list"
    if isinstance(kind, Either):
        return " or ".join(describe(each) for each in kind.kinds)
    if isinstance(kind, dict) or kind is dict:
        return "an object"
    return {bool: "true or false", str: "a text", None: "null", int: "an integer", float: "a number"}[kind]
