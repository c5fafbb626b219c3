"""DDIM sampling (Song et al., 2021), with the numbers of diffusers, on arrays of numpy or PyTorch.

z_t = a_t x0 + b_t noise, whatever the model is asked to predict of the two. For a flow a step is Euler's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

PREDICTION_TYPES = ("epsilon", "v_prediction", "flow")
SPACINGS = ("leading", "trailing", "linspace")


@dataclass(frozen=True)
class Ddim:
    """How a model is sampled: entries of diffusers' ``scheduler_config.json``."""

    num_train_timesteps: int = 1000
    prediction_type: str = "epsilon"
    timestep_spacing: str = "leading"
    steps_offset: int = 0
    clip_sample: bool = False
    clip_sample_range: float = 1.0
    set_alpha_to_one: bool = True

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

    def ddim_step(self, predicted: Any, timestep: int, steps: int, latents: Any, coefficients: tuple[Any, Any]) -> Any:
        """From the latents of one timestep to those of the one before, without added noise.

        DDIM equation 12; for a flow that is Euler's step along its velocity.

        Args:
            coefficients: a and b of every timestep, (T,) each.
        """
        a, b = coefficients
        before = timestep - self.num_train_timesteps // steps
        x0, noise = x0_and_noise(self.prediction_type, predicted, latents, a[timestep], b[timestep])
        if self.clip_sample:
            x0 = x0.clip(-self.clip_sample_range, self.clip_sample_range)
        if before < 0 and self.set_alpha_to_one:
            return x0
        return a[max(before, 0)] * x0 + b[max(before, 0)] * noise


def x0_and_noise(prediction_type: str, predicted: Any, z: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """The two parts of z_t that a prediction stands for; a and b are scalars."""
    if prediction_type == "epsilon":
        return (z - b * predicted) / a, predicted
    if prediction_type == "flow":
        return z - b * predicted, z + a * predicted
    return a * z - b * predicted, a * predicted + b * z


def denoise(
    sampler: Ddim,
    coefficients: tuple[Any, Any],
    predict: Callable[[Any, int], Any],
    noise: Any,
    num_inference_steps: int,
    guidance_scale: float,
) -> Any:
    """DDIM from noise (N, C, h, w) to latents of the same shape, with classifier-free guidance (Ho and Salimans, 2022).

    Args:
        coefficients: a and b of every timestep, (T,) each.
        predict: from latents and a timestep to the model's output: N rows, or 2 N with guidance, the negative prompt's
            first.
    """
    steps, latents = min(num_inference_steps, sampler.max_steps), noise
    for t in sampler.timesteps(steps):
        model_output = predict(latents, t)
        if len(model_output) > len(latents):
            negative, positive = model_output[: len(latents)], model_output[len(latents) :]
            model_output = negative + guidance_scale * (positive - negative)
        latents = sampler.ddim_step(model_output, t, steps, latents, coefficients)
    return latents
