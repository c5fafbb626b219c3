"""What integer layers do to their inputs and outputs by themselves is what PyTorch's operators do one after another."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edge_sdk.quantization import IntConv2d, IntLinear, native

BACKENDS = pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "PyTorch"])


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def use(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(native, "library", lambda: None)
    elif native.library() is None:
        pytest.skip("there is no C++ compiler")


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def randomized(norm: nn.Module) -> nn.Module:
    for parameter in norm.parameters():
        nn.init.normal_(parameter, 1.0, 0.5)
    return norm


@BACKENDS
@pytest.mark.parametrize("k", [16, 37, 320], ids=str)
@torch.no_grad()
def test_a_linear_layer_normalizes_and_gates_its_rows(k: int, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    use(compiled, monkeypatch)
    layer, norm = IntLinear.from_float(nn.Linear(k, 40), "int8", "integer"), randomized(nn.LayerNorm(k))
    x = 3 * torch.randn(2, 9, k) + 5
    assert error(layer(x, norm), layer(norm(x))) < 2e-4
    wide = 2 * torch.randn(2, 9, 2 * k)
    value, gate = wide.chunk(2, dim=2)
    assert error(layer(wide, gated=True), layer(value * F.gelu(gate))) < 2e-4


@BACKENDS
@pytest.mark.parametrize("n", [32, 45], ids=str)
@pytest.mark.parametrize("k", [320, 700], ids=["short sums", "long sums"])
@torch.no_grad()
def test_a_linear_layer_writes_to_a_tensor_or_adds_to_it(
    n: int, k: int, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(compiled, monkeypatch)
    layer = IntLinear.from_float(nn.Linear(k, n), "int8", "integer")
    x, before = torch.randn(2, 9, k), torch.randn(2, 9, n)
    out = before.clone()
    assert layer(x, out=out) is out and torch.equal(out, layer(x))
    out = before.clone()
    assert layer(x, out=out, added=True) is out and torch.equal(out, before + layer(x))


@BACKENDS
@pytest.mark.parametrize("activated", [True, False], ids=["SiLU", "linear"])
@pytest.mark.parametrize(
    ("channels", "kernel", "size"), [((64, 0), 3, 9), ((48, 32), 3, 8), ((20, 12), 1, 5), ((12, 0), 3, 4)], ids=str
)
@torch.no_grad()
def test_a_convolution_joins_normalizes_and_activates(
    channels: tuple[int, int], kernel: int, size: int, activated: bool, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(compiled, monkeypatch)
    c = sum(channels)
    layer = IntConv2d.from_float(nn.Conv2d(c, 33, kernel, padding=kernel // 2), "int8", "integer")
    norm = randomized(nn.GroupNorm(4, c))
    x, offsets = 2 * torch.randn(2, c, size, size) + torch.linspace(-3, 3, c)[:, None, None], torch.randn(2, c)
    first, second = (part.contiguous(memory_format=torch.channels_last) for part in x.split(channels, dim=1))
    skip = second if channels[1] else None
    expected = norm(x + offsets[:, :, None, None])
    expected = layer(F.silu(expected) if activated else expected)
    assert error(layer(first, skip, norm, activated, offsets), expected) < 1e-3
    assert error(layer(first, skip), layer(x)) < 1e-6
    if kernel == 1:
        out = torch.randn_like(expected).contiguous(memory_format=torch.channels_last)
        before = out.clone()
        assert layer(first, skip, out=out) is out and error(out, before + layer(x)) < 1e-6


@torch.no_grad()
def test_a_number_that_is_not_finite_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    use(True, monkeypatch)
    layer, norm = IntConv2d.from_float(nn.Conv2d(64, 8, 3), "int8", "integer"), nn.GroupNorm(4, 64)
    x = torch.randn(2, 64, 10, 10)
    x[1, 5, 3, 3] = float("nan")
    found = layer(x, norm=norm, activated=True)
    assert torch.isfinite(found[0]).all() and found[1].isnan().all()
