"""Integer weights against optimum-quanto's own, and against the error that rounding allows."""

import subprocess
import sys

import pytest
import torch
from optimum.quanto import freeze, qint8, quantize
from torch import nn

from edge_sdk.quantization.quanto import group_size, int4_weight, int8_weight

SHAPES = [(1, 8), (2, 3), (7, 64), (16, 36), (5, 254), (12, 384), (3, 1152), (4, 262)]
IDS = [f"{n}x{k}" for n, k in SHAPES]
EVEN = pytest.mark.parametrize(("rows", "columns"), [s for s in SHAPES if s[1] % 2 == 0], ids=str)


def matrix(rows: int, columns: int) -> torch.Tensor:
    """Random weights whose rows and columns differ in size, as a network's do."""
    generator = torch.Generator().manual_seed(rows * 10_000 + columns)
    spread = torch.logspace(-2, 0, rows)[:, None] * torch.linspace(0.2, 1, columns)
    return torch.randn(rows, columns, generator=generator) * spread


def as_float(q: torch.Tensor, zero: torch.Tensor, multiplier: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """scale * multiplier * (q - zero) in float64, (N, K)."""
    groups = q.double().view(*zero.shape, -1)
    return ((groups - zero.double()[..., None]) * multiplier.double()[..., None] * scale.double()[:, None, None]).view(
        q.shape
    )


@pytest.mark.parametrize(("rows", "columns"), [shape for shape in SHAPES if shape[0] > 1], ids=IDS[1:])
def test_int8_is_what_quanto_makes_of_a_layer(rows: int, columns: int) -> None:
    layer = nn.Linear(columns, rows, bias=False)
    layer.weight.data = matrix(rows, columns)
    holder = nn.Sequential(layer)
    quantize(holder, weights=qint8)
    freeze(holder)
    own = holder[0].weight
    q, scale = int8_weight(matrix(rows, columns))
    assert (q == own._data).all() and (scale == own._scale.flatten()).all()


@pytest.mark.parametrize(("rows", "columns"), SHAPES, ids=IDS)
def test_int8_is_within_half_a_step_of_every_channel(rows: int, columns: int) -> None:
    w = matrix(rows, columns)
    q, scale = int8_weight(w)
    assert q.dtype == torch.int8 and q.shape == w.shape and scale.dtype == torch.float32 and scale.shape == (rows,)
    error = (w.double() - scale.double()[:, None] * q.double()).abs()
    assert (error <= scale.double()[:, None] * (0.5 + 1e-4)).all()


@pytest.mark.parametrize(("rows", "columns"), SHAPES, ids=IDS)
def test_int8_is_symmetric_and_uses_its_whole_range(rows: int, columns: int) -> None:
    w = matrix(rows, columns)
    (q, scale), (mirrored, same) = int8_weight(w), int8_weight(-w)
    assert (q.short().abs().amax(dim=1) == 127).all()
    assert (mirrored == -q).all() and (same == scale).all()


def test_transformers_and_diffusers_are_imported_only_for_who_asks_for_quantos_wrappers() -> None:
    program = """
import sys
import torch
from edge_sdk.quantization.quanto import int4_weight, int8_weight
for quantized in (int8_weight, int4_weight):
    quantized(torch.ones(2, 8))
import optimum.quanto
assert not hasattr(optimum.quanto, "__wrapped__")
assert not {"transformers", "diffusers", "optimum.quanto.models"} & set(sys.modules)
assert not hasattr(optimum.quanto, "nothing")
from optimum.quanto import QuantizedDiffusersModel, models
assert models.QuantizedDiffusersModel is QuantizedDiffusersModel is optimum.quanto.QuantizedDiffusersModel
assert "diffusers" in sys.modules
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_single_channel_is_quantized_as_any_other_channel() -> None:
    w = matrix(4, 30)
    q, scale = int8_weight(w)
    for row in range(4):
        alone, own = int8_weight(w[row : row + 1])
        assert alone.shape == (1, 30) and (alone[0] == q[row]).all() and own.tolist() == [scale[row].item()]


@pytest.mark.parametrize("rows", [1, 3], ids=lambda n: f"{n}rows")
def test_a_row_of_zeros_stays_zeros(rows: int) -> None:
    q, scale = int8_weight(torch.zeros(rows, 6))
    assert not q.any() and torch.isfinite(scale).all() and (scale > 0).all()
    q4, zero, multiplier, scale = int4_weight(torch.zeros(rows, 6))
    assert not as_float(q4, zero, multiplier, scale).any() and (scale > 0).all()


@EVEN
def test_int4_integers_are_in_their_ranges_and_fit_int8_together(rows: int, columns: int) -> None:
    q, zero, multiplier, scale = int4_weight(matrix(rows, columns))
    groups = columns // group_size(columns)
    assert (q.dtype, zero.dtype, multiplier.dtype) == (torch.uint8, torch.int8, torch.int8)
    assert q.shape == (rows, columns) and zero.shape == multiplier.shape == (rows, groups) and scale.shape == (rows,)
    assert q.max() <= 15 and zero.min() >= 0 and zero.max() <= 15
    assert multiplier.min() >= 1 and (multiplier.amax(dim=1) == 8).all()
    assert as_float(q, zero, multiplier, torch.ones(rows)).abs().max() <= 127


@EVEN
def test_int4_is_within_half_a_step_inside_a_group_and_a_step_at_its_ends(rows: int, columns: int) -> None:
    w = matrix(rows, columns)
    q, zero, multiplier, scale = int4_weight(w)
    step = (multiplier.double() * scale.double()[:, None]).repeat_interleave(group_size(columns), dim=1)
    error = (w.double() - as_float(q, zero, multiplier, scale)).abs()
    at_the_end = (q == 0) | (q == 15)
    assert (error <= step * (0.5 + 0.5 * at_the_end + 2e-3)).all()


@EVEN
def test_an_int4_step_is_a_fifteenth_of_its_group_rounded_up(rows: int, columns: int) -> None:
    w = matrix(rows, columns)
    _, _, multiplier, scale = int4_weight(w)
    groups = w.double().view(*multiplier.shape, -1)
    own = (groups.amax(dim=2).clamp_min(0) - groups.amin(dim=2).clamp_max(0)) / 15
    step = multiplier.double() * scale.double()[:, None]
    assert (step >= own * (1 - 1e-3)).all() and (step <= own + scale.double()[:, None]).all()


@pytest.mark.parametrize("sign", [1, -1], ids=["positive", "negative"])
@pytest.mark.parametrize("columns", [8, 254, 262], ids=lambda k: f"{k}columns")
def test_int4_keeps_groups_of_one_sign(columns: int, sign: int) -> None:
    w = sign * (1 + 0.1 * matrix(4, columns).abs())
    q, zero, multiplier, scale = int4_weight(w)
    step = (multiplier.double() * scale.double()[:, None]).repeat_interleave(group_size(columns), dim=1)
    assert ((w.double() - as_float(q, zero, multiplier, scale)).abs() <= step * 1.01).all()
    assert step.max() <= w.abs().max() / 15 * 1.2


@pytest.mark.parametrize(
    ("columns", "size"),
    [(1, 1), (7, 1), (36, 4), (128, 128), (254, 2), (320, 64), (640, 128), (768, 128), (2880, 64)],
    ids=lambda n: str(n),
)
def test_a_group_is_the_largest_power_of_two_up_to_128(columns: int, size: int) -> None:
    assert group_size(columns) == size


def test_a_weight_that_needs_a_gradient_is_taken_and_left_alone() -> None:
    w = nn.Parameter(matrix(4, 8))
    before = w.detach().clone()
    for tensor in (*int8_weight(w), *int4_weight(w)):
        assert not tensor.requires_grad and tensor.is_contiguous()
    assert (w == before).all()


def test_int4_needs_nothing_that_quanto_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    from optimum.quanto.tensor.packed import PackedTensor

    w = matrix(5, 6)  # of an odd number of rows, the last byte holds one
    wanted = int4_weight(w)
    monkeypatch.delattr(PackedTensor, "unpack")
    for own, other in zip(int4_weight(w), wanted, strict=True):
        assert torch.equal(own, other)
    q, zero, multiplier, scale = wanted
    zero, multiplier = (values.repeat_interleave(group_size(6), dim=1) for values in (zero, multiplier))
    assert ((q.float() - zero) * multiplier * scale[:, None] - w).abs().max() <= 4.01 * scale.max()
