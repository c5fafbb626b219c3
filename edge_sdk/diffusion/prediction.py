"""What a denoiser is asked to predict: the forward process z_t = a_t x0 + b_t noise, and its targets.

Diffusion has a = sqrt(alpha_bar), b = sqrt(1 - alpha_bar); flow matching a = 1 - sigma, b = sigma.
"""

import torch


def noised(x0: torch.Tensor, noise: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """z_t for x0 and noise (B, C, h, w), a and b (B,)."""
    return a.view(-1, 1, 1, 1) * x0 + b.view(-1, 1, 1, 1) * noise


def target(
    prediction_type: str, x0: torch.Tensor, noise: torch.Tensor, a: torch.Tensor, b: torch.Tensor
) -> torch.Tensor:
    """The noise itself (epsilon), v = a noise - b x0 (Salimans and Ho, 2022), or the flow's velocity noise - x0."""
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "flow":
        return noise - x0
    return a.view(-1, 1, 1, 1) * noise - b.view(-1, 1, 1, 1) * x0
