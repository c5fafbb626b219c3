"""Reading an ``.mlpackage`` from disk: its program, and its values decoded by our own code.

Of coremltools only the generated protocol buffer classes are used. Format: ``Manifest.json`` names the model file
below ``Data``; a value is inside of the program or at an offset of ``weights/weight.bin``, where 64 bytes say what
follows (``0xDEADBEEF``, type, bytes, place).
"""

import logging
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.inputs import check_input, read_input
from edge_sdk.system.json import MOST_BYTES, parse_json
from edge_sdk.system.schema import check

logging.getLogger("coremltools").setLevel(logging.ERROR)  # its import warns that Core ML cannot run on this system
from coremltools.proto import MIL_pb2, Model_pb2  # noqa: E402
from google.protobuf.message import DecodeError  # noqa: E402

SENTINEL = 0xDEADBEEF
_NAMES = {
    MIL_pb2.FLOAT16: "float16",
    MIL_pb2.FLOAT32: "float32",
    MIL_pb2.INT8: "int8",
    MIL_pb2.UINT8: "uint8",
    MIL_pb2.UINT4: "uint4",
    MIL_pb2.INT32: "int32",
    MIL_pb2.BOOL: "bool",
    MIL_pb2.STRING: "string",
}
_BITS = {"float16": 16, "float32": 32, "int8": 8, "uint8": 8, "uint4": 4, "int32": 32, "bool": 8}
Kind = tuple[tuple[int, ...], str]  # shape, type


@dataclass(frozen=True)
class StoredWeight:
    """A value of a program that has bytes in the weight file."""

    name: str  # of what the operation makes
    op: str  # "const", or the operation that unpacks it
    role: str  # which argument: "val", "data", "scale", "offset"
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    place: tuple[str, int]  # file and offset: functions that share a weight name the same


MOST_MODEL_BYTES = 1 << 30  # of a program, whose weights are in files of their own


class Package:
    """A function of a saved program.

    Args:
        path: the ``.mlpackage``.
        function: its name; None for the default one.

    Attributes:
        inputs, outputs: name -> shape and type.
        block: the operations, in order.

    Raises:
        EdgeSdkError: a file is missing, or is not what the format says, or there is no such function; one line.
    """

    def __init__(self, path: Path, function: str | None = None) -> None:
        self.path, self._blobs = path, dict[str, np.ndarray]()
        model_file = path / "Manifest.json"
        try:
            manifest = parse_json(read_input(model_file, MOST_BYTES))
            check(manifest, {"itemInfoEntries": {str: {"path": str}}, "rootModelIdentifier": str})
            root = Path(manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"])
            if root.is_absolute() or ".." in root.parts:
                raise ValueError("a path that leads out of the package")
            model_file = path / "Data" / root
            model = Model_pb2.Model()
            model.ParseFromString(read_input(model_file, MOST_MODEL_BYTES))
            functions = model.mlProgram.functions
            name = function or model.description.defaultFunctionName or "main"
            if functions and name not in functions:
                raise EdgeSdkError(f"{path} has no function {name}; it has {', '.join(sorted(functions))}")
            chosen = functions[name]
            self.block = chosen.block_specializations[chosen.opset]
            self.inputs: dict[str, Kind] = {i.name: self.kind(i.type) for i in chosen.inputs}
            kinds = {o.name: self.kind(o.type) for op in self.block.operations for o in op.outputs}
            self.outputs: dict[str, Kind] = {name: kinds[name] for name in self.block.outputs}
        except OSError as error:
            raise EdgeSdkError(f"{model_file} cannot be read: {error.strerror}") from error
        except (DecodeError, KeyError, TypeError, ValueError) as error:
            raise self.damaged(model_file) from error
        if not self.outputs:
            raise self.damaged(model_file)
        self._folder = model_file.parent

    def damaged(self, file: Path) -> EdgeSdkError:
        return EdgeSdkError(f"{file} is damaged; export the bundle again")

    @staticmethod
    def kind(declared: Any) -> Kind:
        """Shape and type of a declared value; raises KeyError for a type that is not known."""
        tensor = declared.tensorType
        return tuple([d.constant.size for d in tensor.dimensions]), _NAMES[tensor.dataType]

    def value(self, value: Any) -> Any:
        """A constant as a tensor of its own type, uint4 as uint8; a text as str."""
        shape, dtype = self.kind(value.type)
        if value.WhichOneof("value") == "blobFileValue":
            return self._decoded(self._blob(value), shape, dtype)
        tensor = value.immediateValue.tensor
        kind = tensor.WhichOneof("value")
        if kind == "bytes":
            return self._decoded(np.frombuffer(bytearray(tensor.bytes.values), np.uint8), shape, dtype)
        values = list(getattr(tensor, kind).values)
        return values[0] if dtype == "string" else torch.tensor(values, dtype=getattr(torch, dtype)).reshape(shape)

    def _decoded(self, raw: np.ndarray, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
        count = math.prod(shape)
        if dtype == "uint4":  # low half first
            return torch.from_numpy(np.stack([raw & 15, raw >> 4], axis=1).reshape(-1)[:count].reshape(shape))
        return torch.from_numpy(raw.view(dtype).reshape(shape))

    def _blob(self, value: Any) -> np.ndarray:
        """The bytes of a value in the weight file, as they lie there."""
        shape, dtype = self.kind(value.type)
        name, offset = value.blobFileValue.fileName, value.blobFileValue.offset
        file = self._folder / name.removeprefix("@model_path/")
        if name not in self._blobs:
            if ".." in file.parts or not file.is_relative_to(self._folder):
                raise self.damaged(file)
            try:
                check_input(file)
                self._blobs[name] = np.asarray(np.memmap(file, np.uint8, "c"))
            except (OSError, ValueError) as error:
                raise EdgeSdkError(f"{file} cannot be read; export the bundle again") from error
        data, expected = self._blobs[name], -(-math.prod(shape) * _BITS[dtype] // 8)
        if offset + 64 > data.size:
            raise self.damaged(file)
        sentinel, _, size, start = struct.unpack_from("<IIQQ", data.data, offset)
        if sentinel != SENTINEL or size != expected or start + size > data.size:
            raise self.damaged(file)
        return data[start : start + size]

    def weights(self) -> Iterator[StoredWeight]:
        """Every value that is in the weight file, as the program has it."""
        for op in self.block.operations:
            held = (
                [("val", op.attributes["val"])]
                if op.type == "const"
                else [(name, binding.value) for name, argument in op.inputs.items() for binding in argument.arguments]
            )
            for role, value in held:
                if value.WhichOneof("value") == "blobFileValue":
                    shape, dtype = self.kind(value.type)
                    place, size = value.blobFileValue, len(self._blob(value))
                    where = (place.fileName, place.offset)
                    yield StoredWeight(op.outputs[0].name, op.type, role, dtype, shape, size, where)
