"""A float model folder to an integer checkpoint: what a provider makes once and an app ships."""

from pathlib import Path
from typing import Any

from edge_sdk.diffusion.folder import INTEGER_MARK, INTEGER_SCHEMA, copy_data, tokenizers
from edge_sdk.errors import EdgeSdkError
from edge_sdk.runtime.pytorch.model import VAE_WEIGHTS, open_model
from edge_sdk.system.files import RunLock, check_output_dir, disk_errors, write_bytes, write_json
from edge_sdk.system.memory import release


def quantize(model: str, output_dir: str | Path, weights: str = "int8") -> dict[str, Any]:
    """Write an integer checkpoint, one part after the other; returns what ``integer_checkpoint.json`` holds.

    The folder has the layout of a diffusers folder; each part holds ``integer_model.safetensors`` with the integer
    weights, their scales, norms and biases, and the embedding table in float16. The VAE is always int8. Weights are
    read, quantized and written a layer at a time: no more than one layer is ever in memory.

    Args:
        weights: "int8" or "int4".

    Raises:
        EdgeSdkError: the model cannot be read, or the folder holds something already or cannot be written.
    """
    if weights not in ("int8", "int4"):
        raise EdgeSdkError(f"weights is {weights!r}; it must be int8 or int4")
    source, folder = open_model(model, weights, from_floats=True), Path(output_dir)
    if source.stored_as_integers:
        raise EdgeSdkError(f"{model} holds {source.weights} weights already; give the float model")
    record: dict[str, Any] = {
        "schema_version": INTEGER_SCHEMA,
        "weights": weights,
        "vae_weights": VAE_WEIGHTS,
        "source_sha256": source.fingerprint(),
        "integer_weights": 0,
        "bytes": 0,
    }
    from edge_sdk.quantization import integer_layers, save_component

    parts = {part: source.source(part) for part in source.parts}
    with RunLock(folder):
        check_output_dir(folder, run_files=("model_index.json", INTEGER_MARK))
        for part, read in parts.items():
            with disk_errors(folder / part):
                (folder / part).mkdir(exist_ok=True)
            module = source.shapes(part)
            path = save_component(module, read, folder / part, source.weights_of(part), record["source_sha256"])
            record["integer_weights"] += sum(layer.elements for layer in integer_layers(module).values())
            record["bytes"] += path.stat().st_size
            write_bytes(folder / part / "config.json", (source.folder / part / "config.json").read_bytes())
            release()
        for name in (*tokenizers(source.folder), "scheduler"):
            with disk_errors(folder / name):
                copy_data(source.folder / name, folder / name)
        write_json(folder / INTEGER_MARK, record)
        write_bytes(folder / "model_index.json", (source.folder / "model_index.json").read_bytes())
    return record
