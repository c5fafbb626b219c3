"""Mutations of files: of JSON by its structure, of safetensors by header and values, of anything by its bytes."""

import copy
import json
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

RAW = "@raw@"  # begins a text that stands in JSON as it is, without quotes
DEEP = 100_000
HOSTILE: tuple[Any, ...] = (
    0,
    -1,
    1,
    2,
    3,
    7,
    16,
    1000,
    2**31 - 1,
    2**31,
    2**53,
    2**62,
    2**64,
    10**9,
    10**30,
    -(10**9),
    0.5,
    1e-30,
    -1.5,
    1e300,
    True,
    False,
    None,
    "",
    "4",
    "x" * 5000,
    "a\nb\x1b[31m",
    "../../x",
    "float32",
    [],
    {},
    [[]],
    [1, 2],
    ["a"],
    {"a": {}},
    [0] * 10_000,
    f"{RAW}1e400",
    f"{RAW}-1e400",
    f"{RAW}NaN",
    f"{RAW}-Infinity",
    f"{RAW}Infinity",
    RAW + "9" * 400,
    RAW + "[" * DEEP + "]" * DEEP,
    RAW + '{"a":' * DEEP + "1" + "}" * DEEP,
    RAW + '{"a":1,"a":2}',
    RAW + '"\\ud800"',
    {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""},
    {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated", "invert": False},
)


def mutated(path: Path, rng: random.Random) -> bytes:
    """The bytes of a file with one to three mutations."""
    data = path.read_bytes()
    if path.suffix == ".json" and rng.random() < 0.85:
        return mutated_json(data, rng)
    if path.suffix == ".safetensors" and rng.random() < 0.85:
        return mutated_safetensors(data, rng)
    return mutated_bytes(data, rng)


def mutated_json(data: bytes, rng: random.Random) -> bytes:
    """One to three changes of values, keys or lists."""
    value = json.loads(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = _changed(value, rng)
    text = json.dumps(value)
    for raw in (one for one in HOSTILE if isinstance(one, str) and one.startswith(RAW)):
        text = text.replace(json.dumps(raw), raw.removeprefix(RAW))
    return text.encode()


def _changed(value: Any, rng: random.Random) -> Any:
    places = list(_places(value)) if isinstance(value, dict | list) else []
    if not places or rng.random() < 0.02:
        return _hostile(rng)
    holder, key = rng.choice(places)
    old = holder[key]
    kind = rng.randrange(10)
    if kind < 5:
        holder[key] = _hostile(rng)
    elif kind == 5:
        del holder[key]
    elif kind == 6:
        other, at = rng.choice(places)
        if at in other if isinstance(other, dict) else at < len(other):
            holder[key] = copy.deepcopy(other[at])
    elif isinstance(old, bool) or not isinstance(old, int | float | list | str):
        holder[key] = _hostile(rng)
    elif isinstance(old, int | float):
        holder[key] = rng.choice((-old, old + 1, old - 1, old * 2, old * 1000, old // 3, float(old), str(old), [old]))
    elif isinstance(old, list):
        holder[key] = rng.choice((old[:-1], old[1:], old + old[-1:], old[::-1], old * 3, dict(enumerate(old[:20]))))
    else:
        holder[key] = rng.choice((old[:-1], old + "x", old.upper(), old * 50, [old], f"{old}\n", _hostile(rng)))
    return value


def _hostile(rng: random.Random) -> Any:
    return copy.deepcopy(rng.choice(HOSTILE))  # later mutations change lists in place


def _places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Holders and keys of values; of a long list only some elements, so that short entries are met as often."""
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    for key in keys if len(keys) <= 40 else keys[:3] + keys[-3:]:
        yield value, key
        if isinstance(value[key], dict | list) and depth < 12:
            yield from _places(value[key], depth + 1)


def mutated_safetensors(data: bytes, rng: random.Random) -> bytes:
    """A changed header, with or without its length made right, or changed values."""
    (length,) = struct.unpack_from("<Q", data)
    header, body = data[8 : 8 + length], bytearray(data[8 + length :])
    kind = rng.randrange(5)
    if kind < 2:
        header = mutated_json(header, rng)
        return (len(header) if rng.random() < 0.9 else length).to_bytes(8, "little") + header + body
    if kind == 2:
        return rng.choice((0, 1, length - 1, 2**31, 2**63, 2**64 - 1)).to_bytes(8, "little") + header + body
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(max(1, len(body))) // 8 * 8
        values = rng.choice(
            (b"\xff" * 8, b"\x00\x00\xc0\x7f" * 2, b"\x00\x00\x80\x7f" * 2, b"\x7f" * 8, rng.randbytes(8))
        )
        body[start : start + 8] = values[: len(body) - start]
    return length.to_bytes(8, "little") + header + bytes(body)


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, cut, doubled, filled or put in."""
    if not data:
        return rng.randbytes(16)
    at, size = rng.randrange(len(data)), rng.choice((1, 4, 64, 1000))
    changes: list[Callable[[], bytes]] = [
        lambda: data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :],
        lambda: data[:at],
        lambda: data[at:],
        lambda: data[:at] + rng.randbytes(size) + data[at + size :],
        lambda: data[:at] + bytes(size) + data[at + size :],
        lambda: data[:at] + data[at : at + size] + data[at:],
        lambda: data[:at] + b"\xff" * size + data[at + size :],
        lambda: b"",
        lambda: data + rng.randbytes(size),
    ]
    return rng.choice(changes)()
