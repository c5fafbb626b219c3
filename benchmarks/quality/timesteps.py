"""Ways to choose timesteps, to be tried with `fast`; none is measured yet."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from edge_sdk.zo import Draw, Objective, ZoConfig, directions, linearize

# number of a draw, its uniform random number, that of the first draw -> place in [0, 1) of the range, weight
Plan = Callable[[int, float, float], tuple[float, float]]
GOLDEN = (5**0.5 - 1) / 2
BINS, DRAWS = 10, 4  # of the range, a bin and objective


def stratified(*_: object) -> Plan:
    """Timesteps that fill the range evenly from the first draws on: a Kronecker sequence of the golden ratio."""
    return lambda number, _uniform, first: ((first + GOLDEN * number) % 1, 1.0)


def important(objectives: Sequence[Objective], initial: np.ndarray, principal: np.ndarray, zo: ZoConfig) -> Plan:
    """Timesteps as often as these objectives are steep there at the initializer, and weighted back.

    What it takes to find that out is not counted as forward passes: a provider could ship it with the model.
    """
    basis, steep = directions(principal[: zo.zo_samples], zo.zo_samples, 1), np.zeros(BINS)
    count = objectives[0].num_train_timesteps
    for i in range(BINS):
        within = replace(zo, timestep_range=(i * count // BINS, (i + 1) * count // BINS))
        for objective in objectives:
            for step in range(DRAWS):
                steep[i] += np.square(linearize(objective, initial, basis, within, 1, step, 33).slope).sum()
    share = np.sqrt(steep) / np.sqrt(steep).sum()
    edges = np.concatenate([[0], np.cumsum(share)])

    def plan(_number: int, uniform: float, _first: float) -> tuple[float, float]:
        place = min(float(np.interp(uniform, edges, np.arange(BINS + 1) / BINS)), 1 - 1e-9)
        return place, float(1 / (BINS * share[int(place * BINS)]))

    return plan


PLANS: dict[str, Callable[..., Plan]] = {"stratified": stratified, "important": important}


class Replanned:
    """An objective whose draws get the timesteps and weights of a plan, in the order in which they are asked for.

    All rows of a draw must be in one call, as they are where ``max_batch`` is at least a step's rows.
    """

    def __init__(self, inner: Objective, plan: Plan) -> None:
        self.inner, self.plan, self.uniforms = inner, plan, list[float]()
        self.num_images, self.num_prompts = inner.num_images, inner.num_prompts
        self.num_train_timesteps, self.latents_shape = inner.num_train_timesteps, inner.latents_shape
        self.embedding_shape = inner.embedding_shape

    def residuals(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        planned: dict[int, tuple[Draw, float]] = {}
        for d in draws:
            if id(d) not in planned:
                self.uniforms.append((d.timestep + 0.5) / self.num_train_timesteps)
                place, weight = self.plan(len(self.uniforms) - 1, self.uniforms[-1], self.uniforms[0])
                planned[id(d)] = replace(d, timestep=int(place * self.num_train_timesteps)), weight
        found = self.inner.residuals(embeddings, [planned[id(d)][0] for d in draws])
        return found * np.sqrt([[planned[id(d)][1]] for d in draws])

    def losses(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        return np.square(self.residuals(embeddings, draws)).mean(axis=1)
