"""Pictures from a prompt and learned embeddings, on the same weights that personalization runs on.

    pictures = generate("a picture of <subject> on a blue background", embeddings=["run/learned_embeds.safetensors"])

DDIM (Song et al., 2021) with classifier-free guidance. The starting noise comes from the portable generator, so the
same seed gives the same bytes on the same machine.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_sdk.config import check_resolution, check_seed
from edge_sdk.diffusion.ddim import denoise
from edge_sdk.embedding import LearnedEmbedding, load_embedding
from edge_sdk.errors import EdgeSdkError
from edge_sdk.images import to_pil
from edge_sdk.runtime.base import PreparedObjective, Runtime
from edge_sdk.runtime.open import open_runtime
from edge_sdk.zo.noise import Stream, normals

if TYPE_CHECKING:
    from PIL import Image


def generate(
    prompt: str,
    model: str | None = None,
    embeddings: Sequence[str | Path | LearnedEmbedding] = (),
    *,
    negative_prompt: str = "",
    num_images: int = 1,
    num_inference_steps: int = 25,
    guidance_scale: float = 4.0,
    resolution: int | None = None,
    weights: str | None = None,
    execution: str | None = None,
    residency: str | None = None,
    device: str | None = None,
    seed: int = 0,
    bundle: str | Path | None = None,
) -> "list[Image.Image]":
    """Generate pictures; text encoder, denoiser and VAE are in memory one after the other.

    Args:
        model: "pocket" (the default), a diffusers folder, an integer checkpoint, or a hub id.
        embeddings: files, or embeddings already loaded; their tokens may be used in the prompt.
        resolution: side in pixels, a multiple of 8; None for the model's own.
        weights, execution, residency, device: see `edge_sdk.runtime.pytorch.model.open_model`, whose defaults are
            taken.
        bundle: a folder of `edge-sdk export`, run by ONNX Runtime, instead of a model and these four.

    Raises:
        EdgeSdkError: model or embedding cannot be used, or a number is out of range.
    """
    for name, value in (("num_images", num_images), ("num_inference_steps", num_inference_steps)):
        if not 1 <= value <= 1000:
            raise EdgeSdkError(f"{name} is {value}; it must be from 1 to 1000")
    if not math.isfinite(guidance_scale):
        raise EdgeSdkError(f"guidance_scale is {guidance_scale}; it must be a finite number")
    check_seed(seed)
    runtime = open_runtime(model, bundle, weights=weights, execution=execution, residency=residency, device=device)
    check_resolution(resolution)
    loaded = [e if isinstance(e, LearnedEmbedding) else load_embedding(e) for e in embeddings]
    side = resolution or runtime.resolution()
    noise = starting_noise(seed, num_images, runtime.latents_shape(side))
    (pictures,) = sample(
        runtime,
        prompt,
        [loaded],
        noise,
        side,
        negative_prompt=negative_prompt,
        steps=num_inference_steps,
        guidance_scale=guidance_scale,
    )
    return [to_pil(picture) for picture in pictures]


def sample(
    runtime: Runtime,
    prompt: str,
    embeddings: Sequence[Sequence[LearnedEmbedding]],
    noise: np.ndarray,
    side: int,
    *,
    negative_prompt: str = "",
    steps: int = 25,
    guidance_scale: float = 4.0,
    objective: PreparedObjective | None = None,
) -> list[np.ndarray]:
    """N pictures (N, H, W, 3) uint8 with each set of embeddings, from the same noise (N, C, h, w) float32.

    Args:
        side: of a picture in pixels.
        guidance_scale: 1 or less is no guidance.
        objective: of a run on the same runtime; components that it holds are used, and then it is closed.

    Raises:
        EdgeSdkError: an embedding is of another family or width than the model, or two are for one token.
    """
    guided = guidance_scale > 1
    with runtime.text_stage(objective) as text:
        conditionings = [text.encode(prompt, negative_prompt, each, len(noise), side) for each in embeddings]
    sampler, coefficients = runtime.sampler()
    with runtime.denoiser_stage(objective) as denoiser:
        latents = []
        for positive, negative in conditionings:
            predict = denoiser.predictor(positive, negative if guided else None)
            start = denoiser.array(noise)
            latents.append(denoise(sampler, coefficients, predict, start, steps, guidance_scale))
    if objective is not None:
        objective.close()
    with runtime.vae_stage() as vae:
        return [vae.decode(each) for each in latents]


def starting_noise(seed: int, count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """(count, C, h, w) float32; picture i starts from the same noise however many are generated."""
    return np.stack([normals(seed, Stream.NOISE, i, shape) for i in range(count)])
