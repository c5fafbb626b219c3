"""A perturbation that model and execution can resolve: the floor of mu, measured once before a run.

A mu below the floor that the user gave is refused; a preset's own is raised to the floor, and the user is told. The
raised value is part of the run's settings, and with the floor of its state, so a resumed run measures nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from edge_sdk.errors import EdgeSdkError
from edge_sdk.progress import CountingObjective, OnProgress, Pace, silent
from edge_sdk.zo import MuFloor, Objective, ZoConfig, calibrate_mu, fast, lengths_below, random_directions

MEASURING = "measuring the floor of mu"  # the name of the stage
DIRECTIONS = (2, 16)  # a first look, and a second one where the first leaves a doubt: 12 forwards, or 108
CLEAR = 8.0  # a first floor that is so many times below mu leaves none


def measure(
    objective: Objective,
    embedding: np.ndarray,
    zo: ZoConfig,
    vocabulary_std: float,
    seed: int,
    max_batch: int,
    basis: np.ndarray | None = None,
    counts: Sequence[int] = DIRECTIONS,
    on_progress: OnProgress = silent,
    pace: Pace | None = None,
) -> MuFloor:
    """The floor at an embedding (K, D); lengths go up to 0.4 of the vocabulary's standard deviation.

    Args:
        basis: (R, K, D), the directions of Gauss-Newton; by default they are random.
        counts: of directions, a look each; a clear look is the last one.
        on_progress: is called after every call of the objective, with the forward passes of the look at hand.
        pace: counts the time of every call.
    """
    forwards, lengths = 0, lengths_below(fast(vocabulary_std, embedding.shape[1]).zo_mu)
    for count in counts:
        directions = random_directions(seed, count, embedding.shape) if basis is None else basis[:count]
        rows = partial(_report, on_progress, 2 * len(directions) * len(lengths))
        rows(0)
        watched = CountingObjective(objective, pace or Pace(), rows)
        floor = calibrate_mu(watched, embedding, zo, lengths, seed, directions, max_batch)
        forwards += floor.forwards
        if floor.mu_min * CLEAR <= zo.zo_mu:
            break
    return replace(floor, forwards=forwards)


def _report(on_progress: OnProgress, total: int, done: int) -> None:
    on_progress(MEASURING, done, total)


def raised(zo: ZoConfig, mu_min: float, vocabulary_std: float) -> ZoConfig:
    """A preset's settings with mu at the floor or above it, but never above the vocabulary's standard deviation."""
    return replace(zo, zo_mu=min(mu_min, max(vocabulary_std, zo.zo_mu))) if mu_min > zo.zo_mu else zo


def refuse_below(zo: ZoConfig, mu_min: float, how: str) -> None:
    """Raises EdgeSdkError for a mu below the floor; ``how`` is weights and execution, such as "int8 integer"."""
    if zo.zo_mu < mu_min:
        least = f"give at least {mu_min:g}" if math.isfinite(mu_min) else "leave it out"
        raise EdgeSdkError(f"zo_mu is {zo.zo_mu:g}; {_because(mu_min, how)}; {least}{_or_fused(how)}")


def notices(preset: ZoConfig, used: ZoConfig, mu_min: float, how: str) -> list[str]:
    """One line if mu was raised."""
    if used.zo_mu == preset.zo_mu:
        return []
    return [f"zo_mu is raised from {preset.zo_mu:g} to {used.zo_mu:g}: {_because(mu_min, how)}{_or_fused(how)}"]


def _because(mu_min: float, how: str) -> str:
    where = f"below {mu_min:g}" if math.isfinite(mu_min) else "over all lengths that were tried"
    return f"with {how} the rounding of activations drowns this model's loss differences {where}"


def _or_fused(how: str) -> str:
    return ", or use --execution fused" if how.endswith("integer") else ""
