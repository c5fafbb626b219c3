"""The components of a model beside its denoiser's weights: what pictures pass through before and after them.

Unlearning changes weights of the denoiser and nothing else. A cast in the VAE or another tokenizer would move every
figure of an audit, so two models are compared by the content of all their other components. Saving a model again is no
difference: the versions of libraries, a file's layout, shards and entries that hold their default do not count.
"""

import hashlib
import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.diffusion import folder as model_files
from edge_sdk.diffusion.weight_files import is_index, weight_files
from edge_sdk.errors import EdgeSdkError, one_line
from edge_sdk.system.json import read_json
from edge_sdk.system.paths import is_leftover
from edge_sdk.unlearning.denoiser import Denoiser
from edge_sdk.unlearning.place import Place

INDEX_FILE = "model_index.json"
SCHEDULER_FILE = "scheduler_config.json"
USED = {  # by the kind of denoiser, whether or not the index names them
    "UNet2DModel": ("scheduler", "vae"),
    "UNet2DConditionModel": ("scheduler", "text_encoder", "tokenizer", "vae"),
    "SD3Transformer2DModel": (
        "scheduler",
        "text_encoder",
        "text_encoder_2",
        "text_encoder_3",
        "tokenizer",
        "tokenizer_2",
        "tokenizer_3",
        "vae",
    ),
}
WITHOUT_EFFECT = ("transformers_version", "is_local", "local_files_only")  # entries, with those that begin with "_"
UNUSED = ("generation_config.json",)  # files: text encoders generate nothing
PREFIX = "text_model."  # of the names of tensors that older versions of transformers saved
UNUSED_TENSOR = "embeddings.position_ids"  # and a tensor that newer ones do not read
AS_LOADED = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")  # a tokenizer's files
OPTIONAL = ("vocab.json", "merges.txt", "added_tokens.json", "spiece.model")  # in tokenizer.json, where that is saved
HINT = "unlearn changes the denoiser's weights only: give a model and what unlearn made of it, unchanged"
Content = dict[str, Any]  # of a component, by entry or tensor


def compare(base: Denoiser, repaired: Denoiser) -> dict[str, str]:
    """Compare all components of two models but the denoiser's weights.

    Returns:
        sha256 of the content of each component, by name.

    Raises:
        EdgeSdkError: a component differs, is missing on one side, or cannot be read; the message names it.
    """
    digests = {}
    for name in _names(base.place, repaired.place):
        first, second = (_content(denoiser, name) for denoiser in (base, repaired))
        if first is None or second is None:
            lacking, other = (base, repaired) if first is None else (repaired, base)
            raise EdgeSdkError(f"{lacking.folder} has no {name}, which {other.folder} has; {HINT}")
        for key in sorted({*first, *second}):
            left_out = key in OPTIONAL and key not in second
            if first.get(key) != second.get(key) and not left_out:
                raise EdgeSdkError(
                    f"{name} of {repaired.folder} is not that of {base.folder}: {key} "
                    f"{_difference(first.get(key), second.get(key))}; {HINT}"
                )
        digests[name] = hashlib.sha256(json.dumps(first, sort_keys=True).encode()).hexdigest()
    return digests


def _difference(first: Any, second: Any) -> str:
    values = [json.dumps(value) for value in (first, second)]
    return "differs" if max(map(len, values)) > 40 else f"is {values[1]}, not {values[0]}"


def _names(*places: Place) -> list[str]:
    """The components that either model has, the denoiser first."""
    (kind,) = {place.config["_class_name"] for place in places[:1]}
    names = {INDEX_FILE, *USED[kind]}
    for place in places:
        names |= {name for name, entry in _index(place.folder).items() if isinstance(entry, list)}
    names -= {place.part for place in places}
    present = {name for name in names if any(_exists(place, name) for place in places)}
    return ["denoiser", *sorted(present)]


def _exists(place: Place, name: str) -> bool:
    if name == "scheduler" and (place.folder / SCHEDULER_FILE).is_file():
        return True
    return (place.folder / name).exists()


def _content(denoiser: Denoiser, name: str) -> Content | None:
    """What counts of a component; None if the model has none."""
    place = denoiser.place
    if name == "denoiser":
        return {"kind": denoiser.kind, **_config(place.folder / place.part / "config.json"), **_frozen(denoiser)}
    if not _exists(place, name):
        return None
    if name == INDEX_FILE:
        return _index(place.folder)
    if name == "scheduler":
        nested = place.folder / name / SCHEDULER_FILE
        return _config(nested if nested.is_file() else place.folder / SCHEDULER_FILE)
    if name.startswith("tokenizer"):
        return _tokenizer(place.folder / name)
    return _folder(place.folder / name)


