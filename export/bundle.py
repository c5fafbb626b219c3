"""Writing a bundle: graphs, weights, tokenizers, golden vectors and the manifest, whole or not at all.

What a bundle holds is described in ``export/README.md``.
"""

import hashlib
import importlib
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_sdk._version import __version__
from edge_sdk.config import SEARCH_BASES, check_resolution, check_seed, one_of
from edge_sdk.diffusion.folder import copy_data
from edge_sdk.diffusion.prompts import TEMPLATES
from edge_sdk.errors import EdgeSdkError, require
from edge_sdk.export.golden import Reference, golden_cases
from edge_sdk.export.graphs import Graph, default_rows
from edge_sdk.export.presets import initializers, measured_presets
from edge_sdk.export.weights import Weights, weights_of
from edge_sdk.integer_checkpoint import quantize
from edge_sdk.option_types import PredictionType
from edge_sdk.runtime.onnx.manifest import SCHEMA_VERSION, TARGETS
from edge_sdk.runtime.pytorch.model import Model, open_model
from edge_sdk.runtime.pytorch.text import Text, TextEncoder
from edge_sdk.runtime.pytorch.text_xl import TextEncoderPair
from edge_sdk.system.files import (
    SHIPPED,
    disk_errors,
    free_place,
    make_folder,
    remove_leftovers,
    whole_folder,
    write_json,
)
from edge_sdk.system.memory import release
from edge_sdk.system.paths import expanded

if TYPE_CHECKING:
    from edge_sdk.export.onnx.rounding import Recipe

GOLDEN_SCHEMA = 1  # of golden.json
PRINCIPAL = "principal_directions.f32"
FORMATS = {"onnx": ("torch", "onnx"), "coreml": ("coreml", "coremltools")}  # the extra and package that write one
PRECISIONS = ("mixed", "float32")
WRITTEN = ("qnn", "ane")  # targets that can be exported for


def export(
    model: str,
    output_dir: str | Path,
    format: str | None = None,
    weights: str = "int8",
    resolution: int | None = None,
    seed: int = 0,
    precision: str | None = None,
    num_vectors: int | None = None,
    notify: Callable[[str], None] = lambda message: None,
    prediction_type: PredictionType | None = None,
    search_basis: str | None = None,
    target: str | None = None,
    rows: int | None = None,
    recipe: "Recipe | None" = None,
) -> dict[str, Any]:
    """Write a bundle; returns its manifest.

    The graphs are compared with PyTorch on the same weights while the golden vectors are made, and the smallest mu
    that they resolve is measured. A float model is first made an integer checkpoint, which is removed afterwards. A
    bundle is made to be shipped: who may read it is what the umask says.

    Args:
        model: "pocket", a diffusers folder, a single-file checkpoint, an integer checkpoint, or a hub id.
        output_dir: a new folder, or an empty one.
        format: "onnx" or "coreml"; None for the target's, or "onnx".
        weights: "int8", "int4" or "none".
        resolution: side of pictures in pixels; None for the model's own.
        seed: of the golden vectors' random inputs.
        precision: Core ML only, "mixed" (the default: products in float16) or "float32"; a target has its own.
        num_vectors: Core ML and targets only, vectors of a token (default 1); other graphs take any number.
        prediction_type: of a single-file checkpoint, see `edge_sdk.runtime.pytorch.model.open_model`.
        search_basis: what directions the bundle gets, see `edge_sdk.config.PersonalizeConfig`.
        target: "qnn" for graphs for Qualcomm's processor, "ane" for Apple's Neural Engine; None for any that the
            runtime has.
        recipe: how the activations of the target qnn are rounded, for experiments.
        rows: of a call of a target's `zo_loss` (default 33, 11, 3 or 1, by the size of the latents).

    Raises:
        EdgeSdkError: a setting out of range, the model cannot be read or exported, or the folder holds something or
            cannot be written.
    """
    format = format or TARGETS.get(target or "", "onnx")
    writer, settings = _writer(format, target), _settings(format, precision, num_vectors, target, rows, weights)
    check_resolution(resolution)
    check_seed(seed)
    if search_basis is not None:
        one_of("search_basis", search_basis, SEARCH_BASES)
    opened = open_model(model, weights, "fused", prediction_type=prediction_type)
    if target == "qnn" and opened.is_xl:
        raise EdgeSdkError("the target qnn is for models with one text encoder; export SDXL without --target")
    folder, again = expanded(output_dir), partial(quantize, model, prediction_type=prediction_type)
    with _new_bundle(folder) as new, _as_integers(opened, again, new) as source, disk_errors(folder):
        reference = Reference(source, resolution or source.resolution(), seed, settings.get("vectors", 1), search_basis)
        weights_from = cache(lambda part: weights_of(source, part))
        described = reference.networks.all()
        if target == "qnn":
            described, settings = _for_qnn(reference, weights_from, rows, recipe, notify)
        elif target == "ane":
            reference.rows = settings["rows"] = rows or default_rows(reference.networks.latents)
        notify(f"writing {len(described)} graphs")
        graphs, tables = writer.write(described, source.text_encoders, weights_from, new, **settings)
        for text in _encoders(reference.text):
            copy_data(source.folder / text[0], new / text[0])
        notify("golden vectors by PyTorch")
        bounds = writer.BOUNDS.get(settings.get("precision"), writer.BOUNDS)
        write_json(
            new / "golden.json", {"schema_version": GOLDEN_SCHEMA, "cases": golden_cases(reference, bounds, graphs)}
        )
        manifest = _manifest(opened, reference, format) | {"graphs": graphs}
        if target is not None:
            manifest["target"] = {"name": target, "rows": reference.rows, "vectors": reference.vectors}
        manifest |= {"execution": writer.EXECUTION, "runtime": writer.RUNTIME}
        manifest |= {name: value for name, value in settings.items() if name == "precision"}
        manifest["embedding"] = _embedding(reference.text, tables)
        reference.searched.astype("<f4").tofile(new / PRINCIPAL)
        count, width = reference.searched.shape
        share = min(1.0, reference.text.variance_share(reference.searched))
        manifest["principal_directions"] = {
            "file": PRINCIPAL,
            "count": count,
            "width": width,
            "variance_share": share,
        }
        release()
        notify("measuring the smallest mu that the graph resolves")
        floor, presets = measured_presets(reference, writer.function(new, graphs["zo_loss"]))
        manifest |= {"mu_min": floor if math.isfinite(floor) else None, "presets": presets}
        manifest["files"] = _files(new)
        write_json(new / "manifest.json", manifest)
    return manifest


