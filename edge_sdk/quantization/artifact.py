"""The integer checkpoint of one model part: ``config.json`` and ``integer_model.safetensors``.

The safetensors header says what is inside (schema version, weights, the hash of the float source). Loading builds
the part without weights, swaps in integer layers of the right shapes and fills every tensor from the file; nothing
in the file is ever executed.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from edge_sdk.errors import EdgeSdkError
from edge_sdk.files import replacing
from edge_sdk.quantization.layers import WEIGHTS, integer_layers, swap_layers

SCHEMA_VERSION = "1"
FILE_NAME = "integer_model.safetensors"


def save_component(module: nn.Module, folder: Path, source_hash: str) -> Path:
    """Write a quantized module's tensors; float tensors (norms, embeddings) are stored in float16.

    Raises:
        EdgeSdkError: the disk is full or the folder cannot be written.
    """
    layers = integer_layers(module)
    weights = next(iter(layers.values())).weights
    exact = {f"{name}.{buffer}" for name, layer in layers.items() for buffer, _ in layer.named_buffers(recurse=False)}
    tensors = {
        name: (value if name in exact else value.half()).contiguous() for name, value in module.state_dict().items()
    }
    metadata = {"schema_version": SCHEMA_VERSION, "weights": weights, "source_hash": source_hash, "format": "pt"}
    path = folder / FILE_NAME
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata)
    return path


def load_component(build: Callable[[], nn.Module], folder: Path, execution: str) -> nn.Module:
    """Read a part back.

    Args:
        build: makes the float module of the same configuration; it is called on the meta device, so no weight exists.
        execution: "integer" or "fused".

    Raises:
        EdgeSdkError: the file is missing, cut short, edited, of another schema or model, or holds a NaN.
    """
    path = folder / FILE_NAME
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise EdgeSdkError(
            f"{path} cannot be read as an integer checkpoint ({error}); make it again with edge-sdk quantize"
        ) from error
    weights = metadata.get("weights")
    if metadata.get("schema_version") != SCHEMA_VERSION or weights not in WEIGHTS:
        raise EdgeSdkError(
            f"{path} has schema version {metadata.get('schema_version')} and weights {weights}; this program reads "
            f"version {SCHEMA_VERSION} with {' or '.join(WEIGHTS)}; make it again with edge-sdk quantize"
        )
    with torch.device("meta"):
        module = build()
        swap_layers(module, lambda kind, layer: kind.empty_like(layer, weights, execution))
    wanted = module.state_dict()
    wrong = set(wanted) ^ set(tensors) or {n for n, t in tensors.items() if not _fits(t, wanted[n])}
    if wrong:
        raise EdgeSdkError(
            f"{path} does not fit its config.json ({sorted(wrong)[0]}); make it again with edge-sdk quantize"
        )
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            if not torch.isfinite(tensor).all():
                raise EdgeSdkError(
                    f"{path} holds a number that is not finite in {name}; make it again with edge-sdk quantize"
                )
            tensors[name] = tensor.float()
    module.load_state_dict(tensors, assign=True)
    _rebuild_position_ids(module)
    return module.eval().requires_grad_(False)


def _fits(stored: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Integers must be of the very type; float tensors may be stored in half precision."""
    same_type = stored.dtype == wanted.dtype or (stored.is_floating_point() and wanted.is_floating_point())
    return same_type and stored.shape == wanted.shape


def _rebuild_position_ids(module: nn.Module) -> None:
    """CLIP's position ids are counted, not stored, so building on the meta device leaves them without values."""
    for child in module.modules():
        ids = getattr(child, "position_ids", None)
        if isinstance(ids, torch.Tensor) and ids.is_meta:
            child.position_ids = torch.arange(ids.shape[-1]).expand(ids.shape)
    if left := [name for name, buffer in module.named_buffers() if buffer.is_meta]:
        raise EdgeSdkError(f"the model has a buffer that an integer checkpoint does not hold: {left[0]}")
