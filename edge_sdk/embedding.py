"""`learned_embeds.safetensors` in and out, as stock diffusers reads it.

One tensor, its key the placeholder token; for SDXL two, ``clip_l`` and ``clip_g``, one a text encoder, and the
placeholder token in the metadata.
"""

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.files import safetensors_bytes, write_bytes
from edge_sdk.system.inputs import read_input
from edge_sdk.system.paths import expanded
from edge_sdk.system.safetensors import data_start, read_header
from edge_sdk.system.shell import python_command

MAX_BYTES = 64 * 2**20
A1111_KEY = "emb_params"
XL_KEYS = ("clip_l", "clip_g")  # of the parts for SDXL's first and second text encoder
TOKEN = "placeholder_token"  # of the metadata
_READ = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}


@dataclass(frozen=True)
class LearnedEmbedding:
    """A placeholder token and its vectors."""

    token: str
    vectors: npt.NDArray[np.float32] = field(repr=False)  # (K, D) float32; for SDXL both encoders' parts side by side
    metadata: dict[str, str] = field(default_factory=dict)  # where it comes from; never anything about the photos
    widths: tuple[int, ...] = ()  # of the parts of a vector, one a text encoder; not given: (D,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", self.widths or self.vectors.shape[1:])

    @property
    def parts(self) -> list[np.ndarray]:
        """The vectors of each text encoder, (K, D) float32 each."""
        return np.split(self.vectors, np.cumsum(self.widths)[:-1], axis=1)

    def load_into(self, pipe: object) -> None:
        """Teach the word to a pipeline of diffusers, whose prompts may use it then.

        Raises:
            EdgeSdkError: the pipeline takes no learned words, is of another family or width, or has the word already.
        """
        load: Any = getattr(pipe, "load_textual_inversion", None)
        names = [("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")]
        sides: list[tuple[Any, Any]] = [(getattr(pipe, a, None), getattr(pipe, b, None)) for a, b in names]
        sides = [side for side in sides if None not in side]
        if load is None or not sides:
            raise EdgeSdkError(
                f"the pipeline is a {type(pipe).__name__}; give one of diffusers with load_textual_inversion, such as "
                "StableDiffusionPipeline"
            )
        check_embeddings([self], tuple(encoder.get_input_embeddings().weight.shape[1] for encoder, _ in sides))
        if any(self.token in tokenizer.get_vocab() for _, tokenizer in sides):
            raise EdgeSdkError(f"the pipeline has the word {self.token} already; load it into a new pipeline")
        import torch

        for (encoder, tokenizer), vectors in zip(sides, self.parts, strict=True):
            weights = torch.from_numpy(np.array(vectors, np.float32))
            load({self.token: weights}, token=self.token, text_encoder=encoder, tokenizer=tokenizer)


def fold(token: str) -> str:
    """A token as tokens are compared: composed, and in lower case as far as a letter stays one letter.

    CLIP's tokenizer and the web UIs know no capitals, and file systems decompose letters.
    """
    composed = unicodedata.normalize("NFC", token)
    return "".join(lower if len(lower := letter.lower()) == 1 else letter for letter in composed)


def check_embeddings(embeddings: Sequence[LearnedEmbedding], widths: tuple[int, ...]) -> None:
    """Check that embeddings can be used together on a model whose vectors have parts of these widths.

    Raises:
        EdgeSdkError: one is of another family or width, or two are for one token.
    """
    for embedding in embeddings:
        if embedding.widths != widths:
            raise EdgeSdkError(
                f"the embedding of {embedding.token} is {_width(embedding.widths)} wide and this model takes "
                f"{_width(widths)}; use it with the model it was learned on"
            )
    tokens = [embedding.token for embedding in embeddings]
    if twice := [token for i, token in enumerate(tokens) if fold(token) in map(fold, tokens[:i])]:
        raise EdgeSdkError(
            f"two embeddings have the same token, {twice[0]} in any letters; give each token once, or rename a file"
        )


def _width(widths: tuple[int, ...]) -> str:
    return str(widths[0]) if len(widths) == 1 else f"{' + '.join(map(str, widths))} (SDXL)"


def save_embedding(path: Path, embedding: LearnedEmbedding) -> None:
    """Write the file whole or not at all; diffusers' ``load_textual_inversion`` reads it.

    Of a file for SDXL it takes a tensor at a time: ``load_textual_inversion(tensors["clip_l"], token="<subject>",
    text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer)``, then ``clip_g`` with the second of both.

    Raises:
        EdgeSdkError: a value is not finite, or the file cannot be written.
    """
    _save(path, embedding.token, embedding)


