"""Graphs for ONNX Runtime: the operations of `edge_sdk.export.ops` as nodes, weights in one file beside the graphs.

Matrices are ``MatMulNBits`` of 8 or 4 bits, convolutions int8 with ``DequantizeLinear`` or, with 4 bits, one
``MatMulNBits`` for each tap of the kernel; attention is ``MultiHeadAttention``, which makes no S x S scores. Biases are
added by the same operator wherever it takes one.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, ValueInfoProto, helper, numpy_helper

from edge_sdk.export.graphs import Graph, Tensors
from edge_sdk.export.onnx import packed
from edge_sdk.export.ops import Value
from edge_sdk.export.weight_file import WeightFile
from edge_sdk.export.weights import TABLE, Layer, Weights
from edge_sdk.runtime.onnx.session import by_name, load

OPSET, IR_VERSION = 21, 10
MICROSOFT = "com.microsoft"
BLOCK = 128  # of an int8 matrix's scales, all of which are the row's own
# What the runtime makes of the weights: it unpacks a layer, or one tap of a convolution, to float for each use.
EXECUTION = "dequantized"
RUNTIME: dict[str, dict[str, Any]] = {
    "onnxruntime": {
        "session": {
            "session.disable_prepacking": "1",  # weights stay in the mapped file
            "session.disable_qdq_constant_folding": "1",  # weights stay integers
            "session.disable_quant_qdq": "0",
            "session.intra_op.allow_spinning": "0",  # a thread that waits sleeps
        },
        "enable_cpu_mem_arena": False,
        "enable_mem_reuse": False,  # Python only; see `OnnxOps.model` for how the graphs do without it
    }
}
BOUNDS = {"*": {"onnxruntime": 1e-5, "onnxruntime-web": 1e-5}}  # largest relative difference from PyTorch's outputs
_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "int32": TensorProto.INT32}
_NUMPY = {
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.int8): TensorProto.INT8,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.uint16): TensorProto.UINT16,
    np.dtype(np.int32): TensorProto.INT32,
    np.dtype(np.int64): TensorProto.INT64,
}


def write(
    graphs: dict[str, Graph], encoders: Sequence[str], weights: Callable[[str], Weights], folder: Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write every graph and ``weights.bin`` into a folder.

    Args:
        encoders: the parts that are text encoders.

    Returns:
        The manifest's ``graphs``, and where the embedding table of each encoder is.
    """
    described = {}
    with WeightFile(folder / "weights.bin") as file:
        for name, graph in graphs.items():
            ops = OnnxOps(weights, file)
            values = graph.build(ops, {key: key for key in graph.inputs})
            for value, key in zip(values, graph.outputs, strict=True):
                ops.name(value, key)
            (folder / f"{name}.onnx").write_bytes(ops.model(name, graph.inputs, graph.outputs))
            described[name] = {"file": f"{name}.onnx", **graph.described()}
        tables = [file.entry(f"{part}.{TABLE}", weights(part).table) for part in encoders]
    return described, [table.place() for table in tables]


def function(folder: Path, described: dict[str, Any]) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """A graph of a folder, as the manifest describes it: inputs by name to outputs by name."""
    return by_name(session(folder / described["file"]))


def session(graph: Path) -> onnxruntime.InferenceSession:
    """A graph as the manifest will say that it is to be loaded."""
    return load(graph, RUNTIME["onnxruntime"])


def _described(name: str, shape: Sequence[int | str], dtype: str) -> ValueInfoProto:
    return helper.make_tensor_value_info(
        name, _TYPES[dtype], [size if isinstance(size, int) else None for size in shape]
    )


