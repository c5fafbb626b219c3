"""A bundle's graphs for Qualcomm's processor: what ONNX Runtime's QNN provider takes, and nothing else.

Every size is a number, every operator one of the provider's list, activations are 16-bit integers with static scales,
weights int8. The graphs are found in two steps: `calibration.observed` runs them with float activations to find each
activation's range, and `write` writes them with those.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from edge_sdk.errors import EdgeSdkError
from edge_sdk.export.graphs import Graph, Networks
from edge_sdk.export.onnx.qdq import QdqOps
from edge_sdk.export.onnx.rounding import STANDARD, Range, Recipe
from edge_sdk.export.weight_file import WeightFile
from edge_sdk.export.weights import TABLE, Weights
from edge_sdk.runtime.onnx.session import by_name, load

# Of the page "QNN Execution Provider" of onnxruntime.ai, read on 2026-11-28, and Reshape, which only the provider's
# op_builder_factory.cc has.
OPERATORS = frozenset(
    "Abs Add And ArgMax ArgMin Asin Atan AveragePool BatchNormalization Cast Clip Concat Conv ConvTranspose Cos "
    "DepthToSpace DequantizeLinear Div Elu Equal Exp Expand Flatten Floor Gather Gelu Gemm GlobalAveragePool Greater "
    "GreaterOrEqual GridSample HardSwish InstanceNormalization LRN LayerNormalization LeakyRelu Less LessOrEqual Log "
    "LogSoftmax LpNormalization MatMul Max MaxPool Min Mul Neg Not Or PRelu Pad Pow QuantizeLinear ReduceMax "
    "ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape Resize Round Sigmoid Sign Sin Slice Softmax SpaceToDepth "
    "Split Sqrt Squeeze Sub Tanh Tile TopK Transpose Unsqueeze Where".split()
)
EXECUTION = "dequantized"  # by ONNX Runtime on a CPU, where this is a simulation
RUNTIME: dict[str, dict[str, Any]] = {
    "onnxruntime": {
        "session": {
            "session.disable_prepacking": "1",  # weights stay in the mapped file
            "session.disable_qdq_constant_folding": "1",  # weights stay integers
            "session.intra_op.allow_spinning": "0",  # a thread that waits sleeps
        },
        "enable_cpu_mem_arena": False,
        "enable_mem_reuse": False,
        "graph_optimization_level": "all",  # drops pairs around changes of layout, which change nothing
    },
    "onnxruntime-qnn": {
        "session": {"session.disable_cpu_ep_fallback": "0"},
        "provider": {"backend_type": "htp", "htp_performance_mode": "sustained_high_performance"},
    },
}
# The least that a graph must agree with float activations: a sign or a layer that is wrong is far beyond.
BOUNDS = {"*": {"onnxruntime": 1e-2, "onnxruntime-web": 1e-2}}
SHARED = {"text_encoder": "zo_loss", "unet": "zo_loss"}  # graphs that are parts of another, and have its ranges
Ranges = dict[str, dict[str, Range]]  # by graph and place


def fixed(networks: Networks, rows: int, vectors: int) -> dict[str, Graph]:
    """The graphs of a bundle: two rows for a prompt and its negative, one for a picture."""
    learned = rows * vectors
    return {
        "zo_loss": networks.zo_residual().fixed(B=rows, K=learned),
        "text_encoder": networks.text_encoder().fixed(B=2, K=learned),
        "unet": networks.denoiser().fixed(B=2),
        "vae_encoder": networks.vae_encoder().fixed(B=1),
        "vae_decoder": networks.vae_decoder().fixed(B=1),
    }


def ops_of(
    graph: Graph,
    weights: Callable[[str], Weights],
    file: WeightFile,
    ranges: dict[str, Range] | None,
    recipe: Recipe = STANDARD,
) -> QdqOps:
    """A graph of fixed sizes, built."""
    ops = QdqOps(weights, file, ranges, recipe)
    given = {name: ops.input(name, shape, dtype) for name, (shape, dtype) in graph.inputs.items()}  # type: ignore[arg-type]
    for value, key in zip(graph.build(ops, given), graph.outputs, strict=True):
        ops.name(value, key)
    return ops


def write(
    graphs: dict[str, Graph],
    encoders: Sequence[str],
    weights: Callable[[str], Weights],
    folder: Path,
    ranges: Ranges,
    recipe: Recipe = STANDARD,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write every graph and ``weights.bin`` into a folder.

    Args:
        graphs: of fixed sizes.
        encoders: the parts that are text encoders.
        ranges: of activations, from `calibration.calibrate`.

    Returns:
        The manifest's ``graphs``, and where the embedding table of each encoder is.
    """
    described = {}
    with WeightFile(folder / "weights.bin") as file:
        for name, graph in graphs.items():
            ops = ops_of(graph, weights, file, ranges[name], recipe)
            ops.rename()
            data = ops.model(name, graph.inputs, graph.outputs)
            check(name, onnx.load_model_from_string(data))
            (folder / f"{name}.onnx").write_bytes(data)
            described[name] = {"file": f"{name}.onnx", **graph.described()}
        tables = [file.entry(f"{part}.{TABLE}", weights(part).table) for part in encoders]
    return described, [table.place() for table in tables]


def check(name: str, model: onnx.ModelProto) -> None:
    """Raises EdgeSdkError if the provider would leave a node to the CPU, for its operator or a size that is free."""
    if other := {node.op_type for node in model.graph.node if node.domain or node.op_type not in OPERATORS}:
        raise EdgeSdkError(
            f"the graph {name} has the operator {min(other)}, which the QNN provider does not list; export without "
            "--target"
        )
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if any(not size.HasField("dim_value") for size in value.type.tensor_type.shape.dim):
            raise EdgeSdkError(f"the graph {name}: {value.name} has a size that is free; export without --target")


def function(folder: Path, described: dict[str, Any]) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """A graph of a folder, as the manifest describes it: inputs by name to outputs by name."""
    return by_name(session(folder / described["file"]))


def session(graph: Path) -> onnxruntime.InferenceSession:
    """A graph as the manifest says that it is to be loaded on a CPU."""
    return load(graph, RUNTIME["onnxruntime"])
