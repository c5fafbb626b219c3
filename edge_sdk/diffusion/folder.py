"""What may be opened as a model: folders of JSON and safetensors. Only numpy is needed; nothing is executed."""

import hashlib
import json
import logging
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk import pocket
from edge_sdk.diffusion.components import (
    FLOATS,
    PART_CLASSES,
    PARTS,
    SUPPORTED,
    XL_PARTS,
    check_parts,
    checked_config,
    parts,
    tokenizers,
)
from edge_sdk.diffusion.configs import read_config
from edge_sdk.diffusion.pipeline import (
    INDEX,
    STABLE_DIFFUSION,
    STABLE_DIFFUSION_XL,
    check_component,
    check_pipeline,
    component_class,
)
from edge_sdk.diffusion.schedulers import CLASSES, check_last_step, scheduler_entries
from edge_sdk.diffusion.single_file import MODEL_FILES, refuse_file
from edge_sdk.diffusion.weight_files import VARIANTS, chosen_name, patterns
from edge_sdk.errors import EdgeSdkError, one_line
from edge_sdk.system import digest_cache, privacy
from edge_sdk.system.inputs import check_folder
from edge_sdk.system.json import read_json
from edge_sdk.system.paths import expanded, is_leftover
from edge_sdk.system.safetensors import data_start, read_header
from edge_sdk.system.schema import shorten

INTEGER_MARK = "integer_checkpoint.json"
INTEGER_SCHEMA = 1
AGAIN = "download the model again"
HUB = "hub:"  # before a hub id
HUB_ID = re.compile(r"[a-z0-9][\w.-]*/[\w][\w.-]*", re.ASCII | re.IGNORECASE)
NO_OWNERS = ("models", "datasets", "spaces")  # of the hub's own addresses; a path more likely than an id
DATA = (".json", ".txt", ".model")
CHUNK = 1 << 24  # bytes looked at together
IDENTIFYING = (*DATA, ".safetensors")  # and whatever lies in a tokenizer's folder
REMEMBERED_FROM = 1 << 26  # bytes of a model; the hash of a smaller one takes no time
SETTLED_NS = 2 * 10**9
DEEPEST = 16  # folders in folders


def find(name_or_path: str, more: tuple[str, ...] = (), more_parts: tuple[str, ...] = ()) -> Path:
    """The folder of a model; the only place that uses the network, and only for a hub id.

    Args:
        name_or_path: "pocket", a folder, or a hub id, "hub:org/name". Without "hub:" an id is taken too, and a
            notice says that it leaves the machine, unless it looks like a path that is mistyped.
        more: patterns of files that are wanted of a hub id beyond those of `PARTS` and `XL_PARTS`.
        more_parts: further folders with a config and weights; "" for the model's own.

    Raises:
        EdgeSdkError: there is no such folder and the text is not a hub id, or the hub does not have it.
    """
    privacy.stay_offline()
    if name_or_path == "pocket":
        return pocket.MODEL
    if name_or_path.startswith(HUB):
        hub_id = name_or_path.removeprefix(HUB)
        if not HUB_ID.fullmatch(hub_id):
            raise EdgeSdkError(f"{name_or_path} is not a hub id; give one such as hub:org/name")
        return _download(hub_id, more, more_parts)
    path = expanded(name_or_path)
    if os.path.isdir(path):
        return path
    if os.path.exists(path):
        refuse_file(name_or_path)
    if path.suffix.lower() in MODEL_FILES:
        raise EdgeSdkError(f"there is no file {name_or_path}; give one that exists, or a diffusers folder")
    if not HUB_ID.fullmatch(name_or_path):
        raise EdgeSdkError(
            f"no model folder {name_or_path}; give 'pocket', a diffusers folder, or a hub id such as hub:org/name"
        )
    owner = name_or_path.partition("/")[0]
    if owner in NO_OWNERS or os.path.lexists(owner):
        raise EdgeSdkError(f"no model folder {name_or_path}; give one that exists, or hub:{name_or_path} for a hub id")
    logging.getLogger(__name__).warning(
        "no local folder %s, so the Hugging Face hub is asked for it; write ./%s for a folder, hub:%s for a hub id",
        name_or_path,
        name_or_path,
        name_or_path,
    )
    return _download(name_or_path, more, more_parts)


