"""``manifest.json`` of a bundle: what must be in it, of which type. The entries are described in export/README.md."""

import math
from dataclasses import fields
from typing import Any

from edge_sdk.ddim import PREDICTION_TYPES, SPACINGS
from edge_sdk.errors import EdgeSdkError
from edge_sdk.zo.config import ZoConfig

SCHEMA_VERSION = 3
FORMATS = ("onnx", "coreml")
FAMILIES = ("pocket", "stable-diffusion", "stable-diffusion-xl")
AGAIN = "make the bundle again with edge-sdk export"

# A dict lists entries by name ({str: kind}: any names), a list is of one kind, a tuple lists the accepted values.
_TENSORS = {str: {"shape": [int | str], "dtype": ("float32", "int64", "int32")}}
_KINDS = {str: str, int: int, float: float, bool: bool}  # of a preset's settings; a range is a list of integers
_PRESET: dict[str, Any] = {one.name: _KINDS.get(one.type, [int]) for one in fields(ZoConfig)}  # type: ignore[arg-type]
_PRESET |= {"schema_version": int, "eval_draws": int}
_ENTRIES: dict[str, Any] = {
    "schema_version": int,
    "created_by": str,
    "format": FORMATS,
    "model": {"name": str, "sha256": str, "family": FAMILIES},
    "weights": ("int8", "int4", "none"),
    "execution": str,
    "prediction_type": PREDICTION_TYPES,
    "resolution": int,
    "latents": [int],
    "embedding": [
        {
            "width": int, "vocab_size": int, "scale": float, "norm_range": [float],
            "table": {"file": str, "offset": int, "dtype": ("float16", "float32"), "shape": [int]},
        }
    ],
    "vocabulary_std": float,
    "principal_directions": {"file": str, "count": int, "width": int},
    "initializer_token": str | None,
    "initializer_id": list | None,
    "initializers": {str: [int]},
    "presets": {"fast": _PRESET, "paper": _PRESET},
    "prompts": {str: [{"text": str, "before": [[int]], "after": [[int]]}]},
    "tokens": [{"bos": int, "eos": int, "pad": int, "length": int, "folder": str}],
    "scheduler": {
        "num_train_timesteps": int, "a": [float], "b": [float], "timestep_spacing": SPACINGS, "steps_offset": int,
        "clip_sample": bool, "clip_sample_range": float, "set_alpha_to_one": bool,
    },
    "graphs": {str: {"file": str, "inputs": _TENSORS, "outputs": _TENSORS}},
    "runtime": {str: {}},
    "files": {str: {"role": str, "bytes": int, "sha256": str}},
}  # fmt: skip


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
        _check(manifest, _ENTRIES, "")
        _check_sizes(manifest)
    except ValueError as error:
        raise EdgeSdkError(f"{where}: {error}; {AGAIN}") from error


def _check(value: Any, kind: Any, name: str) -> None:
    if isinstance(kind, dict):
        _check(value, dict, name)
        kinds = dict.fromkeys(value, kind[str]) if str in kind else kind
        for key, inner in kinds.items():
            if key not in value:
                raise ValueError(f"{name}{key} is missing")
            _check(value[key], inner, f"{name}{key}.")
    elif isinstance(kind, list):
        _check(value, list, name)
        for i, each in enumerate(value):
            _check(each, kind[0], f"{name}{i}.")
    elif isinstance(kind, tuple):
        if value not in kind:
            raise ValueError(f"{name[:-1]} is {value!r:.40}, not one of {', '.join(kind)}")
    elif kind is float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name[:-1]} is {value!r:.40}, not a finite number")
    elif not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        named = ((dict, "an object"), (list, "a list"), (list | None, "a list or null"), (int, "an integer"))
        wanted = next((text for one, text in (*named, (bool, "true or false")) if one == kind), "a text")
        raise ValueError(f"{name[:-1] or 'the whole'} is {value!r:.40}, not {wanted}")


def _check_sizes(manifest: dict[str, Any]) -> None:
    m, scheduler, principal = manifest, manifest["scheduler"], manifest["principal_directions"]
    steps = scheduler["num_train_timesteps"]
    conditions = {
        "resolution must be above 0": m["resolution"] > 0,
        "latents must be three sizes": len(m["latents"]) == 3 and min(m["latents"]) > 0,
        "vocabulary_std must be above 0": m["vocabulary_std"] > 0,
        "principal_directions.count must be above 0, and width the sum of embedding's widths": (
            principal["count"] > 0 and principal["width"] == sum(one["width"] for one in m["embedding"])
        ),
        "scheduler.a and scheduler.b must have num_train_timesteps values": (
            steps > 0 and len(scheduler["a"]) == len(scheduler["b"]) == steps
        ),
        "scheduler.steps_offset must be from 0 to below num_train_timesteps": 0 <= scheduler["steps_offset"] < steps,
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
            f"embedding.{i}.width and vocab_size must be above 0": min(one["width"], one["vocab_size"]) > 0,
            f"embedding.{i}.scale must be above 0": one["scale"] > 0,
            f"embedding.{i}.norm_range must be a least and a largest norm": 0 <= low <= high,
            f"embedding.{i}.table.shape must be vocab_size, width": (
                one["table"]["shape"] == [one["vocab_size"], one["width"]] and one["table"]["offset"] >= 0
            ),
        }
    for name, preset in m["presets"].items():
        _check_preset(name, preset)
        conditions |= {
            f"presets.{name}.timestep_range must end within num_train_timesteps": preset["timestep_range"][1] <= steps,
            f"presets.{name}.eval_draws must be from 1 to 65536": 1 <= preset["eval_draws"] <= 65_536,
        }
    for what, holds in conditions.items():
        if not holds:
            raise ValueError(what)


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
