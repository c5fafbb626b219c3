"""Graphs for Apple's Neural Engine, which `neural_engine.py` writes: the target "ane" of the format coreml.

The loss graph takes several rows a call, text encoder and denoiser a prompt and its negative. The VAE is as in any
package for Core ML, so it runs on a CPU or GPU: it is needed once a photo, and published ones overflow float16.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge_sdk.export.coreml import writer
from edge_sdk.export.coreml.neural_engine import NeuralEngineOps
from edge_sdk.export.graphs import Graph
from edge_sdk.export.weights import Weights

EXECUTION, function = writer.EXECUTION, writer.function
# Largest relative difference of outputs from PyTorch's, in the interpreter; seen: 4e-3. On a chip nothing was measured.
BOUNDS = {"float16": {"*": {"interpreter": 2e-2}}}
RUNTIME = {"coreml": {"minimum_deployment_target": "iOS18", "compute_units": "cpuAndNeuralEngine"}}


def write(
    graphs: dict[str, Graph],
    encoders: Sequence[str],
    weights: Callable[[str], Weights],
    folder: Path,
    precision: str = "float16",
    vectors: int = 1,
    rows: int = 1,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """See `writer.write`.

    Args:
        precision: "float16", there is no other.
        rows: of a call of ``zo_loss``, each with vectors of its own.
    """
    assert precision == "float16"
    of_call = {"zo_loss": rows, "text_encoder": 2, "unet": 2}
    sizes = {name: {"B": of_call.get(name, 1), "K": rows * vectors} for name in graphs}
    return writer.write_package(graphs, encoders, weights, folder, NeuralEngineOps, sizes)
