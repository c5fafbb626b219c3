"""The operations that networks are described in: `network.py` is written in them, each format implements them once.

A value is whatever the format names a tensor by. Activations are float32 at every boundary; pictures are (B, C, h, w),
tokens (B, S, C). The batch size is not known here, every other size is.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

Value = Any


class Ops(Protocol):
    """One format's way to write operations down. ``layer`` names weights of the part that `part` chose last."""

    def part(self, name: str) -> None:
        """Weights are those of this part from here on: "text_encoder", "text_encoder_2", "unet" or "vae"."""

    # with weights
    def linear(self, x: Value, layer: str) -> Value:
        """x (B, ..., K) W^T + bias -> (B, ..., N); a 1 x 1 convolution's weights are taken as a matrix."""

    def conv(
        self, x: Value, layer: str, size: tuple[int, int], stride: int = 1, pads: Sequence[int] = (1, 1, 1, 1)
    ) -> Value:
        """Convolution of x (B, C, *size) with zeros around it: pads are top, left, bottom, right."""

    def layer_norm(self, x: Value, layer: str, eps: float) -> Value:
        """Over the last axis of (B, S, C)."""

    def group_norm(self, x: Value, layer: str, size: tuple[int, int], groups: int, eps: float) -> Value:
        """Of a picture (B, C, *size)."""

    def token_embedding(self, ids: Value, learned: Value | None) -> Value:
        """ids (B, T) -> (B, T, D): rows of the part's table; ids from its length on are rows of ``learned``.

        ``learned`` is (K, D), the same for every row of the batch, or (B, K, D).
        """

    def weight(self, name: str) -> Value:
        """A float tensor of the part as it is."""

    # without
    def constant(self, array: np.ndarray) -> Value: ...
    def rows_of(self, table: np.ndarray, index: Value) -> Value:
        """table (N, ...) at index (B,) -> (B, ...)."""

    def add(self, x: Value, y: Value) -> Value: ...
    def sub(self, x: Value, y: Value) -> Value: ...
    def mul(self, x: Value, y: Value) -> Value: ...
    def cos(self, x: Value) -> Value: ...
    def sin(self, x: Value) -> Value: ...
    def silu(self, x: Value) -> Value: ...
    def gelu(self, x: Value) -> Value: ...
    def quick_gelu(self, x: Value) -> Value:
        """x sigmoid(1.702 x)."""

    def exp(self, x: Value) -> Value: ...
    def clip(self, x: Value, low: float, high: float) -> Value: ...
    def concat(self, values: Sequence[Value], axis: int) -> Value: ...
    def split(self, x: Value, sizes: Sequence[int], axis: int) -> list[Value]: ...
    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """0 keeps a size, -1 is what is left, as ONNX has it; a format with a fixed batch knows both."""

    def transpose(self, x: Value, order: Sequence[int]) -> Value: ...
    def mean(self, x: Value, axes: Sequence[int]) -> Value:
        """The mean over axes, which are gone afterwards."""

    def upsample(self, x: Value, size: tuple[int, int], to: tuple[int, int]) -> Value:
        """Nearest neighbours."""

    def attention(self, q: Value, k: Value, v: Value, heads: int, causal: bool = False) -> Value:
        """(B, S, C), (B, T, C), (B, T, C) -> (B, S, C), fused: no scores of S x T."""

    def first_of(self, ids: Value, wanted: int, x: Value) -> Value:
        """x (B, T, C) at the first position where ids (B, T) are ``wanted`` -> (B, C)."""
