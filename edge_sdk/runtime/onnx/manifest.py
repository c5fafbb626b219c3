"""``manifest.json`` of a bundle: what must be in it, of which type. The entries are described in export/README.md."""

import re
from dataclasses import fields
from math import prod
from typing import Any

from edge_sdk.diffusion.ddim import PREDICTION_TYPES, SPACINGS
from edge_sdk.errors import EdgeSdkError
from edge_sdk.system import schema
from edge_sdk.system.schema import Either, Many, Maybe, Real, Whole
from edge_sdk.zo.config import ZoConfig

SCHEMA_VERSION = 3
FORMATS = ("onnx", "coreml")
TARGETS = {"qnn": "onnx", "ane": "coreml"}  # a processor that graphs are made for, and the format it belongs to
FAMILIES = ("pocket", "stable-diffusion", "stable-diffusion-xl")
AGAIN = "make the bundle again with edge-sdk export"

MOST_ELEMENTS = 1 << 26  # of a tensor that a graph takes or gives; pixels of the largest picture are 50 million
_ID, _NUMBER = Whole(0, 1 << 24), Real()
_SIZE = Either(Whole(1, MOST_ELEMENTS), str)  # a name stands for any size
_TENSORS = {str: {"shape": Many(_SIZE, 0, 8), "dtype": ("float32", "int64", "int32")}}
_FUNCTION = re.compile("[A-Za-z_][A-Za-z0-9_]{0,63}")  # of a Core ML package
_STEP = Whole(0, 100_000)
_KINDS: dict[Any, Any] = {str: str, int: Whole(0, 10**9), float: _NUMBER, bool: bool}  # of a preset's settings
_PRESET: dict[str, Any] = {one.name: _KINDS.get(one.type, Many(_STEP, 2, 2)) for one in fields(ZoConfig)}
_PRESET |= {"schema_version": Whole(1, 1000), "eval_draws": Whole(1, 65_536)}
_ENTRIES: dict[str, Any] = {
    "schema_version": Whole(1, SCHEMA_VERSION),
    "created_by": str,
    "format": FORMATS,
    "target": Maybe({"name": tuple(TARGETS), "rows": Whole(1, 4096), "vectors": Whole(1, 64)}),
    "model": {"name": str, "sha256": str, "family": FAMILIES},
    "weights": ("int8", "int4", "none"),
    "execution": str,
    "prediction_type": PREDICTION_TYPES,
    "resolution": Whole(8, 4096),
    "latents": Many(Whole(1, 4096)),
    "embedding": Many(
        {
            "width": Whole(1, 1 << 16),
            "vocab_size": Whole(1, 1 << 24),
            "scale": _NUMBER,
            "norm_range": Many(_NUMBER),
            "table": {"file": str, "offset": Whole(0, 1 << 48), "dtype": ("float16", "float32"), "shape": Many(_ID)},
        }
    ),
    "vocabulary_std": _NUMBER,
    "principal_directions": {
        "file": str,
        "count": Whole(0, 1 << 16),
        "width": Whole(1, 1 << 16),
        "variance_share": Maybe(Real(0, 1)),
    },
    "initializer_token": Either(str, None),
    "initializer_id": Either(Many(_ID), None),
    "initializers": {str: Many(_ID)},
    "presets": {"fast": _PRESET, "paper": _PRESET},
    "force_zeros_for_empty_prompt": Maybe(bool),
    "prompts": {str: Many({"text": str, "before": Many(Many(_ID)), "after": Many(Many(_ID))})},
    "tokens": Many({"bos": _ID, "eos": _ID, "pad": _ID, "length": Whole(3, 4096), "folder": str}),
    "scheduler": {
        "num_train_timesteps": Whole(1, 100_000),
        "a": Many(_NUMBER),
        "b": Many(_NUMBER),
        "timestep_spacing": SPACINGS,
        "steps_offset": Whole(0, 100_000),
        "clip_sample": bool,
        "clip_sample_range": _NUMBER,
        "set_alpha_to_one": bool,
    },
    "graphs": {str: {"file": str, "function": Maybe(str), "inputs": _TENSORS, "outputs": _TENSORS}},
    "runtime": {str: dict},
    "files": {str: {"role": str, "bytes": Whole(0, 1 << 48), "sha256": str}},
}


def check(manifest: Any, where: str) -> None:
    """Check version, entries, and that they fit each other.

    Args:
        where: the file's name, for the message.

    Raises:
        EdgeSdkError: one line naming the first entry that is missing or wrong.
    """
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise EdgeSdkError(f"{where} has schema version {version!r:.40}; this program reads {SCHEMA_VERSION}; {AGAIN}")
    try:
        schema.check(manifest, _ENTRIES)
        _check_sizes(manifest)
    except ValueError as error:
        raise EdgeSdkError(f"{where}: {error}; {AGAIN}") from error


