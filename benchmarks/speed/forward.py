"""A forward pass of the denoiser by every program that is compared: what loads it, its inputs, its noise."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.lib.baselines import openvino
from benchmarks.lib.baselines.stock import denoiser
from benchmarks.lib.models import residencies
from benchmarks.speed.versions_case import noise_of
from edge_sdk.quantization.layers import integer_layers
from edge_sdk.runtime.pytorch.model import open_model

FLOAT, QUANTO, OURS = "diffusers float32", "quanto int8 as it comes", "ours int8"
FAST = "ours int8, 8-bit activations"
PEER_FLOAT, PEER_BF16, PEER_INT8 = "OpenVINO float32", "OpenVINO bf16", "OpenVINO int8, rest bf16"
PEERS = {PEER_FLOAT: ("float16", "float32"), PEER_BF16: ("float16", "bf16"), PEER_INT8: ("int8", "bf16")}
WORDS = 77  # of a prompt

Network = Callable[..., Any]


def cases(folder: Path, checkpoints: dict[str, Path], device: str) -> dict[str, Callable[[], Network]]:
    """Name -> what loads the denoiser."""

    def ours(weights: str, execution: str = "integer", residency: str = "resident", bits: int = 16) -> Any:
        def load() -> Network:
            unet = open_model(str(checkpoints[weights]), weights, execution, residency, device).load("unet")
            for layer in integer_layers(unet).values():
                layer.activation_bits = bits
            return unet

        return load

    def peer(form: str, precision: str) -> Callable[[], Network]:
        return lambda: openvino.Network(openvino.model_file(form), precision)

    loaders: dict[str, Callable[[], Network]] = {
        FLOAT: lambda: denoiser(str(folder)).to(device),
        QUANTO: lambda: denoiser(str(folder), quantizer="quanto int8").to(device),
    }
    if "int8" in checkpoints:
        loaders |= {
            OURS: ours("int8"),
            FAST: ours("int8", bits=8),
            "ours int8 fused": ours("int8", "fused"),
            **{f"{OURS} {place}": ours("int8", residency=place) for place in residencies(device)[1:]},
        }
    if "int4" in checkpoints:
        loaders["ours int4"] = ours("int4")
    if device == "cpu" and openvino.is_installed():
        loaders |= {name: peer(*forms) for name, forms in PEERS.items()}
    return loaders


def predict(network: Network, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """A forward pass; diffusers wraps what it predicts."""
    output = network(*inputs)
    return output if isinstance(output, torch.Tensor) else output.sample


def noise(network: Network, inputs: tuple[torch.Tensor, ...]) -> dict[str, float]:
    """First and second difference of the prediction as shares of it, as `versions_case.noise_of` takes them."""
    sample, timestep, text = inputs

    def run(states: np.ndarray) -> np.ndarray:
        prediction = predict(network, (sample, timestep, torch.from_numpy(states).to(text.device)))
        return prediction.double().cpu().numpy()

    return noise_of(run, text.cpu().numpy())


def tensors(folder: Path, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents, timestep and text states of one row."""
    config = json.loads((folder / "unet" / "config.json").read_text())
    generator = torch.Generator().manual_seed(0)
    side, width = config["sample_size"], config["cross_attention_dim"]
    latents = torch.randn(1, 4, side, side, generator=generator)
    text = torch.randn(1, WORDS, width, generator=generator)
    return latents.to(device), torch.tensor([500], device=device), text.to(device)