def _frozen(denoiser: Denoiser) -> Content:
    """What unlearning leaves as it is of the denoiser: shapes of parameters, and values of buffers."""
    parameters = {name for name, _ in denoiser.module.named_parameters()}
    return {
        name: list(value.shape) if name in parameters else hashlib.sha256(value.cpu().numpy().tobytes()).hexdigest()
        for name, value in denoiser.module.state_dict().items()
    }


def _folder(folder: Path) -> Content:
    """Configs and tensors of a component; weights that are not loaded, such as other precisions, are left out."""
    content: Content = {}
    for path in sorted(folder.iterdir()):
        if is_leftover(path.name) or is_index(path.name) or path.name in UNUSED:
            continue
        if path.suffix == ".json":
            content |= _config(path)
    if any(folder.glob("*.safetensors")):
        for file in weight_files(folder):
            content |= _tensors(file)
    return content


def _tensors(path: Path) -> Content:
    """Shape and sha256 of every tensor of a safetensors file; halves count as the float32 numbers that they are."""
    header, start = model_files.read_header(path), model_files.data_start(path)
    data, content = np.memmap(path, np.uint8, "r"), {}
    for name, entry in header.items():
        if name == "__metadata__" or name.endswith(UNUSED_TENSOR):
            continue
        digest, kind = hashlib.sha256(), entry["dtype"]
        stands_for = "F32" if kind in ("F16", "BF16") else kind
        first, last = (start + offset for offset in entry["data_offsets"])
        for at in range(first, last, model_files.CHUNK):
            digest.update(_as_float32(data[at : min(at + model_files.CHUNK, last)], kind).data)
        content[name.removeprefix(PREFIX)] = [stands_for, entry["shape"], digest.hexdigest()]
    return content


def _as_float32(values: np.ndarray, kind: str) -> np.ndarray:
    """Bytes of a type's numbers; those of halves become float32, which is exact."""
    if kind == "F16":
        return values.view("<f2").astype("<f4")
    if kind == "BF16":
        return (values.view("<u2").astype("<u4") << 16).view("<f4")
    return np.ascontiguousarray(values)


def _tokenizer(folder: Path) -> Content:
    """A tokenizer as it is loaded, and its other files by their content."""
    from transformers import CLIPTokenizer, T5TokenizerFast

    try:
        loaded = (T5TokenizerFast if folder.name == "tokenizer_3" else CLIPTokenizer).from_pretrained(folder)
        content = {
            "backend": json.loads(loaded.backend_tokenizer.to_str()),
            "special tokens": loaded.special_tokens_map,
            "model_max_length": loaded.model_max_length,
            "padding_side": loaded.padding_side,
            "truncation_side": loaded.truncation_side,
        }
    except Exception as error:  # the library raises no narrower class for a damaged file
        raise EdgeSdkError(f"{folder} cannot be used ({one_line(error, 200)}); download the model again") from error
    files = (path for path in sorted(folder.iterdir()) if path.is_file() and not is_leftover(path.name))
    others = (path for path in files if path.name not in AS_LOADED)
    content |= {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in others}
    return dict(json.loads(json.dumps(content, default=str)))


def _index(folder: Path) -> Content:
    """The entries of a pipeline's index; components that it says to be absent do not count."""
    path = folder / INDEX_FILE
    entries = _entries(path) if path.exists() else {}
    return {name: entry for name, entry in entries.items() if entry is not None and entry != [None, None]}


def _entries(path: Path) -> Content:
    """A config's entries that have an effect."""
    entries = read_json(path, HINT, infinity=True)
    return {
        name: value
        for name, value in entries.items()
        if name == "_class_name" or not (name.startswith("_") or name in WITHOUT_EFFECT)
    }


def _config(path: Path) -> Content:
    """A config with the defaults of its class, which older versions of the libraries do not write."""
    entries = _entries(path)
    return json.loads(json.dumps({**_defaults(entries), **entries}))


def _defaults(entries: Content) -> Content:
    import diffusers
    import transformers

    known = {"clip_text_model": transformers.CLIPTextConfig, "t5": transformers.T5Config}
    kind = known.get(str(entries.get("model_type")))
    if kind is not None:
        return {name: value for name, value in kind().to_dict().items() if name not in WITHOUT_EFFECT}
    kind = getattr(diffusers, str(entries.get("_class_name")), None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.ConfigMixin)):
        return {}
    parameters = inspect.signature(kind).parameters.items()
    return {name: entry.default for name, entry in parameters if entry.default is not entry.empty}
