"""The one reader of JSON: every file of JSON and every header that this project reads comes through here.

Beyond the grammar (RFC 8259) it bounds what a hostile text costs and refuses what readers understand differently:
size, depth, numbers that no float holds, NaN and Infinity, keys that are given twice, halves of surrogate pairs.
"""

import json
import math
import os
import re
from typing import Any

from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.inputs import read_input

MOST_BYTES = 16 << 20  # of a config, an index or a record
MOST_TOKENIZER_BYTES = 64 << 20
MOST_DEPTH = 64  # of objects and lists in one another
MOST_DIGITS = 38  # of an integer; transformers writes 10**30 for "no limit"
_HALF_OF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str | bytes, infinity: bool = False) -> Any:
    """The value of a text.

    Args:
        text: bytes are UTF-8, with or without a byte order mark.
        infinity: accept NaN, Infinity and -Infinity, which diffusers writes into configs of schedulers.

    Raises:
        ValueError: one line, also for a text that is nested too deeply.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_real,
            parse_constant=float if infinity else _refuse_constant,
        )
    except RecursionError as error:
        raise ValueError(_too_deep()) from error
    if _depth(value) > MOST_DEPTH:
        raise ValueError(_too_deep())
    if _HALF_OF_PAIR.search(text):
        json.dumps(value, ensure_ascii=False).encode()  # UnicodeEncodeError is a ValueError
    return value


def read_json(
    path: str | os.PathLike[str], hint: str, most: int = MOST_BYTES, infinity: bool = False
) -> dict[str, Any]:
    """The object that a file of JSON holds.

    Args:
        hint: ends the message of an error: what to do.
        most: bytes of the file.
        infinity: see `parse_json`.

    Raises:
        EdgeSdkError: the file is missing, not regular, too large, not JSON, or holds something else than an object.
    """
    try:
        value = parse_json(read_input(path, most), infinity)
    except FileNotFoundError as error:
        raise EdgeSdkError(f"{path} does not exist; {hint}") from error
    except OSError as error:
        raise EdgeSdkError(f"{path} cannot be read: {error.strerror or error}; {hint}") from error
    except ValueError as error:
        raise EdgeSdkError(f"{path} cannot be read as JSON ({error!s:.160}); {hint}") from error
    if not isinstance(value, dict):
        raise EdgeSdkError(f"{path} holds {type(value).__name__}, not an object; {hint}")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r:.80} is given twice")
    return entries


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > MOST_DIGITS:
        raise ValueError(f"an integer has {len(digits)} digits; at most {MOST_DIGITS} are read")
    return int(digits)


def _real(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits:.40} is too large for a number")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _depth(value: Any) -> int:
    """Levels of objects and lists; a value without any has none."""
    level, depth = [value] if isinstance(value, dict | list) else [], 0
    while level:
        depth += 1
        children = (child for each in level for child in (each.values() if isinstance(each, dict) else each))
        level = [child for child in children if isinstance(child, dict | list)]
    return depth


def _too_deep() -> str:
    return f"it is nested more than {MOST_DEPTH} levels deep"
