"""Subjects, a model as an objective of their pictures, and tokens learned in one of the configured ways."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from benchmarks.lib.baselines.backprop import train as backprop
from benchmarks.lib.baselines.evolution import EvolutionConfig
from benchmarks.lib.baselines.evolution import train as evolve
from benchmarks.lib.lockstep import Lockstep, View
from benchmarks.pocket.people import SIZE, render
from benchmarks.quality.configurations import Config
from benchmarks.quality.graph import GraphObjective
from benchmarks.quality.noise import NoisyObjective
from benchmarks.quality.timesteps import PLANS, Replanned
from edge_sdk.diffusion.prompts import training_prompts
from edge_sdk.runtime.pytorch.model import Model, open_model
from edge_sdk.runtime.pytorch.objective import StableDiffusionObjective, encode_images
from edge_sdk.zo import Draw, Objective, State, ZoConfig, directions, run

TOKEN = "<subject>"
REFERENCES, UNSEEN = 5, 8  # pictures to learn from, pictures to measure the loss on
VIEWS = REFERENCES + UNSEEN
MILESTONES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)  # shares of a run whose token is kept, for the curve
Run = tuple[int, int]  # subject, seed


class Subjects:
    """Pictures of the subjects: the first REFERENCES of each to learn from, the rest unseen."""

    def __init__(self, people: np.ndarray, seed: int = 4242) -> None:
        self.people = people
        self.pixels = render(np.repeat(people, VIEWS, axis=0), np.random.default_rng(seed)).pixels


@dataclass(frozen=True)
class Bench:
    """A model, and everything that a run on it needs.

    Attributes:
        variance: of the noise on the error while a token is learned, see `observed`.
        graph: an exported graph, on which tokens are learned instead.
    """

    model: Model
    objective: StableDiffusionObjective
    initial: np.ndarray  # (1, D) float32
    norms: tuple[float, float]
    std: float
    principal: np.ndarray  # (R, D) float32
    variance: float = 0.0
    graph: GraphObjective | None = None

    @property
    def observed(self) -> Any:
        """What tokens are learned on; they are always measured on the objective itself, without noise."""
        if self.graph is not None:
            return self.graph
        return NoisyObjective(self.objective, self.variance) if self.variance else self.objective

    @property
    def width(self) -> int:
        """Of a token, D."""
        return self.initial.shape[1]

    @cached_property
    def jacobian_gram(self) -> np.ndarray:
        """Of the text encoder, see `TextEncoder.jacobian_gram`; it takes text passes by the thousand."""
        return self.objective.text.jacobian_gram()

    @classmethod
    def build(cls, name: str, weights: str, execution: str, subjects: Subjects) -> "Bench":
        model = open_model(name, weights, execution)
        text, scale = model.load_text(), model.resolution() // SIZE
        ids = text.tokenize(training_prompts("pocket", TOKEN), {TOKEN: 1})
        latents = encode_images(model.load("vae"), subjects.pixels.repeat(scale, axis=2).repeat(scale, axis=3))
        objective = StableDiffusionObjective(text, model.load("unet"), model.load_schedule(), latents, ids, 1)
        return cls(
            model,
            objective,
            text.initial_embedding("person", 1),
            text.norm_range(),
            text.vocabulary_std(),
            text.search_directions(128, "principal"),
        )


class Coordinates:
    """An objective in the coefficients of principal directions, around a token."""

    def __init__(self, inner: View, origin: np.ndarray, principal: np.ndarray) -> None:
        self.inner, self.origin, self.principal = inner, origin, principal
        self.num_images, self.num_prompts = inner.num_images, inner.num_prompts
        self.num_train_timesteps, self.latents_shape = inner.num_train_timesteps, inner.latents_shape
        self.embedding_shape = (1, len(principal))

    def token(self, coefficients: np.ndarray) -> np.ndarray:
        return self.origin + (coefficients @ self.principal).astype(np.float32)

    def losses(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        return self.inner.losses(self.token(embeddings), draws)

    def residuals(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        return self.inner.residuals(self.token(embeddings), draws)


def start(config: Config, bench: Bench, seed: int, zo: ZoConfig | None = None) -> State:
    assert config.zo is not None
    zo = zo or config.zo(bench.std, bench.width)
    basis = None
    if zo.optimizer == "gauss_newton":
        basis = directions(config.basis(bench, zo.searched, seed), zo.zo_samples, 1)
    origin = np.zeros((1, config.coordinates), np.float32) if config.coordinates else bench.initial
    return State.start(zo, seed, origin, basis=basis)


def learn(config: Config, bench: Bench, runs: Sequence[Run]) -> tuple[np.ndarray, list[int]]:
    """Tokens of every run at its milestones, (milestones, runs, 1, D), and how many forward passes those took."""
    observed = bench.observed
    firsts = [subject * VIEWS for subject, _ in runs]
    if config.backprop is not None:
        views = [View(observed, first, REFERENCES) for first in firsts]
        kept = _steps(config.backprop.max_train_steps)
        seeds = [seed for _, seed in runs]
        tokens = backprop(observed, views, bench.initial, seeds, config.backprop, kept, bench.norms)
        return tokens, [step * config.backprop.train_batch_size for step in kept]
    if config.evolution is not None:
        return _evolve(config.evolution, bench, observed, runs)
    if config.zo is None:
        return np.repeat(bench.initial[None], len(runs), axis=0)[None], [0]
    zo = config.zo(bench.std, bench.width)
    together, kept = Lockstep(observed, len(runs)), _steps(zo.max_train_steps)
    if is_difference := config.activations == "difference":
        observed.activations = "difference"
    plan = None
    if config.timesteps:
        four = [View(observed, subject * VIEWS, REFERENCES) for subject in range(4)]
        plan = PLANS[config.timesteps](four, bench.initial, bench.principal, zo)

    def job(first: int, seed: int) -> Callable[[], np.ndarray]:
        def work() -> np.ndarray:
            view = View(observed, first, REFERENCES, None if is_difference else together)
            if plan is not None:
                view = Replanned(view, plan)  # type: ignore[assignment]
            objective = Coordinates(view, bench.initial, bench.principal[: config.coordinates])
            state, norms = start(config, bench, seed), (0.0, np.inf) if config.coordinates else bench.norms
            seen = run(objective if config.coordinates else view, state, norms, max_batch=4096)
            found = [step.embedding for step in seen if step.step in kept]
            return np.stack([objective.token(c) for c in found] if config.coordinates else found)

        return work

    jobs = [job(first, seed) for first, (_, seed) in zip(firsts, runs, strict=True)]
    learned = [work() for work in jobs] if is_difference else together.run_all(jobs)  # a call has one base
    return np.stack(learned, axis=1), [step * zo.forwards_per_step for step in kept]


def _evolve(
    config: EvolutionConfig, bench: Bench, observed: Objective, runs: Sequence[Run]
) -> tuple[np.ndarray, list[int]]:
    together, kept = Lockstep(observed, len(runs)), _steps(config.generations)

    def job(subject: int, seed: int) -> Callable[[], np.ndarray]:
        view = View(observed, subject * VIEWS, REFERENCES, together)
        return lambda: evolve(view, bench.initial, bench.principal, bench.std, seed, config, kept)

    learned = together.run_all([job(*each) for each in runs])
    return np.stack(learned, axis=1), [generation * config.population * config.draws for generation in kept]


def _steps(count: int) -> list[int]:
    return sorted({max(1, round(share * count)) for share in MILESTONES})


def seconds_alone(config: Config, bench: Bench, repeats: int = 3) -> list[float]:
    """Wall seconds of one whole run by itself, from the pace of some steps; one figure per repeat."""
    if config.zo is None and config.backprop is None:  # not of an evolution strategy, whose steps are the model alone
        return []
    view, out = View(bench.objective, 0, REFERENCES), []
    for repeat in range(repeats):
        if config.backprop is not None:
            steps, total = 12, config.backprop.max_train_steps
            begun = time.monotonic()
            backprop(bench.objective, [view], bench.initial, [repeat], replace(config.backprop, max_train_steps=steps))
        else:
            zo = config.zo(bench.std, bench.width)  # type: ignore[misc]
            steps, total = max(1, 120 // zo.forwards_per_step), zo.max_train_steps
            state = start(replace(config, coordinates=0), bench, repeat, replace(zo, max_train_steps=steps))
            begun = time.monotonic()
            for _ in run(view, state, bench.norms, max_batch=16):
                pass
        out.append((time.monotonic() - begun) / steps * total)
    return out


def all_losses(objective: Objective, tokens: np.ndarray, draws: Sequence[Sequence[Draw]]) -> np.ndarray:
    """Loss of token i on each of its draws, (tokens, draws)."""
    return np.stack(
        [objective.losses(np.repeat(t[None], len(d), axis=0), d) for t, d in zip(tokens, draws, strict=True)]
    )


def to_pixels(pictures: np.ndarray) -> torch.Tensor:
    """Pictures (N, H, W, 3) uint8 on the drawings' own grid, (N, 3, 16, 16) in [-1, 1]."""
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    return torch.nn.functional.avg_pool2d(pixels, pixels.shape[-1] // SIZE)
