"""Reading the ``config.json`` of a model part into a dataclass of the entries that matter here."""

from dataclasses import fields
from typing import Any


def known_entries(kind: type, config: dict[str, Any]) -> dict[str, Any]:
    """The entries of a config that a dataclass has, lists as tuples."""
    values = {f.name: config[f.name] for f in fields(kind) if f.name in config}
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
