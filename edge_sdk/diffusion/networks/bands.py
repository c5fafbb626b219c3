"""A level of the autoencoder's encoder, some rows of the picture at a time.

At full resolution one activation is larger than all integer weights of the denoiser. Here none exists whole: each
normalization's mean and variance are collected band by band, and what lies before them is computed again for the next
one. That costs two and a half times the arithmetic of these levels, once a photo, and a few megabytes.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

BAND_ELEMENTS = 1 << 21  # of an activation held at once, about
LINES = 4  # rows that are in float64 together, for statistics
Rows = Callable[[int, int], torch.Tensor]  # rows a..b of an activation, (B, C, b - a, W)


class _Norm:
    """A GroupNorm whose statistics are those of the whole activation, followed by SiLU."""

    def __init__(self, norm: nn.GroupNorm, get: Rows, height: int, band: int) -> None:
        total, squares, count = norm.weight.new_zeros(()), norm.weight.new_zeros(()), 0
        for a in range(0, height, band):
            for rows in get(a, min(a + band, height)).split(LINES, dim=2):
                wide = rows.double()
                total = total + wide.sum(dim=(2, 3))  # (B, C)
                squares = squares + wide.square_().sum(dim=(2, 3))
                count += wide[0, 0].numel()
        size = norm.num_channels // norm.num_groups
        total, squares = (sums.unflatten(1, (-1, size)).mean(dim=2) for sums in (total, squares))  # (B, G)
        mean = total / count
        scale = (squares / count - mean**2 + norm.eps).rsqrt()
        weight = scale.repeat_interleave(size, dim=1).float() * norm.weight  # (B, C)
        self.weight = weight[:, :, None, None]
        self.bias = (norm.bias - mean.repeat_interleave(size, dim=1).float() * weight)[:, :, None, None]

    def __call__(self, *parts: torch.Tensor) -> torch.Tensor:
        """Of rows whose channels may be in several parts; they stay as they are."""
        return F.silu(torch.cat(parts, dim=1).mul_(self.weight).add_(self.bias), inplace=True)


def rows_of(x: torch.Tensor, *more: torch.Tensor) -> Rows:
    """Rows of an activation that is there, or of several as one, channels after channels."""
    if more:
        return lambda a, b: torch.cat([part[:, :, a:b] for part in (x, *more)], dim=1)
    return lambda a, b: x[:, :, a:b]


def convolved(layer: nn.Module, get: Rows, height: int) -> Rows:
    """A 3 x 3 convolution with a padding of 1, by rows: zeros are around the picture, not around a band."""

    def rows(a: int, b: int) -> torch.Tensor:
        low, high = max(a - 1, 0), min(b + 1, height)
        return layer(get(low, high))[:, :, a - low : b - low]

    return rows


def _resnet(block: Any, get: Rows, height: int, band: int) -> Rows:
    first = _Norm(block.norm1, get, height, band)
    hidden = convolved(block.conv1, lambda a, b: first(get(a, b)), height)
    second = _Norm(block.norm2, hidden, height, band)

    def rows(a: int, b: int) -> torch.Tensor:
        low, high = max(a - 2, 0), min(b + 2, height)
        x = get(low, high)  # once for both branches
        inner = convolved(block.conv1, lambda c, d: first(x[:, :, c - low : d - low]), height)
        y = convolved(block.conv2, lambda c, d: second(inner(c, d)), height)(a, b)
        same = x[:, :, a - low : b - low]
        return y.add_(same if block.conv_shortcut is None else block.conv_shortcut(same))

    return rows


def normed_convolution(norm: nn.GroupNorm, layer: nn.Module, *parts: torch.Tensor) -> torch.Tensor:
    """layer(silu(norm(x))) for a 3 x 3 convolution with a padding of 1; only bands of silu(norm(x)) exist.

    x (B, C, H, W) is one tensor, or several whose channels follow each other.
    """
    height, width = parts[0].shape[2:]
    band = max(4, BAND_ELEMENTS // (2 * width * norm.num_channels))
    get = rows_of(*parts)
    normed = _Norm(norm, get, height, band)
    rows = convolved(layer, lambda a, b: normed(*(part[:, :, a:b] for part in parts)), height)
    shape = (len(parts[0]), layer.out_channels, height, width)
    out = torch.empty(shape, device=parts[0].device, memory_format=torch.channels_last)
    for a in range(0, height, band):
        b = min(a + band, height)
        out[:, :, a:b] = rows(a, b)
    return out


def add_pointwise(y: torch.Tensor, layer: nn.Module, *parts: torch.Tensor) -> torch.Tensor:
    """y += layer(x) for a 1 x 1 convolution, some rows at a time; x is one tensor or several, as above."""
    get = rows_of(*parts)
    height, width = y.shape[2:]
    band = max(4, BAND_ELEMENTS // (2 * width * sum(part.shape[1] for part in parts)))
    for a in range(0, height, band):
        b = min(a + band, height)
        y[:, :, a:b].add_(layer(get(a, b)))
    return y


def level(block: Any, get: Rows, height: int, width: int) -> torch.Tensor:
    """The residual blocks of a level and the convolution with stride 2 after them, whole: (B, C, H / 2, W / 2)."""
    channels = block.resnets[-1].conv2.out_channels
    band = max(4, BAND_ELEMENTS // (width * channels) // 2 * 2)
    for resnet in block.resnets:
        get = _resnet(resnet, get, height, band)
    out: torch.Tensor | None = None
    for a in range(0, height // 2, band // 2):
        b = min(a + band // 2, height // 2)
        rows = get(2 * a, min(2 * b + 1, height))
        below = 2 * b + 1 - min(2 * b + 1, height)
        piece = block.downsamplers[0].conv(F.pad(rows, (0, 1, 0, below)))
        if out is None:
            shape = (len(piece), channels, height // 2, width // 2)
            out = torch.empty(shape, device=piece.device, memory_format=torch.channels_last)
        out[:, :, a:b] = piece
    assert out is not None
    return out
