"""The gradient estimate from forward passes alone (paper equation 3 and its central variant)."""

from dataclasses import dataclass

import numpy as np

from edge_sdk.zo.config import ZoConfig
from edge_sdk.zo.draws import Draw, Objective, draw, evaluate_rows, near
from edge_sdk.zo.noise import Stream, normals


@dataclass(frozen=True)
class Estimate:
    """The measurement of one step."""

    gradient: np.ndarray  # (K, D) float64
    losses: np.ndarray  # every loss that was measured, float64
    loss: float  # mean loss near the embedding: the base losses, or the middles of the central pairs
    forwards: int  # single-row evaluations


def directions(config: ZoConfig, seed: int, step: int, shape: tuple[int, int]) -> np.ndarray:
    """The n directions e_i of one step, (n, K, D) float32 standard normal; they depend on seed and step only."""
    return normals(seed, Stream.PERTURBATION, step, (config.zo_samples, *shape))


def estimate(
    objective: Objective,
    theta: np.ndarray,
    config: ZoConfig,
    seed: int,
    step: int,
    removed: int = 0,
    max_batch: int = 64,
) -> Estimate:
    """Estimate the gradient of the expected loss at ``theta``.

    Forward: g = 1/n sum_i [L(theta + mu e_i) - L(theta)] / mu * e_i (equation 3).
    Central: g = 1/n sum_i [L(theta + mu e_i) - L(theta - mu e_i)] / (2 mu) * e_i.
    Both sides of a difference see the same draws (image, noise, timestep, prompt).

    Args:
        theta: (K, D) float32, never changed: perturbed copies are computed from it.
        removed: how many directions the subspace projection removes, for the optional normalization.
        max_batch: rows per call of the objective.
    """
    n, batch, mu = config.zo_samples, config.train_batch_size, np.float32(config.zo_mu)
    e = directions(config, seed, step, theta.shape)  # (n, K, D)
    shared = config.zo_draws == "shared"
    drawn = draw(objective, seed, step, batch if shared else n * batch, config.timestep_range)
    per_direction = drawn * n if shared else drawn  # (n * batch), direction by direction

    plus = np.repeat(theta + mu * e, batch, axis=0)  # (n * batch, K, D)
    if config.zo_difference == "central":
        others, other_draws = np.repeat(theta - mu * e, batch, axis=0), per_direction
    else:
        other_draws = drawn
        others = np.broadcast_to(theta, (len(other_draws), *theta.shape))
    rows: list[Draw] = [*per_direction, *other_draws]
    losses = evaluate_rows(near(objective, theta), np.concatenate([plus, others]), rows, max_batch)

    above = losses[: n * batch].reshape(n, batch)
    below = losses[n * batch :].reshape(-1, batch)  # (1 or n, batch): a shared base broadcasts
    slopes = (above - below).mean(axis=1) / float(mu)  # (n,)
    middle = below
    if config.zo_difference == "central":
        slopes, middle = slopes / 2, (above + below) / 2
    gradient = np.tensordot(slopes, e.astype(np.float64), axes=1) / n
    if config.zo_normalize:
        gradient /= np.sqrt((theta.size - removed + n - 1) / n)
    return Estimate(gradient, losses, float(middle.mean()), len(rows))
