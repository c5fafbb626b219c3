"""A perturbation that model and execution can resolve: the floor of mu, measured once a model and remembered.

It is measured on noise in place of photos, at a random word and with the model's own prompts. So it tells nothing of a
user's photos, words or captions, and the user's cache folder may keep it. A bundle has it in its manifest.

A mu below the floor that the user gave is refused; a preset's own is raised to the floor, and the user is told. The
raised value is part of the run's settings, and with the floor of its state, so a resumed run measures nothing.
"""

import hashlib
import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge_sdk._version import __version__
from edge_sdk.errors import EdgeSdkError
from edge_sdk.progress import CountingObjective, OnProgress, Pace, silent
from edge_sdk.system import user_cache
from edge_sdk.zo import MuFloor, Objective, ZoConfig, calibrate_mu, fast, lengths_below, normals, random_directions
from edge_sdk.zo.calibrate import LENGTHS
from edge_sdk.zo.noise import FLOOR

MEASURING = "measuring the floor of mu"  # the name of the stage
DIRECTIONS = 4  # each on a draw of its own
FORWARDS = 2 * DIRECTIONS * LENGTHS
SEED = 0  # of all that is measured with
_VALUE = re.compile(r"inf|\d+(\.\d+)?(e-?\d+)?")  # of the file that remembers


@dataclass(frozen=True)
class Floor:
    """The floor of mu of a model.

    Attributes:
        source: "manifest" of a bundle, "remembered" from an earlier run, or "measured".
        forwards: single-row evaluations that it took now.
    """

    mu_min: float
    source: str
    forwards: int = 0


def measure(
    objective: Objective,
    embedding: np.ndarray,
    zo: ZoConfig,
    vocabulary_std: float,
    max_batch: int,
    basis: np.ndarray | None = None,
    seed: int = SEED,
    count: int = DIRECTIONS,
    on_progress: OnProgress = silent,
    pace: Pace | None = None,
) -> MuFloor:
    """The floor at an embedding (K, D); lengths go up to 0.4 of the vocabulary's standard deviation.

    Args:
        basis: (R, K, D), the directions of Gauss-Newton, of which some from first to last are taken; by default they
            are random.
        count: of directions.
        on_progress: is called after every call of the objective, with the forward passes.
        pace: counts the time of every call.
    """
    lengths = lengths_below(fast(vocabulary_std, embedding.shape[1]).zo_mu)
    directions = random_directions(seed, count, embedding.shape) if basis is None else spread(basis, count)
    total = 2 * len(directions) * len(lengths)
    on_progress(MEASURING, 0, total)
    watched = CountingObjective(objective, pace or Pace(), lambda done: on_progress(MEASURING, done, total))
    return calibrate_mu(watched, embedding, zo, lengths, seed, directions, max_batch)


def spread(basis: np.ndarray, count: int) -> np.ndarray:
    """Some directions of a basis (R, K, D), from the first to the last: they fall in length."""
    return basis[np.linspace(0, len(basis) - 1, min(count, len(basis))).round().astype(int)]


def stand_in_latents(shape: tuple[int, int, int]) -> np.ndarray:
    """Latents in place of a photo's, (1, C, h, w) float32: standard normal, as a VAE's scaled ones are in the mean."""
    return normals(SEED, FLOOR.stream, FLOOR.at(0), (1, *shape))


def stand_in_word(width: int, vocabulary_std: float) -> np.ndarray:
    """A token (1, D) float32 of the vocabulary's size, as the optimizer's variable."""
    return normals(SEED, FLOOR.stream, FLOOR.at(1), (1, width)) * np.float32(vocabulary_std)


def path() -> Path | None:
    """``edge-sdk/mu-floors.json`` in the user's cache folder, if there is one."""
    return user_cache.place_of("mu-floors.json")


def key_of(
    identity: dict[str, str], arithmetic: str, ids: np.ndarray, latents_shape: tuple[int, ...], zo: ZoConfig
) -> str:
    """A hash of all that a floor belongs to; none of it is of the user's photos.

    Args:
        identity: of the model and how it runs, see `edge_sdk.runtime.base.Runtime.fingerprints`.
        arithmetic: how the machine rounds, see `edge_sdk.runtime.base.PreparedObjective.arithmetic`.
        ids: (1, T) int64, the model's own prompt that it is measured with.
        zo: for its directions, its timesteps and its kind of difference. The floor does not depend on mu.
    """
    method = [zo.optimizer, zo.searched, zo.zo_difference, zo.timestep_range, DIRECTIONS]
    text = json.dumps([__version__, identity, arithmetic, ids.tolist(), latents_shape, method], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def recall(key: str) -> float | None:
    """The floor that was remembered for a key, if there is one."""
    value = user_cache.recall(path(), _is_floor).get(key)
    return None if value is None else float(value)


def remember(key: str, mu_min: float) -> None:
    """Keep a floor for later runs, unless it is NaN, where there is a private place to keep it."""
    if not math.isnan(mu_min):
        user_cache.remember(path(), key, repr(mu_min), _is_floor)


def _is_floor(text: str) -> bool:
    return _VALUE.fullmatch(text) is not None


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
