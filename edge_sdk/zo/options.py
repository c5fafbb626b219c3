"""Fields of configs that describe themselves: the command line's help and every range check read this metadata."""

import types
import typing
from dataclasses import field, fields
from numbers import Integral, Real
from typing import Any


def option(
    default: Any,
    help: str,
    *,
    group: str | None = None,
    choices: tuple[str, ...] = (),
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    or_zero: bool = False,
) -> Any:
    """A dataclass field with metadata.

    Args:
        help: what the option does and its unit, without its default.
        group: the heading of ``--help`` under which it is listed; None keeps it off the command line.
        choices: the accepted words.
        least, most: the closed range of a number. above, below: the open one.
        or_zero: 0 is accepted beside the range, and switches the option off.
    """
    limits = {"least": least, "most": most, "above": above, "below": below, "or_zero": or_zero}
    return field(default=default, metadata={"help": help, "group": group, "choices": choices, **limits})


def violation(config: Any) -> str | None:
    """What is wrong with the first field of a config that is not as its type and metadata say; None if all are.

    The message names the field, its value and what is accepted, on one line.
    """
    for each in fields(config):
        value = getattr(config, each.name)
        if problem := _problem(value, each.type, each.metadata):
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
            shown = repr(shown) if isinstance(shown, str) and not isinstance(value, tuple) else shown
            return f"{each.name} is {shown}; it must be {problem}"
    return None


def _problem(value: Any, kind: Any, metadata: Any) -> str | None:
    """What is accepted instead of a value, or None where the value is accepted."""
    alternatives = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    if value is None and type(None) in alternatives:
        return None
    kind = next(each for each in alternatives if each is not type(None))
    if choices := metadata.get("choices"):
        return None if value in choices else f"one of {', '.join(choices)}"
    if not _is(value, kind):
        return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(kind, "two numbers")
    return None if kind not in (int, float) or _in_range(value, metadata) else accepted_range(metadata)


def _is(value: Any, kind: Any) -> bool:
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    if typing.get_origin(kind) is tuple:
        parts = typing.get_args(kind)
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(_is, value, parts))
    return isinstance(value, typing.get_origin(kind) or kind)


def _in_range(value: float, metadata: Any) -> bool:
    least, most, above, below = (metadata.get(name) for name in ("least", "most", "above", "below"))
    return (metadata.get("or_zero", False) and value == 0) or (
        (least is None or value >= least)
        and (most is None or value <= most)
        and (above is None or value > above)
        and (below is None or value < below)
        and value == value  # not a NaN
    )


def accepted_range(metadata: Any) -> str:
    """The range of a number in words, such as "above 0 and below 10"."""
    least, most, above, below = (_shown(metadata.get(name)) for name in ("least", "most", "above", "below"))
    if least and most:
        words = f"from {least} to {most}"
    else:
        low = f"at least {least}" if least else f"above {above}" if above else ""
        high = f"at most {most}" if most else f"below {below}" if below else ""
        words = " and ".join(filter(None, (low, high)))
    return f"0 (off) or {words}" if metadata.get("or_zero") else words


def _shown(number: float | None) -> str:
    return "" if number is None or number == float("inf") else str(number) if isinstance(number, int) else f"{number:g}"
