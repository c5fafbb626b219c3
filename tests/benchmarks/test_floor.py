"""The floor of a forward pass: its products by how they are computed, at the processor's peak."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.speed.benchmark import floor, floor_lines
from benchmarks.speed.floor import direct_seconds, floor_seconds, peaks
from benchmarks.speed.forward import noise
from benchmarks.speed.products import Products
from edge_sdk.quantization.kernels import split_rows


@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")
def test_eight_bit_products_are_at_least_as_many_a_second_as_sixteen_bit_ones() -> None:
    peak = peaks()
    assert peak.keys() == {16, 8}
    assert 1e8 < 0.9 * peak[16] <= peak[8] < 5e12


@pytest.mark.parametrize(
    ("bits", "side", "kinds"),
    [
        (16, 8, {"winograd 2": 9 * 128 * 8 * 64}),
        (16, 4, {"linear": 9 * 128 * 8 * 16}),
        (8, 8, {"linear": 9 * 128 * 8 * 64}),
        (8, 16, {"winograd 4": 9 * 128 * 8 * 256}),
    ],
    ids=["16 bits", "16 bits, few pixels", "8 bits, few pixels", "8 bits"],
)
def test_a_convolution_is_counted_as_the_kernels_compute_it(bits: int, side: int, kinds: dict[str, int]) -> None:
    ops = Products(nn.Sequential(nn.Conv2d(128, 8, 3, padding=1)), bits)
    ops.conv((1, 128, side, side), "0", (side, side))
    assert dict(ops.counts) == kinds


def test_the_floor_is_products_by_the_rate_of_the_instruction_that_computes_them() -> None:
    counts = {"linear": 600, "attention": 100, "winograd 2": 225, "winograd 4": 400}
    rates = {16: 10.0, 8: 20.0}
    assert floor_seconds(counts, rates, 16) == 60 + 10 + 10 + 10
    assert floor_seconds(counts, rates, 8) == 30 + 10 + 10 + 10  # attention and Winograd's sums keep 16 bits
    assert direct_seconds(counts, rates, 8) == 1325 / 20


def test_noise_is_what_is_left_of_the_second_difference() -> None:
    matrix = torch.from_numpy(np.random.default_rng(0).standard_normal((16, 16)).astype(np.float32))
    inputs = (torch.zeros(1), torch.zeros(1), torch.randn(1, 8, 16, generator=torch.Generator().manual_seed(0)))

    def exact(sample: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return text.double() @ matrix.double()

    def rounded(sample: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        levels, scales = split_rows(text[0], 127)
        return (levels * scales.reshape(-1, 1)) @ matrix

    assert noise(exact, inputs)["noise"] < 1e-6
    assert noise(rounded, inputs)["noise"] > 1e-4
    assert noise(exact, inputs)["signal"] == pytest.approx(noise(rounded, inputs)["signal"], rel=0.1)


@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")
def test_the_floor_of_a_model_is_that_of_its_own_size(sd1_folder: Path) -> None:
    found = floor(sd1_folder)
    assert set(found["seconds"]) == {"16", "8"} and found["products"] > 1e6
    slowest = found["products"] / found["products_a_second"]["16"]
    assert all(0 < seconds <= slowest for seconds in found["seconds"].values())
    assert floor_lines(found).count("processor seconds") == 2
