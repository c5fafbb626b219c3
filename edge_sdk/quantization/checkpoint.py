"""The integer checkpoint of one model component: ``config.json`` and ``integer_model.safetensors``.

The safetensors header has the schema version, the type of weights and the hash of the float source. Tensors that fill
whole pages come first and start at page boundaries. So the file can be mapped, and the pages of one weight dropped
without touching another. Loading builds the component without weights, swaps in integer layers of the right shapes and
fills every tensor from the file. Nothing in the file is ever executed.
"""

import contextlib
import json
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edge_sdk.errors import EdgeSdkError
from edge_sdk.quantization.layers import WEIGHTS, integer_layers, swap_layers
from edge_sdk.quantization.source import FloatWeights
from edge_sdk.system.files import SHIPPED, replacing
from edge_sdk.system.inputs import open_input
from edge_sdk.system.safetensors import data_start, read_header

SCHEMA_VERSION = "3"
FILE_NAME = "integer_model.safetensors"
PAGE = 4096
ROWS = 4096  # rows of a float tensor that are read together
HALF = "token_embedding.weight"  # the only large float tensor, kept in float16
_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.int8: "I8", torch.uint8: "U8"}


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """Within this block, modules are built on the meta device, uninitialized: initializing would load 70 MB more."""
    kinds = (nn.Linear, nn.Conv2d, nn.Embedding)
    before = [kind.reset_parameters for kind in kinds]
    for kind in kinds:
        kind.reset_parameters = lambda self: None
    try:
        with torch.device("meta"):
            yield
    finally:
        for kind, method in zip(kinds, before, strict=True):
            kind.reset_parameters = method


def integer_form(build: Callable[[], nn.Module], weights: str, execution: str) -> nn.Module:
    """A module with integer layers on the meta device: shapes and dtypes, no weights."""
    with shapes_only():
        module = build()
        swap_layers(module, lambda kind, layer: kind.empty_like(layer, weights, execution))
    for name, parameter in module.named_parameters():
        if name.endswith(HALF):
            parameter.data = parameter.data.half()
    return module.eval().requires_grad_(False)


