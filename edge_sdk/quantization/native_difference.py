"""The compiled kernels of `cpp/difference.cpp`: what `difference.py` computes, without tensors in between."""

import torch
from torch import nn

from edge_sdk.quantization import native
from edge_sdk.quantization.kernels import Matrix
from edge_sdk.quantization.native import NORM_WORK, Normalized

Parts = tuple[torch.Tensor, ...]  # one or two tensors (B, H, W, C) whose channels follow each other


def rows(x: torch.Tensor, norm: nn.LayerNorm | None, gated: bool, out: torch.Tensor) -> None:
    """What `native.linear` makes of the rows of x before it rounds them, into ``out`` (M, K)."""
    count, columns = out.shape
    native._call(
        "edge_row_differences", NORM_WORK * out.numel(), x, count, native._rows(norm, gated), columns, None, 1, out
    )


def linear(
    x: torch.Tensor,
    norm: nn.LayerNorm | None,
    gated: bool,
    base: torch.Tensor,
    matrix: Matrix,
    y0: torch.Tensor,
    out: torch.Tensor,
    added: bool,
) -> None:
    """out = y0 + (f(x) - base) W^T, or this added to ``out``; differences in 8 bits, a scale a row.

    Args:
        x: (M, K) or gated (M, 2 K) float32, contiguous; see `native.linear`, also for ``norm``.
        base: (P, K) float32, f of the base's rows; row m has row m mod P. y0: (P, N) float32, their outputs.
        out: (M, N) float32, contiguous.
    """
    count, period = len(out), len(base)
    work, how = count * matrix.q.shape[0] * base.shape[1], native._rows(norm, gated)
    native._call("edge_linear_difference", work, x, count, how, base, period, matrix, y0, added, out)


def images(parts: Parts, by: Normalized, base: torch.Tensor | None, out: torch.Tensor) -> None:
    """What `native.conv2d` makes of images before it rounds them, minus ``base`` (1, H, W, C), into ``out``."""
    batch, height, width, _ = out.shape
    x = _images(parts, by)
    native._call("edge_image_differences", NORM_WORK * out.numel(), x, batch, height, width, base, out)


def pointwise(
    parts: Parts, by: Normalized | None, base: Parts, matrix: Matrix, y0: torch.Tensor, out: torch.Tensor, added: bool
) -> None:
    """`linear` for the pixels of images and a convolution of 1 x 1 with stride 1.

    Args:
        base: (1, H, W, C) float32, contiguous: what the base's image becomes; y0: (1, H, W, N), its output.
        out: (B, H, W, N) float32, contiguous.
    """
    batch, height, width, _ = out.shape
    x, images_of_base = _images(parts, by), _images(base, None)
    work = out.numel() * matrix.shape[1]
    native._call("edge_pointwise_difference", work, x, batch, height * width, images_of_base, matrix, y0, added, out)


def hold(x: torch.Tensor, base: torch.Tensor, q: torch.Tensor, steps: torch.Tensor) -> None:
    """x (B, H, W, C) minus base (1, H, W, C) as bytes q, like x, with a step a pixel (B, H, W, 1)."""
    channels, period = x.shape[3], base.shape[1] * base.shape[2]
    native._call("edge_hold", NORM_WORK * x.numel(), x, steps.numel(), channels, base, period, q, steps)


def restore(q: torch.Tensor, steps: torch.Tensor, base: torch.Tensor, x: torch.Tensor) -> None:
    """The reverse of `hold`, into x."""
    channels, period = x.shape[3], base.shape[1] * base.shape[2]
    native._call("edge_restore", NORM_WORK * x.numel(), q, steps, steps.numel(), channels, base, period, x)


def _images(parts: Parts, by: Normalized | None) -> object:
    skip = parts[1] if len(parts) > 1 else None
    return native._images(parts[0], skip, by, by is not None and by.activated)
