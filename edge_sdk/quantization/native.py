"""The compiled integer products and attention of ``cpp/*.cpp``: built on first use if there is a C++ compiler.

`build.py` compiles them and keeps the library in the user's cache folder. With ``EDGE_SDK_NATIVE=0``, `kernels.py`
computes the same sums, more slowly, and PyTorch computes the attention.
"""

import ctypes
import functools
import logging
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from edge_sdk.quantization.activations import empty
from edge_sdk.quantization.build import Sources, open_library
from edge_sdk.quantization.kernels import LEVELS, WINOGRAD_LEVELS, Matrix, conv_levels, suits_winograd
from edge_sdk.quantization.threads import threads_for

SOURCES = tuple(sorted((Path(__file__).parent / "cpp").glob("*.cpp")))
HEADERS = tuple(sorted((Path(__file__).parent / "cpp").glob("*.h")))
PROCESSOR = "-mcpu=native" if (sys.platform, platform.machine()) == ("darwin", "arm64") else "-march=native"
FLAGS = ("-O3", PROCESSOR, "-std=c++17", "-pthread", "-fopenmp-simd", "-fno-math-errno", "-ffp-contract=off")
PRODUCTS = ("edge_linear", "edge_conv", "edge_winograd")
SYMBOLS = (
    *PRODUCTS,
    "edge_rows",
    "edge_image_differences",
    "edge_pointwise_difference",
    "edge_hold",
    "edge_restore",
    "edge_group_norm",
    "edge_keys_room",
    "edge_keys",
    "edge_attention",
)
LIBRARY = Sources("integer", SOURCES, HEADERS, FLAGS, SYMBOLS)
LARGE_TILE_LEVELS = 327  # the transform for tiles of 4 x 4 makes activations up to 100 times larger, which fits 16 bits
WINOGRAD_PIXELS = 64  # output pixels from which on Winograd's transform is faster
LARGE_TILE_PIXELS = 144  # the same for tiles of 4 x 4
NORM_WORK = 16  # cost of adding a number to a mean and a variance, in multiplications
KEY_WORK = 64  # cost of quantizing one number of a key and one of a value, in multiplications


@functools.cache
def library() -> ctypes.CDLL | None:
    """The library, or None if it cannot be built or loaded or gives wrong results."""
    if os.environ.get("EDGE_SDK_NATIVE") == "0":
        return None
    try:
        loaded = open_library(LIBRARY)
        return loaded if _is_right(loaded) else None
    except (OSError, subprocess.SubprocessError) as error:
        level = logging.WARNING if shutil.which(os.environ.get("CXX", "c++")) else logging.INFO
        logging.getLogger(__name__).log(level, "integer products are not compiled, so a run is slower: %s", error)
        return None


