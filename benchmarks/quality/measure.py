"""What a learned token is worth: loss on unseen draws, and what the ruler reads in pictures drawn with it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.lib.lockstep import View
from benchmarks.pocket.classifier import Classifier
from benchmarks.pocket.people import BACKGROUNDS
from benchmarks.quality.learn import REFERENCES, TOKEN, UNSEEN, VIEWS, Bench, Run, Subjects, all_losses, to_pixels
from edge_sdk.embedding import LearnedEmbedding
from edge_sdk.generation import starting_noise
from edge_sdk.runtime.pytorch.generate import condition, decode, denoise
from edge_sdk.zo import held_out_draws

LOSS_DRAWS, BINS = 64, 4
PLAIN = 4  # pictures of "a picture of <subject>"; one more for each background
OTHERS = 12  # subjects to pick from
SAMPLER_STEPS, GUIDANCE = 16, 4.0


def losses(bench: Bench, tokens: np.ndarray, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Per token (runs, 1, D): the mean loss on unseen pictures and draws, and that of each quarter of the timesteps."""
    draws = []
    for subject, _ in runs:
        unseen = View(bench.objective, subject * VIEWS + REFERENCES, UNSEEN)
        draws.append([unseen.to_global(d) for d in held_out_draws(unseen, 0, LOSS_DRAWS, (0, 1000))])
    found = all_losses(bench.objective, tokens, draws).reshape(len(runs), BINS, -1).mean(axis=2)
    return [
        {"subject": s, "seed": seed, "loss": float(row.mean()), "loss_by_timestep": row.tolist()}
        for (s, seed), row in zip(runs, found, strict=True)
    ]


def difference_errors(residuals: np.ndarray, true: np.ndarray) -> np.ndarray:
    """How far the differences of rows (N, K) to row 0 are from the true ones, as shares of their norms, (N - 1,)."""
    own, exact = (rows[1:].astype(np.float64) - rows[0].astype(np.float64) for rows in (residuals, true))
    return np.linalg.norm(own - exact, axis=1) / np.linalg.norm(exact, axis=1)


def pictures(
    bench: Bench, tokens: np.ndarray, runs: Sequence[Run], subjects: Subjects, classifier: Classifier
) -> tuple[list[dict[str, float]], torch.Tensor]:
    """Attributes, identification and backgrounds of every token, drawn by the weights it was learned on.

    Also returns the first picture of the plain prompt of each, (runs, 3, 16, 16).
    """
    out, shown = [], []
    prompts = [f"a picture of {TOKEN}"] * PLAIN + [f"a picture of {TOKEN} on a {b} background" for b in BACKGROUNDS]
    asked = np.array([-1] * PLAIN + list(range(len(BACKGROUNDS))))
    vae, schedule, objective = bench.model.load("vae"), bench.model.load_schedule(), bench.objective
    for token, (subject, seed) in zip(tokens, runs, strict=True):
        states = condition(objective.text, prompts, "", [LearnedEmbedding(TOKEN, token)])
        noise = starting_noise(1000 * seed + subject, len(prompts), objective.latents_shape)
        latents = denoise(objective.unet, schedule, *states, noise, SAMPLER_STEPS, GUIDANCE)
        pixels = to_pixels(decode(vae, latents))
        read = classifier.read(pixels)
        picked = classifier.pick(pixels, subjects.people[(subject + np.arange(OTHERS)) % len(subjects.people)])
        out.append(
            {
                "attributes": float((read[:, :6] == subjects.people[subject]).mean()),
                "picked_of_12": float((picked == 0).mean()),
                "background": float((read[PLAIN:, 6] == asked[PLAIN:]).mean()),
            }
        )
        shown.append(pixels[0])
    return out, torch.stack(shown)


def chance(people: np.ndarray) -> float:
    """Attribute agreement between different subjects."""
    same = (people[:, None] == people[None]).mean(2)
    return float(same[~np.eye(len(people), dtype=bool)].mean())
