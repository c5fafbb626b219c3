"""Intervals over people or targets, seeds averaged first: percentile bootstrap, Student's t, and the sign test.

A bootstrap of eight covers too little.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Row = dict[str, Any]  # one run: subject, seed and what was measured
CONFIDENCE = 0.95
RESAMPLES = 2000


def by_subject(rows: Sequence[Row], key: str) -> np.ndarray:
    """Mean over the seeds of every subject, in the order of subjects: (subjects,), or (subjects, points) of lists."""
    subjects = sorted({row["subject"] for row in rows})
    return np.array([np.mean([row[key] for row in rows if row["subject"] == s], axis=0) for s in subjects])


def interval(values: np.ndarray, divide_by: np.ndarray | None = None) -> dict[str, float]:
    """Mean and 95 % bootstrap interval over subjects; with ``divide_by`` of the ratio of two paired sums."""
    picks = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    below = np.ones_like(values) if divide_by is None else divide_by
    low, high = np.quantile(values[picks].sum(1) / below[picks].sum(1), [0.025, 0.975])
    return {"mean": float(values.sum() / below.sum()), "low": float(low), "high": float(high)}


def common_runs(results: Mapping[str, Mapping[str, Any]], *names: str) -> set[tuple[int, int]]:
    """Subjects and seeds that all of several results have."""
    first, *others = ({(row["subject"], row["seed"]) for row in results[name]["runs"]} for name in names)
    return first.intersection(*others)


def people_and_seeds(results: Mapping[str, Mapping[str, Any]], *names: str) -> str:
    """How many of each several results have in common, such as "20 x 3"."""
    common = common_runs(results, *names)
    return f"{len({subject for subject, _ in common})} x {len({seed for _, seed in common})}"


def on_common_runs(results: Mapping[str, Mapping[str, Any]], *names: str, key: str = "loss") -> list[np.ndarray]:
    """A figure of several results, each (subjects,), of the subjects and seeds that all of them have.

    Args:
        results: by name, ``"runs"``: rows.
    """
    common = common_runs(results, *names)
    rows = ([row for row in results[name]["runs"] if (row["subject"], row["seed"]) in common] for name in names)
    return [by_subject(own, key) for own in rows]


def interval_cell(value: Mapping[str, float] | None, digits: int = 3, sign: str = "") -> str:
    """An interval for a table; without ends the mean alone.

    Args:
        sign: "+": of positive values too.
    """
    if value is None:
        return ""
    ends = f" [{value['low']:{sign}.{digits}f}, {value['high']:{sign}.{digits}f}]" if "low" in value else ""
    return f"{value['mean']:{sign}.{digits}f}{ends}"


def t_interval(values: Sequence[float] | np.ndarray, confidence: float = CONFIDENCE) -> dict[str, float]:
    """Mean of independent values (N,), N of 2 or more, and its two-sided t interval with N - 1 degrees of freedom."""
    own = np.asarray(values, float)
    half = t_quantile((1 + confidence) / 2, len(own) - 1) * own.std(ddof=1) / math.sqrt(len(own))
    return {"mean": float(own.mean()), "low": float(own.mean() - half), "high": float(own.mean() + half)}


def t_quantile(probability: float, degrees: int) -> float:
    """Of Student's t distribution, for probabilities from 0.5 to 1, to about 1e-8."""
    low, high = 0.0, 1e4
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_cdf(middle, degrees) < probability else (low, middle)
    return high


def _t_cdf(x: float, degrees: int) -> float:
    """Of x >= 0: the finite sums of Abramowitz and Stegun 26.7.3 and 26.7.4."""
    angle = math.atan(x / math.sqrt(degrees))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    odd = degrees % 2
    term, total = math.cos(angle) if odd else 1.0, 0.0
    for k in range(degrees // 2):
        total += term
        term *= square * (2 * k + 1 + odd) / (2 * k + 2 + odd)
    between = 2 / math.pi * (angle + sine * total) if odd else sine * total  # -x and x
    return 0.5 + between / 2


def sign_test(differences: Sequence[float] | np.ndarray) -> float:
    """Two-sided p of the exact sign test that positive and negative differences are as likely; zeros are left out."""
    signs = [d > 0 for d in differences if d != 0]
    fewer, count = min(sum(signs), len(signs) - sum(signs)), len(signs)
    return min(1.0, 2 * sum(math.comb(count, k) for k in range(fewer + 1)) / 2**count)
