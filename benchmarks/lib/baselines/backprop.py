"""Textual inversion by backpropagation (Gal et al., 2022), the ceiling that forward-only training is measured against.

Same objective, prompts, photos and draws as `edge_sdk.zo`; only the gradient is the true one of each batch. Several
runs go side by side: their tokens share nothing but the calls of the denoiser.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from edge_sdk.runtime.pytorch.objective import StableDiffusionObjective
from edge_sdk.zo import Objective, draw


@dataclass(frozen=True)
class BackpropConfig:
    max_train_steps: int = 150
    train_batch_size: int = 8  # draws a step
    learning_rate: float = 1e-2  # falls to `end_factor` of it, cosine
    end_factor: float = 0.1  # 1: constant
    average_from: float = 1.0  # share of the steps from which the result is the mean token
    clamp: bool = False  # keep the token's norm in the vocabulary's range, as the forward-only presets do
    timestep_range: tuple[int, int] = (0, 1000)


def train(
    objective: StableDiffusionObjective,
    views: Sequence[Objective],
    initial: np.ndarray,
    seeds: Sequence[int],
    config: BackpropConfig,
    kept: Collection[int] = (),
    norm_range: tuple[float, float] = (0.0, math.inf),
) -> np.ndarray:
    """Train one token per view.

    Args:
        objective: the model with float layers that all views look at.
        views: per run, what draws are made from; `to_global` maps a draw to the objective's images.
        initial: (K, D) float32.
        kept: steps, counted from 1, after which the tokens are kept; by default the last.
        norm_range: of the vocabulary; only `BackpropConfig.clamp` looks at it.

    Returns:
        (kept, runs, K, D) float32.
    """
    tokens = torch.from_numpy(np.repeat(initial[None], len(views), axis=0)).requires_grad_()
    optimizer = torch.optim.Adam([tokens], lr=config.learning_rate)
    batch, out = config.train_batch_size, []
    total, count = torch.zeros_like(tokens), 0
    for step in range(config.max_train_steps):
        for group in optimizer.param_groups:
            share = step / config.max_train_steps
            fallen = config.end_factor + (1 - config.end_factor) * 0.5 * (1 + math.cos(math.pi * share))
            group["lr"] = config.learning_rate * fallen
        optimizer.zero_grad()
        for start in range(0, len(views), 8):  # bounds memory; the sum of losses has independent gradients
            rows = range(start, min(start + 8, len(views)))
            draws = [
                views[r].to_global(d)  # type: ignore[attr-defined]
                for r in rows
                for d in draw(views[r], seeds[r], step, batch, config.timestep_range)
            ]
            embeddings = tokens[start : rows.stop].repeat_interleave(batch, dim=0)
            (objective.loss(embeddings, draws).sum() / batch).backward()
        optimizer.step()
        with torch.no_grad():
            if config.clamp:
                norms = tokens.norm(dim=-1, keepdim=True)
                tokens *= norms.clamp(*norm_range) / norms
            if step + 1 > config.average_from * config.max_train_steps:
                total, count = total + tokens, count + 1
            if step + 1 in (kept or (config.max_train_steps,)):
                out.append((total / count if count else tokens).detach().numpy().copy())
    return np.stack(out)
