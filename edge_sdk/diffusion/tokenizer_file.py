"""``tokenizer.json``, the file of Hugging Face's `tokenizers`: what may be in it before the library reads it.

A pattern of a hostile file can take exponential time or end the library in a panic, so patterns are of a form that
cannot, and the steps that prepare a text are those that tokenizers of CLIP and T5 have.
"""

import re
from pathlib import Path
from typing import Any

from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.json import MOST_TOKENIZER_BYTES, read_json
from edge_sdk.system.schema import Either, Many, Maybe, Whole, check, shorten

AGAIN = "download the model again"
MODELS = ("BPE", "Unigram")
# Steps by where they are: type -> name of the list of further steps, or None.
STEPS: dict[str, dict[str, str | None]] = {
    "normalizer": {
        "Sequence": "normalizers",
        "NFC": None,
        "NFD": None,
        "NFKC": None,
        "NFKD": None,
        "Lowercase": None,
        "Replace": None,
        "Strip": None,
        "Prepend": None,
        "Precompiled": None,
        "Nmt": None,
    },
    "pre_tokenizer": {
        "Sequence": "pretokenizers",
        "Split": None,
        "ByteLevel": None,
        "Whitespace": None,
        "WhitespaceSplit": None,
        "Metaspace": None,
    },
}
MOST_PATTERN = 256  # characters
# Parts of a pattern that stand for one character: an escape, a property, a class.
_ONE = r"\\[pP]\{\^?\w+\}|\\[sSwWdDnrt]|\\[^\w]"
_ATOM = re.compile(rf"{_ONE}|\[\^?(?:{_ONE}|[^\[\]\\])+\]")
_QUANTIFIER = re.compile(r"[*+?]|\{\d{1,2}(?:,\d{0,2})?\}")
MOST_ID = 1 << 24
# An added token: what is looked for in texts before they are cut into words, and how.
TOKEN = {"content": str, **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), Maybe(bool))}
_ENTRIES = {
    "model": {
        "type": Maybe(MODELS),
        "vocab": Either({str: Whole(0, MOST_ID)}, Many(Many(Either(str, int, float), 2, 2))),
        "merges": Maybe(Many(Either(str, Many(str, 2, 2)))),
        "dropout": Maybe(Either(None, (0, 0.0))),
    },
    "added_tokens": Maybe(Many({"id": Whole(0, MOST_ID), **TOKEN})),
}


def read_tokenizer_file(path: Path) -> dict[str, Any]:
    """What a file holds, checked.

    Raises:
        EdgeSdkError: it is missing, damaged, or has a step or a pattern that is not accepted.
    """
    content = read_json(path, AGAIN, MOST_TOKENIZER_BYTES)
    try:
        check(content, _ENTRIES)
        for place in STEPS:
            _check_step(content.get(place), place, place)
    except ValueError as error:
        raise EdgeSdkError(f"{path} is not the tokenizer of CLIP or T5 ({error}); {AGAIN}") from error
    return content


def _check_step(step: Any, place: str, name: str) -> None:
    if step is None:
        return
    check(step, {"type": tuple(STEPS[place]), "pattern": Maybe(Either({"Regex": str}, {"String": str}))}, name)
    pattern = step.get("pattern", {}).get("Regex")
    if pattern is not None and not is_linear(pattern):
        raise ValueError(f"{name}.pattern.Regex is {shorten(pattern)}, which is no pattern of these tokenizers")
    if step.get("pattern", {}).get("String") == "":
        raise ValueError(f"{name}.pattern.String is empty")
    if (inner := STEPS[place][step["type"]]) is not None:
        check(step, {inner: Many(dict, 0, 16)}, name)
        for i, each in enumerate(step[inner]):
            _check_step(each, place, f"{name}.{inner}.{i}")


def is_linear(pattern: str) -> bool:
    """Whether a pattern is alternatives of characters in a row, at most two of them repeated: no groups, no anchors.

    Then a search takes time that grows with the square of the text at most.
    """
    if len(pattern) > MOST_PATTERN:
        return False
    plain = _ATOM.sub("x", pattern)
    if any(c in "()[]{}^$\\" for c in _QUANTIFIER.sub("", plain)):
        return False
    return all(
        branch and not _QUANTIFIER.match(branch) and len(_QUANTIFIER.findall(branch)) <= 2
        for branch in plain.split("|")
    )
