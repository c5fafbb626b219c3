"""What goes through the denoiser stage by stage: one batch, or a base row with others that are computed beside it."""

from collections.abc import Callable
from typing import Any

import torch

from edge_sdk.quantization import difference


class Flow:
    """Rows on their way through the denoiser.

    Attributes:
        x: (B, C, H, W) or (B, S, C) float32, as far as it has come; of one row a sample before the text is seen.
        sample: (G, C, h, w) float32 noised latents. time: (G or B, E) float32, their embedded timesteps.
        context: (B, T, D) float32 text states. added: SDXL only, see `unet.UNet.forward`.
        rows: (B,) int64, which sample each row of the context goes with, or None.
        skips: activations that are used later, the last one first.
        first_skip: makes the skip connection that is used last.
    """

    group: Any = None  # of `lockstep`: flows that passed the last stage together

    x: torch.Tensor
    time: torch.Tensor
    first_skip: Callable[["Flow"], torch.Tensor]

    def __init__(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        context: torch.Tensor,
        added: tuple[torch.Tensor, torch.Tensor] | None,
        rows: torch.Tensor | None,
    ) -> None:
        self.sample, self.timestep, self.context, self.added, self.rows = sample, timestep, context, added, rows
        self.skips: list[Any] = []

    def push(self, x: torch.Tensor) -> None:
        self.skips.append(difference.held(x, Flow))

    def pop(self) -> torch.Tensor:
        return _restored(self.skips.pop())

    def skip(self) -> torch.Tensor:
        return self.pop() if self.skips else self.first_skip(self)

    def next_size(self) -> torch.Size:
        """(H, W) of the skip connection that is used next."""
        return self.skips[-1].shape[2:]


def _restored(kept: Any) -> torch.Tensor:
    return kept.restored() if isinstance(kept, difference.Held) else kept


def spread(x: torch.Tensor, rows: torch.Tensor | None, count: int) -> torch.Tensor:
    """x (B, ...), or what it is for each of ``count`` rows if it is still one for each sample, (G, ...)."""
    return x if rows is None or len(x) == count else x[rows]
