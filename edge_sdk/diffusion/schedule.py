"""The noise schedule of a model and DDIM sampling on it (Song et al., 2021), with the numbers of diffusers."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from edge_sdk.diffusion.configs import known_entries
from edge_sdk.diffusion.prediction import PREDICTION_TYPES, x0_and_noise
from edge_sdk.errors import EdgeSdkError

_SPACINGS = ("leading", "trailing", "linspace")


@dataclass(frozen=True)
class Schedule:
    """The part of diffusers' ``scheduler_config.json`` that training and DDIM read."""

    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    prediction_type: str = "epsilon"
    timestep_spacing: str = "leading"
    steps_offset: int = 0
    clip_sample: bool = False
    clip_sample_range: float = 1.0
    set_alpha_to_one: bool = True
    rescale_betas_zero_snr: bool = False

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> "Schedule":
        """Read the config of any scheduler of the Stable Diffusion family; what only other samplers use is left out.

        Raises:
            EdgeSdkError: a schedule or prediction type that is not known.
        """
        made = cls(**{name: value for name, value in known_entries(cls, config).items() if value is not None})
        accepted = {"prediction_type": PREDICTION_TYPES, "timestep_spacing": _SPACINGS,
                    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2")}  # fmt: skip
        for name, known in accepted.items():
            if getattr(made, name) not in known:
                raise EdgeSdkError(
                    f"the scheduler's config has {name} {getattr(made, name)!r}; supported are {', '.join(known)}"
                )
        return made

    def alphas_cumprod(self) -> torch.Tensor:
        """alpha_bar of every timestep, (T,) float32."""
        t = self.num_train_timesteps
        if self.beta_schedule == "linear":
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

    def timesteps(self, steps: int) -> list[int]:
        """The timesteps of a sampling run, falling; a model has at most `max_steps` of them."""
        t = self.num_train_timesteps
        if self.timestep_spacing == "linspace":
            return [int(i) for i in np.linspace(0, t - 1, steps).round()[::-1]]
        if self.timestep_spacing == "trailing":
            return [int(i) - 1 for i in np.round(np.arange(t, 0, -t / steps))]
        return [i * (t // steps) + self.steps_offset for i in reversed(range(steps))]

    @property
    def max_steps(self) -> int:
        return self.num_train_timesteps - self.steps_offset

    def ddim_step(
        self, predicted: torch.Tensor, timestep: int, steps: int, latents: torch.Tensor, alphas: torch.Tensor
    ) -> torch.Tensor:
        """From the latents of one timestep to those of the one before, without added noise (DDIM equation 12)."""
        before = timestep - self.num_train_timesteps // steps
        alpha = alphas[timestep]
        last = torch.ones(()) if self.set_alpha_to_one else alphas[0]
        alpha_before = alphas[before] if before >= 0 else last
        x0, noise = x0_and_noise(self.prediction_type, predicted, latents, alpha)
        if self.clip_sample:
            x0 = x0.clamp(-self.clip_sample_range, self.clip_sample_range)
        return alpha_before.sqrt() * x0 + (1 - alpha_before).sqrt() * noise