class _Weights(ctypes.Structure):
    """``EdgeWeights`` of ``integer.h``."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("q", "zero", "multiplier", "scale", "bias")),
        *((name, ctypes.c_int64) for name in ("rows", "columns", "groups", "period")),
    )


class _Rows(ctypes.Structure):
    """``EdgeRows`` of ``rows.h``."""

    _fields_ = (
        ("weight", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("epsilon", ctypes.c_float),
        ("is_gated", ctypes.c_int64),
        ("base", ctypes.c_void_p),
        ("period", ctypes.c_int64),
    )


def linear(
    x: torch.Tensor,
    matrix: Matrix,
    bits: int,
    out: torch.Tensor,
    norm: nn.LayerNorm | None = None,
    gated: bool = False,
    added: bool = False,
) -> None:
    """out = x W^T + bias for x (M, K) float32, contiguous; ``out`` (M, N) may be some columns of a wider matrix.

    Args:
        norm: applied to the rows of x first; it has a weight and a bias.
        gated: x is (M, 2 K), K numbers and K gates; the input is the numbers times the GELU of the gates.
        added: add the result to ``out``.
    """
    linears(x, [matrix], bits, [out], norm, gated, added)


def linears(
    x: torch.Tensor,
    matrices: Sequence[Matrix],
    bits: int,
    outs: Sequence[torch.Tensor],
    norm: nn.LayerNorm | None = None,
    gated: bool = False,
    added: bool = False,
    base: torch.Tensor | None = None,
) -> None:
    """`linear` for several matrices with the same number of columns; x is rounded once.

    Args:
        base: (P, K) float32, contiguous; row m mod P of it is subtracted from row m of x before rounding.
    """
    products = x.shape[0] * sum(prod(matrix.shape) for matrix in matrices)
    rows, pitches = _rows(norm, gated, base), tuple(out.stride(0) for out in outs)
    _call("edge_linear", products, x, x.shape[0], rows, *_matrices(matrices), LEVELS[bits], added, list(outs), pitches)


def _rows(norm: nn.LayerNorm | None, gated: bool, base: torch.Tensor | None = None) -> _Rows:
    by = (None, None, 0.0) if norm is None else (norm.weight.data_ptr(), norm.bias.data_ptr(), norm.eps)
    return _Rows(*by, gated, *((None, 1) if base is None else (base.data_ptr(), len(base))))


def _matrices(matrices: Sequence[Matrix]) -> tuple[int, object]:
    """The number of matrices, and pointers to them."""
    return len(matrices), (ctypes.POINTER(_Weights) * len(matrices))(*(ctypes.pointer(_weights(m)) for m in matrices))


def _weights(matrix: Matrix) -> _Weights:
    groups = 1 if matrix.zero is None else matrix.zero.shape[1]
    pointers = (None if tensor is None else tensor.data_ptr() for tensor in matrix.tensors())
    period = 0 if matrix.bias is None or matrix.bias.dim() == 1 else len(matrix.bias)
    return _Weights(*pointers, *matrix.shape, groups, period)


class _Images(ctypes.Structure):
    """``EdgeImages`` of ``images.h``."""

    _fields_ = (
        ("parts", ctypes.c_void_p * 2),
        ("channels", ctypes.c_int64 * 2),
        ("scales", ctypes.c_void_p),
        ("shifts", ctypes.c_void_p),
        ("peaks", ctypes.c_void_p),
        ("is_activated", ctypes.c_int64),
    )


class Normalized(NamedTuple):
    """A group normalization of images as `conv2d` takes it: scales, shifts (B, C) and peaks (B,) float32.

    Without scales the images are not normalized, but peaks still hold their largest magnitudes.
    """

    scales: torch.Tensor | None
    shifts: torch.Tensor | None
    peaks: torch.Tensor
    activated: bool


def _images(x: torch.Tensor, skip: torch.Tensor | None, by: Normalized | None, activated: bool) -> _Images:
    parts = (ctypes.c_void_p * 2)(x.data_ptr(), None if skip is None else skip.data_ptr())
    channels = (ctypes.c_int64 * 2)(x.shape[3], 0 if skip is None else skip.shape[3])
    tensors = (None if tensor is None else tensor.data_ptr() for tensor in (by[:3] if by else (None, None, None)))
    return _Images(parts, channels, *tensors, activated)


def group_norm(
    norm: nn.GroupNorm,
    activated: bool,
    x: torch.Tensor,
    skip: torch.Tensor | None = None,
    offsets: torch.Tensor | None = None,
) -> Normalized:
    """The normalization of x and skip for `conv2d`.

    Args:
        activated: SiLU follows.
        offsets: (B, C) float32, contiguous, added before the norm.
    """
    batch, height, width, _ = x.shape
    scales, shifts = (x.new_empty((batch, norm.num_channels)) for _ in range(2))
    by = Normalized(scales, shifts, x.new_empty(batch), activated)
    images, work = _images(x, skip, None, activated), NORM_WORK * batch * height * width * norm.num_channels
    sizes = (batch, height * width, norm.num_groups)
    _call("edge_group_norm", work, images, *sizes, norm.weight, norm.bias, norm.eps, offsets, scales, shifts, by.peaks)
    return by


def conv2d(
    x: torch.Tensor,
    matrix: Matrix,
    bits: int,
    out: torch.Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    skip: torch.Tensor | None = None,
    by: Normalized | None = None,
    added: bool = False,
) -> None:
    """Convolution of x (B, H, W, C) float32, contiguous, with (N, kh * kw * C) weights into ``out`` (B, Ho, Wo, N).

    ``out`` may be some channels of a wider tensor.

    Args:
        skip: like x, with the channels that follow those of x.
        by: normalizes the channels of both first.
        added: add the result to ``out``; not with Winograd's transform.
    """
    batch, height, width, channels = x.shape
    channels += 0 if skip is None else skip.shape[3]
    levels = conv_levels(bits, kernel, stride, channels)
    products = out.numel() * matrix.shape[1]
    images = _images(x, skip, by, by is not None and by.activated)
    if tile := winograd_tile(kernel, stride, channels, out.shape[1] * out.shape[2], levels):
        assert not added
        settings: tuple[object, ...] = (padding, tile, matrix, levels)
    else:
        settings = (kernel, stride, padding, matrix, levels, added)
    name = "edge_winograd" if tile else "edge_conv"
    _call(name, products, images, batch, height, width, *settings, out, out.stride(2))


def winograd_tile(
    kernel: tuple[int, int], stride: tuple[int, int], channels: int, pixels: int, levels: float
) -> int | None:
    """The side of Winograd's tiles, or None where the direct product is faster. The sums are the same.

    The cost of transforming the weights does not depend on the image's size, and is higher for larger tiles.
    """
    large = levels <= LARGE_TILE_LEVELS
    if not suits_winograd(kernel, stride, channels) or pixels < (LARGE_TILE_PIXELS if large else WINOGRAD_PIXELS):
        return None
    return 4 if large else 2


class Keys(NamedTuple):
    """Keys and values as `attention` takes them: 16-bit integers and their scales."""

    room: torch.Tensor
    keys: int
    heads: int


def quantized_keys(k: torch.Tensor, v: torch.Tensor, heads: int) -> Keys:
    """Round keys k and values v (B, T, heads * d) float32, contiguous."""
    batch, count, width = k.shape
    loaded = library()
    assert loaded is not None
    loaded.edge_keys_room.restype = ctypes.c_int64
    size = loaded.edge_keys_room(*map(ctypes.c_int64, (batch, count, heads, width // heads)))
    prepared = Keys(empty((size,), torch.uint8), count, heads)
    _call("edge_keys", KEY_WORK * k.numel(), k, v, batch, count, heads, width // heads, prepared.room)
    return prepared


def attention(q: torch.Tensor, keys: Keys, out: torch.Tensor) -> None:
    """out = softmax(q k^T / sqrt(d)) v in every head; q and out (B, S, heads * d) float32, contiguous.

    All factors are rounded to about 16 bits: the relative error of the output is about 1e-4.
    """
    batch, count, width = q.shape
    products = 2 * q.numel() * keys.keys
    _call("edge_attention", products, q, keys.room, batch, count, keys.keys, keys.heads, width // keys.heads, out)


def _call(name: str, products: int, *arguments: object) -> None:
    if getattr(library(), name)(*(_as_c(argument) for argument in (threads_for(products), *arguments))):
        raise MemoryError(f"{name} had no memory for its work")


def _as_c(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, Matrix):
        return ctypes.byref(_weights(value))
    if isinstance(value, _Rows | _Images):
        return ctypes.byref(value)
    if isinstance(value, list):
        return (ctypes.c_void_p * len(value))(*(tensor.data_ptr() for tensor in value))
    if isinstance(value, ctypes.Array):
        return value
    if value is None:
        return ctypes.c_void_p(None)
    if isinstance(value, tuple):
        return (ctypes.c_int64 * len(value))(*value)
    if isinstance(value, float):
        return ctypes.c_float(value)
    return ctypes.c_int64(value)  # type: ignore[arg-type]


def _is_right(loaded: ctypes.CDLL) -> bool:
    """Whether small products and convolutions are exact on this processor, and a small attention is near PyTorch's."""
    x, q = torch.arange(-255, 255.0).view(6, 85) * 127.0, torch.arange(-255, 255).view(6, 85).to(torch.int8)
    x[:, 0] = 32500
    matrix, out = Matrix(q, torch.ones(6)), torch.empty(6, 6)
    rows, layers = _rows(None, False), _matrices([matrix])
    loaded.edge_linear(*(_as_c(v) for v in (2, x, 6, rows, *layers, LEVELS[16], False, [out], (6,))))
    if not torch.equal(out, (x.long() @ q.long().t()).float()):
        return False
    image, kernels = torch.arange(-60, 60.0).view(1, 4, 5, 6), q[:, :54].contiguous()
    image[0, 1, 2, 3] = WINOGRAD_LEVELS
    matrix, y = Matrix(kernels, torch.ones(6)), torch.empty(1, 4, 5, 6)
    images = _images(image, None, None, False)
    loaded.edge_winograd(*(_as_c(v) for v in (2, images, 1, 4, 5, (1, 1), 2, matrix, WINOGRAD_LEVELS, y, 6)))
    weight = kernels.view(6, 3, 3, 6).permute(0, 3, 1, 2).float()  # every sum is below 2^24
    if not torch.equal(y, F.conv2d(image.permute(0, 3, 1, 2), weight, padding=1).permute(0, 2, 3, 1)):
        return False
    tokens = torch.linspace(-9, 9, 3 * 70 * 12).sin().view(3, 1, 70, 12)
    looked, room = torch.empty(1, 70, 12), torch.empty(loaded.edge_keys_room(*map(ctypes.c_int64, (1, 70, 1, 12))))
    loaded.edge_keys(*(_as_c(v) for v in (2, *tokens[1:], 1, 70, 1, 12, room)))
    loaded.edge_attention(*(_as_c(v) for v in (2, tokens[0], room, 1, 70, 70, 1, 12, looked)))
    return torch.allclose(looked, F.scaled_dot_product_attention(*tokens), rtol=0, atol=1e-3)
