"""What may be opened as a model: folders of JSON and safetensors. Only numpy is needed; nothing is executed."""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from edge_sdk.diffusion.configs import TABLES, check_config, read_config
from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.inputs import check_folder, open_input
from edge_sdk.system.json import parse_json, read_json
from edge_sdk.system.schema import shorten

PARTS = ("text_encoder", "unet", "vae")  # of Stable Diffusion 1.x and 2.x
XL_PARTS = ("text_encoder", "text_encoder_2", "unet", "vae")
PART_CLASSES = {
    "text_encoder": "CLIPTextModel", "text_encoder_2": "CLIPTextModelWithProjection",
    "unet": "UNet2DConditionModel", "vae": "AutoencoderKL",
}  # fmt: skip
SUPPORTED = "Stable Diffusion 1.x, 2.x and XL"
WEIGHT_FILES = ("diffusion_pytorch_model.safetensors", "model.safetensors")
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
INTEGER_MARK = "integer_checkpoint.json"
INTEGER_SCHEMA = 1
AGAIN = "download the model again"
MAX_HEADER = 100 * 2**20
CHUNK = 1 << 24  # bytes looked at together


def find(name_or_path: str, more: tuple[str, ...] = ()) -> Path:
    """The folder of a model given by path or hub id; the only place that uses the network, and only for a hub id.

    Args:
        more: patterns of files that are wanted of a hub id beyond those of `PARTS` and `XL_PARTS`.

    Raises:
        EdgeSdkError: there is no such folder and the text is not a hub id, or the hub does not have it.
    """
    path = Path(name_or_path)
    if os.path.isdir(path):
        return path
    if os.path.exists(path):
        raise EdgeSdkError(
            f"{name_or_path} is a file; give the folder of a diffusers model (the one with model_index.json)"
        )
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name_or_path) or name_or_path.startswith((".", "/")):
        raise EdgeSdkError(
            f"no model folder {name_or_path}; give 'pocket', a diffusers folder, or a hub id such as org/name"
        )
    return _download(name_or_path, more)


def _download(hub_id: str, more: tuple[str, ...]) -> Path:
    from edge_sdk.errors import MissingExtraError

    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError("loading a model from a hub", "torch") from error
    wanted = ["model_index.json", "tokenizer/*", "tokenizer_2/*", "scheduler/*.json", *more]
    wanted += [
        f"{part}/{name}"
        for part in XL_PARTS
        for name in ("*.json", "diffusion_pytorch_model*.safetensors", "model*.safetensors")
    ]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=wanted, ignore_patterns=["*fp16*", "*non_ema*"]))
    except Exception as error:
        reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
        raise EdgeSdkError(f"no local folder {hub_id}, and it cannot be had from the hub: {reason}") from error


def parts(folder: Path) -> tuple[str, ...]:
    """The parts of a checked model that have weights."""
    return XL_PARTS if (folder / "text_encoder_2").is_dir() else PARTS


def text_encoders(folder: Path) -> tuple[str, ...]:
    """Those of the parts that are text encoders."""
    return tuple(part for part in parts(folder) if part.startswith("text_encoder"))


def tokenizers(folder: Path) -> tuple[str, ...]:
    """The folders of a checked model's tokenizers, one a text encoder."""
    return tuple(part.replace("text_encoder", "tokenizer") for part in text_encoders(folder))


def check(folder: Path) -> str | None:
    """Check that a folder holds a supported model in safe formats, reading headers only.

    Returns:
        The weights ("int8" or "int4") of an integer checkpoint, None for a float model.

    Raises:
        EdgeSdkError: one line that names the file and says what to do.
    """
    check_entries(folder)
    index = read_json(folder / "model_index.json", "is this the folder of a diffusers pipeline?")
    zero_negative(folder)
    if "text_encoder_2" in index and not (folder / "text_encoder_2").is_dir():
        raise EdgeSdkError(f"{folder / 'text_encoder_2'} is missing, which model_index.json names; download it again")
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
    read_config(folder / "scheduler" / "scheduler_config.json", "the scheduler is missing")
    configs = {}
    for part in parts(folder):
        config = configs[part] = read_config(folder / part / "config.json", f"the {part} is missing")
        wanted = PART_CLASSES[part]
        declared = [config["_class_name"]] if "_class_name" in config else config.get("architectures", [wanted])
        if declared != [wanted]:
            raise EdgeSdkError(f"{folder / part} is a {_short(declared)}; supported is {wanted} ({SUPPORTED})")
        if part == "unet" and (config.get("addition_embed_type") is not None) != (parts(folder) == XL_PARTS):
            raise EdgeSdkError(
                f"{folder / part} has addition_embed_type {config.get('addition_embed_type')!r} in a folder of "
                f"{len(tokenizers(folder))} text encoder(s); SDXL has text_time and two, {SUPPORTED} are supported"
            )
        files = [folder / part / "integer_model.safetensors"] if stored else weight_files(folder / part)
        tensors = sum(len(read_header(file)) for file in files)
        try:
            check_config(config, TABLES[part], tensors)
        except ValueError as error:
            raise EdgeSdkError(f"{folder / part / 'config.json'} cannot be used: {error}; {AGAIN}") from error
    _check_parts(folder, configs)
    return stored