def _writer(format: str, target: str | None) -> ModuleType:
    """What writes graphs of a format or for a target: modules that have the same functions."""
    one_of("format", format, tuple(FORMATS))
    if target is not None:
        one_of("target", target, WRITTEN)
        if TARGETS[target] != format:
            raise EdgeSdkError(
                f"target {target} is for format {TARGETS[target]}, and format is {format}; leave out one"
            )
    require(f"format {format}", *FORMATS[format])
    return importlib.import_module(f"edge_sdk.export.{format}.{target or 'writer'}")


def _settings(
    format: str, precision: str | None, num_vectors: int | None, target: str | None, rows: int | None, weights: str
) -> dict[str, Any]:
    """What only graphs of fixed sizes have to be told."""
    if target is None and rows is not None:
        raise EdgeSdkError("rows is for a target only; leave it out, or give a --target")
    if rows is not None and not 1 <= rows <= 256:
        raise EdgeSdkError(f"rows is {rows}; it must be from 1 to 256")
    if num_vectors is not None and not 1 <= num_vectors <= 64:
        raise EdgeSdkError(f"num_vectors is {num_vectors}; it must be from 1 to 64")
    if target == "qnn":
        if precision is not None:
            raise EdgeSdkError("precision is for format coreml only; leave it out for target qnn")
        if weights != "int8":
            raise EdgeSdkError(f"weights is {weights!r}; the target qnn takes int8")
        return {"vectors": num_vectors or 1}
    if target == "ane":
        if precision is not None:
            raise EdgeSdkError("precision is float16 for target ane; leave it out")
        return {"precision": "float16", "vectors": num_vectors or 1}
    if format == "coreml":
        one_of("precision", precision or "mixed", PRECISIONS)
        return {"precision": precision or "mixed", "vectors": num_vectors or 1}
    for name, value in (("precision", precision), ("num_vectors", num_vectors)):
        if value is not None:
            raise EdgeSdkError(f"{name} is for format coreml only; leave it out for {format}")
    return {}


def _for_qnn(
    reference: Reference,
    weights: Callable[[str], Weights],
    rows: int | None,
    recipe: "Recipe | None",
    notify: Callable[[str], None],
) -> tuple[dict[str, Graph], dict[str, Any]]:
    """The graphs with fixed sizes, and the ranges of their activations."""
    from edge_sdk.export.onnx import calibration, qnn

    reference.rows = rows or default_rows(reference.networks.latents)
    graphs = qnn.fixed(reference.networks, reference.rows, reference.vectors)
    notify("generating samples to calibrate with")
    samples = calibration.Samples(reference)
    notify(f"calibrating the scales of {len(graphs)} graphs")
    recipe = recipe or qnn.STANDARD
    return graphs, {
        "ranges": calibration.calibrate(reference, graphs, weights, samples, recipe=recipe),
        "recipe": recipe,
    }