def _download(hub_id: str, more: tuple[str, ...], more_parts: tuple[str, ...]) -> Path:
    from edge_sdk.errors import MissingExtraError

    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError("loading a model from a hub", "torch", ["huggingface_hub"]) from error
    offline, names = privacy.offline_by_user(), (*XL_PARTS, *more_parts)
    wanted = [INDEX, "tokenizer/*", "tokenizer_2/*", "scheduler/*.json", *more]
    wanted += [f"{name}/config.json" if name else "config.json" for name in names]
    try:
        with privacy.hub_allowed():
            for variant in VARIANTS:  # of a part that the hub has in no other form
                wanted += [f"{name}/{pattern}" if name else pattern for name in names for pattern in patterns(variant)]
                folder = Path(snapshot_download(hub_id, allow_patterns=wanted, local_files_only=offline))
                names = tuple(name for name in names if _lacks_weights(folder / name))
                if offline or not names:
                    break
                wanted = []
            return folder
    except Exception as error:
        if offline:
            raise EdgeSdkError(
                f"{hub_id} is not among the models that were downloaded before, and HF_HUB_OFFLINE is set; unset it to "
                "ask the hub, or give a local folder"
            ) from error
        reason = one_line(error, 200)
        raise EdgeSdkError(f"no local folder {hub_id}, and it cannot be had from the hub: {reason}") from error


def _lacks_weights(folder: Path) -> bool:
    """Whether a part is there, without weights."""
    is_part = (folder / "config.json").is_file()
    return is_part and chosen_name([entry.name for entry in folder.iterdir() if entry.exists()]) is None


def check(folder: Path, weights: Path | None = None) -> str | None:
    """Check that a folder holds a supported model in safe formats, reading headers only.

    Args:
        weights: the single file that has the weights of all parts; by default each part has its own.

    Returns:
        The weights ("int8" or "int4") of an integer checkpoint, None for a float model.

    Raises:
        EdgeSdkError: one line that names the file and says what to do.
    """
    check_entries(folder)
    index = read_index(folder)
    zero_negative(folder)
    if "text_encoder_2" in index and not (folder / "text_encoder_2").is_dir():
        raise EdgeSdkError(f"{folder / 'text_encoder_2'} is missing, which {INDEX} names; download it again")
    stored = None
    if (folder / INTEGER_MARK).exists():
        mark = read_json(folder / INTEGER_MARK, "make it again with edge-sdk quantize")
        if mark.get("schema_version") != INTEGER_SCHEMA or mark.get("weights") not in ("int8", "int4"):
            raise EdgeSdkError(
                f"{folder / INTEGER_MARK} is not of schema version {INTEGER_SCHEMA}; make it again: edge-sdk quantize"
            )
        stored = str(mark["weights"])
    for name in tokenizers(folder):
        if not (folder / name).is_dir():
            raise EdgeSdkError(f"{folder} has no {name} folder; supported are whole diffusers folders of {SUPPORTED}")
    _check_scheduler(folder, index)
    configs = {part: checked_config(folder, part, bool(stored), weights) for part in parts(folder)}
    check_parts(folder, configs)
    return stored


def read_index(folder: Path) -> dict[str, Any]:
    """``model_index.json`` of Stable Diffusion, with supported classes.

    Raises:
        EdgeSdkError: it is missing or damaged, or of another model.
    """
    hint = "is this the folder of a diffusers pipeline?"
    if (folder / "snapshots").is_dir():
        hint = "this is a folder of the hub's cache; give the one below its snapshots"
    index = read_json(folder / INDEX, hint)
    supported = f"{SUPPORTED}, which draw from a prompt with a unet"
    check_pipeline(folder, index, (*STABLE_DIFFUSION, *STABLE_DIFFUSION_XL), supported)
    for part in parts(folder):
        check_component(folder, index, part, PART_CLASSES[part], SUPPORTED)
    return index


def _check_scheduler(folder: Path, index: dict[str, Any]) -> None:
    path = folder / "scheduler" / "scheduler_config.json"
    config, declared = read_config(path, "the scheduler is missing"), component_class(index, "scheduler")
    try:
        check_last_step(scheduler_entries(config, CLASSES, declared, parts(folder) == PARTS))
    except EdgeSdkError as error:
        raise EdgeSdkError(f"{path} cannot be used: {error}") from error


def zero_negative(folder: Path) -> bool:
    """SDXL only: an empty negative prompt stands for zeros; see `TextEncoderPair`."""
    index = read_json(folder / "model_index.json", AGAIN)
    value = index.get("force_zeros_for_empty_prompt", True)
    if not isinstance(value, bool):
        raise EdgeSdkError(
            f"{folder / 'model_index.json'} has force_zeros_for_empty_prompt {shorten(value)}; it must be true or false"
        )
    return value


