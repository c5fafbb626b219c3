"""Weights in safetensors files, read one piece at a time: nothing is mapped or kept."""

from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any

import torch

from edge_sdk.errors import EdgeSdkError
from edge_sdk.quantization.quanto import saved_integers
from edge_sdk.system.inputs import open_input
from edge_sdk.system.safetensors import data_start, read_header

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I8": torch.int8}
# Names in older checkpoints.
_RENAMED = ((".query.", ".to_q."), (".key.", ".to_k."), (".value.", ".to_v."), (".proj_attn.", ".to_out.0."))


class FloatWeights:
    """The tensors of one model component, by the names of our modules.

    Args:
        files: safetensors.
        entries: the header's entries of a single file by our names, if the file uses other names. A ``transposed``
            entry has the shape after transposition.

    Attributes:
        integers: names of weights that are already int8, as quanto saves them.

    Raises:
        EdgeSdkError: a file is damaged; or, when reading, a tensor is missing, of another shape, or not finite.
    """

    def __init__(self, files: Iterable[Path], entries: dict[str, dict[str, Any]] | None = None) -> None:
        self._entries: dict[str, tuple[Path, int, dict[str, Any]]] = {}
        self.files, self.integers = list(files), set[str]()
        for path in self.files:
            header, base = read_header(path) if entries is None else entries, data_start(path)
            try:
                self.integers |= {_own_name(name) for name in saved_integers(header)}
            except EdgeSdkError as error:
                raise EdgeSdkError(f"{path}: {error}") from error
            for name, entry in header.items():
                if name != "__metadata__" and entry["dtype"] in _DTYPES:
                    self._entries[_own_name(name)] = (path, base, entry)

    def check(self, layer: str, shape: tuple[int, ...]) -> None:
        """Raises EdgeSdkError unless a layer has a weight of this shape, float or int8."""
        weight = f"{layer}.weight"
        self._entry(f"{weight}._data" if weight in self.integers else weight, shape)

    def read(self, name: str, shape: tuple[int, ...], start: int = 0, stop: int | None = None) -> torch.Tensor:
        """A tensor of this shape as float32, or only its rows from ``start`` to ``stop``."""
        return self._rows(name, shape, start, shape[0] if stop is None else stop).float()

    def read_integers(self, name: str, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """One of ``integers``: int8 of this shape, and its scale per output channel, (N,) float32."""
        scales: list[int] = self._entries.get(f"{name}._scale", (None, 0, {"shape": []}))[2]["shape"]
        scale = self._rows(f"{name}._scale", (prod(scales),), 0, prod(scales)).float()  # one, or one a channel
        if len(scale) not in (1, shape[0]):
            raise EdgeSdkError(f"{self.files[0]} has {len(scale)} scales for {shape[0]} channels of {name}")
        return self._rows(f"{name}._data", shape, 0, shape[0]), scale.expand(shape[0])

    def _entry(self, name: str, shape: tuple[int, ...]) -> tuple[Path, int, dict[str, Any]]:
        if name not in self._entries:
            raise EdgeSdkError(f"{self.files[0]} does not fit its config.json ({name} is missing); download it again")
        path, base, entry = self._entries[name]
        found = entry["shape"] or [1]
        if prod(found) != prod(shape) or found[0] != shape[0]:
            raise EdgeSdkError(
                f"{path} does not fit its config.json ({name} has shape {entry['shape']}, not {list(shape)}); "
                "download it again"
            )
        return path, base, entry

    def _rows(self, name: str, shape: tuple[int, ...], start: int, stop: int) -> torch.Tensor:
        path, base, entry = self._entry(name, shape)
        if entry.get("transposed"):  # a small matrix: any column needs all of it
            return self._read(path, base, entry, name, (shape[1], shape[0]), 0, shape[1]).T[start:stop].contiguous()
        return self._read(path, base, entry, name, shape, start, stop)

    @staticmethod
    def _read(
        path: Path, base: int, entry: dict[str, Any], name: str, shape: tuple[int, ...], start: int, stop: int
    ) -> torch.Tensor:
        """Rows of a tensor of this shape in the layout of the file."""
        dtype, row = _DTYPES[entry["dtype"]], prod(shape[1:])
        with open_input(path, buffering=0) as file:
            file.seek(base + entry["data_offsets"][0] + start * row * dtype.itemsize)
            data = bytearray(file.read((stop - start) * row * dtype.itemsize))
        out = torch.frombuffer(data, dtype=dtype).view(stop - start, *shape[1:])
        if dtype.is_floating_point and not torch.isfinite(out).all():
            raise EdgeSdkError(f"{path} holds a number that is not finite in {name}; download it again")
        return out


def _own_name(name: str) -> str:
    name = name.removeprefix("text_model.")
    for old, new in _RENAMED:
        name = name.replace(old, new)
    return name
