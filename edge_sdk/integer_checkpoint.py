"""A float model folder to an integer checkpoint: what a provider makes once and an app ships."""

import os
import shutil
from pathlib import Path
from typing import Literal, TypedDict

from edge_sdk.diffusion.folder import INTEGER_MARK, INTEGER_SCHEMA, XL_PARTS, copy_data, tokenizers
from edge_sdk.errors import EdgeSdkError
from edge_sdk.option_types import PredictionType
from edge_sdk.runtime.pytorch.model import VAE_WEIGHTS, open_model
from edge_sdk.system.files import (
    SHIPPED,
    RunLock,
    check_output_dir,
    disk_errors,
    staging,
    sync,
    sync_all,
    write_bytes,
    write_json,
)
from edge_sdk.system.memory import release
from edge_sdk.system.paths import expanded

INDEX = "model_index.json"  # the last file of a checkpoint
BESIDE = ("tokenizer", "tokenizer_2", "scheduler")  # folders of a checkpoint beside its parts


class QuantizeRecord(TypedDict):
    """What ``integer_checkpoint.json`` holds."""

    schema_version: int
    weights: str
    vae_weights: str
    source_sha256: str  # identifies the float model
    integer_weights: int  # how many
    bytes: int  # of the parts


def quantize(
    model: str,
    output_dir: str | Path,
    weights: Literal["int8", "int4"] = "int8",
    prediction_type: PredictionType | None = None,
) -> QuantizeRecord:
    """Write an integer checkpoint, one part after the other; returns what ``integer_checkpoint.json`` holds.

    The folder has the layout of a diffusers folder; each part holds ``integer_model.safetensors`` with the integer
    weights, their scales, norms and biases, and the embedding table in float16. The VAE is always int8. Weights are
    read, quantized and written a layer at a time: no more than one layer is ever in memory. Everything is put together
    in a temporary folder inside and then moved into place, ``model_index.json`` last. The checkpoint is made to be
    shipped: who may read it is what the umask says.

    Args:
        weights: "int8" or "int4".
        prediction_type: of a single-file checkpoint, see `edge_sdk.runtime.pytorch.model.open_model`.

    Raises:
        EdgeSdkError: the model cannot be read, or the folder holds something already or cannot be written.
    """
    if weights not in ("int8", "int4"):
        raise EdgeSdkError(f"weights is {weights!r}; it must be int8 or int4")
    source = open_model(model, weights, from_floats=True, prediction_type=prediction_type)
    folder = expanded(output_dir)
    if source.stored_as_integers:
        raise EdgeSdkError(f"{model} holds {source.weights} weights already; give the float model")
    record: QuantizeRecord = {
        "schema_version": INTEGER_SCHEMA,
        "weights": weights,
        "vae_weights": VAE_WEIGHTS,
        "source_sha256": source.fingerprint(),
        "integer_weights": 0,
        "bytes": 0,
    }
    from edge_sdk.quantization import integer_layers, save_component

    parts, others = {part: source.source(part) for part in source.parts}, (*tokenizers(source.folder), "scheduler")
    with RunLock(folder, SHIPPED), disk_errors(folder):
        _remove_unfinished(folder)
        check_output_dir(folder, run_files=(INDEX, INTEGER_MARK))
        with staging(folder) as new:
            for part, read in parts.items():
                (new / part).mkdir()
                module = source.shapes(part)
                path = save_component(module, read, new / part, source.weights_of(part), record["source_sha256"])
                record["integer_weights"] += sum(layer.elements for layer in integer_layers(module).values())
                record["bytes"] += path.stat().st_size
                write_bytes(new / part / "config.json", (source.folder / part / "config.json").read_bytes(), SHIPPED)
                release()
            for name in others:
                copy_data(source.folder / name, new / name)
            write_json(new / INTEGER_MARK, record, SHIPPED)
            write_bytes(new / INDEX, (source.folder / INDEX).read_bytes(), SHIPPED)
            sync_all(new)
            for name in (*parts, *others, INTEGER_MARK, INDEX):
                os.replace(new / name, folder / name)
            sync(folder)
    return record


def _remove_unfinished(folder: Path) -> None:
    """Remove what a killed run has left: parts of a checkpoint, or their temporary files, without an index."""
    from edge_sdk.quantization.checkpoint import FILE_NAME

    parts = [folder / part for part in XL_PARTS]
    begun = any((part / FILE_NAME).exists() or any(part.glob(f".{FILE_NAME}.*.tmp")) for part in parts)
    if begun and not (folder / INDEX).exists():
        for path in (*parts, *(folder / name for name in BESIDE)):
            shutil.rmtree(path, ignore_errors=True)
        (folder / INTEGER_MARK).unlink(missing_ok=True)
