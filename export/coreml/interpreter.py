"""An interpreter of saved Core ML programs, to check an ``.mlpackage`` where Core ML does not exist.

It reads what is on disk (`package.py`) and computes with PyTorch in float32. A value that the program types as
float16 is rounded to float16 when it is made, and every value must have the shape and type that the program declares.
Sums inside an operation are float32, as they are said to be on the Neural Engine; `narrow.py` assumes less.

It shows what a program computes, not that Apple's compiler takes it, nor where it runs, how fast, or in what memory.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edge_sdk.errors import EdgeSdkError
from edge_sdk.export.coreml.narrow import NARROW, half
from edge_sdk.export.coreml.package import Package

SMALL = 4096  # elements of a constant that is kept
# Operations that only move values, which are rounded already.
MOVES = ("concat", "expand_dims", "reshape", "slice_by_size", "split", "transpose", "upsample_nearest_neighbor")
Arguments = dict[str, Any]  # by name: tensors, floats widened to float32; texts; lists of either


class Interpreter:
    """Runs one saved program.

    Args:
        package: the ``.mlpackage``.
        function: see `Package`.
        rounding: values that the program types as float16 are rounded; without it all floats are float32, which tells
            what rounding costs.
        narrow: float16 operations also round inside, see `narrow.py`.
        resident: unpacked weights stay in memory: quicker, for programs that run many times.
    """

    def __init__(
        self,
        package: Path,
        function: str | None = None,
        rounding: bool = True,
        narrow: bool = False,
        resident: bool = False,
    ) -> None:
        self.package, self._rounding, self._resident = Package(package, function), rounding, resident
        self._narrow = NARROW if narrow else {}
        self._operations = [op for op in self.package.block.operations if op.type != "const"]
        self._constants = {op.outputs[0].name: op for op in self.package.block.operations if op.type == "const"}
        for op in self._operations:
            if op.type not in OPERATIONS:
                raise EdgeSdkError(f"{package} has the operation {op.type}, which the interpreter does not know")
        self._kinds = {o.name: Package.kind(o.type) for op in self._operations for o in op.outputs}
        self._kept: dict[str, Any] = {}  # constants that are worth keeping
        self._last_use = {name: i for i, op in enumerate(self._operations) for name in _names(op)}

    @torch.inference_mode()
    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Inputs by name to outputs by name. Integers of any width are taken as int32.

        Raises:
            EdgeSdkError: an input is missing or has another shape, or the program contradicts itself.
        """
        values: dict[str, Any] = {}
        for name, (shape, dtype) in self.package.inputs.items():
            if name not in inputs or np.shape(inputs[name]) != shape:
                given = f"of shape {np.shape(inputs[name])}" if name in inputs else "missing"
                raise EdgeSdkError(f"{self.package.path}: input {name} is {given}; it must be {shape} {dtype}")
            values[name] = torch.from_numpy(np.asarray(inputs[name]).astype(dtype))
        for i, op in enumerate(self._operations):
            if op.type.startswith("constexpr_"):  # unpacked where it is used
                values[op.outputs[0].name] = op
            else:
                self._evaluate(op, values)
            for name in _names(op):
                if self._last_use[name] == i and name not in self.package.outputs:
                    values.pop(name, None)
        return {
            name: values[name].to(getattr(torch, dtype)).numpy() for name, (_, dtype) in self.package.outputs.items()
        }

    def _evaluate(self, op: Any, values: dict[str, Any]) -> None:
        """Put what an operation makes into ``values``."""
        arguments: Arguments = {}
        for name, argument in op.inputs.items():
            found = [self._value(binding, values) for binding in argument.arguments]
            arguments[name] = found if name == "values" else found[0]
        operations = self._narrow if self._kinds[op.outputs[0].name][1] == "float16" else {}
        made = operations.get(op.type, OPERATIONS[op.type])(arguments)
        for output, tensor in zip(op.outputs, made if isinstance(made, list) else [made], strict=True):
            values[output.name] = self._checked(op, output, tensor)

    def _value(self, binding: Any, values: dict[str, Any]) -> Any:
        """An argument, floats in float32."""
        if binding.WhichOneof("binding") == "value":
            value = self.package.value(binding.value)
        elif binding.name in self._constants:
            value = self._constant(binding.name)
        else:
            value = values[binding.name]
            if not isinstance(value, Tensor):  # a compressed constant
                value = self._unpacked(value)
        return value.float() if isinstance(value, Tensor) and value.dtype == torch.float16 else value

    def _unpacked(self, op: Any) -> Tensor:
        name = op.outputs[0].name
        if name in self._kept:
            return self._kept[name]
        made: dict[str, Any] = {}
        self._evaluate(op, made)
        if self._resident:
            self._kept[name] = made[name]
        return made[name]

    def _constant(self, name: str) -> Any:
        """A constant; large ones are read from the file at every use."""
        if name in self._kept:
            return self._kept[name]
        value = self.package.value(self._constants[name].attributes["val"])
        if self._resident and isinstance(value, Tensor) and value.dtype == torch.float16:
            value = value.float()
        if self._resident or not isinstance(value, Tensor) or value.numel() <= SMALL:
            self._kept[name] = value
        return value

    def _checked(self, op: Any, output: Any, tensor: Tensor) -> Tensor:
        """A value as the program declares it; float16 as float32 that was rounded."""
        shape, dtype = self._kinds[output.name]
        wanted = getattr(torch, dtype)
        same_kind = tensor.dtype == wanted or (tensor.is_floating_point() and wanted.is_floating_point)
        if tuple(tensor.shape) != shape or not (same_kind or op.type == "cast"):
            raise EdgeSdkError(
                f"{self.package.path}: {op.type} {output.name} is {tuple(tensor.shape)} {tensor.dtype}, "
                f"the program declares {shape} {dtype}"
            )
        if wanted != torch.float16:
            return tensor.to(wanted)
        return half(tensor) if self._rounding and op.type not in MOVES else tensor.float()


