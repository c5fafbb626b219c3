"""The operations of `edge_sdk.export.ops` as MIL, the language of Core ML programs.

Matrices and convolutions stay compressed: ``constexpr_blockwise_shift_scale`` on our own integers, int8 with a scale a
row, or 4 bits with a scale and an offset a block. Attention is ``scaled_dot_product_attention``, which makes no S x S
scores. The batch size is 1 in every input.

A constant belongs to one function, but equal ones have one ``weight_id``, by which the file holds their bytes once.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edge_sdk.errors import EdgeSdkError
from edge_sdk.export.coreml.scratch import Scratch
from edge_sdk.export.graphs import Graph
from edge_sdk.export.ops import Value
from edge_sdk.export.weights import TABLE, Layer, Weights

logging.getLogger("coremltools").setLevel(logging.ERROR)  # its import warns that Core ML cannot run on this system
import coremltools as ct  # noqa: E402
from coremltools.converters.mil import Builder as mb  # noqa: E402
from coremltools.converters.mil.mil import Function, Program, types  # noqa: E402

TARGET = ct.target.iOS18
PRECISIONS = {"mixed": ("fp32", "fp16"), "float32": ("fp32", "fp32"), "float16": ("fp16", "fp16")}  # rest, products
MASKED = -3e4  # added to scores of later positions; float16 holds it and its exponential is 0
_NUMPY: dict[str, Any] = {"fp32": np.float32, "fp16": np.float16}
_TYPES = {"float32": types.fp32, "int32": types.int32}


def program_of(functions: dict[str, Function]) -> Program:
    """A program of functions by name; the first is the one that an app gets which names none."""
    program = Program()
    for name, function in functions.items():
        program.add_function(name, function)
    program.default_function_name, program.export_as_multifunction = next(iter(functions)), True
    return program


class MilOps:
    """One function of a program in the making, see `export.ops.Ops`; values are MIL variables.

    Args:
        weights: gives the weights of a part.
        scratch: where they wait until the program is saved; the float model is never whole in memory. Functions of
            one program have one.
        precision: "mixed", "float32" or "float16".
    """

    def __init__(self, weights: Callable[[str], Weights], scratch: Scratch, precision: str) -> None:
        if precision not in PRECISIONS:
            raise EdgeSdkError(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}")
        self._weights, self._scratch = weights, scratch
        self._rest, self._products = PRECISIONS[precision]
        self._known: dict[Any, Value] = {}  # weights and casts of this function, by what they are of
        self._part = ""

    def function(self, graph: Graph) -> Function:
        """A graph, whose sizes are all known."""
        inputs = {
            name: mb.placeholder(shape, _TYPES[dtype], name=name) for name, (shape, dtype) in graph.inputs.items()
        }
        with Function(inputs, opset_version=TARGET) as function:
            given = {name: self._taken(x) for name, x in function.inputs.items()}
            values = graph.build(self, given)
            function.set_outputs(
                [
                    mb.identity(x=self._result(value), name=name)
                    for value, name in zip(values, graph.outputs, strict=True)
                ]
            )
        return function

    def _taken(self, x: Value) -> Value:
        """An input as the graph computes with it."""
        return self._cast(x, self._rest)

    def _result(self, x: Value) -> Value:
        """An output as it leaves the graph, floats in float32."""
        return self._cast(x, "fp32")

    # precision
    def _cast(self, x: Value, dtype: str) -> Value:
        """x as floats of a type. Float16 that was widened is taken as it was."""
        if types.is_int(x.dtype) or types.builtin_to_string(x.dtype) == dtype:
            return x
        if dtype == "fp16" and x.op is not None and x.op.op_type == "cast":
            return x.op.x
        if (x, dtype) not in self._known:
            self._known[x, dtype] = mb.cast(x=x, dtype=dtype)
        return self._known[x, dtype]

    def _dtype_of(self, layer: str) -> str:
        """What a layer computes in."""
        return self._rest if (self._part, layer) == ("unet", "conv_out") else self._products

    def _wide(self, x: Value) -> Value:
        return self._cast(x, self._rest)

    def _const(self, array: np.ndarray, dtype: str) -> Value:
        """A constant of floats, or of integers as they are."""
        return self._kept(array.astype(_NUMPY[dtype] if array.dtype.kind == "f" else np.int32))

    def _kept(self, array: np.ndarray, kind: Any = None) -> Value:
        """A constant whose bytes are in the file once, however many functions have it; ``kind`` is MIL's type."""
        if not array.ndim:
            return mb.const(val=array[()])
        kept, name = self._scratch.keep(array)
        value = mb.const(val=kept if kind is None else kept.view(kind))
        value.op.weight_id = name
        return value

    # weights
    def part(self, name: str) -> None:
        self._part = name

    def _stored(self, name: str, make: Callable[[], Value]) -> Value:
        """A weight of the part, made once in a program."""
        key = f"{self._part}.{name}"
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def weight(self, name: str) -> Value:
        get = self._weights(self._part).tensor
        return self._stored(name, lambda: self._const(get(name), self._rest))

    def constant(self, array: np.ndarray) -> Value:
        return self._const(array, self._rest)

    def _weight_and_bias(self, name: str, as_picture: bool) -> dict[str, Value]:
        """A layer's weight, compressed if it has integers, and its bias, as arguments of an operation."""
        if f"{self._part}.{name}.weight" not in self._known:
            layer = self._weights(self._part).layer(name)
            dtype, bias = self._dtype_of(name), layer.bias
            self._stored(f"{name}.weight", lambda: self._compressed(layer, as_picture, _NUMPY[dtype]))
            self._stored(f"{name}.bias", lambda: None if bias is None else self._const(bias, dtype))
        return {kind: self._stored(f"{name}.{kind}", lambda: None) for kind in ("weight", "bias")}

    def _compressed(self, layer: Layer, as_picture: bool, floats: Any) -> Value:
        """(N, K) or (N, C, kh, kw); a block is some channels of one tap, so scales are (N, C / block, kh, kw)."""

        def laid_out(values: np.ndarray | None) -> np.ndarray:
            assert values is not None
            return layer.as_picture(values) if as_picture else values

        matrix = laid_out(layer.matrix)
        if layer.bits == 32:
            return self._kept(matrix.astype(floats))
        if layer.bits == 8:
            assert layer.scale is not None
            scale = layer.scale.astype(floats).reshape(-1, *[1] * (matrix.ndim - 1))
            return mb.constexpr_blockwise_shift_scale(data=self._kept(matrix), scale=self._kept(scale))
        four = types.np_uint4_dtype  # a byte each here, two a byte in the file
        return mb.constexpr_blockwise_shift_scale(
            data=self._kept(matrix, four),
            scale=self._kept(laid_out(layer.scale).astype(floats)),
            offset=self._kept(laid_out(layer.zero), four),
        )

    def linear(self, x: Value, layer: str) -> Value:
        return self._wide(mb.linear(x=self._cast(x, self._dtype_of(layer)), **self._weight_and_bias(layer, False)))

    def conv(
        self, x: Value, layer: str, size: tuple[int, int], stride: int = 1, pads: Sequence[int] = (1, 1, 1, 1)
    ) -> Value:
        top, left, bottom, right = pads
        return self._wide(
            mb.conv(
                x=self._cast(x, self._dtype_of(layer)),
                strides=[stride] * 2,
                pad_type="custom",
                pad=[top, bottom, left, right],
                **self._weight_and_bias(layer, True),
            )
        )

    def layer_norm(self, x: Value, layer: str, eps: float) -> Value:
        gamma, beta = (self.weight(f"{layer}.{name}") for name in ("weight", "bias"))
        return mb.layer_norm(x=x, axes=[-1], gamma=gamma, beta=beta, epsilon=_NUMPY[self._rest](eps))

    def group_norm(self, x: Value, layer: str, size: tuple[int, int], groups: int, eps: float) -> Value:
        shape, get = x.shape, self._weights(self._part).tensor
        flat = mb.reshape(x=x, shape=[shape[0], groups, -1])
        normed = mb.reshape(x=mb.instance_norm(x=flat, epsilon=_NUMPY[self._rest](eps)), shape=shape)

        def column(name: str) -> Value:
            return self._stored(f"{name}.column", lambda: self.constant(get(name).reshape(-1, 1, 1)))

        gamma, beta = column(f"{layer}.weight"), column(f"{layer}.bias")
        return mb.add(x=mb.mul(x=normed, y=gamma), y=beta)

    def token_embedding(self, ids: Value, learned: Value | None) -> Value:
        get = self._weights(self._part).table
        table = self._stored(TABLE, lambda: self._kept(get().astype(self._table_type(get()))))
        rows = np.int32(table.shape[0])
        if learned is None:
            return self._wide(mb.gather(x=table, indices=ids, axis=0))
        is_new = mb.greater_equal(x=ids, y=rows)
        known = self._wide(mb.gather(x=table, indices=mb.select(cond=is_new, a=np.int32(0), b=ids), axis=0))
        learned = mb.reshape(x=learned, shape=learned.shape[-2:])  # one row: (K, D) and (1, K, D) are the same
        new = mb.gather(x=learned, indices=mb.select(cond=is_new, a=mb.sub(x=ids, y=rows), b=np.int32(0)), axis=0)
        return mb.select(cond=mb.expand_dims(x=is_new, axes=[-1]), a=new, b=known)

    def _table_type(self, table: np.ndarray) -> Any:
        """Float16, but for a float model in float32."""
        return table.dtype if self._products == "fp32" else np.float16

    def rows_of(self, table: np.ndarray, index: Value) -> Value:
        return mb.gather(x=self.constant(table), indices=index, axis=0)

    # without weights
    def add(self, x: Value, y: Value) -> Value:
        return mb.add(x=x, y=y)

    def sub(self, x: Value, y: Value) -> Value:
        return mb.sub(x=x, y=y)

    def mul(self, x: Value, y: Value) -> Value:
        return mb.mul(x=x, y=y)

    def cos(self, x: Value) -> Value:
        return mb.cos(x=x)

    def sin(self, x: Value) -> Value:
        return mb.sin(x=x)

    def exp(self, x: Value) -> Value:
        return mb.exp(x=x)

    def silu(self, x: Value) -> Value:
        return mb.silu(x=x)

    def gelu(self, x: Value) -> Value:
        return mb.gelu(x=x, mode="EXACT")

    def quick_gelu(self, x: Value) -> Value:
        return mb.mul(x=x, y=mb.sigmoid(x=mb.mul(x=x, y=self.constant(np.array(1.702, np.float32)))))

    def clip(self, x: Value, low: float, high: float) -> Value:
        floats = _NUMPY[self._rest]
        return mb.clip(x=x, alpha=floats(low), beta=floats(high))

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        return mb.concat(values=list(values), axis=axis)

    def split(self, x: Value, sizes: Sequence[int], axis: int) -> list[Value]:
        if -1 in sizes:
            return list(mb.split(x=x, num_splits=len(sizes), axis=axis))
        return list(mb.split(x=x, split_sizes=list(sizes), axis=axis))

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        return mb.reshape(x=x, shape=[x.shape[i] if n == 0 else n for i, n in enumerate(shape)])

    def transpose(self, x: Value, order: Sequence[int]) -> Value:
        return mb.transpose(x=x, perm=list(order))

    def mean(self, x: Value, axes: Sequence[int]) -> Value:
        return mb.reduce_mean(x=x, axes=list(axes), keep_dims=False)

    def upsample(self, x: Value, size: tuple[int, int], to: tuple[int, int]) -> Value:
        x = mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=2)
        if tuple(x.shape[2:]) == tuple(to):
            return x
        return mb.slice_by_size(x=x, begin=[0] * 4, size=[*x.shape[:2], *to])  # an odd size lacks the last repetition

    def attention(self, q: Value, k: Value, v: Value, heads: int, causal: bool = False) -> Value:
        query, key, value = (self._heads(x, heads) for x in (q, k, v))
        length, mask = q.shape[1], {}
        if causal:
            later = np.triu(np.full((length, length), MASKED, np.float32), 1)[None, None]
            mask = {"attn_mask": self._stored(f"mask.{length}", lambda: self._const(later, self._products))}
        out = mb.scaled_dot_product_attention(query=query, key=key, value=value, **mask)
        return self._wide(mb.reshape(x=mb.transpose(x=out, perm=[0, 2, 1, 3]), shape=q.shape))

    def _heads(self, x: Value, heads: int) -> Value:
        """(B, S, C) -> (B, heads, S, C / heads)."""
        rows, length, width = x.shape
        split = mb.reshape(x=self._cast(x, self._products), shape=[rows, length, heads, width // heads])
        return mb.transpose(x=split, perm=[0, 2, 1, 3])

    def first_of(self, ids: Value, wanted: int, x: Value) -> Value:
        length = ids.shape[1]
        later = np.arange(length, 0, -1, dtype=np.int32)[None]  # (1, T), falling: of several the first has the most
        found = mb.cast(x=mb.equal(x=ids, y=np.int32(wanted)), dtype="int32")
        score = mb.add(x=mb.mul(x=found, y=np.int32(length)), y=later)
        first = mb.equal(x=score, y=mb.reduce_max(x=score, axes=[1], keep_dims=True))
        one_hot = mb.expand_dims(x=mb.cast(x=first, dtype=self._rest), axes=[-1])  # (B, T, 1)
        return mb.reduce_sum(x=mb.mul(x=x, y=one_hot), axes=[1], keep_dims=False)
