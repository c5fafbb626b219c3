"""No float tensor of a weight's size exists while a model runs; and the watch sees one if it does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edge_sdk.models import Model, open_model
from edge_sdk.quantization import IntConv2d, IntLinear, WeightWatch, quantize_module

WEIGHTS = pytest.mark.parametrize("weights", ["int8", "int4"])
EXECUTIONS = pytest.mark.parametrize("execution", ["integer", "fused"])
FAMILIES = pytest.mark.parametrize("family", ["sd1", "sd2", "pocket"])
Opened = Callable[[str, str, str], Model]


@pytest.fixture
def opened(sd1_folder: Path, sd2_folder: Path) -> Opened:
    folders = {"sd1": str(sd1_folder), "sd2": str(sd2_folder), "pocket": "pocket"}
    return lambda family, weights, execution: open_model(folders[family], weights, execution)


def watched(module: nn.Module, run: Callable[[Any], object]) -> WeightWatch:
    with torch.no_grad(), WeightWatch(module) as watch:  # inference mode would hide the insides of composite operators
        run(module)
    return watch


@FAMILIES
@WEIGHTS
@EXECUTIONS
def test_no_float_weight_exists_in_a_denoiser(family: str, weights: str, execution: str, opened: Opened) -> None:
    unet = opened(family, weights, execution).load("unet")
    config: Any = unet.config
    latents = torch.randn(1, config.in_channels, 6, 10)
    hidden = torch.randn(1, 7, config.cross_attention_dim)
    watch = watched(unet, lambda u: u(latents, torch.tensor(500), hidden))
    assert watch.violations == [] and watch.tensors_seen > 500


@FAMILIES
@WEIGHTS
@EXECUTIONS
def test_no_float_weight_exists_in_a_text_encoder(family: str, weights: str, execution: str, opened: Opened) -> None:
    encoder = opened(family, weights, execution).load("text_encoder")
    watch = watched(encoder, lambda e: e(torch.arange(11)[None]))
    assert watch.violations == [] and watch.tensors_seen > 50


@FAMILIES
@EXECUTIONS
def test_no_float_weight_exists_in_a_vae(family: str, execution: str, opened: Opened) -> None:
    vae = opened(family, "int8", execution).load("vae")
    watch = watched(vae, lambda v: v.decode(v.encode(torch.randn(1, 3, 14, 22))[0]))
    assert watch.violations == [] and watch.tensors_seen > 300


class DequantizingLinear(IntLinear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.matrix.int8().float() * self.scale[:, None], self.bias)


class DequantizingConv(IntConv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        matrix = self.matrix.int8().float() * self.scale[:, None]
        weight = matrix.view(self.out_channels, *self.kernel_size, -1).permute(0, 3, 1, 2)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


BAD = [
    (nn.Linear(8, 6), DequantizingLinear, torch.ones(5, 8)),
    (nn.Conv2d(4, 6, 3), DequantizingConv, torch.ones(1, 4, 5, 7)),
]


@WEIGHTS
@pytest.mark.parametrize(("layer", "bad", "x"), BAD, ids=["linear", "convolution"])
def test_a_layer_that_dequantizes_is_seen(layer: nn.Module, bad: type, x: torch.Tensor, weights: str) -> None:
    model = quantize_module(nn.Sequential(layer), weights, "integer")
    assert watched(model, lambda m: m(x)).violations == []
    model[0].__class__ = bad
    violations = watched(model, lambda m: m(x)).violations
    assert violations and all(line.startswith("0: ") and "made a float tensor" in line for line in violations)


def test_a_half_precision_weight_is_seen_too() -> None:
    class Half(IntLinear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.matrix.int8().half().t().to(x.dtype)[:, :3]

    model = quantize_module(nn.Sequential(nn.Linear(8, 6)), "int8", "integer")
    model[0].__class__ = Half
    assert any("float tensor (6, 8)" in line for line in watched(model, lambda m: m(torch.ones(5, 8))).violations)


def test_one_bad_layer_in_a_whole_model_is_named(opened: Opened) -> None:
    encoder: Any = opened("sd1", "int8", "integer").load("text_encoder")
    name, layer = next((n, m) for n, m in encoder.named_modules() if n.endswith("layers.1.mlp.fc1"))
    layer.__class__ = DequantizingLinear
    violations = watched(encoder, lambda e: e(torch.arange(11)[None])).violations
    assert violations and all(line.startswith(f"{name}: ") for line in violations)


def test_a_float_layer_that_is_left_is_named() -> None:
    model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4), nn.Conv2d(4, 4, 1))
    model[0] = IntLinear.from_float(model[0], "int8", "integer")
    assert watched(model[:2], lambda m: m(torch.ones(5, 8))).violations == ["1 holds a float weight"]
    assert WeightWatch(model).violations == ["1 holds a float weight", "2 holds a float weight"]


def test_nothing_is_watched_after_the_context() -> None:
    model = quantize_module(nn.Sequential(nn.Linear(8, 6)), "int8", "integer")
    with WeightWatch(model) as watch:
        model(torch.ones(5, 8))
    seen = watch.tensors_seen
    model[0].__class__ = DequantizingLinear
    model(torch.ones(5, 8))
    assert watch.tensors_seen == seen > 0 and watch.violations == []
