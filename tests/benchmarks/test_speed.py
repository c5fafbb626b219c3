"""The speed benchmark finds the layers that a model spends most on, and compares like with like."""

import pytest
import torch

from benchmarks.lib.models import timed
from benchmarks.speed.benchmark import ratios
from benchmarks.speed.forward import FLOAT, OURS
from benchmarks.speed.layers import measure, most_used
from edge_sdk.diffusion.networks.unet import UNet
from edge_sdk.diffusion.networks.unet_config import UNetConfig
from edge_sdk.quantization import quantize_module
from tests.tiny_models import build_unet

INPUTS = (torch.randn(1, 4, 8, 8), torch.tensor([500]), torch.randn(1, 77, 32))


def test_the_layers_with_most_multiplications_come_first() -> None:
    unet = build_unet()
    shapes = most_used(unet, INPUTS)
    work = [shape["multiplications"] * shape["count"] for shape in shapes]
    assert work == sorted(work, reverse=True)
    found = {shape["layer"]: shape for shape in shapes}
    entrance = found["convolution 3x3, 4 to 32 at 8x8"]
    assert (entrance["name"], entrance["count"], entrance["multiplications"]) == ("conv_in", 1, 4 * 32 * 9 * 64)
    assert found["convolution 3x3, 32 to 32 at 8x8, stride 2"]["multiplications"] == 32 * 32 * 9 * 16
    assert found["linear, 77 rows, 32 to 64"]["multiplications"] == 77 * 32 * 64
    layers = [m for m in unet.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)]
    assert sum(shape["count"] for shape in shapes) == len(layers)


@torch.no_grad()
def test_an_integer_layer_is_measured_against_the_float_one_of_its_name() -> None:
    unet = build_unet()
    twin = UNet(UNetConfig.from_dict(dict(unet.config)))
    twin.load_state_dict(unet.state_dict())
    heaps: list[str] = []
    ours = {OURS: quantize_module(twin, "int8", "integer")}
    rows = measure(unet, ours, INPUTS, 3, 1, "cpu", heaps.append)
    assert len(rows) == 3 and heaps == ["float32", OURS] * 6  # one round is left out
    assert sum(row["share"] for row in rows) < 1
    for row in rows:
        assert row["cases"]["float32"]["relative_error"] == 0
        assert 1e-4 < row["cases"][OURS]["relative_error"] < 0.02
        assert row["cases"][OURS]["wall_ms"]["n"] == 1 and row["cases"][OURS]["cpu_ms"]["median"] > 0


def test_ratios_are_of_the_same_round() -> None:
    results = {
        FLOAT: {"runs": [{"wall": 2.0, "cpu": 4.0}, {"wall": 10.0, "cpu": 4.0}, {"wall": 4.0, "cpu": 4.0}]},
        OURS: {"runs": [{"wall": 1.0, "cpu": 1.0}, {"wall": 9.0, "cpu": 1.0}, {"wall": 2.0, "cpu": 1.0}]},
    }
    (ratio,) = ratios(results)
    assert (ratio["case"], ratio["over"], ratio["wanted"]) == (OURS, FLOAT, 0.7)
    assert ratio["measured"] == {"median": 0.5, "low": 0.5, "high": 0.9, "n": 3}
    assert ratio["processor"] == {"median": 0.25, "low": 0.25, "high": 0.25, "n": 3}


def test_processor_time_is_not_wall_time() -> None:
    import time

    slept = timed(lambda: time.sleep(0.05), "cpu")
    assert slept["wall"] >= 0.05 > slept["cpu"]
    assert timed(lambda: sum(range(10**6)), "cpu")["cpu"] == pytest.approx(0.02, abs=0.2)
