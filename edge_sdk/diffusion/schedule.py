"""The noise schedule of a model, with the numbers of diffusers.

A flow (Esser et al., 2024) has the same form: its timestep t of 0..T - 1 stands for sigma (t + 1) / T, shifted.
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import torch

from edge_sdk.diffusion.ddim import Ddim
from edge_sdk.diffusion.schedulers import CLASSES, FLOW_CLASSES, scheduler_entries


@dataclass(frozen=True)
class Schedule(Ddim):
    """The part of diffusers' ``scheduler_config.json`` that training and DDIM read."""

    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    trained_betas: tuple[float, ...] = ()  # of every timestep, instead of the three above
    rescale_betas_zero_snr: bool = False
    shift: float = 1.0  # flow only: sigma = shift s / (1 + (shift - 1) s) for s = (t + 1) / T

    @classmethod
    def from_dict(
        cls,
        config: dict[str, Any],
        accepted: tuple[str, ...] = CLASSES,
        declared: str | None = None,
        is_corrected: bool = False,
    ) -> "Schedule":
        """Read the config of a scheduler; what only other samplers use is left out.

        Args:
            accepted, declared, is_corrected: see `edge_sdk.diffusion.schedulers.scheduler_entries`.

        Raises:
            EdgeSdkError: a class, a schedule or a prediction type that is not accepted.
        """
        entries = scheduler_entries(config, accepted, declared, is_corrected)
        if entries.get("_class_name") in FLOW_CLASSES:
            entries |= {"prediction_type": "flow", "timestep_spacing": "trailing"}
        if "trained_betas" in entries:
            entries["trained_betas"] = tuple(entries["trained_betas"])
        return cls(**{f.name: entries[f.name] for f in fields(cls) if f.name in entries})

    def alphas_cumprod(self) -> torch.Tensor:
        """alpha_bar of every timestep, (T,) float32."""
        t = self.num_train_timesteps
        if self.trained_betas:
            betas = torch.tensor(self.trained_betas, dtype=torch.float32)
        elif self.beta_schedule == "linear":
            betas = torch.linspace(self.beta_start, self.beta_end, t, dtype=torch.float32)
        elif self.beta_schedule == "scaled_linear":
            betas = torch.linspace(self.beta_start**0.5, self.beta_end**0.5, t, dtype=torch.float32) ** 2
        else:
            bar = [math.cos((i / t + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(t + 1)]
            betas = torch.tensor([min(1 - bar[i + 1] / bar[i], 0.999) for i in range(t)])
        alphas = torch.cumprod(1 - betas, dim=0)
        if not self.rescale_betas_zero_snr:
            return alphas
        roots = alphas.sqrt()
        roots = (roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))  # Lin et al., 2024: the last one is zero
        steps = roots**2
        return torch.cumprod(torch.cat([steps[:1], steps[1:] / steps[:-1]]), dim=0)

    def coefficients(self) -> tuple[torch.Tensor, torch.Tensor]:
        """a and b of every timestep, (T,) float32 each: z_t = a x0 + b noise."""
        if self.prediction_type == "flow":
            sigma = self._sigmas()
            return 1 - sigma, sigma
        alpha_bar = self.alphas_cumprod()
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def times(self) -> torch.Tensor:
        """What the denoiser is told of every timestep, (T,) float32: its number, or for a flow T sigma."""
        if self.prediction_type == "flow":
            return self._sigmas() * self.num_train_timesteps
        return torch.arange(self.num_train_timesteps, dtype=torch.float32)

    def _sigmas(self) -> torch.Tensor:
        s = torch.arange(1, self.num_train_timesteps + 1, dtype=torch.float64) / self.num_train_timesteps
        return (self.shift * s / (1 + (self.shift - 1) * s)).float()
