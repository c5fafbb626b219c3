"""Stages of generation in PyTorch: the conditioning of prompts, the denoiser's predictions, pictures from latents."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edge_sdk.diffusion.conditioning import add_time_ids
from edge_sdk.diffusion.ddim import denoise as ddim
from edge_sdk.diffusion.pixels import as_bytes
from edge_sdk.embedding import LearnedEmbedding, check_embeddings
from edge_sdk.runtime.pytorch.objective import Latents, encode_images
from edge_sdk.system.memory import release

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from edge_sdk.diffusion.networks.vae import Vae
    from edge_sdk.diffusion.schedule import Schedule
    from edge_sdk.diffusion.tokenizer import ClipTokenizer
    from edge_sdk.runtime.pytorch.text import Condition, Text


def condition(
    text: "Text", prompts: Sequence[str], negative_prompt: str, embeddings: Sequence[LearnedEmbedding], side: int = 0
) -> "tuple[Condition, Condition]":
    """The conditioning of N prompts and of the negative prompt, N rows each.

    Args:
        side: of the pictures in pixels, for SDXL.

    Raises:
        EdgeSdkError: an embedding is of another family or width than the model, or two are for one token.
    """
    check_embeddings(embeddings, text.widths)
    placeholders = {e.token: len(e.vectors) for e in embeddings}
    ids, learned, shared = torch.from_numpy(text.tokenize(prompts, placeholders)), None, None
    if embeddings:
        learned = torch.from_numpy(np.concatenate([e.vectors for e in embeddings]))[None]  # (1, sum of K, D)
        shared = learned.expand(len(ids), -1, -1)
    time_ids = torch.from_numpy(add_time_ids([(side, side)] * len(ids), (side, side)))
    with torch.inference_mode():
        negative = text.negative(negative_prompt, time_ids[:1], placeholders, learned)
        return text.condition(ids, shared, time_ids), negative.repeated(len(ids))


def predictor(
    unet: "nn.Module", schedule: "Schedule", positive: "Condition", negative: "Condition | None"
) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """From latents (N, C, h, w) and a timestep to the model's output, with a negative conditioning of 2 N rows."""
    times = schedule.times()
    conditioning = positive if negative is None else negative.followed_by(positive)

    @torch.inference_mode()
    def predict(latents: torch.Tensor, t: int) -> torch.Tensor:
        batch = latents if negative is None else torch.cat([latents, latents])
        return unet(batch, times[t].to(batch.device), *conditioning)

    return predict


def denoise(
    unet: "nn.Module",
    schedule: "Schedule",
    positive: "Condition",
    negative: "Condition",
    noise: np.ndarray,
    num_inference_steps: int,
    guidance_scale: float,
) -> torch.Tensor:
    """DDIM from noise (N, C, h, w) float32 to latents of the same shape. Guidance of 1 or less is no guidance."""
    predict = predictor(unet, schedule, positive, negative if guidance_scale > 1 else None)
    start = torch.from_numpy(noise).to(positive.hidden.device)
    return ddim(schedule, schedule.coefficients(), predict, start, num_inference_steps, guidance_scale)


def decode(vae: "Vae", latents: torch.Tensor) -> np.ndarray:
    """Latents (N, C, h, w) to pictures (N, H, W, 3) uint8, one at a time to bound memory; see `as_bytes`."""
    out = []
    with torch.inference_mode():
        for row in latents.split(1):
            pixels = vae.decode(row / vae.config.scaling_factor + (vae.config.shift_factor or 0.0))
            out.append(as_bytes(pixels.cpu().numpy()))
    return np.concatenate(out)


class TextStage:
    """The text encoders in memory, see `edge_sdk.runtime.base.TextStage`."""

    def __init__(self, text: "Text") -> None:
        self.text: Any = text

    @property
    def tokenizers(self) -> "list[ClipTokenizer]":
        return self.text.tokenizers

    def encode(
        self, prompt: str, negative_prompt: str, embeddings: Sequence[LearnedEmbedding], count: int, side: int
    ) -> "tuple[Condition, Condition]":
        return condition(self.text, [prompt] * count, negative_prompt, embeddings, side)


class DenoiserStage:
    """The denoiser in memory, see `edge_sdk.runtime.base.DenoiserStage`."""

    def __init__(self, unet: "nn.Module", schedule: "Schedule", device: str) -> None:
        self.unet: Any = unet
        self.schedule, self.device = schedule, device

    def array(self, noise: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(noise).to(self.device)

    def predictor(
        self, positive: "Condition", negative: "Condition | None"
    ) -> Callable[[torch.Tensor, int], torch.Tensor]:
        return predictor(lambda *inputs: self.unet(*inputs), self.schedule, positive, negative)


class VaeStage:
    """The autoencoder in memory, see `edge_sdk.runtime.base.VaeStage`."""

    def __init__(self, vae: "Vae") -> None:
        self.vae: Any = vae

    def encode(self, pixels: Iterable[np.ndarray]) -> Latents:
        return encode_images(self.vae, pixels)

    def decode(self, latents: torch.Tensor) -> np.ndarray:
        return decode(self.vae, latents)


@contextmanager
def held(stage: Any, component: str) -> "Iterator[Any]":
    """Yield a stage, then let go of its component, whoever still holds the stage."""
    try:
        yield stage
    finally:
        setattr(stage, component, None)
        release()