def _names(op: Any) -> list[str]:
    """The values that an operation reads."""
    return [b.name for argument in op.inputs.values() for b in argument.arguments if b.WhichOneof("binding") == "name"]


def _unpack(a: Arguments) -> Tensor:
    """scale * (data - offset); an entry of scale belongs to a block of as many entries of data as sizes say."""
    data, scale = a["data"], a["scale"]
    shape = [n for d, s in zip(data.shape, scale.shape, strict=True) for n in (s, d // s)]
    thin = [n for s in scale.shape for n in (s, 1)]
    blocks = data.reshape(shape).float()
    if "offset" in a:
        blocks = blocks - a["offset"].reshape(thin).float()
    return (blocks * scale.reshape(thin)).reshape(data.shape)


def _conv(a: Arguments) -> Tensor:
    top, bottom, left, right = a["pad"].tolist()
    x, pads = a["x"], (top, left)
    if (top, left) != (bottom, right):
        x, pads = F.pad(x, (left, right, top, bottom)), (0, 0)
    more = a["strides"].tolist(), pads, a["dilations"].tolist(), int(a["groups"])
    return F.conv2d(x, a["weight"], a.get("bias"), *more)


def _gather(a: Arguments) -> Tensor:
    x, indices, axis = a["x"], a["indices"], int(a["axis"])
    if int(a["batch_dims"]) or (indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < x.shape[axis]):
        raise EdgeSdkError(f"gather takes entries {indices.tolist()} of {x.shape[axis]}, or has batch axes")
    return x.index_select(axis, indices.reshape(-1)).reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def _split(a: Arguments) -> list[Tensor]:
    axis = int(a["axis"])
    sizes = a["split_sizes"].tolist() if "split_sizes" in a else a["x"].shape[axis] // int(a["num_splits"])
    return list(a["x"].split(sizes, axis))


def _slice(a: Arguments) -> Tensor:
    x = a["x"]
    for axis, (begin, size) in enumerate(zip(a["begin"].tolist(), a["size"].tolist(), strict=True)):
        x = x.narrow(axis, begin, x.shape[axis] - begin if size == -1 else size)
    return x


def _layer_norm(a: Arguments) -> Tensor:
    """Over one axis, which need not be the last."""
    (axis,) = a["axes"].tolist()
    x = a["x"].movedim(axis, -1)
    return F.layer_norm(x, x.shape[-1:], a.get("gamma"), a.get("beta"), float(a["epsilon"])).movedim(-1, axis)


def _einsum(a: Arguments) -> Tensor:
    if a["equation"] != "nchw,nwhu->nchu":
        raise EdgeSdkError(f"einsum has equation {a['equation']}; the interpreter knows nchw,nwhu->nchu")
    x, y = a["values"]
    return (x.transpose(1, 2) @ y.permute(0, 2, 1, 3)).transpose(1, 2)


def _instance_norm(a: Arguments) -> Tensor:
    return F.instance_norm(a["x"], weight=a.get("gamma"), bias=a.get("beta"), eps=float(a["epsilon"]))


def _upsample(a: Arguments) -> Tensor:
    times = [int(a[f"scale_factor_{side}"]) for side in ("height", "width")]
    return a["x"].repeat_interleave(times[0], -2).repeat_interleave(times[1], -1)


def _gelu(a: Arguments) -> Tensor:
    if a["mode"] != "EXACT":
        raise EdgeSdkError(f"gelu has mode {a['mode']}; the interpreter knows EXACT")
    return F.gelu(a["x"])


def _expand(a: Arguments) -> Tensor:
    x = a["x"]
    for axis in a["axes"].tolist():
        x = x.unsqueeze(axis)
    return x


def _reduced(reduce: Callable[..., Tensor]) -> Callable[[Arguments], Tensor]:
    return lambda a: reduce(a["x"], dim=a["axes"].tolist(), keepdim=bool(a["keep_dims"]))


def _attention(a: Arguments) -> Tensor:
    return F.scaled_dot_product_attention(a["query"], a["key"], a["value"], attn_mask=a.get("attn_mask"))


OPERATIONS: dict[str, Callable[[Arguments], Tensor | list[Tensor]]] = {
    "constexpr_blockwise_shift_scale": _unpack,
    "linear": lambda a: F.linear(a["x"], a["weight"], a.get("bias")),
    "conv": _conv,
    "scaled_dot_product_attention": _attention,
    "layer_norm": _layer_norm,
    "instance_norm": _instance_norm,
    "add": lambda a: a["x"] + a["y"],
    "sub": lambda a: a["x"] - a["y"],
    "mul": lambda a: a["x"] * a["y"],
    "exp": lambda a: a["x"].exp(),
    "cos": lambda a: a["x"].cos(),
    "sin": lambda a: a["x"].sin(),
    "sigmoid": lambda a: a["x"].sigmoid(),
    "silu": lambda a: F.silu(a["x"]),
    "gelu": _gelu,
    "clip": lambda a: a["x"].clamp(float(a["alpha"]), float(a["beta"])),
    "equal": lambda a: a["x"] == a["y"],
    "greater_equal": lambda a: a["x"] >= a["y"],
    "softmax": lambda a: a["x"].softmax(int(a["axis"])),
    "einsum": _einsum,
    "select": lambda a: torch.where(a["cond"], a["a"], a["b"]),
    "cast": lambda a: a["x"],
    "identity": lambda a: a["x"],
    "gather": _gather,
    "concat": lambda a: torch.cat(a["values"], int(a["axis"])),
    "split": _split,
    "slice_by_size": _slice,
    "reshape": lambda a: a["x"].reshape(a["shape"].tolist()),
    "transpose": lambda a: a["x"].permute(a["perm"].tolist()),
    "expand_dims": _expand,
    "reduce_mean": _reduced(torch.mean),
    "reduce_sum": _reduced(torch.sum),
    "reduce_max": _reduced(torch.amax),
    "upsample_nearest_neighbor": _upsample,
}
