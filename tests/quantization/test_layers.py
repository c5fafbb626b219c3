"""Integer layers against float64 layers that hold the same, dequantized, weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel

from edge_sdk.errors import EdgeSdkError
from edge_sdk.quantization import IntConv2d, IntLinear, integer_layers, kernels, quantize_module

WEIGHTS = pytest.mark.parametrize("weights", ["int8", "int4"])
EXECUTIONS = pytest.mark.parametrize("execution", ["integer", "fused"])
BIAS = pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])

CONVS: dict[str, tuple[nn.Conv2d, tuple[int, int]]] = {}
for name, conv, size in [
    ("1x1", nn.Conv2d(8, 12, 1), (5, 6)),
    ("3x3", nn.Conv2d(8, 12, 3, padding=1), (5, 6)),
    ("3x3 unpadded", nn.Conv2d(4, 6, 3), (5, 7)),
    ("strided", nn.Conv2d(8, 8, 3, stride=2, padding=1), (7, 6)),
    ("strides and paddings that differ", nn.Conv2d(4, 5, (3, 2), stride=(2, 1), padding=(2, 1)), (6, 5)),
    ("1x3", nn.Conv2d(6, 4, (1, 3), padding=(0, 1)), (4, 5)),
    ("two groups", nn.Conv2d(8, 6, 3, padding=1, groups=2), (5, 4)),
    ("depthwise", nn.Conv2d(6, 6, (3, 4), padding=1, groups=6), (5, 6)),
    ("one output channel", nn.Conv2d(4, 1, 3, padding=1), (5, 5)),
    ("no bias", nn.Conv2d(4, 8, 3, padding=1, bias=False), (4, 4)),
]:
    CONVS[name] = (conv, size)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def with_random_weights(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    for seed, parameter in enumerate(layer.parameters()):
        parameter.data = normal(*parameter.shape, seed=seed + 1)
    return layer


def dequantized(layer: IntLinear | IntConv2d) -> torch.Tensor:
    """The layer's weight matrix in float64, (N, K)."""
    q = layer.q.double()
    if layer.weights == "int4":
        q = torch.stack([(layer.q % 16).double(), (layer.q // 16).double()], dim=2)
        q = q.view(*layer.zero.shape, -1) - layer.zero.double()[..., None]
        q = (q * layer.multiplier.double()[..., None]).flatten(1)
    return q * layer.scale.double()[:, None]


def reference(layer: IntLinear | IntConv2d, x: torch.Tensor) -> torch.Tensor:
    bias = None if layer.bias is None else layer.bias.double()
    if isinstance(layer, IntLinear):
        return F.linear(x.double(), dequantized(layer), bias)
    inner = layer.in_channels // layer.groups
    weight = dequantized(layer).view(layer.out_channels, *layer.kernel_size, inner).permute(0, 3, 1, 2)
    return F.conv2d(x.double(), weight, bias, layer.stride, layer.padding, 1, layer.groups)


def relative_error(y: torch.Tensor, expected: torch.Tensor) -> float:
    assert y.shape == expected.shape
    return float((y.double() - expected).abs().max() / expected.abs().max())


@WEIGHTS
@EXECUTIONS
@BIAS
@pytest.mark.parametrize(
    "shape", [(1, 8), (5, 36), (2, 3, 64), (2, 2, 3, 320)], ids=lambda s: "x".join(str(n) for n in s)
)
@pytest.mark.parametrize("rows", [1, 10], ids=lambda n: f"{n}out")
def test_a_linear_layer_is_its_dequantized_self(
    shape: tuple[int, ...], rows: int, bias: bool, weights: str, execution: str
) -> None:
    layer = IntLinear.from_float(with_random_weights(nn.Linear(shape[-1], rows, bias=bias)), weights, execution)
    x = normal(*shape)
    assert layer(x).dtype == torch.float32 and relative_error(layer(x), reference(layer, x)) < 2e-4


@WEIGHTS
@EXECUTIONS
@pytest.mark.parametrize(("conv", "size"), CONVS.values(), ids=CONVS)
def test_a_convolution_is_its_dequantized_self(
    conv: nn.Conv2d, size: tuple[int, int], weights: str, execution: str
) -> None:
    layer = IntConv2d.from_float(with_random_weights(conv), weights, execution)
    x = normal(3, conv.in_channels, *size) * torch.tensor([0.01, 1, 100]).view(3, 1, 1, 1)
    for sample in range(3):
        error = relative_error(layer(x)[sample], reference(layer, x)[sample])
        assert error < 2e-4


@WEIGHTS
@pytest.mark.parametrize("name", ["3x3", "two groups", "depthwise", "strided"])
def test_eight_bit_activations_are_coarser(name: str, weights: str) -> None:
    conv, size = CONVS[name]
    made = [IntConv2d.from_float(with_random_weights(conv), weights, "integer")]
    made += [IntLinear.from_float(with_random_weights(nn.Linear(64, 10)), weights, "integer")]  # type: ignore[list-item]
    for layer, x in zip(made, (normal(2, conv.in_channels, *size), normal(7, 64)), strict=True):
        layer.activation_bits = 8
        assert 2e-4 < relative_error(layer(x), reference(layer, x)) < 2e-2


@pytest.mark.parametrize(("weights", "bound"), [("int8", 0.02), ("int4", 0.2)])
@EXECUTIONS
@pytest.mark.parametrize("name", ["3x3", "two groups", "depthwise", "strides and paddings that differ"])
def test_the_float_convolution_is_near(name: str, weights: str, bound: float, execution: str) -> None:
    conv, size = CONVS[name]
    x = normal(2, conv.in_channels, *size)
    with torch.inference_mode():
        expected = with_random_weights(conv)(x).double()
    assert relative_error(IntConv2d.from_float(conv, weights, execution)(x), expected) < bound


@EXECUTIONS
@pytest.mark.parametrize("layer", [nn.Linear(9, 4), nn.Conv2d(3, 4, 3), nn.Conv2d(1, 4, 1)], ids=str)
def test_an_odd_number_of_int4_columns_works_or_is_refused_in_a_line(
    layer: nn.Linear | nn.Conv2d, execution: str
) -> None:
    x = normal(2, 9) if isinstance(layer, nn.Linear) else normal(2, layer.in_channels, 5, 5)
    kind = IntLinear if isinstance(layer, nn.Linear) else IntConv2d
    try:
        made = kind.from_float(layer, "int4", execution)  # type: ignore[arg-type]
    except EdgeSdkError as error:
        assert "int4" in str(error) and "\n" not in str(error)
    else:
        assert relative_error(made(x), reference(made, x)) < 2e-4


@EXECUTIONS
@pytest.mark.parametrize(
    "layer",
    [nn.Linear(9, 4), nn.Linear(1, 4), nn.Conv2d(3, 4, 3), nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1, groups=4)],
    ids=str,
)
def test_any_number_of_int8_columns_works(layer: nn.Linear | nn.Conv2d, execution: str) -> None:
    linear = isinstance(layer, nn.Linear)
    x = normal(2, layer.in_features) if linear else normal(2, layer.in_channels, 5, 5)
    made = (IntLinear if linear else IntConv2d).from_float(with_random_weights(layer), "int8", execution)  # type: ignore[arg-type]
    assert relative_error(made(x), reference(made, x)) < 2e-4


LAYERS = [nn.Linear(64, 12), *(CONVS[name][0] for name in ("1x1", "3x3", "strided", "two groups", "depthwise"))]


@WEIGHTS
@EXECUTIONS
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_a_row_depends_on_nothing_but_itself(layer: nn.Linear | nn.Conv2d, weights: str, execution: str) -> None:
    linear = isinstance(layer, nn.Linear)
    x = (normal(4, 64) if linear else normal(4, layer.in_channels, 6, 6)) * 10
    made = (IntLinear if linear else IntConv2d).from_float(layer, weights, execution)  # type: ignore[arg-type]
    together = made(x)
    for b in range(4):
        alone = made(x[b : b + 1])[0]
        if execution == "integer":
            assert (alone == together[b]).all()
        else:  # float products of another size may be summed in another order
            torch.testing.assert_close(alone, together[b], rtol=1e-5, atol=1e-5 * float(together.abs().max()))


@WEIGHTS
@pytest.mark.parametrize(
    ("execution", "constant"),
    [("integer", "COLUMN_BYTES"), ("integer", "INT4_ELEMENTS"), ("fused", "FUSED_ELEMENTS")],
    ids=str,
)
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_the_size_of_a_piece_changes_nothing(
    layer: nn.Linear | nn.Conv2d, execution: str, constant: str, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    linear = isinstance(layer, nn.Linear)
    x = normal(3, 64) if linear else normal(3, layer.in_channels, 6, 7)
    made = (IntLinear if linear else IntConv2d).from_float(layer, weights, execution)  # type: ignore[arg-type]
    before = made(x)
    monkeypatch.setattr(kernels, constant, 1)
    torch.testing.assert_close(
        made(x), before, rtol=0 if execution == "integer" else 1e-5, atol=0 if execution == "integer" else 1e-5
    )


@EXECUTIONS
def test_a_number_that_is_not_finite_stays_visible(execution: str) -> None:
    layer = IntLinear.from_float(nn.Linear(8, 4), "int8", execution)
    for bad in (float("nan"), float("inf")):
        x = normal(3, 8)
        x[1, 2] = bad
        y = layer(x)
        assert not torch.isfinite(y[1]).any() and torch.isfinite(y[[0, 2]]).all()


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@WEIGHTS
@EXECUTIONS
def test_every_layer_of_a_model_is_swapped_once(part: str, weights: str, execution: str, sd1_folder: Path) -> None:
    kind = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}[part]
    model = kind.from_pretrained(sd1_folder / part)
    is_float: Callable[[nn.Module], bool] = lambda m: isinstance(m, (nn.Linear, nn.Conv2d))  # noqa: E731
    names = {name for name, module in model.named_modules() if is_float(module)}
    weights = "int8" if part == "vae" else weights
    assert quantize_module(model, weights, execution) is model
    layers = integer_layers(model)
    assert set(layers) == names and not any(is_float(module) for module in model.modules())
    assert {(layer.weights, layer.execution) for layer in layers.values()} == {(weights, execution)}
    with pytest.raises(EdgeSdkError, match="integer weights already"):
        quantize_module(model, weights, execution)


@pytest.mark.parametrize(
    ("weights", "execution"), [("int2", "integer"), ("none", "integer"), ("int8", "dequantized"), ("int8", "")], ids=str
)
def test_unknown_names_are_refused_before_anything_is_swapped(weights: str, execution: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(EdgeSdkError, match="is not known; weights are int8, int4, executions integer, fused"):
        quantize_module(model, weights, execution)
    assert type(model[0]) is nn.Linear


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding="same"),
    ],
    ids=["dilation", "reflect", "same"],
)
def test_a_convolution_that_cannot_be_run_is_refused_in_a_line(conv: nn.Conv2d) -> None:
    with pytest.raises(EdgeSdkError, match="supported are dilation 1 and numeric zero padding") as error:
        quantize_module(nn.Sequential(conv), "int8", "integer")
    assert "\n" not in str(error.value)
