"""The compiled kernels of `cpp/difference.cpp`: the operations of `difference.py` without intermediate tensors."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from edge_sdk.quantization import native
from edge_sdk.quantization.kernels import Matrix
from edge_sdk.quantization.native import NORM_WORK, Normalized

BITS = 8  # of a difference
Parts = tuple[torch.Tensor, ...]  # one or two tensors (B, H, W, C) whose channels follow each other


def rows(x: torch.Tensor, norm: nn.LayerNorm | None, gated: bool, out: torch.Tensor) -> None:
    """The rows of x as `native.linear` transforms them before rounding, into ``out`` (M, K)."""
    count, columns = out.shape
    native._call("edge_rows", NORM_WORK * out.numel(), x, count, native._rows(norm, gated), columns, out)


def linear(
    x: torch.Tensor,
    norm: nn.LayerNorm | None,
    gated: bool,
    base: torch.Tensor,
    matrices: Sequence[Matrix],
    y0: Sequence[torch.Tensor],
    outs: Sequence[torch.Tensor],
    added: bool,
) -> None:
    """For each matrix, out = y0 + (f(x) - base) W^T, or ``added`` to out; differences have 8 bits, one scale per row.

    Args:
        x: (M, K) or gated (M, 2 K) float32, contiguous; see `native.linear`, also for ``norm``.
        base: (P, K) float32, f of the base's rows; row m takes row m mod P. y0: (P, N) float32, their outputs.
        outs: (M, N) float32, contiguous.
    """
    beside = [replace(matrix, bias=y) for matrix, y in zip(matrices, y0, strict=True)]
    native.linears(x, beside, BITS, outs, norm, gated, added, base)


def images(parts: Parts, by: Normalized | None, base: Parts | None, out: torch.Tensor) -> Normalized:
    """Images as `native.conv2d` transforms them before rounding, minus ``base`` (1, H, W, C), into ``out``.

    Returns:
        The argument ``by`` of `native.conv2d` for ``out``: its largest magnitudes.
    """
    batch, height, width, _ = out.shape
    peaks, of_base = out.new_empty(batch), None if base is None else _images(base, None)
    sizes = (batch, height, width)
    native._call("edge_image_differences", NORM_WORK * out.numel(), _images(parts, by), *sizes, of_base, out, peaks)
    return Normalized(None, None, peaks, False)


def convolution(
    change: torch.Tensor,
    by: Normalized,
    matrix: Matrix,
    y0: torch.Tensor,
    out: torch.Tensor,
    window: tuple[tuple[int, int], ...],
) -> None:
    """out (B, Ho, Wo, N) = y0 (1, Ho, Wo, N) + the convolution of `images`' output; 8 bits, one scale per image."""
    kernel, stride, padding = window
    own = replace(matrix, bias=y0.reshape(-1, y0.shape[3]))
    native.conv2d(change, own, BITS, out, kernel, stride, padding, by=by)


def pointwise(
    parts: Parts, by: Normalized | None, base: Parts, matrix: Matrix, y0: torch.Tensor, out: torch.Tensor, added: bool
) -> None:
    """`linear` for the pixels of images and a convolution of 1 x 1 with stride 1.

    Args:
        base: (1, H, W, C) float32, contiguous: the transformed image of the base; y0: (1, H, W, N), its output.
        out: (B, H, W, N) float32, contiguous.
    """
    batch, height, width, _ = out.shape
    x, images_of_base = _images(parts, by), _images(base, None)
    own = replace(matrix, bias=y0.reshape(-1, y0.shape[3]))
    work = out.numel() * matrix.shape[1]
    native._call("edge_pointwise_difference", work, x, batch, height * width, images_of_base, own, added, out)


def hold(x: torch.Tensor, base: torch.Tensor, q: torch.Tensor, steps: torch.Tensor) -> None:
    """x (B, H, W, C) minus base (1, H, W, C) as bytes q, shaped like x, with one step per pixel (B, H, W, 1)."""
    channels, period = x.shape[3], base.shape[1] * base.shape[2]
    native._call("edge_hold", NORM_WORK * x.numel(), x, steps.numel(), channels, base, period, q, steps)


def restore(q: torch.Tensor, steps: torch.Tensor, base: torch.Tensor, x: torch.Tensor) -> None:
    """The reverse of `hold`, into x."""
    channels, period = x.shape[3], base.shape[1] * base.shape[2]
    native._call("edge_restore", NORM_WORK * x.numel(), q, steps, steps.numel(), channels, base, period, x)


def _images(parts: Parts, by: Normalized | None) -> object:
    skip = parts[1] if len(parts) > 1 else None
    return native._images(parts[0], skip, by, by is not None and by.activated)