def check_entries(folder: Path) -> None:
    """Raises EdgeSdkError if a model's folder holds something that is no file, which a library would wait for."""
    try:
        check_folder(folder)
    except OSError as error:
        raise EdgeSdkError(f"{error.filename} cannot be used: {error.strerror}; {AGAIN}") from error


def check_finite(path: Path) -> None:
    """Look at every float of a safetensors file, a piece at a time.

    Raises:
        EdgeSdkError: a NaN or infinity, naming the tensor.
    """
    header = read_header(path)
    data, base = np.memmap(path, np.uint8, "r"), data_start(path)
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] not in FLOATS:
            continue
        first, last = (base + offset for offset in entry["data_offsets"])
        for start in range(first, last, CHUNK):
            piece = np.asarray(data[start : min(start + CHUNK, last)])
            if not _all_finite(piece, entry["dtype"]):
                raise EdgeSdkError(f"{path} holds a number that is not finite in {name}; download it again")


def _all_finite(piece: np.ndarray, dtype: str) -> bool:
    if dtype == "BF16":  # the upper half of a float32: an exponent of all ones means infinity or NaN
        return not bool(((piece.view("<u2") & 0x7F80) == 0x7F80).any())
    return bool(np.isfinite(piece.view({"F64": "<f8", "F32": "<f4", "F16": "<f2"}[dtype])).all())


def fingerprint(folder: Path) -> str:
    """The identity of a model: a sha256 over names, sizes and every byte of its weights, tokenizers and configs.

    Of a file that is given instead of a folder, a sha256 over its size and every byte.
    That of a large model takes a second a gigabyte or so, and is remembered until a file of it has another size, inode,
    or time of change of its content or of its entry; the last one cannot be set back.

    Raises:
        EdgeSdkError: a file cannot be read.
    """
    return _digest(folder, [folder] if folder.is_file() else sorted(_files(folder, ())))


def weights_fingerprint(folder: Path) -> str:
    """The identity of a folder's weights alone, whatever its configs say; see `fingerprint`."""
    return _digest(folder, sorted(path for path in _files(folder, ()) if path.suffix == ".safetensors"))


def _digest(folder: Path, files: list[Path]) -> str:
    try:
        before = _state(folder, files)
        is_large = sum(path.stat().st_size for path in files) >= REMEMBERED_FROM
        if is_large and (known := digest_cache.recall(before)):
            return known
        digest = hashlib.sha256()
        for path in files:
            with open(path, "rb") as file:
                name = os.fsencode(path.relative_to(folder).as_posix()).replace(b"%", b"%25").replace(b":", b"%3A")
                digest.update(b"%s:%d:" % (name, os.fstat(file.fileno()).st_size))
                hashlib.file_digest(file, lambda: digest)
        newest = max((path.stat().st_ctime_ns for path in files), default=0)
        # A change within one tick of the clock that the file system's times are of would go unnoticed.
        if is_large and _state(folder, files) == before and time.time_ns() - newest > SETTLED_NS:
            digest_cache.remember(before, digest.hexdigest())
    except OSError as error:
        raise EdgeSdkError(f"{error.filename or folder} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


def _state(folder: Path, files: list[Path]) -> str:
    """A hash of what changes whenever a file does, without reading any."""
    states = []
    for path in files:
        of = path.stat()
        states.append([str(path.relative_to(folder)), of.st_dev, of.st_ino, of.st_size, of.st_mtime_ns, of.st_ctime_ns])
    return hashlib.sha256(json.dumps(states).encode()).hexdigest()


def _files(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """What a reader may open, also where links lead; ``above`` are device and inode of the folders on the way."""
    try:
        own = folder.stat()
        entries = list(folder.iterdir())
        for path in (path for path in entries if not is_leftover(path.name)):
            mode = path.stat().st_mode if path.exists() else 0
            if stat.S_ISDIR(mode) and (own.st_dev, own.st_ino) not in above and len(above) < DEEPEST:
                yield from _files(path, (*above, (own.st_dev, own.st_ino)))
            elif stat.S_ISREG(mode) and (path.suffix in IDENTIFYING or folder.name.startswith("tokenizer")):
                yield path
    except OSError as error:
        raise EdgeSdkError(f"{error.filename or folder} cannot be read: {error.strerror or error}") from error


def copy_data(source: Path, target: Path) -> None:
    """Copy the data files of a tokenizer's or scheduler's folder, and nothing else that lies there."""
    target.mkdir(exist_ok=True)
    for path in source.iterdir():
        if path.suffix in DATA and path.is_file() and not is_leftover(path.name):
            shutil.copyfile(path, target / path.name)
