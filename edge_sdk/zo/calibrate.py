"""The floor of mu: how short a perturbation may be before the rounding of activations drowns the loss difference.

A loss computed with rounded activations is the true loss plus noise of a constant size, sigma, however close two tokens
are. A difference divided by mu contains this noise as sigma / mu, while the error of curvature falls with mu. So there
is a shortest useful mu. It depends on the model *and* on its execution, and can be measured without gradients.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_sdk.zo.config import ZoConfig
from edge_sdk.zo.draws import HELD_OUT_STEP, Objective, evaluate_rows, held_out_draws, near
from edge_sdk.zo.noise import Stream, normals

TOLERANCE = 0.1  # rounding's share of a typical slope at the floor; its square, 1 %, is what it adds to the variance
LENGTHS, RATIO = 3, 16  # how many lengths are tried, and the ratio of two neighbours


@dataclass(frozen=True)
class MuFloor:
    """Result of `calibrate_mu`."""

    mu_min: float  # the floor, two digits, rounded up; infinite if no slope stands out, NaN if a loss was not finite
    noise: float  # sigma, standard deviation of the rounding noise of one loss
    slope: float  # root mean square of [L(theta + mu e) - L(theta - mu e)] / (2 mu) over directions, on the plateau
    lengths: tuple[float, ...]  # every mu that was tried, longest first
    errors: tuple[float, ...]  # of the central difference at each length, root mean square, as a share of the slope
    forwards: int  # single-row evaluations that the measurement took


def calibrate_mu(
    objective: Objective,
    embedding: np.ndarray,
    config: ZoConfig,
    lengths: Sequence[float],
    seed: int,
    directions: np.ndarray,
    max_batch: int = 16,
) -> MuFloor:
    """Measure the floor of mu at an embedding (K, D) float32, for any objective: 2 count len(lengths) forwards.

    Central differences are taken for every length and direction. Each direction has its own draw, which training never
    uses. The reference slope needs no gradient: with a shorter mu the error of curvature falls with the square, and the
    error of rounding grows. So where two neighbouring lengths agree best (the plateau), the longer one gives the slope.
    The noise comes from the two shortest lengths. Without noise, their half differences H(mu) = [L(+) - L(-)] / 2 would
    be proportional to mu; sigma follows from the deviation. Remaining curvature makes sigma, and so the floor, too
    large, never too small.

    Args:
        config: for timesteps and the kind of difference; a forward difference has twice the noise of a central one.
        lengths: at least 2 values of mu, longest first; see `lengths_below`.
        directions: (count, K, D) float32, like those that training perturbs along; see `random_directions`.

    Returns:
        mu_min is where the difference's rounding noise is a tenth of the slope.
    """
    mu = np.asarray(lengths, np.float64)
    draws = held_out_draws(objective, seed, len(directions), config.timestep_range)
    steps = np.multiply.outer(mu, (1, -1)).astype(np.float32)  # (lengths, 2): both sides are neighbours in a batch
    rows = embedding + steps[:, :, None, None] * directions[:, None, None]  # (directions, lengths, 2, K, D)
    drawn = [d for d in draws for _ in range(steps.size)]
    losses = evaluate_rows(near(objective, embedding), rows.reshape(-1, *embedding.shape), drawn, max_batch)
    plus, minus = losses.reshape(len(directions), len(mu), 2).transpose(2, 1, 0)  # (lengths, directions) each
    half = (plus - minus) / 2
    slopes = half / mu[:, None]

    share = mu[-1] / mu[-2]
    noise = math.sqrt(2 / (1 + share**2)) * _rms(half[-1] - share * half[-2])
    plateau = int(np.argmin([_rms(step) for step in np.diff(slopes, axis=0)]))
    reference = slopes[plateau]
    slope = math.sqrt(max(_rms(reference) ** 2 - noise**2 / (2 * mu[plateau] ** 2), 0.0))
    factor = math.sqrt(2) if config.zo_difference == "forward" else math.sqrt(0.5)
    with np.errstate(divide="ignore", invalid="ignore"):
        mu_min = _two_digits_up(float(np.float64(factor * noise) / (TOLERANCE * slope)))
        errors = tuple(float(_rms(row - reference) / np.float64(slope)) for row in slopes)
    return MuFloor(mu_min, noise, slope, tuple(map(float, mu)), errors, len(losses))


def random_directions(seed: int, count: int, shape: tuple[int, int]) -> np.ndarray:
    """Directions of the kind that `estimate` takes, (count, K, D) float32, none of which training sees."""
    return normals(seed, Stream.PERTURBATION, HELD_OUT_STEP, (count, *shape))


def lengths_below(longest: float) -> tuple[float, ...]:
    """The default lengths: from ``longest``, the largest sensible mu, down to a 256th of it."""
    return tuple(longest / RATIO**i for i in range(LENGTHS))


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _two_digits_up(value: float) -> float:
    if not math.isfinite(value) or value <= 0:
        return value
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.1e}")
