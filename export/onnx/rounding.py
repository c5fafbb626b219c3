"""A graph of fixed sizes in the making, whose activations are rounded to 16-bit integers with static scales.

Every activation is written as ``QuantizeLinear`` and ``DequantizeLinear``, unsigned with a zero point. Another layout
keeps the scale, so that its integers are the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, TypeProto, defs, helper, numpy_helper, shape_inference

from edge_sdk.export.onnx.writer import OPSET, OnnxOps
from edge_sdk.export.ops import Value
from edge_sdk.export.weight_file import WeightFile
from edge_sdk.export.weights import Weights

Range = tuple[float, float]
Step = tuple[np.float32, int]  # scale and zero point
LEVELS = 65535
LEAST_RANGE = 1e-4
PROBABILITY: Range = (0.0, 1.0)
SIGMOID: Range = (0.0, LEVELS / 65536)  # the provider wants a scale of 1 / 65536
LAYOUT = {"Reshape", "Transpose", "Split", "Gather", "Resize"}  # keep values as they are, and so their scale


@dataclass(frozen=True)
class Recipe:
    """How activations are rounded.

    Attributes:
        float16: what is rounded to float16 instead: of "text" (the text encoder), "norms", and "stream" (sums).
        keys: bits of keys and values in attention, 16 or 8.
        quantile: of the rows' largest and least values, that a scale covers.
        room: by which a range is wider than what was seen.
    """

    float16: frozenset[str] = frozenset()
    keys: int = 16
    quantile: float = 1.0
    room: float = 1.5


STANDARD = Recipe()


def step_of(bounds: Range, levels: int = LEVELS) -> Step:
    """Scale and zero point of unsigned integers that cover a range, in which 0 is a value."""
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    scale = np.float32(max(high - low, LEAST_RANGE) / levels)
    return scale, int(np.clip(round(-low / float(scale)), 0, levels))


class RoundedOps(OnnxOps):
    """One graph in the making, of fixed sizes.

    Args:
        ranges: of activations by place; None: the graph finds them, and rounds nothing.

    Attributes:
        places: the value at each place: "PART.NUMBER", where the number counts operations of the part, or "input.NAME".
    """

    def __init__(
        self,
        weights: Callable[[str], Weights],
        file: WeightFile,
        ranges: dict[str, Range] | None,
        recipe: Recipe = STANDARD,
    ) -> None:
        super().__init__(weights, file)
        self._ranges, self._recipe = ranges, recipe
        self._types: dict[Value, TypeProto] = {}
        self._steps: dict[Value, Step] = {}  # of values that are rounded to integers
        self._bounds: dict[Value, Range] = {}  # of other values whose range is known
        self.places: dict[str, Value] = {}
        self._count, self._outputs = 0, dict[str, str]()

    # the frame
    def input(self, name: str, shape: Sequence[int], dtype: str) -> Value:
        """An input of the graph, rounded where it holds floats."""
        self._types[name] = helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
        return self._rounded(name, f"input.{name}") if self._is_float(name) else name

    def name(self, value: Value, name: str) -> Value:
        self._outputs[value] = name
        return name

    def rename(self) -> None:
        """Give the outputs their names, once the graph is complete."""
        for node in (*self._unpacking, *self._nodes):
            for names in (node.input, node.output):
                names[:] = [self._outputs.get(each, each) for each in names]

    def observe(self, value: Value, place: str) -> list[str]:
        """Names of two further outputs: the least and the largest number of each row (B,)."""
        axes, names = self._axes(*range(1, len(self.shape(value)))), [f"{kind} {place}" for kind in ("min", "max")]
        for kind, name in zip(("ReduceMin", "ReduceMax"), names, strict=True):
            self._add(kind, [value, axes], outputs=[name], keepdims=0)
        return names

    def shape(self, value: Value) -> tuple[int, ...]:
        return tuple(size.dim_value for size in self._types[value].tensor_type.shape.dim)

    def _is_float(self, value: Value) -> bool:
        return self._types[value].tensor_type.elem_type == TensorProto.FLOAT

    def _add(self, kind: str, inputs: Sequence[Value], **more: Any) -> Value:
        """An operation whose result is not rounded; ``more`` as `OnnxOps._node` takes it."""
        value = super()._node(kind, inputs, **more)
        self._infer(self._nodes[-1])
        return value

    def _infer(self, node: object) -> None:
        """Sizes of a node's results."""
        types = {each: self._types[each] for each in node.input if each}  # type: ignore[attr-defined]
        data = {each: self._initializers[each] for each in types if each in self._initializers}
        small = {each: tensor for each, tensor in data.items() if tensor.data_location != TensorProto.EXTERNAL}
        schema = defs.get_schema(node.op_type, OPSET, "")  # type: ignore[attr-defined]
        self._types |= shape_inference.infer_node_outputs(
            schema, node, types, small, opset_imports=[helper.make_opsetid("", OPSET)]
        )

    def _unpack(self, stored: Value, scale: Value, name: str, *zero: Value, **attributes: int) -> Value:
        """Floats of stored integers, before all else."""
        if name not in self._types:
            self._unpacking.append(helper.make_node("DequantizeLinear", [stored, scale, *zero], [name], **attributes))
            self._infer(self._unpacking[-1])
        return name

    def _stored(self, key: str, make: Callable[[], np.ndarray], shape: Sequence[int] | None = None) -> Value:
        super()._stored(key, make, shape)
        tensor = self._initializers[key]
        self._types[key] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        return key

    def _plain(self, array: np.ndarray) -> Value:
        """A constant as it is."""
        key = f"c{len(self._initializers)}"
        self._initializers[key] = tensor = numpy_helper.from_array(array, key)
        self._types[key] = helper.make_tensor_type_proto(tensor.data_type, array.shape)
        return key

    # rounding
    def part(self, name: str) -> None:
        super().part(name)
        self._count = 0

    def _node(self, kind: str, inputs: Sequence[Value], **more: Any) -> Value:
        """An operation; of floats its result is rounded."""
        value = self._add(kind, inputs, **more)
        values = value if isinstance(value, list) else [value]
        if not self._is_float(values[0]):
            return value
        if kind in LAYOUT:
            values = [self._like(each, inputs[0]) for each in values]
        else:
            bounds = {"Sigmoid": SIGMOID, "Softmax": PROBABILITY}.get(kind)
            values = [self._rounded(each, self._next_place(), kind, bounds) for each in values]
        return values if isinstance(value, list) else values[0]

    def _next_place(self) -> str:
        self._count += 1
        return f"{self._part}.{self._count}"

    def _rounded(self, value: Value, place: str, kind: str = "", bounds: Range | None = None) -> Value:
        self.places[place] = value
        if self._ranges is None:
            return value
        bounds = bounds or self._ranges[place]
        return self._halved(value, bounds) if self._is_half(kind) else self._written(value, step_of(bounds))

    def _is_half(self, kind: str) -> bool:
        chosen = self._recipe.float16
        return (
            ("text" in chosen and self._part.startswith("text_encoder"))
            or ("stream" in chosen and self._part == "unet" and kind in ("Add", "Sub"))
            or ("norms" in chosen and kind in ("LayerNormalization", "InstanceNormalization"))
        )

    def _halved(self, value: Value, bounds: Range) -> Value:
        out = self._add("Cast", [self._add("Cast", [value], to=TensorProto.FLOAT16)], to=TensorProto.FLOAT)
        self._bounds[out] = bounds
        return out

    def _written(self, value: Value, step: Step, kind: type = np.uint16) -> Value:
        """The value as integers, and back."""
        pair = [self._plain(np.array(step[0], np.float32)), self._plain(np.array(step[1], kind))]
        out = self._add("DequantizeLinear", [self._add("QuantizeLinear", [value, *pair]), *pair])
        self._steps[out] = step
        return out

    def _like(self, value: Value, source: Value) -> Value:
        """What only another layout was made of."""
        if source in self._steps:
            return self._written(value, self._steps[source])
        if source in self._bounds:
            self._bounds[value] = self._bounds[source]
        return value

    def _integers(self, x: Value) -> Value:
        """Rounded to integers for a product, where it is not yet."""
        if x in self._steps or x not in self._bounds or ("text" in self._recipe.float16 and self._part != "unet"):
            return x
        return self._written(x, step_of(self._bounds[x]))

    # constants
    def constant(self, array: np.ndarray) -> Value:
        return self._fixed(f"k{len(self._initializers)}", array) if array.dtype == np.float32 else self._plain(array)

    def weight(self, name: str) -> Value:
        return self._fixed(f"{self._part}.{name}", self._weights(self._part).tensor(name).astype(np.float32))

    def _column(self, name: str) -> Value:
        tensor = self._weights(self._part).tensor(name).astype(np.float32)
        return self._fixed(f"{self._part}.{name}.column", tensor.reshape(-1, 1, 1))

    def _fixed(self, key: str, array: np.ndarray) -> Value:
        """Floats that never change, as 16-bit integers."""
        step = step_of((float(array.min()), float(array.max())))
        integers = np.clip(np.rint(array / step[0]) + step[1], 0, LEVELS).astype(np.uint16)
        scale, zero = self._plain(np.array(step[0], np.float32)), self._plain(np.array(step[1], np.uint16))
        out = self._unpack(self._given(f"{key}.u16", integers), scale, f"{key}.float", zero)
        self._steps[out] = step
        return out

    def _exact(self, integers: np.ndarray) -> Value:
        """Whole numbers as they are, in the types that the provider's norms take."""
        scale = self._plain(np.array(1, np.float32))
        return self._unpack(self._plain(integers), scale, f"{scale}.float")
