"""Several linear layers of one input give the bits that each of them gives alone."""

from typing import Any

import pytest
import torch
from torch import nn

from edge_sdk.quantization import difference, joint, layers, native
from edge_sdk.quantization.layers import IntLinear

SIZES = (40, 64, 7)  # of outputs


@pytest.fixture(params=["compiled", "PyTorch"], autouse=True)
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "PyTorch":
        monkeypatch.setattr(layers, "backend", lambda device: layers.kernels)
        monkeypatch.setattr(joint, "backend", lambda device: layers.kernels)
    elif layers.backend(torch.device("cpu")) is layers.kernels:
        pytest.skip("no C++ compiler")
    return request.param


@torch.no_grad()
def made(weights: str, bits: int = 16) -> list[IntLinear]:
    torch.manual_seed(3)
    made = [IntLinear.from_float(nn.Linear(96, size, bias=size != 64), weights, "integer") for size in SIZES]
    for layer in made:
        layer.activation_bits = bits
    return made


def inputs() -> tuple[torch.Tensor, nn.LayerNorm]:
    norm = nn.LayerNorm(96)
    nn.init.normal_(norm.weight)
    return torch.randn(3, 300, 96, generator=torch.Generator().manual_seed(4)), norm


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize("weights", ["int8", "int4"])
@torch.inference_mode()
def test_together_they_give_the_bits_of_each_alone(weights: str, bits: int) -> None:
    own, (x, norm) = made(weights, bits), inputs()
    for by in (None, norm):
        for y, layer in zip(joint.linear(own, x, by), own, strict=True):
            assert torch.equal(y, layer(x, norm=by))


@torch.inference_mode()
def test_outputs_go_where_they_are_wanted() -> None:
    own, (x, norm) = made("int8"), inputs()
    outs = [torch.empty(3, 300, size) for size in SIZES]
    for y, out, layer in zip(joint.linear(own, x, norm, outs), outs, own, strict=True):
        assert y.data_ptr() == out.data_ptr() and torch.equal(out, layer(x, norm=norm))


@torch.inference_mode()
def test_an_input_is_rounded_once(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how != "compiled":
        pytest.skip("PyTorch's products round it for each layer")
    own, (x, norm), calls = made("int8"), inputs(), []
    real = native._call
    monkeypatch.setattr(native, "_call", lambda name, *arguments: (calls.append(name), real(name, *arguments))[1])
    joint.linear(own, x, norm)
    assert calls == ["edge_linear"]


@torch.inference_mode()
def test_layers_that_round_differently_or_not_at_all_stand_alone() -> None:
    own: list[Any] = made("int8")
    own[1].activation_bits, own[2].execution = 8, "fused"
    x, _ = inputs()
    plain = nn.Linear(96, 5)
    for y, layer in zip(joint.linear([*own, plain], x), [*own, plain], strict=True):
        assert torch.equal(y, layer(x))


@pytest.mark.parametrize("weights", ["int8", "int4"])
@torch.inference_mode()
def test_differences_are_those_of_each_alone(weights: str) -> None:
    own, (x, norm) = made(weights), inputs()
    x[1:] = x[:1] + 1e-3 * x[1:]
    together, alone = difference.Tape(), difference.Tape()
    with together.recording():
        joint.linear(own, x[:1], norm)
    with alone.recording():
        for layer in own:
            layer(x[:1], norm=norm)
    with together.replaying():
        found = joint.linear(own, x[1:], norm)
    with alone.replaying():
        for y, layer in zip(found, own, strict=True):
            assert torch.equal(y, layer(x[1:], norm=norm))


@torch.inference_mode()
def test_what_surrounds_a_layers_pass_surrounds_it_here_too() -> None:
    own, (x, norm), begun, passed = made("int8"), inputs(), [], []
    for layer in own:
        layer.register_forward_pre_hook(lambda used, _inputs: begun.append((used, len(passed))))
        layer.register_forward_hook(lambda used, _inputs, _output: passed.append(used))
    joint.linear(own, x, norm)
    tape = difference.Tape()
    with tape.recording():
        joint.linear(own, x[:1], norm)
    assert passed == [*own, *own] and [used for used, _ in begun] == passed
    assert all(before <= i for i, (_, before) in enumerate(begun))
