"""Pictures from a prompt and learned embeddings, on the same integer weights that personalization runs on.

    pictures = generate("a picture of <subject> on a blue background", embeddings=["run/learned_embeds.safetensors"])

DDIM (Song et al., 2021) with classifier-free guidance. The starting noise comes from the portable generator, so the
same seed gives the same bytes on the same machine.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_sdk.config import check_resolution, check_seed
from edge_sdk.embedding import LearnedEmbedding, check_embeddings, load_embedding
from edge_sdk.errors import EdgeSdkError
from edge_sdk.preparation import open_model_or_bundle
from edge_sdk.zo.noise import Stream, normals

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

    from edge_sdk.diffusion.schedule import Schedule
    from edge_sdk.runtime.pytorch.text import Condition, Text
    from edge_sdk.diffusion.networks.vae import Vae
    from edge_sdk.runtime.pytorch.model import Model
    from edge_sdk.preparation import Prepared


def condition(
    text: "Text", prompts: Sequence[str], negative_prompt: str, embeddings: Sequence[LearnedEmbedding], side: int = 0
) -> "tuple[Condition, Condition]":
    """What the denoiser is told of N prompts and of the negative prompt, N rows each.

    Args:
        side: of the pictures in pixels; SDXL is told.

    Raises:
        EdgeSdkError: an embedding is of another family or width than the model, or two are for one token.
    """
    import torch

    from edge_sdk.runtime.pytorch.text_xl import picture_sizes

    check_embeddings(embeddings, text.widths)
    ids = text.tokenize(prompts, {e.token: len(e.vectors) for e in embeddings})
    learned = None
    if embeddings:
        rows = torch.from_numpy(np.concatenate([e.vectors for e in embeddings]))  # (sum of K, D)
        learned = rows.expand(len(ids), -1, -1)
    sizes = picture_sizes([(side, side)] * len(ids), (side, side))
    with torch.inference_mode():
        return text.condition(ids, learned, sizes), text.negative(negative_prompt, sizes[:1]).repeated(len(ids))


def denoise(
    unet: "nn.Module", schedule: "Schedule", positive: "Condition", negative: "Condition", noise: np.ndarray,
    num_inference_steps: int, guidance_scale: float,
) -> "torch.Tensor":  # fmt: skip
    """DDIM from noise (N, C, h, w) float32 to latents of the same shape. Guidance of 1 or less is no guidance."""
    import torch

    steps = min(num_inference_steps, schedule.max_steps)
    coefficients, times = schedule.coefficients(), schedule.times()
    latents = torch.from_numpy(noise).to(positive.hidden.device)
    guided = guidance_scale > 1
    told = negative.followed_by(positive) if guided else positive
    with torch.inference_mode():
        for t in schedule.timesteps(steps):
            batch = torch.cat([latents, latents]) if guided else latents
            predicted = unet(batch, times[t].to(batch.device), *told)
            if guided:
                without, with_prompt = predicted.chunk(2)
                predicted = without + guidance_scale * (with_prompt - without)
            latents = schedule.ddim_step(predicted, t, steps, latents, coefficients)
    return latents


def decode(vae: "Vae", latents: "torch.Tensor") -> np.ndarray:
    """Latents (N, C, h, w) to pictures (N, H, W, 3) uint8, one at a time to bound memory."""
    import torch

    out = []
    with torch.inference_mode():
        for row in latents.split(1):
            pixels = vae.decode(row / vae.config.scaling_factor + (vae.config.shift_factor or 0.0))[0]
            out.append(((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy())
    return np.stack(out)


def preview(
    model: "Model", prepared: "Prepared", prompt: str, embeddings: Sequence[LearnedEmbedding], noise: np.ndarray,
    steps: int, guidance_scale: float,
) -> list[np.ndarray]:  # fmt: skip
    """Pictures (N, H, W, 3) uint8 with each embedding, from noise (N, C, h, w), on what a run has in memory.

    The VAE follows the denoiser, they are never in memory together: ``prepared.objective`` is gone afterwards.
    """
    from edge_sdk.system.memory import release

    objective, schedule, latents = prepared.objective, model.load_schedule(), []
    for embedding in embeddings:
        states = condition(objective.text, [prompt] * len(noise), "", [embedding], prepared.photos.pixels.shape[3])
        latents.append(denoise(objective.unet, schedule, *states, noise, steps, guidance_scale))
    prepared.objective = None
    del objective
    release()
    vae: Any = model.load("vae")
    return [decode(vae, each) for each in latents]


def starting_noise(seed: int, count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """(count, C, h, w) float32; picture i starts from the same noise however many are drawn."""
    return np.stack([normals(seed, Stream.NOISE, i, shape) for i in range(count)])


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
    """Draw pictures; text encoder, denoiser and VAE are in memory one after the other.

    Args:
        model: "pocket" (the default), a diffusers folder, an integer checkpoint, or a hub id.
        embeddings: files, or embeddings already loaded; their tokens may be used in the prompt.
        resolution: side in pixels, a multiple of 8; None for the model's own.
        weights, execution, residency, device: see `edge_sdk.runtime.pytorch.model.open_model`, whose defaults are taken.
        bundle: a folder of `edge-sdk export`, run by ONNX Runtime, instead of a model and these four.

    Raises:
        EdgeSdkError: model or embedding cannot be used, or a number is out of range.
    """
    from edge_sdk.images import to_pil

    for name, value in (("num_images", num_images), ("num_inference_steps", num_inference_steps)):
        if not 1 <= value <= 1000:
            raise EdgeSdkError(f"{name} is {value}; it must be from 1 to 1000")
    if not math.isfinite(guidance_scale):
        raise EdgeSdkError(f"guidance_scale is {guidance_scale}; it must be a finite number")
    check_seed(seed)
    opened = open_model_or_bundle(
        model, bundle, weights=weights, execution=execution, residency=residency, device=device
    )
    check_resolution(resolution)
    loaded = [e if isinstance(e, LearnedEmbedding) else load_embedding(e) for e in embeddings]
    noise = starting_noise(seed, num_images, opened.latents_shape(resolution or opened.resolution()))
    pictures = opened.draw(prompt, negative_prompt, loaded, noise, num_inference_steps, guidance_scale)
    return [to_pil(picture) for picture in pictures]


def draw(
    model: "Model", prompt: str, negative_prompt: str, embeddings: Sequence[LearnedEmbedding], noise: np.ndarray,
    num_inference_steps: int, guidance_scale: float,
) -> np.ndarray:  # fmt: skip
    """Pictures (N, H, W, 3) uint8 from noise (N, C, h, w); text encoder, denoiser and VAE follow one another."""
    from edge_sdk.system.memory import release

    text, side = model.load_text(), noise.shape[3] * model.vae_scale()
    positive, negative = condition(text, [prompt] * len(noise), negative_prompt, embeddings, side)
    del text
    release()
    unet = model.load("unet")
    latents = denoise(unet, model.load_schedule(), positive, negative, noise, num_inference_steps, guidance_scale)
    del unet
    release()
    vae: Any = model.load("vae")
    return decode(vae, latents)
