"""Weights w(t) of the surrogate loss over timesteps. The paper's own formula is not known to us; these are
reconstructions, to be told apart by measurement.

With z_t = a_t x0 + b_t e, replacing the clean end x_f of a noised picture by a surrogate x_s changes the model's target
by c_t (x_f - x_s), where c_t = a_t / b_t for epsilon, and 1 / b_t for v-prediction and flow. So an unweighted loss has
the size c_t^2 |x_f - x_s|^2: nearly all of it at the last few timesteps, which only polish.
"""

from collections.abc import Sequence

import torch

from edge_sdk.diffusion.schedule import Schedule
from edge_sdk.errors import EdgeSdkError
from edge_sdk.unlearning.config import UnlearnConfig


def residual_scale(schedule: Schedule) -> torch.Tensor:
    """c_t: what a change of x0 by one changes the target of a given z_t by, (T,) float32."""
    a, b = schedule.coefficients()
    return a / b if schedule.prediction_type == "epsilon" else 1 / b


def timestep_weights(schedule: Schedule, config: UnlearnConfig) -> torch.Tensor:
    """w(t), (T,) float32.

    "uniform" is 1. All others clamp the signal-to-noise ratio, w = min(SNR, gamma) / c^2 (as Min-SNR does for training,
    Hang et al., 2023): the loss then has the size min(SNR, gamma) |x_f - x_s|^2. "window" is zero outside of
    ``timestep_window``; "responsibility" is multiplied by `responsibilities`, a draw at a time.

    Raises:
        EdgeSdkError: the window has none of the model's timesteps.
    """
    if config.timestep_weight == "uniform":
        return torch.ones(schedule.num_train_timesteps)
    a, b = schedule.coefficients()
    weights = (a / b).square().clamp_max(config.snr_gamma) / residual_scale(schedule).square()
    weights = torch.nan_to_num(weights, nan=0.0)  # c is 0 where no signal is left
    if config.timestep_weight == "window":
        t = torch.arange(len(weights))
        low, high = config.timestep_window
        if low >= len(weights):
            raise EdgeSdkError(
                f"timestep_window is {low} {high}; the model's timesteps are 0 to {len(weights) - 1}; give some of "
                "these"
            )
        weights = weights * ((t >= low) & (t < high))
    return weights


def responsibilities(
    noised: torch.Tensor, clean: Sequence[torch.Tensor], a: torch.Tensor, b: torch.Tensor
) -> torch.Tensor:
    """How likely each of some clean pictures is the one that was noised, by Bayes with equal priors.

    Args:
        noised: (N, ...) z_t.
        clean: (J, ...) candidates for every one.
        a, b: (N,) coefficients of z = a x0 + b e.

    Returns:
        (N, J), rows sum to 1.
    """
    squares = [  # a picture at a time, for the candidates may be many and large
        (z - own * candidates).flatten(1).double().square().sum(1)
        for z, own, candidates in zip(noised, a, clean, strict=True)
    ]
    return torch.softmax(-torch.stack(squares) / (2 * b.double().square())[:, None], dim=1).float()