def _check_sizes(manifest: dict[str, Any]) -> None:
    m, scheduler, principal = manifest, manifest["scheduler"], manifest["principal_directions"]
    steps = scheduler["num_train_timesteps"]
    conditions = {
        "latents must be three sizes, the last two of which divide the resolution": (
            len(m["latents"]) == 3 and m["resolution"] % m["latents"][1] == m["resolution"] % m["latents"][2] == 0
        ),
        "vocabulary_std must be above 0": m["vocabulary_std"] > 0,
        "principal_directions.count must be above 0, and width the sum of embedding's widths": (
            principal["count"] > 0 and principal["width"] == sum(one["width"] for one in m["embedding"])
        ),
        "scheduler.a and scheduler.b must have num_train_timesteps values": (
            len(scheduler["a"]) == len(scheduler["b"]) == steps
        ),
        "scheduler.steps_offset must be from 0 to below num_train_timesteps": scheduler["steps_offset"] < steps,
        "embedding and tokens must be lists of as many text encoders": (
            len(m["embedding"]) == len(m["tokens"]) == (2 if m["model"]["family"] == "stable-diffusion-xl" else 1)
        ),
        "a prompt's text must hold the placeholder's mark {}, and there must be a prompt": bool(m["prompts"])
        and all(each and all("{}" in prompt["text"] for prompt in each) for each in m["prompts"].values()),
    }
    sizes = [one["vocab_size"] for one in m["embedding"]]
    for name, ids in {**m["initializers"], "initializer_id": m["initializer_id"]}.items():
        conditions[f"{name:.40} must be a word's ids, one a text encoder"] = ids is None or (
            len(ids) == len(sizes)
            and all(type(one) is int and 0 <= one < size for one, size in zip(ids, sizes, strict=True))
        )
    for i, one in enumerate(m["embedding"]):
        low, high = one["norm_range"] if len(one["norm_range"]) == 2 else (0, -1)
        conditions |= {
            f"embedding.{i}.scale must be above 0": one["scale"] > 0,
            f"embedding.{i}.norm_range must be a least and a largest norm": 0 <= low <= high,
            f"embedding.{i}.table.shape must be vocab_size, width": (
                one["table"]["shape"] == [one["vocab_size"], one["width"]]
            ),
        }
    functions = [(graph["file"], graph.get("function", "main")) for graph in m["graphs"].values()]
    conditions["graphs of the format coreml must be functions that differ"] = m["format"] != "coreml" or len(
        set(functions)
    ) == len(functions)
    for name, graph in m["graphs"].items():
        conditions[f"graphs.{name}.function must be a name, and is for the format coreml only"] = (
            "function" not in graph or (m["format"] == "coreml" and bool(_FUNCTION.fullmatch(graph["function"])))
        )
        for tensor, entry in {**graph["inputs"], **graph["outputs"]}.items():
            size = prod(each for each in entry["shape"] if isinstance(each, int))
            conditions[f"graphs.{name}: {tensor} must have at most {MOST_ELEMENTS} values"] = size <= MOST_ELEMENTS
    if "target" in m:
        conditions |= _target_conditions(m["target"], m["format"], m["graphs"])
    for name, preset in m["presets"].items():
        _check_preset(name, preset)
        in_model = preset["timestep_range"][1] <= steps
        conditions[f"presets.{name}.timestep_range must end within num_train_timesteps"] = in_model
    for what, holds in conditions.items():
        if not holds:
            raise ValueError(what)


def _target_conditions(target: dict[str, Any], format: str, graphs: dict[str, Any]) -> dict[str, bool]:
    """What must hold of a bundle for one processor: its graphs have no free sizes."""
    name, rows, vectors = target["name"], target["rows"], target["vectors"]
    inputs = graphs.get("zo_loss", {}).get("inputs", {})
    timestep, learned = (inputs.get(each, {}).get("shape", []) for each in ("timestep", "learned"))
    sizes = [
        size
        for graph in graphs.values()
        for entry in (*graph["inputs"].values(), *graph["outputs"].values())
        for size in entry["shape"]
    ]
    return {
        f"target.name {name} is for the format {TARGETS[name]}": format == TARGETS[name],
        "graphs of a target must have numbers for sizes": not any(isinstance(size, str) for size in sizes),
        "target.rows must be the size of graphs.zo_loss.inputs.timestep": timestep == [rows],
        "target.vectors must be the vectors of a row of graphs.zo_loss.inputs.learned": (
            len(learned) > 1 and all(isinstance(size, int) for size in learned) and prod(learned[:-1]) == rows * vectors
        ),
    }


def _check_preset(name: str, preset: dict[str, Any]) -> None:
    if len(preset["timestep_range"]) != 2:
        raise ValueError(f"presets.{name}.timestep_range must be two timesteps")
    try:
        preset_of(preset)
    except ValueError as error:
        raise ValueError(f"presets.{name}: {error}") from error


def preset_of(entry: dict[str, Any]) -> ZoConfig:
    """A preset of the manifest as the optimizer's settings; raises ValueError for a value out of range."""
    return ZoConfig.from_dict({name: value for name, value in entry.items() if name != "eval_draws"})
