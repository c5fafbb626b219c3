"""The arithmetic of integer layers against int64 and float64 arithmetic."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.quantization import kernels

BITS = pytest.mark.parametrize("bits", [16, 8], ids=lambda b: f"{b}bits")
EXTREMES = {
    "zeros": [0.0, 0.0, 0.0, 0.0],
    "all the largest": [3.0, 3.0, 3.0, 3.0],
    "all the smallest": [-3.0, -3.0, -3.0, -3.0],
    "both ends": [5.0, -5.0, 4.99, -4.99],
    "one outlier": [1e4, 1e-3, -1e-3, 1.0],
    "tiny": [1e-9, -1e-10, 1e-11, 0.0],
    "below the smallest scale": [1e-30, -1e-30, 1e-38, 0.0],
    "huge": [3e38, -3e38, 1e38, 0.0],
}


def random_int8(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randint(-128, 128, shape, generator=generator, dtype=torch.int8)


def joined(parts: torch.Tensor) -> torch.Tensor:
    """The integers that the parts stand for, 256 * high + low."""
    whole = parts.long()
    return whole[0] if len(whole) == 1 else 256 * whole[0] + whole[1]


def in_one_part(x: torch.Tensor) -> torch.Tensor:
    return x.permute(0, 2, 3, 1).contiguous().to(torch.int8)


@BITS
@pytest.mark.parametrize("shape", [(1, 1), (5, 33), (2, 6, 5, 7)], ids=str)
def test_a_row_is_rebuilt_to_within_half_a_step(shape: tuple[int, ...], bits: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator) * torch.logspace(-3, 3, shape[0]).view(-1, *[1] * (len(shape) - 1))
    parts, scale = kernels.split_rows(x.clone(), kernels.LEVELS[bits])
    assert parts.shape == (bits // 8, *shape) and parts.dtype == torch.int8
    assert scale.shape == (shape[0], *[1] * (len(shape) - 1))
    torch.testing.assert_close(scale.flatten(), x.flatten(1).abs().amax(dim=1) / (32500 if bits == 16 else 127))
    steps = (x.double() / scale.double() - joined(parts)).abs()
    assert (steps <= 0.51).all()


@BITS
@pytest.mark.parametrize("row", EXTREMES.values(), ids=EXTREMES)
def test_no_byte_wraps_around_at_the_extremes(row: list[float], bits: int) -> None:
    x = torch.tensor([row, [-v for v in row]])
    parts, scale = kernels.split_rows(x, kernels.LEVELS[bits])
    assert torch.isfinite(scale).all() and (scale > 0).all()
    steps = (x.double() / scale.double() - joined(parts)).abs()
    assert (steps <= 0.51).all() and (parts >= -127 if bits == 8 else parts[0] >= -127).all()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=9))
def test_any_row_is_rebuilt(row: list[float]) -> None:
    x = torch.tensor([row])
    parts, scale = kernels.split_rows(x.clone(), kernels.LEVELS[16])
    assert ((x.double() / scale.double() - joined(parts)).abs() <= 0.51).all()


@BITS
def test_every_row_has_its_own_scale(bits: int) -> None:
    x = torch.randn(4, 9, generator=torch.Generator().manual_seed(1))
    parts, scale = kernels.split_rows(x.clone(), kernels.LEVELS[bits])
    alone, own = kernels.split_rows(x[2:3].clone(), kernels.LEVELS[bits])
    assert (parts[:, 2:3] == alone).all() and (scale[2:3] == own).all()


def test_the_input_is_left_alone() -> None:
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(2))
    before = x.clone()
    kernels.split_rows(x, kernels.LEVELS[16])
    assert (x == before).all()


@pytest.mark.parametrize("largest", [60_000, 2_000_000_000], ids=["exact", "rounded to float32"])
def test_high_and_low_products_add_up(largest: int) -> None:
    generator = torch.Generator().manual_seed(3)
    products = torch.randint(-largest, largest, (10, 7), generator=generator, dtype=torch.int32)
    high, low = products.long().chunk(2)
    error = (kernels.combine(products.clone(), 2).double() - (256 * high + low).double()).abs()
    bound = 0.0 if largest < 2**16 else 2**-23
    assert (error <= bound * (256 * high.abs() + low.abs())).all()
    assert (kernels.combine(products.clone(), 1) == products.float()).all()


SHAPES = [
    (1, 1, 1),
    (1, 64, 32),
    (1, 7, 3),
    (5, 1, 4),
    (6, 3, 1),
    (1, 130, 1),
    (17, 33, 9),
    (64, 27, 16),
    (40, 66, 48),
    (3, 4097, 2),
    (2, 131_000, 3),
]


@pytest.mark.parametrize(("m", "k", "n"), SHAPES, ids=lambda v: str(v))
@pytest.mark.parametrize("extreme", [False, True], ids=["random", "all at the end of the range"])
def test_a_product_is_exact(m: int, k: int, n: int, extreme: bool) -> None:
    generator = torch.Generator().manual_seed(m * k * n)
    columns, weight = random_int8(generator, m, k), random_int8(generator, n, k)
    if extreme:
        columns, weight = torch.full_like(columns, -128), torch.full_like(weight, -127)
    out = kernels.integer_matmul(columns, weight)
    assert out.dtype == torch.int32 and (out.long() == columns.long() @ weight.long().t()).all()


def test_split_multiply_combine_is_the_product_of_the_rebuilt_row() -> None:
    generator = torch.Generator().manual_seed(4)
    x, weight = torch.randn(6, 50, generator=generator), random_int8(generator, 8, 50)
    parts, _ = kernels.split_rows(x, kernels.LEVELS[16])
    y = kernels.combine(kernels.integer_matmul(parts.flatten(0, 1), weight), 2)
    exact = (joined(parts) @ weight.long().t()).double()
    torch.testing.assert_close(y.double(), exact, rtol=1e-6, atol=exact.abs().max().item() * 1e-6)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 6), st.integers(1, 4), st.sampled_from([2, 4, 6, 18, 126, 128]), st.integers(0, 2**31))
def test_int4_weights_survive_packing(rows: int, groups: int, size: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    q = torch.randint(0, 16, (rows, groups * size), generator=generator, dtype=torch.uint8)
    zero = torch.randint(0, 16, (rows, groups), generator=generator, dtype=torch.int8)
    multiplier = torch.randint(1, 9, (rows, groups), generator=generator, dtype=torch.int8)
    packed = kernels.pack_int4(q)
    assert packed.dtype == torch.uint8 and packed.shape == (rows, groups * size // 2)
    expected = (q.view(rows, groups, size).long() - zero.long()[..., None]) * multiplier.long()[..., None]
    out = kernels.unpack_int4(packed, zero, multiplier)
    assert out.dtype == torch.int8 and (out.long() == expected.view(rows, -1)).all()


def test_even_columns_are_the_low_nibbles() -> None:
    assert kernels.pack_int4(torch.tensor([[1, 2, 15, 0]], dtype=torch.uint8)).tolist() == [[0x21, 0x0F]]


CONVS = [
    ((1, 1), (1, 1), (0, 0)),
    ((3, 3), (1, 1), (1, 1)),
    ((3, 3), (2, 2), (1, 1)),
    ((3, 3), (2, 2), (0, 0)),
    ((3, 1), (1, 1), (1, 0)),
    ((1, 3), (1, 2), (0, 1)),
    ((2, 3), (3, 1), (2, 1)),
    ((4, 4), (2, 3), (1, 2)),
    ((7, 6), (1, 1), (0, 0)),
    ((1, 1), (3, 2), (0, 0)),
]
CONV_IDS = ["k{}x{}-s{}x{}-p{}x{}".format(*k, *s, *p) for k, s, p in CONVS]


@pytest.mark.parametrize(("kernel", "stride", "padding"), CONVS, ids=CONV_IDS)
@pytest.mark.parametrize("channels", [1, 3, 4], ids=lambda c: f"{c}channels")
def test_columns_are_those_of_unfold(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], channels: int
) -> None:
    b, h, w = 2, 7, 6
    x = random_int8(torch.Generator().manual_seed(5), b, channels, h, w)
    image = kernels.pad_nhwc(x[None], padding)
    ho = (h + 2 * padding[0] - kernel[0]) // stride[0] + 1
    wo = (w + 2 * padding[1] - kernel[1]) // stride[1] + 1
    unfolded = F.unfold(x.float(), kernel, padding=padding, stride=stride)  # (B, C * kh * kw, Ho * Wo)
    expected = unfolded.view(b, channels, math.prod(kernel), ho, wo).permute(0, 3, 4, 2, 1)  # (B, Ho, Wo, kh * kw, C)
    for start in range(ho):
        for stop in range(start + 1, ho + 1):
            out = kernels.columns_of(image, kernel, stride, slice(start, stop))
            assert out.dtype == torch.int8
            assert (out.float() == expected[:, start:stop].reshape(b * (stop - start) * wo, -1)).all()


@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (2, 0), (0, 3)], ids=str)
def test_padding_is_zeros_around_every_part_and_sample(padding: tuple[int, int]) -> None:
    parts = random_int8(torch.Generator().manual_seed(6), 2, 3, 4, 5, 6)
    out = kernels.pad_nhwc(parts, padding)
    expected = F.pad(parts.flatten(0, 1).float(), (padding[1], padding[1], padding[0], padding[0]))
    assert out.is_contiguous() and (out == in_one_part(expected)).all()


@pytest.mark.parametrize(("rows", "columns"), [(1, 10), (3, 10), (4, 10), (320, 2880), (1280, 11_520)], ids=str)
def test_a_fused_tile_is_a_bounded_part_of_the_weight(rows: int, columns: int) -> None:
    tile = kernels.fused_tile_rows(rows, columns)
    assert tile == 1 or (tile <= rows / 4 and tile * columns <= 1 << 20)
    assert tile >= 1
