"""The ``config.json`` of a model part: checking it by its table, and reading what matters here into a dataclass.

A config describes a network that is built before its weights are read. So counts of layers are bounded by the number
of tensors in the weight files, and sizes that a library allocates must be sizes of tensors there.
"""

from collections.abc import Collection, Iterator
from dataclasses import fields
from typing import Any

from edge_sdk.diffusion.tables import FOREIGN, Table
from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.json import read_json
from edge_sdk.system.schema import Maybe, check, shorten

LARGEST_INTEGER = 1 << 20  # anywhere in the config of a network that a library builds
_NEUTRAL: tuple[Any, ...] = (None, False, "", [], {})


def read_config(path: Any, hint: str) -> dict[str, Any]:
    """A config as diffusers or transformers writes it, which may hold infinities; raises EdgeSdkError."""
    return read_json(path, hint, infinity=True)


def check_config(
    config: dict[str, Any], table: Table, tensors: int | None = None, sizes: Collection[int] | None = None
) -> None:
    """Check a config by its table.

    Args:
        tensors: how many there are in the weight files, if that is known.
        sizes: of the tensors there, if a library is to build the network.

    Raises:
        ValueError: one line that names the entry.
    """
    check(config, {name: Maybe(kind) for name, kind in table.entries.items()})
    for name, value in () if table.is_open else config.items():
        if name not in table.entries and name not in FOREIGN and not name.startswith("_") and value not in _NEUTRAL:
            raise ValueError(
                f"{shorten(name)} is {shorten(value)}, an entry that is not known here; remove it if it changes nothing"
            )
    blocks = len(config.get("block_out_channels", [0]))
    for name in table.per_block:
        if isinstance(value := config.get(name), list | tuple) and "block_out_channels" in config:
            _require(len(value) == blocks, f"{name} has {len(value)} values for {blocks} blocks")
    for divisor, name in table.divisors:
        if divisor in config and name in config:
            many = _values(config[divisor]) * (blocks if not isinstance(config[divisor], list | tuple) else 1)
            for each, value in zip(many, _values(config[name]), strict=False):
                _require(each is None or value % each == 0, f"{divisor} {each} does not divide {name} {value}")
    if tensors is not None:
        layers = blocks
        for name in table.counts:
            layers *= max(1, *_values(config.get(name, 1)), *_values(config.get(f"reverse_{name}") or 1))
        _require(
            layers <= tensors, f"{' and '.join(table.counts)} make {layers} layers; the weights are {tensors} tensors"
        )
    if sizes is not None:
        for name in table.sizes:
            for value in _values(config.get(name)):
                _require(value is None or value in sizes, f"{name} is {value}, which is no size of any of the weights")
        for name, value in _integers(config):
            _require(abs(value) <= LARGEST_INTEGER, f"{name} is {value}; at most {LARGEST_INTEGER} is accepted")


def known_entries(kind: type, config: dict[str, Any], table: Table) -> dict[str, Any]:
    """The entries of a config that a dataclass has, checked, lists as tuples.

    Raises:
        EdgeSdkError: an entry is not what the table accepts, or does not fit another one or its default.
    """
    entries = {f.name: config[f.name] for f in fields(kind) if f.name in config}
    whole = {**config, **{f.name: entries.get(f.name, f.default) for f in fields(kind)}}
    whole = {name: _listed(value) for name, value in whole.items()}
    try:
        check_config(whole, table)
    except ValueError as error:
        raise EdgeSdkError(str(error)) from error
    return {name: _frozen(value) for name, value in entries.items()}


def _listed(value: Any) -> Any:
    """Tuples, which Python has, as lists, which JSON has."""
    return [_listed(each) for each in value] if isinstance(value, list | tuple) else value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list | tuple) else value


def _values(value: Any) -> list[Any]:
    """A value, or all that are in a list and in the lists of it."""
    return [one for each in value for one in _values(each)] if isinstance(value, list | tuple) else [value]


def _integers(value: Any, name: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _integers(each, f"{name}.{key}" if name else str(key))
    elif isinstance(value, int):
        yield name, value


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
