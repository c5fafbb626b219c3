"""Stable Diffusion 1.x, 2.x and XL as an objective: the denoising loss of a learned embedding on a draw."""

from collections.abc import Iterable, Sequence
from copy import copy
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn

from edge_sdk.diffusion.networks.lockstep import differences
from edge_sdk.diffusion.networks.vae import Vae
from edge_sdk.diffusion.prediction import noised, target
from edge_sdk.diffusion.schedule import Schedule
from edge_sdk.quantization import difference
from edge_sdk.quantization.arithmetic import arithmetic
from edge_sdk.quantization.layers import integer_layers
from edge_sdk.quantization.threads import by_size
from edge_sdk.runtime.pytorch.cuda_graph import GraphedDenoiser
from edge_sdk.runtime.pytorch.text import Text
from edge_sdk.system.memory import release
from edge_sdk.zo import Draw, Objective


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
        activations: of integer layers: "16" or "8" bits, or "difference", which `near` then makes of rows.
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
        activations: str = "16",
    ) -> None:
        self.prediction_type, self.activations = schedule.prediction_type, activations
        self.text: Any = text
        self.unet: Any = unet
        self._denoiser: Any = GraphedDenoiser(unet) if latents.mean.is_cuda else unet
        if activations == "8":
            for layer in (each for module in (unet, *text.models) for each in integer_layers(module).values()):
                layer.activation_bits = 8
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
        firsts = [b for b, d in enumerate(draws) if b == 0 or d is not draws[b - 1]]  # neighbours share a draw
        lengths = torch.tensor([*firsts[1:], len(draws)]) - torch.tensor(firsts)
        rows = torch.repeat_interleave(torch.arange(len(firsts)), lengths)  # (B,), the draw of each
        ids, x0, noise, (a, b, time), time_ids = self._inputs([draws[b] for b in firsts])
        time_ids = None if time_ids is None else time_ids[rows]  # (B, 6)
        condition = self.text.condition(ids[rows], embeddings * torch.as_tensor(self.text.scale), time_ids)
        shared = None if len(firsts) == len(draws) else rows.to(x0.device)
        model_output = self._denoiser(noised(x0, noise, a, b), time, *condition, rows=shared)
        return model_output.float() - target(self.prediction_type, x0, noise, a, b)[rows]

    def _inputs(self, draws: Sequence[Draw]) -> tuple[Any, ...]:
        """Of G draws: ids (G, T), x0 and noise (G, C, h, w), a, b and time (G,) each, time ids (G, 6) or None."""
        device = self.latents.mean.device
        image = torch.tensor([d.image for d in draws])  # (G,)
        noise = torch.from_numpy(np.stack([d.noise for d in draws])).to(device)
        latent_noise = torch.from_numpy(np.stack([d.latent_noise for d in draws])).to(device)
        prompts = self.ids[image] if self.ids.dim() == 3 else self.ids.expand(len(draws), -1, -1)
        ids = prompts[torch.arange(len(draws)), torch.tensor([d.prompt for d in draws])]
        x0 = self.latents.mean[image] + self.latents.std[image] * latent_noise
        coefficients = self.coefficients[:, torch.tensor([d.timestep for d in draws])].to(device)
        return ids, x0, noise, coefficients, None if self.time_ids is None else self.time_ids[image]

    def near(self, embedding: np.ndarray) -> "Objective":
        """The objective for rows that differ little from an embedding (K, D): as differences to it, where that is set.

        Row b then depends on nothing but row b and that embedding.
        """
        return _Near(self, embedding) if self.activations == "difference" else self

    @by_size(lambda objective, embeddings: len(embeddings) * prod(objective.latents_shape))
    def errors_beside(self, embeddings: torch.Tensor, draw: Draw) -> torch.Tensor:
        """Model output minus target, (B, C, h, w) float32, on one draw; row 0 is the base of the others."""
        ids, x0, noise, coefficients, time_ids = self._inputs([draw])
        a, b, time = coefficients
        count = len(embeddings)
        time_ids = None if time_ids is None else time_ids.expand(count, -1)
        with difference.first_row_is_base():
            scaled = embeddings * torch.as_tensor(self.text.scale)
            condition = self.text.condition(ids.expand(count, -1), scaled, time_ids)
        model_output = differences(self.unet, noised(x0, noise, a, b), time, *condition)
        return model_output.float() - target(self.prediction_type, x0, noise, a, b)

    def on_latents(self, latents: np.ndarray, ids: np.ndarray, time_ids: np.ndarray) -> "StableDiffusionObjective":
        """See `edge_sdk.runtime.base.PreparedObjective`. It holds the networks until it is gone."""
        other, mean = copy(self), torch.from_numpy(latents).to(self.latents.mean.device)
        other.latents, other.ids = Latents(mean, torch.zeros_like(mean)), torch.from_numpy(ids)
        other.time_ids = torch.from_numpy(time_ids)
        other.num_images, other.num_prompts = len(latents), ids.shape[-2]
        other.embedding_shape = (1, self.embedding_shape[1])
        return other

    def arithmetic(self) -> str:
        """See `edge_sdk.quantization.arithmetic`."""
        encoders = (each.model for each in self.text.tokenizers)
        return f"{self.activations} {arithmetic((self.unet, *encoders), self.latents.mean.device)}"

    def close(self) -> None:
        """Let go of text encoders and denoiser; the objective cannot be used afterwards."""
        self.text = self.unet = self._denoiser = None
        release()


class _Near:
    """A `StableDiffusionObjective` for rows near an embedding (K, D), which is computed once a call and draw."""

    def __init__(self, objective: StableDiffusionObjective, embedding: np.ndarray) -> None:
        self._objective, self._base = objective, np.array(embedding, np.float32)
        self.num_images, self.num_prompts = objective.num_images, objective.num_prompts
        self.num_train_timesteps = objective.num_train_timesteps
        self.latents_shape, self.embedding_shape = objective.latents_shape, objective.embedding_shape

    def losses(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        with torch.inference_mode():
            return self._errors(embeddings, draws).pow(2).mean(dim=(1, 2, 3)).double().cpu().numpy()

    def residuals(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        with torch.inference_mode():
            return self._errors(embeddings, draws).flatten(1).cpu().numpy()

    def _errors(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> torch.Tensor:
        rows = np.array(embeddings, np.float32)
        out: torch.Tensor | None = None
        for draw in {id(d): d for d in draws}.values():
            of_draw = [b for b, d in enumerate(draws) if d is draw]
            others = [b for b in of_draw if not np.array_equal(rows[b], self._base)]
            beside = torch.from_numpy(np.concatenate([self._base[None], rows[others]]))
            errors = self._objective.errors_beside(beside, draw)
            out = errors.new_empty((len(draws), *errors.shape[1:])) if out is None else out
            out[others] = errors[1:]
            out[[b for b in of_draw if b not in others]] = errors[:1]
        assert out is not None
        return out