def quantized(module: nn.Module, source: FloatWeights) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of a module made by `integer_form`, quantized from float weights one layer at a time.

    Weights that are int8 in the source (saved by quanto) are copied unchanged.

    Raises:
        EdgeSdkError: a tensor is missing, of another shape or not finite.
    """
    layers = integer_layers(module)
    for name, layer in layers.items():
        shape = layer.float_shape
        source.check(name, shape)  # before memory for it is taken
        filled = layer.to_empty(device="cpu")
        bias = None if layer.bias is None else source.read(f"{name}.bias", tuple(layer.bias.shape))
        if (weight := f"{name}.weight") in source.integers:
            filled.take(*source.read_integers(weight, shape), bias)
        else:
            filled.fill(lambda a, b, weight=weight, shape=shape: source.read(weight, shape, a, b), bias)
        yield from ((f"{name}.{key}", value) for key, value in filled.named_buffers(recurse=False))
        layer.to("meta")
    for name, tensor in module.state_dict().items():
        if name.rpartition(".")[0] not in layers:
            rows, shape = torch.empty(tensor.shape, dtype=tensor.dtype), tuple(tensor.shape)
            for start in range(0, shape[0], ROWS):
                stop = min(start + ROWS, shape[0])
                rows[start:stop] = source.read(name, shape, start, stop)
            yield name, rows


def save_component(module: nn.Module, source: FloatWeights, folder: Path, weights: str, source_hash: str) -> Path:
    """Quantize into a file, one layer at a time; ``module`` comes from `integer_form`.

    Raises:
        EdgeSdkError: the source does not fit, the disk is full or the folder cannot be written.
    """
    path, state = folder / FILE_NAME, module.state_dict()
    order = sorted(state, key=lambda name: (_bytes(state[name]) % PAGE != 0, -state[name].element_size(), name))
    header: dict[str, Any] = {
        "__metadata__": {"schema_version": SCHEMA_VERSION, "source_hash": source_hash, "weights": weights}
    }
    end = 0
    for name in order:
        tensor = state[name]
        start, end = end, end + _bytes(tensor)
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % PAGE)
    with replacing(path, SHIPPED) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
        for name, tensor in quantized(module, source):
            file.seek(8 + len(text) + header[name]["data_offsets"][0])
            file.write(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return path


def read_checked_header(path: Path) -> dict[str, Any]:
    """The header of an integer checkpoint's file.

    Raises:
        EdgeSdkError: the file is missing, cut short, edited, or of another schema.
    """
    try:
        header = read_header(path)
    except EdgeSdkError as error:
        raise EdgeSdkError(f"{error}, or make it again with edge-sdk quantize") from error
    metadata = header.get("__metadata__", {})
    version, weights = metadata.get("schema_version"), metadata.get("weights")
    if version != SCHEMA_VERSION or weights not in WEIGHTS:
        raise EdgeSdkError(
            f"{path} has schema version {version} and weights {weights}; this program reads "
            f"version {SCHEMA_VERSION} with {' or '.join(WEIGHTS)}; make it again with edge-sdk quantize"
        )
    return header


def load_component(
    build: Callable[[], nn.Module], folder: Path, execution: str, residency: str = "resident"
) -> nn.Module:
    """Load a component.

    Args:
        build: makes the float module of the same configuration; it is called on the meta device, so no weight exists.
        execution: "integer" or "fused".
        residency: "resident" reads the weights into memory. "mapped" leaves them in the file, and the system keeps the
            pages that it has room for. "streamed" also drops every weight's pages after each use.

    Raises:
        EdgeSdkError: the file is missing, cut short, edited, of another schema or model, or holds a NaN.
    """
    path = folder / FILE_NAME
    header = read_checked_header(path)
    weights = header.pop("__metadata__")["weights"]
    module = integer_form(build, weights, execution)
    wanted = module.state_dict()
    expected = {name: (_NAMES[tensor.dtype], list(tensor.shape)) for name, tensor in wanted.items()}
    found = {name: (entry["dtype"], entry["shape"]) for name, entry in header.items()}
    if wrong := sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name)):
        raise EdgeSdkError(f"{path} does not fit its config.json ({wrong[0]}); make it again with edge-sdk quantize")
    file = _File(path)
    tensors = {name: file.tensor(header[name], tensor.dtype) for name, tensor in wanted.items()}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not file.is_finite(tensor):
            raise EdgeSdkError(
                f"{path} holds a number that is not finite in {name}; make it again with edge-sdk quantize"
            )
        looked_up = name.endswith(HALF)  # row by row: only the pages of a prompt's words are ever needed
        if _bytes(tensor) % PAGE or not (looked_up or (residency != "resident" and name.endswith(".q"))):
            tensors[name] = tensor.clone()
        file.drop(tensor)
    module.load_state_dict(tensors, assign=True)
    if residency == "streamed":
        for layer in integer_layers(module).values():
            layer.register_forward_hook(lambda used, _inputs, _output: file.drop(used.q))
    for name, table in module.named_parameters():
        if name.endswith(HALF):  # drop the pages that statistics over the whole table have read
            module.register_forward_hook(lambda *_, table=table: file.drop(table))
    return module.eval().requires_grad_(False)


class _File:
    """A privately mapped safetensors file: changes to its tensors never reach the file."""

    def __init__(self, path: Path) -> None:
        self._base = data_start(path)
        with open_input(path) as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self._start = torch.frombuffer(self._map, dtype=torch.uint8, count=1).data_ptr()

    def tensor(self, entry: dict[str, Any], dtype: torch.dtype) -> torch.Tensor:
        first, last = entry["data_offsets"]
        if first == last:
            return torch.empty(entry["shape"], dtype=dtype)
        count = (last - first) // dtype.itemsize
        return torch.frombuffer(self._map, dtype=dtype, offset=self._base + first, count=count).view(entry["shape"])

    def is_finite(self, tensor: torch.Tensor) -> bool:
        """Whether all numbers of a tensor are finite; its rows are read in pieces and dropped."""
        for rows in tensor.split(ROWS):
            if not torch.isfinite(rows).all():
                return False
            self.drop(rows)
        return True

    def drop(self, tensor: torch.Tensor) -> None:
        """Let the system reclaim all whole pages of a tensor of this file; they are read again when needed."""
        start = tensor.data_ptr() - self._start
        first, last = -(-start // PAGE) * PAGE, (start + _bytes(tensor)) // PAGE * PAGE
        if 0 <= first < last <= len(self._map) and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED, first, last - first)


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
