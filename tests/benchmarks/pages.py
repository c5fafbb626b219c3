"""What tests of pages share: results files, figures as pages write them, and a page as one line."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

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


def seconds_of_pass(name: str, method: str) -> float:
    """Processor seconds of a forward pass of a method, from the costs beside a record of equal care."""
    cost = next(cost for case, cost in results(f"{name}_costs").items() if method.startswith(case))
    return float(np.median(cost["seconds"]))


def share_of_decrease(method: str, name: str = "equal_care") -> str:
    """Of backpropagation's loss decrease, in a record of equal care."""
    return figures(results(name)[method]["summary"]["share"])


def flat(text: str) -> str:
    return " ".join(text.split())


@cache
def page(name: str) -> str:
    return flat((ROOT / name).read_text())
