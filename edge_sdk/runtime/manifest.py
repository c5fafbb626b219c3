"""``manifest.json`` of a bundle: what must be in it, of which type. The entries are described in export/README.md."""

from math import prod
from typing import Any

from edge_sdk.ddim import PREDICTION_TYPES, SPACINGS
from edge_sdk.errors import EdgeSdkError
from edge_sdk.system import schema
from edge_sdk.system.schema import Either, Many, Maybe, Real, Whole

SCHEMA_VERSION = 2
FORMATS = ("onnx", "coreml")
FAMILIES = ("pocket", "stable-diffusion", "stable-diffusion-xl")
AGAIN = "make the bundle again with edge-sdk export"

MOST_ELEMENTS = 1 << 26  # of a tensor that a graph takes or gives; pixels of the largest picture are 50 million
_ID, _NUMBER = Whole(0, 1 << 24), Real()
_SIZE = Either(Whole(1, MOST_ELEMENTS), str)  # a name stands for any size
_TENSORS = {str: {"shape": Many(_SIZE, 0, 8), "dtype": ("float32", "int64", "int32")}}
_ENTRIES: dict[str, Any] = {
    "schema_version": Whole(1, SCHEMA_VERSION),
    "created_by": str,
    "format": FORMATS,
    "model": {"name": str, "sha256": str, "family": FAMILIES},
    "weights": ("int8", "int4", "none"),
    "execution": str,
    "prediction_type": PREDICTION_TYPES,
    "resolution": Whole(8, 4096),
    "latents": Many(Whole(1, 4096)),
    "embedding": Many(
        {
            "width": Whole(1, 1 << 16), "vocab_size": Whole(1, 1 << 24), "scale": _NUMBER, "norm_range": Many(_NUMBER),
            "table": {"file": str, "offset": Whole(0, 1 << 48), "dtype": ("float16", "float32"), "shape": Many(_ID)},
        }
    ),
    "vocabulary_std": _NUMBER,
    "principal_directions": {"file": str, "count": Whole(0, 1 << 16), "width": Whole(1, 1 << 16)},
    "initializer_token": Either(str, None),
    "force_zeros_for_empty_prompt": Maybe(bool),
    "prompts": {str: Many({"text": str, "before": Many(Many(_ID)), "after": Many(Many(_ID))})},
    "tokens": Many({"bos": _ID, "eos": _ID, "pad": _ID, "length": Whole(3, 4096), "folder": str}),
    "scheduler": {
        "num_train_timesteps": Whole(1, 100_000), "a": Many(_NUMBER), "b": Many(_NUMBER),
        "timestep_spacing": SPACINGS, "steps_offset": Whole(0, 100_000), "clip_sample": bool,
        "clip_sample_range": _NUMBER, "set_alpha_to_one": bool,
    },
    "graphs": {str: {"file": str, "inputs": _TENSORS, "outputs": _TENSORS}},
    "runtime": {str: dict},
    "files": {str: {"role": str, "bytes": Whole(0, 1 << 48), "sha256": str}},
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
    for i, one in enumerate(m["embedding"]):
        low, high = one["norm_range"] if len(one["norm_range"]) == 2 else (0, -1)
        conditions |= {
            f"embedding.{i}.scale must be above 0": one["scale"] > 0,
            f"embedding.{i}.norm_range must be a least and a largest norm": 0 <= low <= high,
            f"embedding.{i}.table.shape must be vocab_size, width": (
                one["table"]["shape"] == [one["vocab_size"], one["width"]]
            ),
        }
    for name, graph in m["graphs"].items():
        for tensor, entry in {**graph["inputs"], **graph["outputs"]}.items():
            size = prod(each for each in entry["shape"] if isinstance(each, int))
            conditions[f"graphs.{name}: {tensor} must have at most {MOST_ELEMENTS} values"] = size <= MOST_ELEMENTS
    for what, holds in conditions.items():
        if not holds:
            raise ValueError(what)
