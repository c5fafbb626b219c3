"""Writing a bundle: graphs, weights, tokenizers, golden vectors and the manifest, whole or not at all.

What a bundle holds is described in ``export/README.md``.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk import __version__
from edge_sdk.config import check_resolution
from edge_sdk.diffusion.prompts import TEMPLATES
from edge_sdk.diffusion.stable_diffusion_xl import TextEncoderPair
from edge_sdk.diffusion.text import Text, TextEncoder
from edge_sdk.errors import EdgeSdkError
from edge_sdk.files import disk_errors, write_json
from edge_sdk.memory import release
from edge_sdk.models import Model, open_model
from edge_sdk.quantize import quantize
from export import onnx
from export.golden import Reference, golden_cases, measured_mu_min
from export.graphs import Networks
from export.weights import weights_of

SCHEMA_VERSION = 1
FORMATS = ("onnx",)


def export(
    model: str, output_dir: str | Path, format: str = "onnx", weights: str = "int8", resolution: int | None = None,
    seed: int = 0, notify: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:  # fmt: skip
    """Write a bundle; returns its manifest.

    The graphs are compared with PyTorch on the same weights while the golden vectors are made, and the smallest mu
    that they resolve is measured. A float model is first made an integer checkpoint, which is removed afterwards.

    Args:
        model: "pocket", a diffusers folder, an integer checkpoint, or a hub id.
        output_dir: a new folder, or an empty one.
        format: "onnx".
        weights: "int8", "int4" or "none".
        resolution: side of pictures in pixels; None for the model's own.
        seed: of the golden vectors' random inputs.

    Raises:
        EdgeSdkError: the model cannot be read or exported, or the folder holds something or cannot be written.
    """
    if format not in FORMATS:
        raise EdgeSdkError(f"format is {format!r}; it must be one of {', '.join(FORMATS)}")
    check_resolution(resolution)
    opened, folder = open_model(model, weights, "fused"), Path(output_dir)
    with _written_beside(folder) as new, _as_integers(opened, model, new) as source, disk_errors(folder):
        reference = Reference(source, resolution or source.resolution(), seed)
        networks = reference.networks
        notify(f"writing {len(networks.all())} graphs")
        weights_from = cache(lambda part: weights_of(source, part))
        graphs, tables = onnx.write(networks.all(), source.text_encoders, weights_from, new)
        for text in _encoders(reference.text):
            shutil.copytree(source.folder / text[0], new / text[0])
        notify("golden vectors by PyTorch")
        write_json(new / "golden.json", {"schema_version": SCHEMA_VERSION, "cases": golden_cases(reference)})
        manifest = _manifest(opened, networks, reference.text, format) | {"graphs": graphs}
        manifest["embedding"] = _embedding(reference.text, tables)
        release()
        notify("measuring the smallest mu that the graph resolves")
        manifest["mu_min"] = measured_mu_min(reference, new / graphs["zo_loss"]["file"])
        manifest["files"] = _files(new)
        write_json(new / "manifest.json", manifest)
    return manifest


@contextmanager
def _written_beside(folder: Path) -> Iterator[Path]:
    """A temporary folder beside ``folder``, which takes its place at the end; after an error nothing is left.

    Raises:
        EdgeSdkError: the folder holds something, or its place cannot be written, or the disk is full.
    """
    with disk_errors(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise EdgeSdkError(f"{folder} already exists and is not an empty folder; use another --output_dir")
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        new.mkdir()
        try:
            yield new
            os.replace(new, folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)


@contextmanager
def _as_integers(opened: Model, name: str, beside: Path) -> Iterator[Model]:
    """The model with its weights as they are to be exported: integers in files, or floats."""
    if opened.stored_as_integers or opened.weights == "none":
        yield replace(opened, residency="streamed" if opened.stored_as_integers else "resident")
        return
    checkpoint = beside / ".integers"
    try:
        quantize(name, checkpoint, opened.weights)
        yield open_model(str(checkpoint), opened.weights, "fused", "streamed")
    finally:
        shutil.rmtree(checkpoint, ignore_errors=True)


def _encoders(text: Text) -> list[tuple[str, TextEncoder]]:
    """Folders of the tokenizers, and the encoders."""
    if isinstance(text, TextEncoderPair):
        return [("tokenizer", text.first), ("tokenizer_2", text.second)]
    assert isinstance(text, TextEncoder)
    return [("tokenizer", text)]


def _manifest(model: Model, networks: Networks, text: Text, format: str) -> dict[str, Any]:
    """All but what depends on the written files."""
    schedule, kinds = networks.schedule, ("pocket",) if model.is_pocket else ("object", "style")
    a, b = networks.coefficients
    family = "pocket" if model.is_pocket else "stable-diffusion-xl" if networks.is_xl else "stable-diffusion"
    return {
        "schema_version": SCHEMA_VERSION,
        "created_by": f"edge-sdk {__version__}",
        "format": format,
        "model": {"name": model.name if model.is_pocket else model.folder.name, "sha256": model.fingerprint(),
                  "family": family},
        "weights": model.weights,
        "execution": onnx.EXECUTION[model.weights],
        "prediction_type": schedule.prediction_type,
        "resolution": networks.side,
        "latents": list(networks.latents),
        "vocabulary_std": text.vocabulary_std(),
        "initializer_token": "person" if model.is_pocket else None,
        "prompts": {kind: [_prompt(template, text) for template in TEMPLATES[kind]] for kind in kinds},
        "tokens": [
            {"bos": one.bos, "eos": one.eos, "pad": one.pad, "length": one.length, "folder": folder}
            for folder, one in _encoders(text)
        ],
        "scheduler": {
            "num_train_timesteps": schedule.num_train_timesteps,
            "a": a.reshape(-1).tolist(), "b": b.reshape(-1).tolist(),
            **{name: getattr(schedule, name) for name in
               ("timestep_spacing", "steps_offset", "set_alpha_to_one", "clip_sample", "clip_sample_range")},
        },
        "runtime": onnx.RUNTIME,
    }  # fmt: skip


def _prompt(template: str, text: Text) -> dict[str, Any]:
    before, after = template.split("{}")
    return {
        "text": template,
        "before": [one.words(before) for _, one in _encoders(text)],
        "after": [one.words(after) for _, one in _encoders(text)],
    }


def _embedding(text: Text, tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    low, high = (np.atleast_1d(bound).tolist() for bound in text.norm_range())
    first = np.cumsum([0, *text.widths])[:-1]
    scale = np.broadcast_to(text.scale, text.width)[first].tolist()
    return [
        {"width": one.width, "vocab_size": one.vocab_size, "scale": scale[i], "norm_range": [low[i], high[i]],
         "table": tables[i]}
        for i, (_, one) in enumerate(_encoders(text))
    ]  # fmt: skip


ROLES = {".onnx": "graph", ".bin": "weights"}


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    """Every file by its path below the folder, with bytes and sha256."""
    out = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and ".integers" not in path.parts):
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        role = "golden" if path.name == "golden.json" else ROLES.get(path.suffix, "tokenizer")
        out[path.relative_to(folder).as_posix()] = {"role": role, "bytes": path.stat().st_size, "sha256": digest}
    return out