def _check_parts(folder: Path, configs: dict[str, dict[str, Any]]) -> None:
    """Raises EdgeSdkError where what one part gives is not what another takes, by the entries that both have."""
    unet, vae, first = configs["unet"], configs["vae"], configs["text_encoder"]
    second = configs.get("text_encoder_2", {"hidden_size": 0})
    pairs = [("unet's in_channels", unet.get("in_channels"), "vae's latent_channels", vae.get("latent_channels"))]
    if "hidden_size" in first and "hidden_size" in second:
        width = first["hidden_size"] + second["hidden_size"]
        pairs.append(("unet's cross_attention_dim", unet.get("cross_attention_dim"), "text encoders' width", width))
    if unet.get("addition_time_embed_dim") and "projection_dim" in second:
        added = 6 * unet["addition_time_embed_dim"] + second["projection_dim"]
        name = "projection_class_embeddings_input_dim"
        pairs.append((f"unet's {name}", unet.get(name), "size of what SDXL adds", added))
    for name, value, other_name, other in pairs:
        if None not in (value, other) and value != other:
            raise EdgeSdkError(f"{folder}: the {name} is {value} and the {other_name} is {other}; {AGAIN}")


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


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of one part, sharded or not.

    Raises:
        EdgeSdkError: there is none; if there are pickles instead, the message says how to convert.
    """
    for name in WEIGHT_FILES:
        if (folder / name).exists():
            return [folder / name]
        if (folder / f"{name}.index.json").exists():
            index = read_json(folder / f"{name}.index.json", "download the model again").get("weight_map")
            shards = list(index.values()) if isinstance(index, dict) else []
            if not shards or not all(isinstance(shard, str) for shard in shards):
                raise EdgeSdkError(f"{folder / name}.index.json lists no weight files; download the model again")
            files = [folder / shard for shard in sorted(set(shards))]
            if bad := [file for file in files if file.parent != folder or not file.is_file()]:
                raise EdgeSdkError(
                    f"{bad[0]} is named in {name}.index.json but is not a file in its folder; download the model again"
                )
            return files
    pickles = [entry.name for entry in sorted(folder.iterdir()) if entry.suffix in PICKLE_SUFFIXES]
    if pickles:
        raise EdgeSdkError(
            f"{folder / pickles[0]} is a pickle, which can run any program and is never opened; convert the model to "
            "safetensors (diffusers: pipeline.save_pretrained(folder, safe_serialization=True))"
        )
    raise EdgeSdkError(f"{folder} has no safetensors weights; expected {' or '.join(WEIGHT_FILES)}")


def read_header(path: Path, max_bytes: int | None = None) -> dict[str, Any]:
    """The header of a safetensors file, which the library checks against the file's size.

    Args:
        max_bytes: a larger file is refused.

    Raises:
        EdgeSdkError: not a safetensors file, cut short, edited, or too large.
    """
    try:
        with open_input(path) as file:
            size = os.fstat(file.fileno()).st_size
            if max_bytes is not None and size > max_bytes:
                raise EdgeSdkError(f"{path} is larger than {max_bytes >> 20} MB, the most that is read here")
            length = int.from_bytes(file.read(8), "little")
            if length > min(MAX_HEADER, size - 8):
                raise EdgeSdkError(f"{path} is cut short or not a safetensors file ({size} bytes); download it again")
            text = file.read(length)
        with safe_open(path, "numpy"):
            header = parse_json(text)
    except OSError as error:
        raise EdgeSdkError(f"{path} cannot be read: {error.strerror or error}") from error
    except (SafetensorError, ValueError) as error:
        raise EdgeSdkError(f"{path} is cut short or damaged ({_short(error)}); download it again") from error
    if not isinstance(header.get("__metadata__", {}), dict):
        raise EdgeSdkError(f"{path} has metadata that is not a list of texts; download it again")
    return header


def data_start(path: Path) -> int:
    """Where the tensors of a safetensors file begin: the offsets in its header count from there."""
    with open_input(path) as file:
        return 8 + int.from_bytes(file.read(8), "little")


def check_finite(path: Path) -> None:
    """Look at every float of a safetensors file, a piece at a time.

    Raises:
        EdgeSdkError: a NaN or infinity, naming the tensor.
    """
    header = read_header(path)
    data, base = np.memmap(path, np.uint8, "r"), data_start(path)
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] not in ("F64", "F32", "F16", "BF16"):
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


def fingerprint(folder: Path, whole: bool = False) -> str:
    """A sha256 over every file of a model: names, sizes, small files whole, large ones by their ends (64 KiB each).

    Args:
        whole: large files too, some seconds a gigabyte; for evidence.
    """
    digest = hashlib.sha256()
    for path in _files(folder):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()}:{size}:".encode())
        with open(path, "rb") as file:
            if size <= 1 << 20:
                digest.update(file.read())
            elif whole:
                while block := file.read(1 << 20):
                    digest.update(block)
            else:
                digest.update(file.read(1 << 16))
                file.seek(-(1 << 16), os.SEEK_END)
                digest.update(file.read())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    kept = (".json", ".txt", ".safetensors")
    yield from sorted(path for path in folder.rglob("*") if path.suffix in kept and path.is_file())


def _short(value: object) -> str:
    return " ".join(str(value).split())[:120]