class OnnxOps:
    """One graph in the making, see `export.ops.Ops`.

    Args:
        weights: gives the weights of a part.
        file: where they are written; graphs that share it share them.
    """

    def __init__(self, weights: Callable[[str], Weights], file: WeightFile) -> None:
        self._weights, self._file = weights, file
        self._nodes: list = []
        self._unpacking: list = []  # nodes that make floats of a convolution's kernel
        self._kernels = Counter[tuple[int, ...]]()  # unpacked so far, by their shape
        self._initializers: dict[str, TensorProto] = {}
        self._part = ""

    def model(self, name: str, inputs: Tensors, outputs: Tensors) -> bytes:
        """The finished graph; inputs and outputs are name -> (shape with sizes or symbols, dtype).

        Symbols are left out: where the runtime cannot tell that two shapes are equal, it lets no tensor take over the
        buffer of another one. A buffer that is used again is kept from its first use to its last.
        """
        described = [[_described(key, *each) for key, each in values.items()] for values in (inputs, outputs)]
        # Of two inputs the runtime computes the one that is written later first. Weights are unpacked just before their
        # use, and not long before, if all that is written first.
        nodes = [*self._unpacking, *self._nodes]
        graph = helper.make_graph(nodes, name, *described, initializer=list(self._initializers.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="edge-sdk"
        ).SerializeToString()

    def name(self, value: Value, name: str) -> Value:
        """Give an output its name."""
        return self._node("Identity", [value], outputs=[name])

    def _node(
        self, kind: str, inputs: Sequence[Value], *, outputs: Sequence[str] = (), count: int = 1, **more: Any
    ) -> Value:
        """An operation; ``more`` is its domain, by default ONNX's own, and its attributes."""
        names = list(outputs) or [f"v{len(self._nodes)}" + (f".{i}" if count > 1 else "") for i in range(count)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, **{"domain": ""} | more))
        return names[0] if count == 1 else names

    # weights
    def part(self, name: str) -> None:
        self._part = name

    def _stored(self, key: str, make: Callable[[], np.ndarray], shape: Sequence[int] | None = None) -> Value:
        """A tensor of the weight file, written when any graph first needs it.

        Args:
            shape: of the same numbers in this graph, where it is another one than in the file.
        """
        if key not in self._initializers:
            entry = self._file.entry(key, make)
            tensor = TensorProto(name=key, data_type=_NUMPY[entry.dtype], dims=shape or entry.shape)
            if entry.inline is not None:
                tensor.raw_data = entry.inline
            else:
                tensor.data_location = TensorProto.EXTERNAL
                for name, value in (("location", entry.file), ("offset", entry.offset), ("length", entry.length)):
                    tensor.external_data.add(key=name, value=str(value))
            self._initializers[key] = tensor
        return key

    def _given(self, key: str, array: np.ndarray | None) -> Value:
        """The same for a tensor that is there already, or none."""
        return "" if array is None else self._stored(key, lambda: array)

    def weight(self, name: str) -> Value:
        return self._stored(f"{self._part}.{name}", lambda: self._weights(self._part).tensor(name))

    def constant(self, array: np.ndarray) -> Value:
        key = f"c{len(self._initializers)}"
        self._initializers[key] = numpy_helper.from_array(np.ascontiguousarray(array), key)
        return key

    def _axes(self, *values: int) -> Value:
        return self.constant(np.array(values, np.int64))

    def linear(self, x: Value, layer: str) -> Value:
        return self._matmul(x, f"{self._part}.{layer}", self._weights(self._part).layer(layer))

    def _matmul(self, x: Value, key: str, layer: Layer) -> Value:
        n, k = layer.matrix.shape
        bias = self._given(f"{key}.bias", layer.bias)
        if layer.bits == 32:
            y = self._node("MatMul", [x, self._stored(f"{key}.t", lambda: np.ascontiguousarray(layer.matrix.T))])
            return self.add(y, bias) if bias else y
        block = BLOCK if layer.bits == 8 else layer.group
        inputs = [
            x,
            self._stored(f"{key}.n{layer.bits}", lambda: packed.blocks(layer.matrix, layer.bits, block)),
            self._stored(f"{key}.scales", lambda: packed.scales(layer, block)),
            "" if layer.zero is None else self._given(f"{key}.zeros", packed.nibbles(layer.zero)),
            "",
            bias,
        ]
        while not inputs[-1]:
            inputs.pop()
        size = {"K": k, "N": n, "bits": layer.bits, "block_size": block}
        return self._node("MatMulNBits", inputs, domain=MICROSOFT, **size, accuracy_level=1)  # 1: float32 activations

    def conv(
        self, x: Value, layer: str, size: tuple[int, int], stride: int = 1, pads: Sequence[int] = (1, 1, 1, 1)
    ) -> Value:
        weights, key = self._weights(self._part).layer(layer), f"{self._part}.{layer}"
        if weights.bits == 4:
            return self._taps(x, key, weights, size, stride, pads)
        if weights.bits == 8:
            w = self._unpacked(key, weights)
        else:
            w = self._stored(f"{key}.w", lambda: weights.as_picture(weights.matrix))
        inputs = [x, w] if weights.bias is None else [x, w, self._given(f"{key}.bias", weights.bias)]
        return self._node("Conv", inputs, kernel_shape=weights.kernel, strides=[stride] * 2, pads=list(pads))

    def _unpacked(self, key: str, layer: Layer) -> Value:
        """The kernel (O, I, kh, kw) of a convolution as floats.

        Kernels of one size are unpacked in shapes of their own, so that none takes over another one's buffer: the
        largest would be kept for the whole of a call, see `model`. Each is (O, d, I kh kw / d) with another divisor d.
        """
        rows, row = layer.matrix.shape
        size = (rows, row // math.prod(layer.kernel), *layer.kernel)
        divisors = [d for d in range(1, row + 1) if row % d == 0]
        d = divisors[self._kernels[size] % len(divisors)]
        self._kernels[size] += 1
        w = self._stored(f"{key}.w", lambda: layer.as_picture(layer.matrix), (rows, d, row // d))
        flat, kernel = f"{key}.flat", f"{key}.kernel"
        scale = self._given(f"{key}.scale", layer.scale)
        self._unpacking.append(helper.make_node("DequantizeLinear", [w, scale], [flat], axis=0))
        self._unpacking.append(helper.make_node("Reshape", [flat, self._axes(*size)], [kernel]))
        return kernel

    def _taps(self, x: Value, key: str, layer: Layer, size: tuple[int, int], stride: int, pads: Sequence[int]) -> Value:
        """A convolution as the sum of a product for each tap of its kernel: nothing is unfolded."""
        (kh, kw), (top, left, bottom, right) = layer.kernel, pads
        ho, wo = (size[0] + top + bottom - kh) // stride + 1, (size[1] + left + right - kw) // stride + 1
        x = self.transpose(x, (0, 2, 3, 1))
        if any(pads):
            x = self._node("Pad", [x, self._axes(0, top, left, 0, 0, bottom, right, 0)])
        out = None
        for tap, part in enumerate(layer.taps()):
            first = tap // kw, tap % kw
            last = [a + (n - 1) * stride + 1 for a, n in zip(first, (ho, wo), strict=True)]
            window = [self._axes(*values) for values in (first, last, (1, 2), (stride, stride))]
            y = self._matmul(self._node("Slice", [x, *window]), f"{key}.{tap}", part)
            out = y if out is None else self.add(out, y)
        return self.transpose(out, (0, 3, 1, 2))

    def layer_norm(self, x: Value, layer: str, eps: float) -> Value:
        weights = [self.weight(f"{layer}.{name}") for name in ("weight", "bias")]
        return self._node("LayerNormalization", [x, *weights], axis=-1, epsilon=eps)

    def group_norm(self, x: Value, layer: str, size: tuple[int, int], groups: int, eps: float) -> Value:
        one, zero = (self.constant(np.full(groups, value, np.float32)) for value in (1, 0))
        x = self._node("InstanceNormalization", [self.reshape(x, (0, groups, -1)), one, zero], epsilon=eps)
        x = self.reshape(x, (0, -1, *size))
        weight, bias = (self._column(f"{layer}.{name}") for name in ("weight", "bias"))
        return self.add(self.mul(x, weight), bias)

    def _column(self, name: str) -> Value:
        """A tensor (C,) of the part as (C, 1, 1)."""
        tensor = self._weights(self._part).tensor
        return self._stored(f"{self._part}.{name}.column", lambda: tensor(name).reshape(-1, 1, 1))

    def token_embedding(self, ids: Value, learned: Value | None) -> Value:
        table = self.weight(TABLE)
        rows = self._initializers[table].dims[0]
        zero, first = self.constant(np.array(0, np.int64)), self.constant(np.array(rows, np.int64))
        is_new = self._node("GreaterOrEqual", [ids, first])
        known = self._node("Gather", [table, self._node("Where", [is_new, zero, ids])])
        known = self._node("Cast", [known], to=TensorProto.FLOAT)
        if learned is None:
            return known
        new = self._node("Gather", [learned, self._node("Where", [is_new, self.sub(ids, first), zero])])
        return self._node("Where", [self._node("Unsqueeze", [is_new, self._axes(-1)]), new, known])

    def rows_of(self, table: np.ndarray, index: Value) -> Value:
        digest = hashlib.sha256(table.tobytes()).hexdigest()[:12]
        key = self._given(f"table.{digest}", table)
        return self._node("Gather", [key, index])

    # without weights
    def add(self, x: Value, y: Value) -> Value:
        return self._node("Add", [x, y])

    def sub(self, x: Value, y: Value) -> Value:
        return self._node("Sub", [x, y])

    def mul(self, x: Value, y: Value) -> Value:
        return self._node("Mul", [x, y])

    def cos(self, x: Value) -> Value:
        return self._node("Cos", [x])

    def sin(self, x: Value) -> Value:
        return self._node("Sin", [x])

    def exp(self, x: Value) -> Value:
        return self._node("Exp", [x])

    def silu(self, x: Value) -> Value:
        return self._node("QuickGelu", [x], domain=MICROSOFT, alpha=1.0)

    def quick_gelu(self, x: Value) -> Value:
        return self._node("QuickGelu", [x], domain=MICROSOFT, alpha=1.702)

    def gelu(self, x: Value) -> Value:
        return self._node("Gelu", [x])

    def clip(self, x: Value, low: float, high: float) -> Value:
        return self._node("Clip", [x, *(self.constant(np.array(limit, np.float32)) for limit in (low, high))])

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        return self._node("Concat", values, axis=axis)

    def split(self, x: Value, sizes: Sequence[int], axis: int) -> list[Value]:
        return (
            self._node("Split", [x], count=len(sizes), axis=axis, num_outputs=len(sizes))
            if -1 in sizes
            else (self._node("Split", [x, self._axes(*sizes)], count=len(sizes), axis=axis))
        )

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        return self._node("Reshape", [x, self._axes(*shape)])

    def transpose(self, x: Value, order: Sequence[int]) -> Value:
        return self._node("Transpose", [x], perm=list(order))

    def mean(self, x: Value, axes: Sequence[int]) -> Value:
        return self._node("ReduceMean", [x, self._axes(*axes)], keepdims=0)

    def upsample(self, x: Value, size: tuple[int, int], to: tuple[int, int]) -> Value:
        scales = self.constant(np.array([1, 1, to[0] / size[0], to[1] / size[1]], np.float32))
        return self._node(
            "Resize", [x, "", scales], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )

    def attention(self, q: Value, k: Value, v: Value, heads: int, causal: bool = False) -> Value:
        return self._node(
            "MultiHeadAttention", [q, k, v], domain=MICROSOFT, num_heads=heads, unidirectional=int(causal)
        )

    def first_of(self, ids: Value, wanted: int, x: Value) -> Value:
        found = self._node("Equal", [ids, self.constant(np.array(wanted, np.int64))])
        number = self._node("Cast", [found], to=TensorProto.INT32)
        position = self._node("ArgMax", [number], axis=1, keepdims=0)  # the first of several
        return self._node("GatherND", [x, self._node("Unsqueeze", [position, self._axes(-1)])], batch_dims=1)
