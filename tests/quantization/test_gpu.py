"""The GPU's kernels in Triton's interpreter: the same sums as everywhere, and another way where they cannot run."""

import importlib.util
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from edge_sdk.diffusion.networks.unet import UNet
from edge_sdk.diffusion.networks.unet_config import UNetConfig
from edge_sdk.quantization import gpu, kernels, layers
from edge_sdk.runtime.pytorch.cuda_graph import GraphedDenoiser
from tests.tiny_models import build_unet

ROOT = Path(__file__).parents[2]
TRITON = ROOT / ".venv" / "triton"  # beside the other packages, so that PyTorch does not find it in other tests


@pytest.mark.skipif(
    not TRITON.exists() and importlib.util.find_spec("triton") is None, reason="Triton is not installed"
)
def test_kernels_of_the_gpu_compute_the_same_sums() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{TRITON}"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.quantization.gpu_cases"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    differences = json.loads(run.stdout)
    assert len(differences) == 4 * 9 - 2 + 1
    assert {name: value for name, value in differences.items() if value} == {}


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged as a warning, also where a library of another test has switched logging off."""
    lines: list[str] = []
    monkeypatch.setattr(logging.Logger, "warning", lambda self, text, *values: lines.append(text % values))
    return lines


@pytest.fixture
def denoiser() -> UNet:
    torch.manual_seed(0)
    return UNet(UNetConfig.from_dict(dict(build_unet().config))).eval()


def test_a_processor_has_no_kernels_of_a_gpu() -> None:
    assert not gpu.is_available(torch.device("cpu")) and not gpu.is_available(torch.device("meta"))
    assert layers.backend(torch.device("meta")) is kernels


def test_where_kernels_cannot_run_the_reason_is_a_warning(monkeypatch: pytest.MonkeyPatch, warnings: list[str]) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    gpu.is_available.cache_clear()
    assert layers.backend(torch.device("cuda", 7)) is kernels  # there is no such device
    assert len(warnings) == 1 and "no GPU kernels" in warnings[0]
    gpu.is_available.cache_clear()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_cannot_be_recorded_is_computed_as_before(denoiser: UNet, warnings: list[str]) -> None:
    graphed = GraphedDenoiser(denoiser)
    inputs: Any = torch.randn(1, 4, 8, 8), torch.tensor([500]), torch.randn(3, 7, 32), None, torch.zeros(3).long()
    with torch.inference_mode():
        expected = denoiser(*inputs)
        outputs = [graphed(*inputs) for _ in range(3)]
    assert all(torch.equal(output, expected) for output in outputs)
    assert len(warnings) == 1 and "launched one by one" in warnings[0]


@pytest.mark.cuda
def test_a_recorded_denoiser_predicts_what_it_did(denoiser: UNet) -> None:
    unet = layers.quantize_module(denoiser, "int8", "integer").cuda()
    graphed = GraphedDenoiser(unet)
    with torch.inference_mode():
        for seed in range(4):  # the first call is not recorded, the second one is
            generator = torch.Generator().manual_seed(seed)
            latents, text = torch.randn(1, 4, 8, 8, generator=generator), torch.randn(3, 7, 32, generator=generator)
            inputs: Any = latents, torch.tensor([100 * seed]), text, None, torch.zeros(3).long()
            on_gpu = [None if value is None else value.cuda() for value in inputs]
            torch.testing.assert_close(graphed(*on_gpu), unet(*on_gpu), rtol=0, atol=1e-4)
    assert not graphed._fails