@contextmanager
def _new_bundle(folder: Path) -> Iterator[Path]:
    """A temporary folder beside ``folder``, which takes its place at the end; after an error nothing is left.

    Raises:
        EdgeSdkError: the folder holds something, or its place cannot be written, or the disk is full.
    """
    with disk_errors(folder):
        remove_leftovers(folder.resolve().parent, folder.resolve().name)
        place = free_place(folder, "output_dir")
        make_folder(place.parent, SHIPPED)
        with whole_folder(place, SHIPPED) as new:
            yield new


@contextmanager
def _as_integers(opened: Model, make: Callable[..., Any], beside: Path) -> Iterator[Model]:
    """The model with its weights as they are to be exported: integers in files, which ``make`` writes, or floats."""
    if opened.stored_as_integers or opened.weights == "none":
        yield replace(opened, residency="streamed" if opened.stored_as_integers else "resident")
        return
    checkpoint = beside / ".integers"
    try:
        make(output_dir=checkpoint, weights=opened.weights)
        yield open_model(str(checkpoint), opened.weights, "fused", "streamed")
    finally:
        shutil.rmtree(checkpoint, ignore_errors=True)


def _encoders(text: Text) -> list[tuple[str, TextEncoder]]:
    """Folders of the tokenizers, and the encoders."""
    if isinstance(text, TextEncoderPair):
        return [("tokenizer", text.first), ("tokenizer_2", text.second)]
    assert isinstance(text, TextEncoder)
    return [("tokenizer", text)]


def _manifest(model: Model, reference: Reference, format: str) -> dict[str, Any]:
    """All but what depends on the written files."""
    networks, text = reference.networks, reference.text
    schedule, kinds = networks.schedule, ("pocket",) if model.is_pocket else ("object", "style")
    a, b = networks.coefficients
    word, words = ("person" if model.is_pocket else None), initializers([one for _, one in _encoders(text)])
    family = "pocket" if model.is_pocket else "stable-diffusion-xl" if networks.is_xl else "stable-diffusion"
    return {
        "schema_version": SCHEMA_VERSION,
        "created_by": f"edge-sdk {__version__}",
        "format": format,
        "model": {
            "name": model.name if model.is_pocket else model.folder.name,
            "sha256": model.fingerprint(),
            "family": family,
        },
        "weights": model.weights,
        "prediction_type": schedule.prediction_type,
        "resolution": networks.side,
        "latents": list(networks.latents),
        "vocabulary_std": reference.std,
        "initializer_token": word,
        "initializer_id": None if word is None else words[word],
        "initializers": words,
        **({"force_zeros_for_empty_prompt": text.zero_negative} if isinstance(text, TextEncoderPair) else {}),
        "prompts": {kind: [_prompt(template, text) for template in TEMPLATES[kind]] for kind in kinds},
        "tokens": [
            {"bos": one.bos, "eos": one.eos, "pad": one.pad, "length": one.length, "folder": folder}
            for folder, one in _encoders(text)
        ],
        "scheduler": {
            "num_train_timesteps": schedule.num_train_timesteps,
            "a": a.reshape(-1).tolist(),
            "b": b.reshape(-1).tolist(),
            **{
                name: getattr(schedule, name)
                for name in ("timestep_spacing", "steps_offset", "set_alpha_to_one", "clip_sample", "clip_sample_range")
            },
        },
    }


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
        {
            "width": one.width,
            "vocab_size": one.vocab_size,
            "scale": scale[i],
            "norm_range": [low[i], high[i]],
            "table": tables[i],
        }
        for i, (_, one) in enumerate(_encoders(text))
    ]


ROLES = {".onnx": "graph", ".mlmodel": "graph", ".bin": "weights", ".f32": "directions"}


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    """Every file by its path below the folder, with bytes and sha256."""
    out = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and ".integers" not in path.parts):
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        default = "graph" if path.parent.suffix == ".mlpackage" else "tokenizer"
        role = "golden" if path.name == "golden.json" else ROLES.get(path.suffix, default)
        out[path.relative_to(folder).as_posix()] = {"role": role, "bytes": path.stat().st_size, "sha256": digest}
    return out
