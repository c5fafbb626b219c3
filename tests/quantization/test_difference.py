"""Layers on differences to a base row: the error is a share of the difference, however small that is."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edge_sdk.quantization import difference, layers
from edge_sdk.quantization.kernels import unpack_int4
from edge_sdk.quantization.layers import IntConv2d, IntLinear

LENGTHS = (1.0, 1e-3)  # of a difference, beside numbers of size 1
Case = tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, Any]]
GROUPS = nn.GroupNorm(4, 64)
CASES: dict[str, Case] = {
    "linear": (lambda: nn.Linear(96, 70), (3, 40, 96), {}),
    "linear after a norm": (lambda: nn.Linear(96, 64), (3, 40, 96), {"norm": nn.LayerNorm(96)}),
    "gated linear": (lambda: nn.Linear(96, 32), (3, 40, 192), {"gated": True}),
    "3x3 by Winograd": (lambda: nn.Conv2d(64, 33, 3, padding=1), (3, 64, 14, 12), {"norm": GROUPS, "activated": True}),
    "3x3 of few pixels": (lambda: nn.Conv2d(64, 32, 3, padding=1), (3, 64, 5, 3), {}),
    "stride 2": (lambda: nn.Conv2d(16, 32, 3, 2, padding=1), (3, 16, 9, 8), {}),
    "1x1": (lambda: nn.Conv2d(64, 50, 1), (3, 64, 6, 5), {}),
    "1x1 after a norm": (lambda: nn.Conv2d(64, 32, 1), (3, 64, 6, 5), {"norm": GROUPS}),
    "groups": (lambda: nn.Conv2d(64, 32, 3, padding=1, groups=2), (3, 64, 6, 5), {}),
}


@pytest.fixture(params=["compiled", "PyTorch"], autouse=True)
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "PyTorch":
        monkeypatch.setattr(layers, "backend", lambda device: layers.kernels)
        monkeypatch.setattr(difference, "_is_compiled", lambda x: False)
    elif layers.backend(torch.device("cpu")) is layers.kernels:
        pytest.skip("no C++ compiler")
    return request.param


def weight_of(layer: Any) -> torch.Tensor:
    """The float weight that the integers stand for."""
    q = layer.q if layer.weights == "int8" else unpack_int4(layer.q, layer.zero, layer.multiplier)
    matrix = q.double() * layer.scale.double()[:, None]
    if isinstance(layer, IntLinear):
        return matrix
    n, inner, kh, kw = layer.float_shape
    return matrix.view(n, kh, kw, inner).permute(0, 3, 1, 2)


def exact(layer: Any, x: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
    """The layer's output in float64."""
    x = x.double()
    if options.get("norm") is not None:
        norm = options["norm"]
        x = norm.double()(x)
        norm.float()
    if options.get("gated"):
        value, gate = x.chunk(2, dim=-1)
        x = F.gelu(gate) * value
    x = F.silu(x) if options.get("activated") else x
    bias = layer.bias.double()
    if isinstance(layer, IntLinear):
        return F.linear(x, weight_of(layer), bias)
    return F.conv2d(x, weight_of(layer), bias, layer.stride, layer.padding, 1, layer.groups)


@torch.no_grad()
def made(case: Case, weights: str, length: float) -> tuple[Any, torch.Tensor]:
    build, shape, _ = case
    torch.manual_seed(1)
    float_layer = build()
    kind: Any = IntLinear if isinstance(float_layer, nn.Linear) else IntConv2d
    x = torch.randn(shape)
    x[1:] = x[:1] + length * x[1:]
    return kind.from_float(float_layer, weights, "integer"), x


