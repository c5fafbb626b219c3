"""What a denoiser is asked to predict: the forward process and its targets."""

import torch

PREDICTION_TYPES = ("epsilon", "v_prediction")


def noised(x0: torch.Tensor, noise: torch.Tensor, alpha_bar: torch.Tensor) -> torch.Tensor:
    """z_t = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) noise, for x0 (B, C, h, w) and alpha_bar (B,)."""
    a = alpha_bar.view(-1, 1, 1, 1)
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


def target(prediction_type: str, x0: torch.Tensor, noise: torch.Tensor, alpha_bar: torch.Tensor) -> torch.Tensor:
    """The noise itself (epsilon), or v = sqrt(alpha_bar_t) noise - sqrt(1 - alpha_bar_t) x0 (Salimans and Ho, 2022)."""
    if prediction_type == "epsilon":
        return noise
    a = alpha_bar.view(-1, 1, 1, 1)
    return a.sqrt() * noise - (1 - a).sqrt() * x0


def x0_and_noise(
    prediction_type: str, predicted: torch.Tensor, z: torch.Tensor, alpha_bar: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The two parts of z_t that a prediction stands for; alpha_bar is a scalar."""
    a, b = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    if prediction_type == "epsilon":
        return (z - b * predicted) / a, predicted
    return a * z - b * predicted, a * predicted + b * z
