"""No float tensor of a weight's size exists while a model runs; and the watch sees one if it does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edge_sdk.config import RESIDENCIES
from edge_sdk.diffusion.networks import vae
from edge_sdk.quantization import IntConv2d, IntLinear, quantize_module
from edge_sdk.runtime.pytorch.model import Model, open_model
from tests.quantization.watch import WeightWatch
from tests.tiny_models import FAMILIES

WEIGHTS = pytest.mark.parametrize("weights", ["int8", "int4"])
EXECUTIONS = pytest.mark.parametrize("execution", ["integer", "fused"])
Checkpoints = Callable[[str, str], Path]


def watched(module: nn.Module, run: Callable[[Any], object]) -> WeightWatch:
    with torch.no_grad(), WeightWatch(module) as watch:  # inference mode would hide the insides of composite operators
        run(module)
    return watch


def run_unet(unet: Any) -> None:
    config = unet.config
    pooled = (config.projection_class_embeddings_input_dim or 0) - 6 * (config.addition_time_embed_dim or 0)
    added = (torch.randn(1, pooled), torch.full((1, 6), 16.0)) if config.addition_embed_type else None
    unet(
        torch.randn(1, config.in_channels, 6, 10),
        torch.tensor(500),
        torch.randn(1, 7, config.cross_attention_dim),
        added,
    )


def run_text_encoder(encoder: Any) -> None:
    encoder(torch.arange(11)[None])


def run_projecting_encoder(encoder: Any) -> None:
    encoder.pool(encoder(torch.arange(11)[None], skip_last=True), torch.tensor([10]))


def run_vae(coder: Any) -> None:
    coder.decode(coder.encode(torch.randn(1, 3, 14, 22))[0])


RUNS = {
    "unet": (run_unet, 300),
    "text_encoder": (run_text_encoder, 50),
    "text_encoder_2": (run_projecting_encoder, 50),
    "vae": (run_vae, 150),
}


def check(model: Model) -> None:
    """Every part runs, and no float tensor of a weight's size comes to exist."""
    for part in model.parts:
        run, least = RUNS[part]
        watch = watched(model.load(part), run)
        assert watch.violations == [] and watch.tensors_seen > least, part


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("residency", RESIDENCIES)
@WEIGHTS
@EXECUTIONS
def test_no_float_weight_exists(
    family: str,
    residency: str,
    weights: str,
    execution: str,
    checkpoint_of: Checkpoints,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vae, "WHOLE_ELEMENTS", 0)  # so that a streamed encoder works in bands
    check(open_model(str(checkpoint_of(family, weights)), weights, execution, residency))


@pytest.mark.parametrize("family", [*FAMILIES, "pocket"])
@WEIGHTS
@EXECUTIONS
def test_no_float_weight_exists_in_a_model_quantized_on_the_fly(
    family: str, weights: str, execution: str, request: pytest.FixtureRequest
) -> None:
    name = "pocket" if family == "pocket" else str(request.getfixturevalue(f"{family}_folder"))
    check(open_model(name, weights, execution))


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


def test_one_bad_layer_in_a_whole_model_is_named(sd1_folder: Path) -> None:
    encoder: Any = open_model(str(sd1_folder)).load("text_encoder")
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
