"""`learned_embeds.safetensors` in and out: one tensor, its key the placeholder token, as stock diffusers reads it."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge_sdk.errors import EdgeSdkError
from edge_sdk.files import safetensors_bytes, write_bytes
from edge_sdk.model_files import read_header

MAX_BYTES = 64 * 2**20
A1111_KEY = "emb_params"
_READ = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}


@dataclass(frozen=True)
class LearnedEmbedding:
    """A placeholder token and its vectors."""

    token: str
    vectors: np.ndarray = field(repr=False)  # (K, D) float32
    metadata: dict[str, str] = field(default_factory=dict)  # where it comes from; never anything about the photos


def save_embedding(path: Path, embedding: LearnedEmbedding) -> None:
    """Write the file whole or not at all; diffusers' ``load_textual_inversion(path, use_safetensors=True)`` reads it.

    Raises:
        EdgeSdkError: a value is not finite, or the file cannot be written.
    """
    _save(path, embedding.token, embedding)


def save_a1111(path: Path, embedding: LearnedEmbedding) -> None:
    """Write the form that Stable Diffusion web UIs read: key ``emb_params``, the file's name is the trigger word."""
    _save(path, A1111_KEY, embedding)


def _save(path: Path, key: str, embedding: LearnedEmbedding) -> None:
    vectors = np.ascontiguousarray(embedding.vectors, np.float32)
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise EdgeSdkError(f"an embedding of shape {vectors.shape} must be (K, D) with finite values only")
    write_bytes(path, safetensors_bytes({key: vectors}, {"format": "pt", **embedding.metadata}))


def load_embedding(path: str | Path) -> LearnedEmbedding:
    """Read an embedding of either form, float32, float16 or bfloat16.

    Raises:
        EdgeSdkError: not there, a pickle, damaged, more than one tensor, or a value that is not finite.
    """
    path = Path(path)
    if path.suffix in (".bin", ".pt", ".pth", ".ckpt"):
        raise EdgeSdkError(
            f"{path} is a pickle, which can run any program and is never opened; give a .safetensors file"
        )
    header = read_header(path, MAX_BYTES)
    metadata = header.pop("__metadata__", {})
    if len(header) != 1:
        raise EdgeSdkError(f"{path} holds {len(header)} tensors; an embedding file holds exactly one")
    ((key, entry),) = header.items()
    if not key.strip():
        raise EdgeSdkError(f"{path} names no token; the key of its tensor must be the placeholder token")
    data = path.read_bytes()[-entry["data_offsets"][1] :] if entry["data_offsets"][1] else b""
    if entry["dtype"] == "BF16":
        vectors = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif entry["dtype"] in _READ:
        vectors = np.frombuffer(data, _READ[entry["dtype"]]).astype(np.float32)
    else:
        raise EdgeSdkError(f"{path} holds {entry['dtype']} values; an embedding holds floats")
    shape = entry["shape"] if len(entry["shape"]) != 1 else [1, *entry["shape"]]
    if len(shape) != 2 or not vectors.size or not np.isfinite(vectors).all():
        raise EdgeSdkError(f"{path} must hold a (K, D) tensor of finite numbers; it holds shape {json.dumps(shape)}")
    return LearnedEmbedding(path.stem if key == A1111_KEY else key, vectors.reshape(shape), dict(metadata))
