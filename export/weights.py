"""The weights of a model's parts, a layer at a time: read from a file when asked for, kept by nobody."""

import itertools
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from edge_sdk.models import Model
from edge_sdk.quantization import integer_layers, read_checked_header
from edge_sdk.quantization.artifact import FILE_NAME
from edge_sdk.system.inputs import open_input
from edge_sdk.system.safetensors import data_start

TABLE = "embeddings.token_embedding.weight"  # of a text encoder, a row a word
_DTYPES = {"F32": np.float32, "F16": np.float16, "I8": np.int8, "U8": np.uint8}


@dataclass(frozen=True)
class Layer:
    """One matrix (N, K) with its bias. A convolution's columns are in the order (kh, kw, C)."""

    bits: int  # 32, 8 or 4
    matrix: np.ndarray  # (N, K) float32, int8, or for 4 bits uint8 in 0..15
    bias: np.ndarray | None  # (N,) float32
    kernel: tuple[int, int]  # (1, 1) for a linear layer
    scale: np.ndarray | None = None  # 8 bits: (N,) float32; 4 bits: (N, G) float32, weight = scale * (matrix - zero)
    zero: np.ndarray | None = None  # 4 bits: (N, G) uint8 in 0..15

    @property
    def group(self) -> int:
        """Weights that share a scale."""
        return self.matrix.shape[1] // (1 if self.scale is None or self.scale.ndim == 1 else self.scale.shape[1])

    def taps(self) -> list["Layer"]:
        """A convolution as products, one for each tap of its kernel; the first has the bias."""

        def split(values: np.ndarray | None) -> list[np.ndarray | None]:
            count = self.kernel[0] * self.kernel[1]
            if values is None or values.ndim == 1:
                return [values] * count
            return [np.ascontiguousarray(part) for part in np.split(values, count, axis=1)]

        parts = zip(*(split(values) for values in (self.matrix, self.scale, self.zero)), strict=True)
        biases = itertools.chain([self.bias], itertools.repeat(None))
        return [
            replace(self, matrix=matrix, scale=scale, zero=zero, bias=bias, kernel=(1, 1))
            for (matrix, scale, zero), bias in zip(parts, biases, strict=False)
        ]

    def as_picture(self, values: np.ndarray) -> np.ndarray:
        """(N, kh kw C) -> (N, C, kh, kw)."""
        return np.ascontiguousarray(values.reshape(len(values), *self.kernel, -1).transpose(0, 3, 1, 2))


class Weights(Protocol):
    """Where one part's weights come from."""

    def layer(self, name: str) -> Layer: ...
    def tensor(self, name: str) -> np.ndarray:
        """A tensor outside of matrices: norms, positions, the embedding table (float16 or float32)."""

    def table(self) -> np.ndarray:
        """The embedding table (V, D)."""


def weights_of(model: Model, part: str) -> Weights:
    """The weights of a part of an integer checkpoint, or of a float model opened with weights "none".

    Raises:
        EdgeSdkError: a file is damaged or does not fit its config.
    """
    return _Integers(model, part) if model.stored_as_integers else _Floats(model, part)


class _Part:
    """One part, by how its tensors are read."""

    def tensor(self, name: str) -> np.ndarray:
        raise NotImplementedError

    def table(self) -> np.ndarray:
        return self.tensor(TABLE)


class _Integers(_Part):
    def __init__(self, model: Model, part: str) -> None:
        self._path = model.folder / part / FILE_NAME
        self._header, self._base = read_checked_header(self._path), data_start(self._path)
        self._layers = integer_layers(model.shapes(part))

    def layer(self, name: str) -> Layer:
        shape = self._layers[name].float_shape
        kernel = (shape[2], shape[3]) if len(shape) == 4 else (1, 1)
        q, scale = self.tensor(f"{name}.q"), self.tensor(f"{name}.scale")
        bias = self.tensor(f"{name}.bias") if f"{name}.bias" in self._header else None
        if q.dtype == np.int8:
            return Layer(8, q, bias, kernel, scale)
        nibbles = np.stack([q & 15, q >> 4], axis=-1).reshape(len(q), -1)
        zero, multiplier = self.tensor(f"{name}.zero"), self.tensor(f"{name}.multiplier")
        group = nibbles.shape[1] // zero.shape[1]
        if group < 16:  # no runtime has blocks so small; the integers that the products see fit int8
            size = (len(q), -1, group)
            wide = (nibbles.reshape(size).astype(np.int8) - zero[:, :, None]) * multiplier[:, :, None]
            return Layer(8, wide.reshape(len(q), -1).astype(np.int8), bias, kernel, scale)
        return Layer(4, nibbles, bias, kernel, scale[:, None] * multiplier, zero.astype(np.uint8))

    def tensor(self, name: str) -> np.ndarray:
        entry = self._header[name]
        first, last = entry["data_offsets"]
        with open_input(self._path, buffering=0) as file:
            file.seek(self._base + first)
            return np.frombuffer(file.read(last - first), _DTYPES[entry["dtype"]]).reshape(entry["shape"])


class _Floats(_Part):
    def __init__(self, model: Model, part: str) -> None:
        self._source = model.source(part)
        self._shapes = {name: tuple(t.shape) for name, t in model.shapes(part).state_dict().items()}

    def layer(self, name: str) -> Layer:
        weight = self.tensor(f"{name}.weight")
        bias = self.tensor(f"{name}.bias") if f"{name}.bias" in self._shapes else None
        kernel = (weight.shape[2], weight.shape[3]) if weight.ndim == 4 else (1, 1)
        if weight.ndim == 4:
            weight = weight.transpose(0, 2, 3, 1)
        return Layer(32, np.ascontiguousarray(weight.reshape(len(weight), -1)), bias, kernel)

    def tensor(self, name: str) -> np.ndarray:
        return self._source.read(name, self._shapes[name]).numpy()
