"""White noise on the prediction's error, so that a token explains as little of the loss as it does on large models."""

import zlib
from collections.abc import Sequence

import numpy as np
import torch

from edge_sdk.runtime.pytorch.objective import StableDiffusionObjective
from edge_sdk.zo import Draw


class NoisyObjective(StableDiffusionObjective):
    """An objective whose residuals have noise of a variance added, the same for all rows of a draw.

    It stands for what a model's error holds beside the token: photos that a small model cannot predict. Every method
    sees it, in losses, residuals and gradients.
    """

    def __init__(self, inner: StableDiffusionObjective, variance: float) -> None:
        self.__dict__ |= inner.__dict__
        self.variance = variance

    def errors(self, embeddings: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
        added = {id(d): self.noise(d) for d in draws}
        return super().errors(embeddings, draws) + torch.from_numpy(np.stack([added[id(d)] for d in draws]))

    def noise(self, draw: Draw) -> np.ndarray:
        """(C, h, w) float32, a function of the draw's own noise."""
        rng = np.random.default_rng(zlib.crc32(draw.noise.tobytes()))
        return np.sqrt(np.float32(self.variance)) * rng.standard_normal(draw.noise.shape, dtype=np.float32)
