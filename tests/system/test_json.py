"""The one reader of JSON."""

import os
from pathlib import Path

import pytest

from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.json import MOST_DEPTH, parse_json, read_json

REFUSED = {
    "cut short": '{"a": 1',
    "deep lists": "[" * 100_000,
    "deep objects": '{"a":' * 5000 + "1" + "}" * 5000,
    "one level too deep": "[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1),
    "integer of 400 digits": '{"a": ' + "9" * 400 + "}",
    "negative integer of 400 digits": '{"a": -' + "9" * 400 + "}",
    "integer of 5000 digits": '{"a": ' + "9" * 5000 + "}",
    "infinite float": '{"a": 1e400}',
    "NaN": '{"a": NaN}',
    "Infinity": '{"a": [-Infinity]}',
    "a key twice": '{"a": 1, "b": {"c": 1, "c": 1}}',
    "a key twice, escaped": '{"a": 1, "\\u0061": 2}',
    "half of a surrogate pair": '{"a": "\\ud800"}',
    "other half as a key": '{"\\uDC00": 1}',
    "not UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "empty": "",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_hostile_text_is_refused_in_one_line(text: str | bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        parse_json(text)
    path = tmp_path / "a.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(EdgeSdkError, match=r"a\.json cannot be read as JSON \(.+\); download it again") as caught:
        read_json(path, "download it again")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_values_are_those_of_json() -> None:
    text = '\ufeff{"a": [1, -2.5, 1e-400, "\\ud83d\\ude00", true, null], "n": 1000000000000000019884624838656}'
    assert parse_json(text.encode()) == {"a": [1, -2.5, 0.0, "\U0001f600", True, None], "n": int(1e30)}
    assert parse_json("[" * MOST_DEPTH + "]" * MOST_DEPTH) is not None


def test_infinity_is_read_where_it_is_asked_for() -> None:
    assert parse_json('{"lambda_min_clipped": -Infinity}', infinity=True) == {"lambda_min_clipped": float("-inf")}
    with pytest.raises(ValueError, match="too large"):
        parse_json('{"a": 1e400}', infinity=True)


def test_a_file_that_is_not_regular_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name, kind in {
        "pipe": "a named pipe",
        "link": "a named pipe",
        ".": "a directory",
        "/dev/zero": "a device",
    }.items():
        with pytest.raises(EdgeSdkError, match=f"it is {kind}, not a regular file; hint"):
            read_json(tmp_path / name, "hint")


def test_a_large_file_or_another_value_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": "' + "x" * (1 << 20) + '"}')
    assert read_json(path, "hint")
    with pytest.raises(EdgeSdkError, match="larger than 1 MB"):
        read_json(path, "hint", most=1 << 20)
    path.write_text("[1]")
    with pytest.raises(EdgeSdkError, match="holds list, not an object"):
        read_json(path, "hint")
    with pytest.raises(EdgeSdkError, match="does not exist; hint"):
        read_json(tmp_path / "none", "hint")