def rows(layer: Any, x: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
    """Of the base and of the rows beside it, by a tape."""
    tape = difference.Tape()
    with tape.recording():
        base = layer(x[:1], **options)
    with tape.replaying():
        return torch.cat([base, layer(x[1:], **options)])


@pytest.mark.parametrize("length", LENGTHS, ids=lambda value: f"{value:g}")
@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_a_difference_is_known_to_its_own_share(name: str, weights: str, length: float) -> None:
    options = CASES[name][2]
    layer, x = made(CASES[name], weights, length)
    y, truth = rows(layer, x, options).double(), exact(layer, x, options)
    change = truth[1:] - truth[:1]
    assert (y[1:] - y[:1] - change).norm() < 0.015 * change.norm()
    assert (y[0] - truth[0]).norm() < 1e-3 * truth[0].norm()


@torch.inference_mode()
def test_sixteen_bits_do_not_know_a_small_difference_so_well() -> None:
    layer, x = made(CASES["linear"], "int8", 1e-5)
    truth = exact(layer, x, {})
    errors = [
        float((y[1:] - y[:1] - truth[1:] + truth[:1]).norm() / (truth[1:] - truth[:1]).norm())
        for y in (layer(x).double(), rows(layer, x, {}).double())
    ]
    assert errors[0] > 0.3 and errors[1] < 0.05


@pytest.mark.parametrize("name", ["linear after a norm", "gated linear"])
@torch.inference_mode()
def test_the_first_row_of_a_batch_is_the_base_of_the_others(name: str) -> None:
    layer, x = made(CASES[name], "int8", 1e-3)
    with difference.first_row_is_base():
        together = layer(x, **CASES[name][2])
    assert torch.equal(together, rows(layer, x, CASES[name][2]))


@torch.inference_mode()
def test_a_row_does_not_depend_on_the_rows_beside_it_nor_on_the_memory_of_the_tape() -> None:
    layer, x = made(CASES["3x3 by Winograd"], "int8", 1e-2)
    options, tape = CASES["3x3 by Winograd"][2], difference.Tape()
    together = rows(layer, x, options)
    for base in (2 * x[:1], x[:1]):  # the second time in memory that held another base
        with tape.recording():
            layer(base, **options)
    with tape.replaying():
        assert torch.equal(layer(x[2:], **options), together[2:])


@torch.inference_mode()
def test_outputs_are_added_to_what_is_there() -> None:
    layer, x = made(CASES["linear"], "int8", 1e-2)
    y, tape = rows(layer, x, {}), difference.Tape()
    out = torch.ones_like(y)
    with tape.recording():
        layer(x[:1], out=out[:1], added=True)
    with tape.replaying():
        layer(x[1:], out=out[1:], added=True)
    torch.testing.assert_close(out, y + 1)


@torch.inference_mode()
def test_a_skip_connection_is_joined_and_added_to() -> None:
    layer, x = made(CASES["1x1"], "int8", 1e-2)
    whole, tape = rows(layer, x, {}), difference.Tape()
    out = torch.ones_like(whole).contiguous(memory_format=torch.channels_last)
    with tape.recording():
        layer(x[:1, :40], x[:1, 40:], out=out[:1])
    with tape.replaying():
        layer(x[1:, :40], x[1:, 40:], out=out[1:])
    torch.testing.assert_close(out, whole + 1)


@torch.inference_mode()
def test_what_is_held_between_stages_is_a_byte_a_number_and_a_share_of_the_difference() -> None:
    x = torch.randn(3, 64, 6, 5)
    x[1:] = x[:1] + 1e-4 * x[1:]
    tape = difference.Tape()
    with tape.recording():
        assert difference.held(x[:1], "skip") is not None
    with tape.replaying():
        kept = difference.held(x[1:], "skip")
    assert isinstance(kept, difference.Held) and kept.q.element_size() * kept.q.numel() == x[1:].numel()
    assert (kept.restored() - x[1:]).norm() < 0.02 * (x[1:] - x[:1]).norm()
    assert torch.equal(kept[1:].restored(), kept.restored()[1:])


@torch.inference_mode()
def test_rows_that_pass_other_layers_than_their_base_are_an_error() -> None:
    (layer, x), (other, _) = made(CASES["linear"], "int8", 1e-2), made(CASES["linear"], "int4", 1e-2)
    tape = difference.Tape()
    with tape.recording():
        layer(x[:1])
    with tape.replaying(), pytest.raises(RuntimeError, match="other layers"):
        other(x[1:])
