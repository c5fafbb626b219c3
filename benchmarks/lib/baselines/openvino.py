"""The denoiser in OpenVINO, which a reader on x86 would otherwise pick.

    pip install openvino nncf
    python -m benchmarks.lib.baselines.openvino --model benchmarks/work/sd15

writes what `edge-sdk benchmark speed` opens: the network with float16 weights, and one with 8-bit weights and 8-bit
activations by NNCF's post-training quantization. OpenVINO chooses bf16 products where a processor has them; float32 is
asked for. Its telemetry package is hidden, so that nothing is sent.
"""

import argparse
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.lib.baselines.stock import denoiser
from benchmarks.lib.models import WORK, hide
from edge_sdk.errors import EdgeSdkError

FOLDER = WORK / "openvino"
FILES = {"float16": "float16.xml", "int8": "int8.xml"}  # by the form of the weights
CALIBRATION = (100, 500, 900)  # timesteps whose random latents give the ranges of 8-bit activations
PRECISIONS = {"float32": "f32", "bf16": "bf16"}


class Network:
    """A compiled model with the call of a PyTorch denoiser.

    Args:
        file: the model, batch 1.
        precision: of what is not in integers: "float32" or "bf16".
    """

    def __init__(self, file: Path, precision: str) -> None:
        ov = openvino()
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._model = ov.Core().compile_model(str(file), "CPU", settings)

    def __call__(self, sample: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """The prediction for latents (1, C, H, W), timestep (1,) and text states (1, words, width)."""
        outputs = self._model([sample.numpy(), timestep.numpy(), text.numpy()])
        return torch.from_numpy(outputs[0].copy())


def is_installed() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("openvino", "nncf"))


def openvino() -> Any:
    """The package, without its telemetry.

    Raises:
        EdgeSdkError: it is not installed.
    """
    if not is_installed():
        raise EdgeSdkError("OpenVINO is not installed; run pip install openvino nncf")
    hide("openvino_telemetry")
    import openvino

    return openvino


def model_file(form: str) -> Path:
    """Where a form's file lies.

    Raises:
        EdgeSdkError: it is missing.
    """
    file = FOLDER / FILES[form]
    if not file.is_file():
        raise EdgeSdkError(f"there is no {file}; make it with python -m benchmarks.lib.baselines.openvino")
    return file


class _Plain(nn.Module):
    """The stock denoiser, which returns a tensor."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.unet = denoiser(folder)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return self.unet(sample, timestep, text, return_dict=False)[0]


def convert(model: Path, inputs: tuple[torch.Tensor, ...]) -> None:
    """Write both files for inputs of these shapes; takes some minutes and, at the true size, 10 GB."""
    ov = openvino()
    import nncf

    FOLDER.mkdir(parents=True, exist_ok=True)
    shapes = [list(value.shape) for value in inputs]
    network = ov.convert_model(_Plain(str(model)), example_input=inputs, input=shapes)
    ov.save_model(network, FOLDER / FILES["float16"], compress_to_fp16=True)
    samples = list(_samples(inputs))
    quantized = nncf.quantize(
        network,
        nncf.Dataset(samples),
        subset_size=len(samples),
        advanced_parameters=nncf.AdvancedQuantizationParameters(disable_bias_correction=True),
    )
    ov.save_model(quantized, FOLDER / FILES["int8"])


def _samples(inputs: tuple[torch.Tensor, ...]) -> Iterable[list[Any]]:
    generator = torch.Generator().manual_seed(1)
    for timestep in CALIBRATION:
        latents = torch.randn(inputs[0].shape, generator=generator)
        yield [latents.numpy(), torch.full_like(inputs[1], timestep).numpy(), inputs[2].numpy()]


def main() -> None:
    from benchmarks.speed.forward import tensors

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=WORK / "sd15", help="a float folder, random or not")
    folder = parser.parse_args().model
    convert(folder, tensors(folder, "cpu"))


if __name__ == "__main__":
    main()
