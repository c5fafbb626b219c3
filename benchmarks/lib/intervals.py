"""Small samples: Student's t interval of a mean, and the sign test; a bootstrap of eight covers too little."""

import math
from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95


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
