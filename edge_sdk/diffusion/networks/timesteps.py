"""What a denoiser knows of a timestep: sinusoids, and their embedding."""

import math

import torch
import torch.nn.functional as F
from torch import nn


class TimeEmbedding(nn.Module):
    """(N, inner) -> (N, outer), two linear layers."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(inner, outer), nn.Linear(outer, outer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear_2(F.silu(self.linear_1(x)))


def sinusoids(values: torch.Tensor, size: int) -> torch.Tensor:
    """values (N,) -> (N, size) float32: cosines, then sines, of falling frequencies (DDPM, with diffusers' order)."""
    steps = torch.arange(size // 2, dtype=torch.float32, device=values.device)
    frequencies = torch.exp(-math.log(10000) / (size // 2) * steps)
    angles = values.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)
