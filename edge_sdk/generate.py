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

from edge_sdk.config import check_resolution
from edge_sdk.embedding import LearnedEmbedding, load_embedding
from edge_sdk.errors import EdgeSdkError
from edge_sdk.zo.noise import Stream, normals

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

    from edge_sdk.diffusion.schedule import Schedule
    from edge_sdk.diffusion.text import Condition, Text
    from edge_sdk.diffusion.vae import Vae


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

    from edge_sdk.diffusion.stable_diffusion_xl import picture_sizes

    for embedding in embeddings:
        if embedding.widths != text.widths:
            raise EdgeSdkError(
                f"the embedding of {embedding.token} is {_width(embedding.widths)} wide and this model takes "
                f"{_width(text.widths)}; use it with the model it was learned on"
            )
    if len({embedding.token for embedding in embeddings}) != len(embeddings):
        raise EdgeSdkError("two embeddings have the same token; give each token once")
    ids = text.tokenize(prompts, {e.token: len(e.vectors) for e in embeddings})
    learned = None
    if embeddings:
        rows = torch.from_numpy(np.concatenate([e.vectors for e in embeddings]))  # (sum of K, D)
        learned = rows.expand(len(ids), -1, -1)
    sizes = picture_sizes([(side, side)] * len(ids), (side, side))
    with torch.inference_mode():
        return text.condition(ids, learned, sizes), text.negative(negative_prompt, sizes[:1]).repeated(len(ids))


def _width(widths: tuple[int, ...]) -> str:
    return str(widths[0]) if len(widths) == 1 else f"{' + '.join(map(str, widths))} (SDXL)"


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


def starting_noise(seed: int, count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """(count, C, h, w) float32; picture i starts from the same noise however many are drawn."""
    return np.stack([normals(seed, Stream.NOISE, i, shape) for i in range(count)])


def generate(
    prompt: str,
    model: str = "pocket",
    embeddings: Sequence[str | Path | LearnedEmbedding] = (),
    *,
    negative_prompt: str = "",
    num_images: int = 1,
    num_inference_steps: int = 25,
    guidance_scale: float = 4.0,
    resolution: int | None = None,
    weights: str = "int8",
    execution: str = "integer",
    residency: str = "resident",
    device: str = "cpu",
    seed: int = 0,
) -> "list[Image.Image]":
    """Draw pictures; text encoder, denoiser and VAE are in memory one after the other.

    Args:
        embeddings: files, or embeddings already loaded; their tokens may be used in the prompt.
        resolution: side in pixels, a multiple of 8; None for the model's own.

    Raises:
        EdgeSdkError: model or embedding cannot be used, or a number is out of range.
    """
    from edge_sdk.images import to_pil
    from edge_sdk.memory import release
    from edge_sdk.models import open_model

    for name, value in (("num_images", num_images), ("num_inference_steps", num_inference_steps)):
        if not 1 <= value <= 1000:
            raise EdgeSdkError(f"{name} is {value}; it must be from 1 to 1000")
    if not math.isfinite(guidance_scale):
        raise EdgeSdkError(f"guidance_scale is {guidance_scale}; it must be a finite number")
    if not 0 <= seed < 2**64:
        raise EdgeSdkError(f"seed is {seed}; it must be at least 0 and below 2**64")
    opened = open_model(model, weights, execution, residency, device)
    check_resolution(resolution)
    side = opened.resolution() if resolution is None else resolution
    loaded = [e if isinstance(e, LearnedEmbedding) else load_embedding(e) for e in embeddings]

    text = opened.load_text()
    positive, negative = condition(text, [prompt] * num_images, negative_prompt, loaded, side)
    del text
    release()
    unet: Any = opened.load("unet")
    latent_side = side // opened.vae_scale()
    noise = starting_noise(seed, num_images, (unet.config.in_channels, latent_side, latent_side))
    latents = denoise(unet, opened.load_schedule(), positive, negative, noise, num_inference_steps, guidance_scale)
    del unet
    release()
    return [to_pil(picture) for picture in decode(opened.load("vae"), latents)]
