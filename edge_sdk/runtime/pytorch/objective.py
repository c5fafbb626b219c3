"""Stable Diffusion 1.x, 2.x and XL as an objective: the denoising loss of a learned embedding on a draw."""

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn

from edge_sdk.diffusion.networks.vae import Vae
from edge_sdk.diffusion.prediction import noised, target
from edge_sdk.diffusion.schedule import Schedule
from edge_sdk.quantization.threads import by_size
from edge_sdk.runtime.pytorch.text import Text
from edge_sdk.system.memory import release
from edge_sdk.zo import Draw


class Latents:
    """The photos as the VAE sees them, encoded once.

    Attributes:
        mean, std: (N, C, h, w) float32 of the posterior, already multiplied by the VAE's scaling factor, on the
            device that the objective runs on.
    """

    def __init__(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        self.mean, self.std = mean, std


@torch.inference_mode()
def encode_images(vae: Vae, pixels: Iterable[np.ndarray]) -> Latents:
    """Encode photos, (3, H, W) float32 in [-1, 1] each, one at a time to bound memory."""
    scale, shift = vae.config.scaling_factor, vae.config.shift_factor or 0.0
    device = next(vae.parameters()).device
    encoded = [vae.encode(torch.from_numpy(image[None]).to(device)) for image in pixels]
    mean = torch.cat([(mean - shift) * scale for mean, _ in encoded])
    std = torch.cat([std * scale for _, std in encoded])
    return Latents(mean.contiguous(), std.contiguous())


class StableDiffusionObjective:
    """loss(embedding, draw) = mean of (target - denoiser(z_t, t, text(embedding)))^2, paper equation 1.

    The denoiser and the text encoder may hold float layers or integer ones; they are only ever called.

    Args:
        text: the family's text side.
        unet: the denoiser.
        schedule: the model's noise schedule.
        latents: the encoded photos.
        ids: token ids (int64), (P, T) prompts for all photos or (N, 1, T) one caption each.
        num_vectors: vectors per placeholder token.
        time_ids: (N, 6) float32 for SDXL, see `edge_sdk.diffusion.conditioning.add_time_ids`; else not used.
    """

    rows: int | None = None  # of a call: any

    def __init__(
        self,
        text: Text,
        unet: nn.Module,
        schedule: Schedule,
        latents: Latents,
        ids: np.ndarray,
        num_vectors: int,
        time_ids: np.ndarray | None = None,
    ) -> None:
        self.prediction_type = schedule.prediction_type
        self.text: Any = text
        self.unet: Any = unet
        self.latents, self.ids = latents, torch.from_numpy(ids)
        self.time_ids = None if time_ids is None else torch.from_numpy(time_ids)
        self.coefficients = torch.stack([*schedule.coefficients(), schedule.times()])  # (3, T)
        self.num_images = len(latents.mean)
        self.num_prompts = ids.shape[-2]
        self.num_train_timesteps = schedule.num_train_timesteps
        self.latents_shape: tuple[int, int, int] = tuple(latents.mean.shape[1:])
        self.embedding_shape = (num_vectors, text.width)

    def losses(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        """(B, K, D) float32 embeddings on B draws -> (B,) float64. Row b depends on nothing but row b.

        An embedding is the optimizer's variable: ``text.scale`` times it are the vectors.
        """
        with torch.inference_mode():
            return self.loss(torch.from_numpy(np.array(embeddings, np.float32)), draws).double().cpu().numpy()

    def residuals(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        """The same, not yet squared: model output minus target, (B, C h w) float32."""
        with torch.inference_mode():
            return self.errors(torch.from_numpy(np.array(embeddings, np.float32)), draws).flatten(1).cpu().numpy()

    def loss(self, embeddings: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
        """The same on tensors, (B,) float32; differentiable in ``embeddings`` if the layers are float ones."""
        return self.errors(embeddings, draws).pow(2).mean(dim=(1, 2, 3))

    @by_size(lambda objective, embeddings: len(embeddings) * prod(objective.latents_shape))
    def errors(self, embeddings: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
        """Model output minus target, (B, C, h, w) float32."""
        device = self.latents.mean.device
        firsts = [b for b, d in enumerate(draws) if b == 0 or d is not draws[b - 1]]  # neighbours share a draw
        lengths = torch.tensor([*firsts[1:], len(draws)]) - torch.tensor(firsts)
        rows = torch.repeat_interleave(torch.arange(len(firsts)), lengths)  # (B,), the draw of each
        own = [draws[b] for b in firsts]
        image = torch.tensor([d.image for d in own])  # (G,)
        t = torch.tensor([d.timestep for d in own])
        noise = torch.from_numpy(np.stack([d.noise for d in own])).to(device)  # (G, C, h, w)
        latent_noise = torch.from_numpy(np.stack([d.latent_noise for d in own])).to(device)
        prompts = self.ids[image] if self.ids.dim() == 3 else self.ids.expand(len(own), -1, -1)
        ids = prompts[torch.arange(len(own)), torch.tensor([d.prompt for d in own])]  # (G, T)

        x0 = self.latents.mean[image] + self.latents.std[image] * latent_noise
        a, b, time = self.coefficients[:, t].to(device)  # (G,) each
        time_ids = None if self.time_ids is None else self.time_ids[image][rows]  # (B, 6)
        condition = self.text.condition(ids[rows], embeddings * torch.as_tensor(self.text.scale), time_ids)
        shared = None if len(own) == len(draws) else rows.to(device)
        model_output = self.unet(noised(x0, noise, a, b), time, *condition, rows=shared)
        return model_output.float() - target(self.prediction_type, x0, noise, a, b)[rows]

    def close(self) -> None:
        """Let go of text encoders and denoiser; the objective cannot be used afterwards."""
        self.text = self.unet = None
        release()
