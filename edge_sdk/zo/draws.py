"""The model as the optimizer sees it, a function from (embedding, draw) to a loss; and how draws are chosen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edge_sdk.zo.noise import HELD_OUT, Stream, integers, normals

HELD_OUT_STEP = HELD_OUT.first  # steps from here on are for measuring; training counts from 0 and never gets there


@dataclass(frozen=True)
class Draw:
    """One random choice of everything except the embedding. Both sides of a difference use the same draw (common
    random numbers); otherwise the difference would mean nothing."""

    image: int  # which training image
    prompt: int  # which prompt template
    timestep: int  # 0 <= timestep < num_train_timesteps
    noise: np.ndarray  # (C, h, w) float32, the diffusion noise
    latent_noise: np.ndarray  # (C, h, w) float32, picks the sample of the VAE's posterior


class Objective(Protocol):
    """A model as a function. If `losses` raises, the optimizer keeps the state of the last complete step."""

    num_images: int
    num_prompts: int
    num_train_timesteps: int
    latents_shape: tuple[int, int, int]  # (C, h, w)
    embedding_shape: tuple[int, int]  # (K, D): vectors per token, width

    def losses(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        """embeddings (B, K, D) float32 and B draws -> (B,) float64; loss b depends on embedding b and draw b only."""
        ...

    def residuals(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        """Prediction minus target, (B, C h w) float32; the losses are the mean squares of its rows."""
        ...


def near(objective: Objective, embedding: np.ndarray) -> Objective:
    """The objective for rows close to an embedding (K, D): the result of its method ``near`` if any, else itself."""
    method: Callable[[np.ndarray], Objective] | None = getattr(objective, "near", None)
    return objective if method is None else method(embedding)


def draw(objective: Objective, seed: int, step: int, count: int, timestep_range: tuple[int, int]) -> list[Draw]:
    """The ``count`` draws of one step.

    Draw j takes number j of the timestep stream, numbers 2j and 2j + 1 of the image stream (image, prompt) and, with
    S = C h w, numbers 2 S j to 2 S (j + 1) of the noise stream (diffusion noise, then posterior noise).

    Args:
        timestep_range: (LO, HI); t is uniform in LO, ..., HI - 1 (the paper's partial uniform timestep sampling).
    """
    low, high = timestep_range
    timesteps = low + integers(seed, Stream.TIMESTEP, step, count, high - low)
    noise = normals(seed, Stream.NOISE, step, (count, 2, *objective.latents_shape))
    out = []
    for j in range(count):
        image = integers(seed, Stream.IMAGE, step, 1, objective.num_images, start=2 * j)
        prompt = integers(seed, Stream.IMAGE, step, 1, objective.num_prompts, start=2 * j + 1)
        out.append(Draw(int(image[0]), int(prompt[0]), int(timesteps[j]), noise[j, 0], noise[j, 1]))
    return out


def held_out_draws(objective: Objective, seed: int, count: int, timestep_range: tuple[int, int]) -> list[Draw]:
    """A fixed set of draws that training never uses; images in turn, timesteps spread evenly over the range."""
    low, high = timestep_range
    out = []
    for j, drawn in enumerate(draw(objective, seed, HELD_OUT_STEP, count, timestep_range)):
        timestep = low + ((2 * j + 1) * (high - low)) // (2 * count)
        out.append(Draw(j % objective.num_images, drawn.prompt, timestep, drawn.noise, drawn.latent_noise))
    return out


def evaluate(objective: Objective, embedding: np.ndarray, draws: Sequence[Draw], max_batch: int) -> np.ndarray:
    """Loss of one embedding (K, D) on every draw, (len(draws),) float64."""
    return evaluate_rows(objective, np.broadcast_to(embedding, (len(draws), *embedding.shape)), draws, max_batch)


def evaluate_rows(objective: Objective, embeddings: np.ndarray, draws: Sequence[Draw], max_batch: int) -> np.ndarray:
    """Loss of embedding b on draw b, (B,) float64, in calls of at most ``max_batch`` rows."""
    return _in_calls(objective.losses, embeddings, draws, max_batch).astype(np.float64)


def evaluate_residuals(
    objective: Objective, embeddings: np.ndarray, draws: Sequence[Draw], max_batch: int
) -> np.ndarray:
    """Residuals of embedding b on draw b, (B, C h w) float32, in calls of at most ``max_batch`` rows."""
    return _in_calls(objective.residuals, embeddings, draws, max_batch)


def _in_calls(
    call: Callable[[np.ndarray, Sequence[Draw]], np.ndarray],
    embeddings: np.ndarray,
    draws: Sequence[Draw],
    max_batch: int,
) -> np.ndarray:
    chunks = range(0, len(draws), max_batch)
    return np.concatenate([call(embeddings[i : i + max_batch], draws[i : i + max_batch]) for i in chunks])
