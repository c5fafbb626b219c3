"""Graphs for Core ML: functions of one ``.mlpackage``, written by `ops.py`, which holds every weight once.

Three graphs need the denoiser or the text encoder, so a package each would hold them two or three times. Sizes are
fixed: one row, and K vectors as given when the graphs are written.

Precision "mixed", the default, computes products (linear, convolution, attention) in float16 and all the rest, the
loss above all, in float32: with float16 everywhere two losses that are nearly equal come out as the same number. The
denoiser's last convolution is small and in float32 too, because nothing averages its rounding away.
"""

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.export.coreml.interpreter import Interpreter
from edge_sdk.export.coreml.ops import TARGET, Function, MilOps, ct, program_of
from edge_sdk.export.coreml.scratch import Scratch
from edge_sdk.export.graphs import Graph, Tensors
from edge_sdk.export.weight_file import WeightFile
from edge_sdk.export.weights import Weights

# Core ML unpacks weights when it loads a model or runs it, as the device's compiler decides: it cannot be known here.
EXECUTION = "dequantized"
# Largest relative difference of outputs from PyTorch's, with float16 products and without, in the interpreter. On Core
# ML itself nothing has been measured.
BOUNDS = {
    "mixed": {"*": {"interpreter": 1e-2}},
    "float32": {"*": {"interpreter": 1e-5}},
}
PACKAGE = "graphs.mlpackage"
RUNTIME = {"coreml": {"minimum_deployment_target": "iOS18", "compute_units": "cpuAndGPU"}}
# What may be done to a finished program: nothing that could fold or merge weights.
PASSES = ["common::dead_code_elimination", "common::topological_reorder", "common::dedup_op_and_var_names"]


def write(
    graphs: dict[str, Graph],
    encoders: Sequence[str],
    weights: Callable[[str], Weights],
    folder: Path,
    precision: str = "mixed",
    vectors: int = 1,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write the graphs as functions of ``graphs.mlpackage``, and the embedding tables as ``tables.bin``, into a folder.

    The VAE is float32 but for its weights: published ones overflow float16.

    Args:
        encoders: the parts that are text encoders.
        precision: "mixed", "float32" or "float16".
        vectors: K, the learned vectors.

    Returns:
        The manifest's ``graphs``, and where the embedding table of each encoder is.
    """
    make, sizes = partial(MilOps, precision=precision), {"B": 1, "K": vectors}
    return write_package(graphs, encoders, weights, folder, make, dict.fromkeys(graphs, sizes))


def write_package(
    graphs: dict[str, Graph],
    encoders: Sequence[str],
    weights: Callable[[str], Weights],
    folder: Path,
    make: Callable[[Callable[[str], Weights], Scratch], MilOps],
    sizes: dict[str, dict[str, int]],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """See `write`.

    Args:
        make: the operations of a function that is not the VAE's.
        sizes: for the symbols of each graph.
    """
    described, functions, scratch = {}, {}, Scratch(folder)
    for name, graph in graphs.items():
        fixed = _integers(graph.fixed(**sizes[name]))
        ops = MilOps(weights, scratch, "float32") if name.startswith("vae_") else make(weights, scratch)
        functions[name] = ops.function(fixed)
        described[name] = {"file": PACKAGE, "function": name, **fixed.described()}
    save(functions, folder / PACKAGE)
    with WeightFile(folder / "tables.bin") as file:
        tables = [file.entry(part, weights(part).table) for part in encoders]
    return described, [table.place() for table in tables]


def function(folder: Path, described: dict[str, Any]) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """A graph of a folder, as the manifest describes it, run by the interpreter: inputs by name to outputs by name."""
    return Interpreter(folder / described["file"], described["function"]).run


def save(functions: dict[str, Function], package: Path) -> None:
    """Write functions as they are: no pass may change their precision or their weights."""
    pipeline = ct.PassPipeline(list(PASSES), "edge-sdk")
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        ct.convert(
            program_of(functions),
            source="milinternal",
            convert_to="mlprogram",
            minimum_deployment_target=TARGET,
            compute_precision=ct.precision.FLOAT32,
            pass_pipeline=pipeline,
            skip_model_load=True,
            package_dir=str(package),
        )


def _integers(graph: Graph) -> Graph:
    """The graph with int32, because Core ML has no int64."""

    def known(tensors: Tensors) -> Tensors:
        return {name: (shape, "int32" if "int" in dtype else dtype) for name, (shape, dtype) in tensors.items()}

    return replace(graph, inputs=known(graph.inputs), outputs=known(graph.outputs))
