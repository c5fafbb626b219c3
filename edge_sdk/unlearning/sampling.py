"""Deterministic denoising from any timestep, for edits and for measurements: DDIM, and Euler's method for a flow."""

from collections.abc import Callable

import torch

from edge_sdk.diffusion.ddim import x0_and_noise
from edge_sdk.unlearning.denoiser import Condition, Denoiser

Call = Callable[..., tuple[torch.Tensor, ...]]  # a denoiser's module, or a `Trainable`
BATCH = 64  # pictures that are denoised together
STEPS = 25  # of a denoising, at most


def add_noise(denoiser: Denoiser, x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """z_t = a_t x0 + b_t noise for x0 (N, C, h, w) and timesteps (N,)."""
    a, b = (values.to(x0.device)[t].view(-1, 1, 1, 1) for values in denoiser.schedule.coefficients())
    return a * x0 + b * noise


@torch.no_grad()
def denoise(
    denoiser: Denoiser,
    call: Call,
    z: torch.Tensor,
    start: int,
    steps: int,
    condition: Condition,
    between: Callable[[torch.Tensor, int], torch.Tensor] | None = None,
) -> torch.Tensor:
    """From z (N, C, h, w) at a timestep to x0.

    Args:
        steps: at most; from ``start`` down in equal strides.
        between: changes z after each step, given the timestep that it is at; not after the last.
    """
    a, b = denoiser.schedule.coefficients()
    times = torch.linspace(start, 0, min(steps, start + 1) + 1).round().long().tolist()[:-1]
    times = sorted(set(times), reverse=True)
    for now, following in zip(times, [*times[1:], -1], strict=True):
        parts = []
        for rows in z.split(BATCH):
            arguments, named = denoiser.arguments(rows, torch.full((len(rows),), now), condition)
            parts.append(call(*arguments, **named)[0])
        x0, noise = x0_and_noise(denoiser.schedule.prediction_type, torch.cat(parts), z, a[now], b[now])
        if denoiser.vae is None:
            x0 = x0.clamp(-1, 1)
            noise = (z - a[now] * x0) / b[now]
        if following < 0:
            return x0
        z = a[following] * x0 + b[following] * noise
        z = between(z, following) if between else z
    raise AssertionError("there is always a last timestep")


def reconstruct(
    denoiser: Denoiser,
    call: Call,
    x0: torch.Tensor,
    noise: torch.Tensor,
    t: int,
    condition: Condition,
    steps: int | None = None,
) -> torch.Tensor:
    """Noise x0 (N, C, h, w) to a timestep and denoise it again: what the model still makes of it."""
    z = add_noise(denoiser, x0, noise, torch.full((len(x0),), t))
    return denoise(denoiser, call, z, t, steps or STEPS, condition)


def sample(
    denoiser: Denoiser, call: Call, noise: torch.Tensor, condition: Condition, steps: int | None = None
) -> torch.Tensor:
    """Pictures' x0 from pure noise (N, C, h, w)."""
    return denoise(denoiser, call, noise, denoiser.schedule.num_train_timesteps - 1, steps or STEPS, condition)
