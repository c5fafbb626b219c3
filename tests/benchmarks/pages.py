"""What tests of pages share: results files, figures as pages write them, and a page as one line."""

import json
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


@cache
def record(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def results(name: str) -> dict[str, Any]:
    return record(name).get("results") or record(name)["models"]


def figures(value: dict[str, float], digits: int = 3, sign: str = "") -> str:
    """A mean and its interval."""
    return "{:{f}} [{:{f}}, {:{f}}]".format(*(value[key] for key in ("mean", "low", "high")), f=f"{sign}.{digits}f")


def flat(text: str) -> str:
    return " ".join(text.split())


@cache
def page(name: str) -> str:
    return flat((ROOT / name).read_text())
