"""The integer products of `kernels.py` on a GPU, two launches per layer: rounding, and a product with its epilogue.

A convolution is an implicit matrix product ("implicit GEMM", Chetlur et al. 2014, cuDNN): columns are never written.
Both bytes of a 16-bit activation meet a tile of weights in the same launch. Sums are int32 and exact. No tensor of a
weight's size is made: int4 weights are unpacked in registers.
"""

import torch
import triton
import triton.language as tl

ROUND = tl.constexpr(12582912.0)  # 1.5 * 2^23: adding and subtracting it rounds to the nearest integer, ties to even
BLOCK = 4096  # numbers per program


@triton.jit
def _round_kernel(x, scales, parts, count, size, TWO: tl.constexpr, BLOCK: tl.constexpr):
    """parts = round(x / scale) as bytes; each scale is for ``size`` neighbouring numbers of all ``count``."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    scale = tl.load(scales + at // size, mask=inside, other=1.0)
    value = tl.div_rn(tl.load(x + at, mask=inside, other=0.0), scale)
    whole = ((value + ROUND) - ROUND).to(tl.int32)
    if TWO:
        high = (whole + 128) >> 8  # the low byte is from -128 to 127
        tl.store(parts + at, high.to(tl.int8), mask=inside)
        tl.store(parts + count + at, (whole - high * 256).to(tl.int8), mask=inside)
    else:
        tl.store(parts + at, whole.to(tl.int8), mask=inside)


@triton.jit
def _weights(q, zeros, multipliers, n, k, inside, columns, groups, INT4: tl.constexpr):
    """The int8 weights of outputs n (1, BN) and columns k (BK, 1)."""
    if INT4:
        packed = tl.load(q + n * (columns // 2) + k // 2, mask=inside, other=0).to(tl.int32)
        group = n * groups + k // (columns // groups)
        zero = tl.load(zeros + group, mask=inside, other=0).to(tl.int32)
        multiplier = tl.load(multipliers + group, mask=inside, other=0).to(tl.int32)
        return ((((packed >> (4 * (k % 2))) & 15) - zero) * multiplier).to(tl.int8)
    return tl.load(q + n * columns + k, mask=inside, other=0)


@triton.jit
def _product_kernel(
    parts,
    steps,
    q,
    zeros,
    multipliers,
    scales,
    biases,
    out,
    images,
    height,
    width,
    channels,
    out_height,
    out_width,
    outputs,
    pitch,
    groups,
    KH: tl.constexpr,
    KW: tl.constexpr,
    SH: tl.constexpr,
    SW: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    TWO: tl.constexpr,
    INT4: tl.constexpr,
    BIASED: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """out = step * scale * (parts by weights) + bias; each program computes a tile of BM pixels by BN outputs."""
    m = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)
    n = tl.program_id(1).to(tl.int64) * BN + tl.arange(0, BN)
    pixels, columns = out_height * out_width, KH * KW * channels
    image, pixel = m // pixels, m % pixels
    top, left = (pixel // out_width) * SH - PH, (pixel % out_width) * SW - PW
    is_pixel, is_output = m < images * pixels, n < outputs
    second = images * height * width * channels  # where the low bytes begin
    high = tl.zeros((BM, BN), tl.int32)
    low = tl.zeros((BM, BN), tl.int32)
    for ky in tl.static_range(KH):
        for kx in tl.static_range(KW):
            y, x = top + ky, left + kx
            is_inside = is_pixel & (y >= 0) & (y < height) & (x >= 0) & (x < width)
            first = ((image * height + y) * width + x) * channels
            for begin in range(0, channels, BK):
                c = begin + tl.arange(0, BK)
                k = (ky * KW + kx) * channels + c
                is_channel = c < channels
                wanted = is_inside[:, None] & is_channel[None, :]
                at = first[:, None] + c[None, :]
                is_weight = is_channel[:, None] & is_output[None, :]
                w = _weights(q, zeros, multipliers, n[None, :], k[:, None], is_weight, columns, groups, INT4)
                high = tl.dot(tl.load(parts + at, mask=wanted, other=0), w, high, out_dtype=tl.int32)
                if TWO:
                    low = tl.dot(tl.load(parts + second + at, mask=wanted, other=0), w, low, out_dtype=tl.int32)
    sums = high.to(tl.float32)
    if TWO:
        sums = sums * 256 + low.to(tl.float32)
    step = tl.load(steps + image, mask=is_pixel, other=0.0)
    scale = tl.load(scales + n, mask=is_output, other=0.0)
    result = sums * step[:, None] * scale[None, :]
    if BIASED:
        result += tl.load(biases + n, mask=is_output, other=0.0)[None, :]
    tl.store(out + m[:, None] * pitch + n[None, :], result, mask=is_pixel[:, None] & is_output[None, :])


def round_parts(x: torch.Tensor, scale: torch.Tensor, two: bool) -> torch.Tensor:
    """x (R, ...) float32, contiguous, by scale (R,) as bytes: (2, R, ...) int8, high and low, or (1, R, ...)."""
    parts = torch.empty((1 + two, *x.shape), dtype=torch.int8, device=x.device)
    grid = (triton.cdiv(x.numel(), BLOCK),)
    _round_kernel[grid](x, scale, parts, x.numel(), x[0].numel(), TWO=two, BLOCK=BLOCK)
    return parts


def product(
    parts: torch.Tensor,
    step: torch.Tensor,
    weights: tuple[torch.Tensor | None, ...],
    out: torch.Tensor,
    pitch: int,
    window: tuple[tuple[int, int], tuple[int, int], tuple[int, int]],
) -> None:
    """out (B, Ho, Wo, N) float32 = step * scale * (parts by weights) + bias.

    Args:
        parts: (P, B, H, W, C) int8, contiguous, as `round_parts` gives them.
        step: (B,) float32.
        weights: q, zero, multiplier, scale, bias of `kernels.Matrix`, each contiguous.
        pitch: numbers from one pixel of ``out`` to the next, N or more.
        window: kernel, stride and padding.
    """
    (_, zero, _, _, bias), (_, *image_sizes), (_, *out_sizes) = weights, parts.shape, out.shape
    pixels, groups = out[..., 0].numel(), 1 if zero is None else zero.shape[1]
    tile = (16 if pixels <= 16 else 64, 64, 64 if image_sizes[-1] > 32 else 32)
    grid = (triton.cdiv(pixels, tile[0]), triton.cdiv(out_sizes[-1], tile[1]))
    sizes, (kernel, stride, padding) = (*image_sizes, *out_sizes, pitch, groups), window
    kinds = len(parts) == 2, zero is not None, bias is not None
    _product_kernel[grid](parts, step, *weights, out, *sizes, *kernel, *stride, *padding, *kinds, *tile)
