"""Graphs for Core ML: every graph an ``.mlpackage`` with its weights inside, written by `mil_ops.py`.

Sizes are fixed: one row, and K vectors as given when the graphs are written.

Precision "mixed", the default, computes products (linear, convolution, attention) in float16 and all the rest, the
loss above all, in float32: with float16 everywhere two losses that are nearly equal come out as the same number. The
denoiser's last convolution is small and in float32 too, because nothing averages its rounding away.
"""

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from export.graphs import Graph, Tensors
from export.mil import Interpreter
from export.mil_ops import TARGET, MilOps, Program, ct
from export.scratch import Scratch
from export.weight_file import WeightFile
from export.weights import Weights

# Core ML unpacks weights when it loads a model or runs it, as the device's compiler decides: it cannot be known here.
EXECUTION = "dequantized"
# Largest relative difference of outputs from PyTorch's, with float16 products and without, in the interpreter. On Core
# ML itself nothing has been measured.
BOUNDS = {
    "mixed": {"*": {"interpreter": 1e-2}},
    "float32": {"*": {"interpreter": 1e-5}},
}
RUNTIME = {"coreml": {"minimum_deployment_target": "iOS18", "compute_units": "cpuAndGPU"}}
# What may be done to a finished program: nothing that could fold or merge weights.
PASSES = ["common::dead_code_elimination", "common::topological_reorder", "common::dedup_op_and_var_names"]


def write(
    graphs: dict[str, Graph], encoders: Sequence[str], weights: Callable[[str], Weights], folder: Path,
    precision: str = "mixed", vectors: int = 1,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:  # fmt: skip
    """Write every graph as ``NAME.mlpackage``, and the embedding tables as ``tables.bin``, into a folder.

    The VAE is float32 but for its weights: published ones overflow float16.

    Args:
        encoders: the parts that are text encoders.
        precision: "mixed", "float32" or "float16".
        vectors: K, the learned vectors.

    Returns:
        The manifest's ``graphs``, and where the embedding table of each encoder is.
    """
    described, scratch = {}, Scratch(folder)
    for name, graph in graphs.items():
        ops = MilOps(weights, scratch, "float32" if name.startswith("vae_") else precision)
        fixed = _fixed(graph, {"B": 1, "K": vectors})
        save(ops.program(fixed), folder / f"{name}.mlpackage")
        described[name] = {"file": f"{name}.mlpackage", **fixed.described()}
    with WeightFile(folder / "tables.bin") as file:
        tables = [file.entry(part, weights(part).table) for part in encoders]
    return described, [table.place() for table in tables]


def function(package: Path) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """A package as a function, run by the interpreter: inputs by name to outputs by name."""
    return Interpreter(package).run


def save(program: Program, package: Path) -> None:
    """Write a program as it is: no pass may change its precision or its weights."""
    pipeline = ct.PassPipeline(list(PASSES), "edge-sdk")
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        ct.convert(
            program, source="milinternal", convert_to="mlprogram", minimum_deployment_target=TARGET,
            compute_precision=ct.precision.FLOAT32, pass_pipeline=pipeline, skip_model_load=True,
            package_dir=str(package),
        )  # fmt: skip


def _fixed(graph: Graph, sizes: dict[str, int]) -> Graph:
    """The graph as Core ML has it: sizes for symbols, and int32, because it has no int64."""

    def known(tensors: Tensors) -> Tensors:
        return {
            name: (tuple(sizes[n] if isinstance(n, str) else n for n in shape), "int32" if "int" in dtype else dtype)
            for name, (shape, dtype) in tensors.items()
        }

    return replace(graph, inputs=known(graph.inputs), outputs=known(graph.outputs))
