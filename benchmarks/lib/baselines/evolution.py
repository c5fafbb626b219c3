"""After gradient-free textual inversion (Fei et al., 2023, arXiv 2304.05818): an evolution strategy in a subspace.

The token is e = e0 + W q; here W is the vocabulary's leading principal directions. CMA-ES (Hansen, 2016, "The CMA
Evolution Strategy: A Tutorial", arXiv 1604.00772) searches q on the loss alone. Forward passes only.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from edge_sdk.zo import Objective, draw


@dataclass(frozen=True)
class EvolutionConfig:
    forwards: int = 1320
    dimensions: int = 32  # of q
    sigma: float = 0.5  # first step size, in standard deviations of the vocabulary
    draws: int = 1  # a generation; all of its candidates see the same
    population: int = 14  # 4 + 3 ln(dimensions)

    @property
    def generations(self) -> int:
        return self.forwards // (self.population * self.draws)


class CmaEs:
    """A normal distribution over q that moves to the better half of what is sampled from it."""

    def __init__(self, dimensions: int, sigma: float, population: int, seed: int) -> None:
        self.n, self.sigma, self.population = dimensions, sigma, population
        self.rng = np.random.default_rng(seed)
        self.parents = population // 2
        weights = math.log(population / 2 + 0.5) - np.log(np.arange(1, self.parents + 1))
        self.weights = weights / weights.sum()
        n, mass = dimensions, 1 / (self.weights**2).sum()
        self.mass = mass  # of the parents: their effective number
        self.c_sigma, self.c_path = (mass + 2) / (n + mass + 5), (4 + mass / n) / (n + 4 + 2 * mass / n)
        self.damping = 1 + 2 * max(0.0, math.sqrt((mass - 1) / (n + 1)) - 1) + self.c_sigma
        self.c_one = 2 / ((n + 1.3) ** 2 + mass)
        self.c_rank = min(1 - self.c_one, 2 * (mass - 2 + 1 / mass) / ((n + 2) ** 2 + mass))
        self.length = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))  # of a standard normal vector
        self.mean, self.covariance = np.zeros(n), np.eye(n)
        self.path, self.path_sigma, self.count = np.zeros(n), np.zeros(n), 0

    def ask(self) -> np.ndarray:
        """Candidates (population, n)."""
        values, self._axes = np.linalg.eigh(self.covariance)
        self._scales = np.sqrt(np.maximum(values, 1e-20))
        steps = self.rng.standard_normal((self.population, self.n)) * self._scales @ self._axes.T
        self._candidates = self.mean + self.sigma * steps
        return self._candidates

    def tell(self, losses: np.ndarray) -> None:
        """Move to the candidates of `ask` with the smaller losses."""
        steps = (self._candidates[np.argsort(losses, kind="stable")[: self.parents]] - self.mean) / self.sigma
        step = self.weights @ steps
        self.mean = self.mean + self.sigma * step
        self.count += 1
        whitened = self._axes @ ((self._axes.T @ step) / self._scales)
        keep = 1 - self.c_sigma
        self.path_sigma = keep * self.path_sigma + math.sqrt(self.c_sigma * (2 - self.c_sigma) * self.mass) * whitened
        norm = float(np.linalg.norm(self.path_sigma))
        settled = norm / math.sqrt(1 - keep ** (2 * self.count)) < (1.4 + 2 / (self.n + 1)) * self.length
        self.path = (1 - self.c_path) * self.path
        if settled:
            self.path = self.path + math.sqrt(self.c_path * (2 - self.c_path) * self.mass) * step
        missing = 0.0 if settled else self.c_one * self.c_path * (2 - self.c_path)
        rank = (self.weights[:, None] * steps).T @ steps
        self.covariance = (1 - self.c_one - self.c_rank + missing) * self.covariance + self.c_rank * rank
        self.covariance += self.c_one * np.outer(self.path, self.path)
        self.sigma *= math.exp((self.c_sigma / self.damping) * (norm / self.length - 1))


def train(
    objective: Objective,
    initial: np.ndarray,
    principal: np.ndarray,
    std: float,
    seed: int,
    config: EvolutionConfig,
    kept: Collection[int],
) -> np.ndarray:
    """Search a token (1, D).

    Args:
        principal: (R, D), lengths in units of ``std``, the vocabulary's.
        kept: generations, counted from 1, after which the distribution's mean is kept.

    Returns:
        (kept, 1, D) float32.
    """
    strategy, out = CmaEs(config.dimensions, config.sigma, config.population, seed), []
    basis = std * principal[: config.dimensions].astype(np.float64)
    for generation in range(config.generations):
        tokens = (initial + (strategy.ask() @ basis)[:, None]).astype(np.float32)  # (population, 1, D)
        drawn = draw(objective, seed, generation, config.draws, (0, objective.num_train_timesteps))
        rows = np.concatenate([tokens] * config.draws)
        each = [one for one in drawn for _ in range(config.population)]
        strategy.tell(objective.losses(rows, each).reshape(config.draws, -1).mean(axis=0))
        if generation + 1 in kept:
            out.append((initial + strategy.mean @ basis).astype(np.float32))
    return np.stack(out)