def save_a1111(path: Path, embedding: LearnedEmbedding) -> None:
    """Write the form that web UIs read: key ``emb_params``, or SDXL's two; the file's name is the trigger word."""
    _save(path, A1111_KEY, embedding)


def _save(path: Path, key: str, embedding: LearnedEmbedding) -> None:
    vectors = np.ascontiguousarray(embedding.vectors, np.float32)
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise EdgeSdkError(f"an embedding of shape {vectors.shape} must be (K, D) with finite values only")
    metadata = {"format": "pt", **embedding.metadata}
    tensors = {key: vectors}
    if len(embedding.widths) > 1:
        metadata[TOKEN] = embedding.token
        parts = (np.ascontiguousarray(part, np.float32) for part in embedding.parts)
        tensors = dict(zip(XL_KEYS, parts, strict=True))
    write_bytes(expanded(path), safetensors_bytes(tensors, metadata))


def load_embedding(path: str | Path) -> LearnedEmbedding:
    """Read an embedding of any of these forms, float32, float16 or bfloat16.

    Raises:
        EdgeSdkError: not there, a pickle, damaged, of other tensors, or a value that is not finite.
    """
    path = expanded(path)
    if path.suffix.lower() in (".bin", ".pt", ".pth", ".ckpt"):
        raise EdgeSdkError(
            f"{path} is a pickle, which can run any program and is never opened; convert it to a .safetensors file and "
            f"give that: {_conversion(path)}"
        )
    header = read_header(path, MAX_BYTES)
    metadata = header.pop("__metadata__", {})
    for_xl = set(header) == set(XL_KEYS)
    if len(header) != 1 and not for_xl:
        raise EdgeSdkError(
            f"{path} holds {len(header)} tensors; an embedding file holds exactly one, for SDXL {' and '.join(XL_KEYS)}"
        )
    keys = XL_KEYS if for_xl else tuple(header)
    token = str(metadata.get(TOKEN, A1111_KEY)) if for_xl else keys[0]
    of_file = token == A1111_KEY
    token = path.stem if of_file else token
    unusable = (unicodedata.category(letter) in ("Cc", "Cs") for letter in token)
    if not token.strip() or (any(unusable) if of_file else not token.isprintable()):
        raise EdgeSdkError(
            f"{path} names the token {token!r:.60}; the key of its tensor, or for web UIs the name of the file, must "
            "be the placeholder token, of printable characters"
        )
    data = read_input(path, MAX_BYTES)[data_start(path) :]
    parts = [_vectors(path, data, header[key]) for key in keys]
    if len({len(part) for part in parts}) != 1:
        raise EdgeSdkError(f"{path} holds {' and '.join(str(len(part)) for part in parts)} vectors; both need as many")
    widths = tuple(part.shape[1] for part in parts)
    vectors = np.concatenate(parts, axis=1)
    return LearnedEmbedding(token, vectors, dict(metadata), widths)


def _conversion(path: Path) -> str:
    """The command that converts an embedding of diffusers, of a web UI (one tensor, ``*``) or of both for SDXL."""
    return python_command(
        "import torch, safetensors.torch as s; "
        f"d = torch.load({str(path)!r}, map_location='cpu', weights_only=True); "
        "d = d.get('string_to_param', d); "
        f"s.save_file({{'{A1111_KEY}' if k == '*' else k: v.detach().clone().contiguous() for k, v in d.items() "
        f"if torch.is_tensor(v)}}, {str(path.with_suffix('.safetensors'))!r})"
    )


def _vectors(path: Path, data: bytes, entry: dict[str, Any]) -> np.ndarray:
    """One tensor of a checked header, (K, D) float32."""
    data = data[slice(*entry["data_offsets"])]
    if entry["dtype"] == "BF16":
        values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif entry["dtype"] in _READ:
        values = np.frombuffer(data, _READ[entry["dtype"]]).astype(np.float32)
    else:
        raise EdgeSdkError(f"{path} holds {entry['dtype']} values; an embedding holds floats")
    shape = entry["shape"] if len(entry["shape"]) != 1 else [1, *entry["shape"]]
    if len(shape) != 2 or not values.size or not np.isfinite(values).all():
        raise EdgeSdkError(f"{path} must hold a (K, D) tensor of finite numbers; it holds shape {json.dumps(shape)}")
    return values.reshape(shape)
