"""Which files hold the weights of a part: whole or in shards, as they are or of another precision.

diffusers and transformers name a precision by a variant, as in ``model.fp16.safetensors``. Plain files come first.
Other variants, such as ``non_ema``, are other weights; they are not taken.
"""

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.json import read_json

STEMS = ("diffusion_pytorch_model", "model")
WEIGHT_FILES = tuple(f"{stem}.safetensors" for stem in STEMS)
VARIANTS = ("", "fp16", "fp32", "bf16")  # "" is the plain one
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_INDEX = re.compile(r"\.safetensors(\.\w+)?\.index(\.\w+)?\.json")
_AGAIN = "download the model again"


def file_names(variant: str) -> Iterator[str]:
    """Names that the weights of a variant may have, the first one first: of the file, or of the index of its shards."""
    for stem in STEMS:
        if not variant:
            yield from (f"{stem}.safetensors", f"{stem}.safetensors.index.json")
            continue
        yield f"{stem}.{variant}.safetensors"
        yield f"{stem}.safetensors.index.{variant}.json"
        yield f"{stem}.{variant}.safetensors.index.json"
        yield f"{stem}.safetensors.{variant}.index.json"


def patterns(variant: str) -> list[str]:
    """Patterns of all files of a variant, shards included, as `fnmatch` has them."""
    shards = [f"{stem}{mark}.safetensors" for stem in STEMS for mark in _shard_marks(variant)]
    return [*file_names(variant), *shards]


def _shard_marks(variant: str) -> tuple[str, ...]:
    number = "-?????-of-?????"
    return (f".{variant}{number}", f"{number}.{variant}") if variant else (number,)


def chosen_name(names: Collection[str]) -> str | None:
    """Of the files of a part the one that its weights are read by: a file of weights, or the index of shards."""
    return next((name for variant in VARIANTS for name in file_names(variant) if name in names), None)


def is_index(name: str) -> bool:
    """Whether this is the name of an index of shards."""
    return bool(_INDEX.search(name))


def chosen_file(folder: Path) -> Path:
    """The file of a part that its weights are read by, or the index of their shards.

    Raises:
        EdgeSdkError: there is none; if there are pickles and nothing else, the message says how to convert.
    """
    names = sorted(entry.name for entry in folder.iterdir() if entry.exists())
    name = chosen_name(names)
    if name is not None:
        return folder / name
    expected = " or ".join(WEIGHT_FILES)
    if others := [each for each in names if each.endswith(".safetensors")]:
        raise EdgeSdkError(
            f"{folder} has no safetensors weights of a known name, only {others[0]}; if these are the part's weights, "
            f"name the file {expected}"
        )
    if pickles := [each for each in names if each.endswith(PICKLE_SUFFIXES)]:
        raise EdgeSdkError(
            f"{folder / pickles[0]} is a pickle, which can run any program and is never opened; convert the model to "
            "safetensors (diffusers: pipeline.save_pretrained(folder, safe_serialization=True))"
        )
    raise EdgeSdkError(f"{folder} has no safetensors weights; expected {expected}")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of one part, sharded or not.

    Raises:
        EdgeSdkError: see `chosen_file`; or an index names no shards, or one that is not there.
    """
    chosen = chosen_file(folder)
    if not is_index(chosen.name):
        return [chosen]
    index = read_json(chosen, _AGAIN).get("weight_map")
    shards = list(index.values()) if isinstance(index, dict) else []
    if not shards or not all(isinstance(shard, str) for shard in shards):
        raise EdgeSdkError(f"{chosen} lists no weight files; {_AGAIN}")
    files = [folder / shard for shard in sorted(set(shards))]
    if bad := [file for file in files if file.parent != folder or not file.is_file()]:
        raise EdgeSdkError(f"{bad[0]} is named in {chosen.name} but is not a file in its folder; {_AGAIN}")
    return files
