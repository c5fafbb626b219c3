"""A single-file checkpoint of Stable Diffusion 1.x, 2.x or XL, as web UIs have them, read like a folder.

Such a file holds tensors only. Configs follow from their shapes, the schedule and CLIP's tokenizer are those of every
published model of the family, and the weights stay where they are: a component's tensors are entries of the file's
header under other names. So opening one takes no memory and no space for a second copy.
"""

import contextlib
import json
import logging
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from edge_sdk.diffusion import ldm_configs, ldm_names
from edge_sdk.diffusion.components import PART_CLASSES
from edge_sdk.diffusion.ldm_configs import AUTOENCODER, DENOISER, Shapes, within
from edge_sdk.diffusion.ldm_names import Entries
from edge_sdk.diffusion.vocabulary import SIZE, write_tokenizer
from edge_sdk.errors import EdgeSdkError, one_line
from edge_sdk.system.safetensors import read_header
from edge_sdk.system.shell import python_command

SUFFIX = ".safetensors"
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
MODEL_FILES = (SUFFIX, ".ckpt")  # endings that no folder and no hub id has
_DTYPES = ("F64", "F32", "F16", "BF16")
_CLIP_L, _CLIP_L_OF_XL = "cond_stage_model.transformer.", "conditioner.embedders.0.transformer."
_OPEN_CLIP_H, _OPEN_CLIP_G = "cond_stage_model.model.", "conditioner.embedders.1.model."
_REFINER = "conditioner.embedders.0.model."
MOST_TENSORS = 20_000  # SDXL with a second copy of all has about 5,000
_OF_FOLDERS = ("down_blocks.", "encoder.down_blocks.", "text_model.")  # names of components in folders
_EDM = ("edm_mean", "edm_vpred.sigma_max")  # tensors that mark another kind of schedule
_OTHER_INPUTS = {9: "an inpainting model", 8: "an image-editing model", 7: "an upscaler", 5: "a depth-to-image model"}
_FAMILIES = {"1.x": ("StableDiffusionPipeline", 512), "2.x": ("StableDiffusionPipeline", 512)}
_FAMILIES["XL"] = ("StableDiffusionXLPipeline", 1024)


@dataclass(frozen=True)
class SingleFile:
    """An opened checkpoint.

    Attributes:
        path: of the file.
        folder: configs, tokenizers and the schedule as a diffusers folder has them, without weights. It goes with
            this object.
        entries: the header's entries of every component by the names of diffusers.
    """

    path: Path
    folder: Path
    entries: dict[str, Entries] = field(repr=False)
    _holder: Any = field(repr=False)


@dataclass(frozen=True)
class _Component:
    """Where a component is in a file, and how its config and names are read."""

    prefix: str
    config: Callable[[Shapes], dict[str, Any]]
    entries: Callable[[Entries], Entries]
    pad: str = ""  # of a text encoder's tokenizer


def is_single_file(name: str) -> bool:
    """Whether a model's name is the path of a safetensors file."""
    with contextlib.suppress(OSError, ValueError):
        return Path(name).suffix.lower() == SUFFIX and Path(name).is_file()
    return False


def refuse_file(name: str) -> None:
    """Raises EdgeSdkError for a file where a folder is needed, with the command that converts it."""
    suffix = Path(name).suffix.lower()
    if suffix in PICKLES:
        new = str(Path(name).with_suffix(SUFFIX))
        program = (
            "import torch, safetensors.torch as s; "
            f"d = torch.load({name!r}, map_location='cpu', weights_only=True); "
            "d = d.get('state_dict', d); "
            f"s.save_file({{k: v.clone().contiguous() for k, v in d.items() if torch.is_tensor(v)}}, {new!r})"
        )
        raise EdgeSdkError(
            f"{name} is a pickle, which can run any program and is never opened; convert it to {new} and give that "
            f"(diffusers' from_single_file makes a folder of either): {python_command(program)}"
        )
    if suffix == SUFFIX:
        raise EdgeSdkError(
            f"{name} is a single-file checkpoint, which quantize, personalize, generate and export read; this command "
            f"takes the folder of a diffusers model, which diffusers makes: {_conversion(Path(name))}"
        )
    raise EdgeSdkError(f"{name} is a file; give the folder of a diffusers model (the one with model_index.json)")


def open_single_file(name: str, prediction_type: str | None = None) -> SingleFile:
    """Read the header of a checkpoint and lay out its folder; what is assumed is a warning of the log.

    Args:
        prediction_type: "epsilon" or "v_prediction", what the denoiser predicts; None for what the file says, or else
            what published models of its family predict.

    Raises:
        EdgeSdkError: it is not a whole Stable Diffusion checkpoint, of another kind, or of other numbers; one line.
    """
    path = Path(name)
    status = path.stat()
    return _opened(path, prediction_type, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=4)  # a command opens its model more than once, and warns once
def _opened(path: Path, prediction_type: str | None, _state: tuple[int, ...]) -> SingleFile:
    header = read_header(path)
    metadata = header.pop("__metadata__", {})
    with _refusals(path):
        family = _family(header)
        components = _components(family)
        entries: dict[str, Entries] = {}
        configs: dict[str, dict[str, Any]] = {}
        for part, component in components.items():
            own = within(header, component.prefix)
            configs[part] = component.config(_shapes(own))
            entries[part] = component.entries(own)
        _check(configs, entries)
        predicts, notice = _prediction(family, header, metadata, prediction_type)
        side = _side(metadata) or (768 if (family, predicts) == ("2.x", "v_prediction") else _FAMILIES[family][1])
        unet = configs["unet"]
        unet["sample_size"] = side // 2 ** (len(configs["vae"]["block_out_channels"]) - 1)
        if family == "XL":
            pooled = configs["text_encoder_2"]["projection_dim"]
            unet["addition_time_embed_dim"] = (unet["projection_class_embeddings_input_dim"] - pooled) // 6
    try:
        holder = tempfile.TemporaryDirectory(prefix="edge-sdk-")
        folder = Path(holder.name) / (path.stem if path.stem.strip(".") else "model")
        for part, config in configs.items():
            _write(folder / part / "config.json", config)
            if pad := components[part].pad:
                write_tokenizer(folder / part.replace("text_encoder", "tokenizer"), pad)
        _write(folder / "scheduler" / "scheduler_config.json", _schedule(predicts, "ztsnr" in header))
        _write(folder / "model_index.json", _index(family, list(configs)))
    except OSError as error:
        raise EdgeSdkError(
            f"the configs of {path} cannot be written to a temporary folder: {error.strerror or error}; set TMPDIR to "
            "a folder with a few MB of space"
        ) from error
    if notice:
        logging.getLogger(__name__).warning("%s: %s", path, notice)
    return SingleFile(path, folder, entries, holder)


def _family(header: dict[str, Any]) -> str:
    """1.x, 2.x or XL, by the text encoders that the file holds."""
    if len(header) > MOST_TENSORS:
        raise ValueError(f"it holds {len(header)} tensors; at most {MOST_TENSORS} are read")
    if any(name in header for name in _EDM):
        raise ValueError("its schedule is EDM's, which is not supported")
    if not within(header, DENOISER) or f"{DENOISER}input_blocks.0.0.weight" not in header:
        if any(name.startswith(_OF_FOLDERS) for name in header):
            raise ValueError("it is one component of a diffusers folder; give the folder with model_index.json")
        raise ValueError("it holds no denoiser of this kind")
    if not within(header, AUTOENCODER):
        raise ValueError("it holds no autoencoder")
    if within(header, _OPEN_CLIP_G):
        return "XL"
    if within(header, _REFINER):
        raise ValueError("it is SDXL's refiner; give the base model")
    if within(header, _CLIP_L):
        return "1.x"
    if within(header, _OPEN_CLIP_H):
        return "2.x"
    raise ValueError("it holds no text encoder")


def _components(family: str) -> dict[str, _Component]:
    """The components of a family, by the names that they have in a folder."""
    first = _CLIP_L_OF_XL if family == "XL" else _CLIP_L
    clip = _Component(first, _clip_config, _clip_entries, "<|endoftext|>")
    texts = {"text_encoder": clip}
    if family == "2.x":
        config = _open_clip_config(projected=False)
        texts = {"text_encoder": _Component(_OPEN_CLIP_H, config, ldm_names.open_clip_entries, "!")}
    if family == "XL":
        config = _open_clip_config(projected=True)
        texts["text_encoder_2"] = _Component(_OPEN_CLIP_G, config, ldm_names.open_clip_entries, "!")
    return texts | {
        "unet": _Component(DENOISER, lambda shapes: ldm_configs.unet_config(shapes, family), ldm_names.unet_entries),
        "vae": _Component(AUTOENCODER, lambda shapes: ldm_configs.vae_config(shapes, family), ldm_names.vae_entries),
    }


def _open_clip_config(projected: bool) -> Callable[[Shapes], dict[str, Any]]:
    return lambda shapes: ldm_configs.open_clip_config(shapes, projected)


def _clip_config(shapes: Shapes) -> dict[str, Any]:
    return ldm_configs.clip_config(_clip_entries(shapes))


def _clip_entries(entries: dict[str, Any]) -> dict[str, Any]:
    """Older files have the names without ``text_model``."""
    return {name.removeprefix("text_model."): entry for name, entry in entries.items()}


def _check(configs: dict[str, dict[str, Any]], entries: dict[str, Entries]) -> None:
    """Raises ValueError for a checkpoint of another kind or of numbers that are not read."""
    channels, latents = configs["unet"]["in_channels"], configs["vae"]["latent_channels"]
    if channels != latents:
        kind = _OTHER_INPUTS.get(channels, "a model of another kind")
        raise ValueError(f"its denoiser takes {channels} channels, so it is {kind}, and text-to-image is supported")
    for part, config in configs.items():
        if config.get("vocab_size", SIZE) < SIZE:
            raise ValueError(f"its {part} knows {config['vocab_size']} words, and CLIP's tokenizer has {SIZE}")
        for name, entry in entries[part].items():
            if entry["dtype"] not in _DTYPES and name.endswith("weight"):
                raise ValueError(f"its {part} has {entry['dtype']} numbers; {', '.join(_DTYPES)} are read")


def _prediction(
    family: str, header: dict[str, Any], metadata: dict[str, str], given: str | None
) -> tuple[str, str | None]:
    """What the denoiser predicts, and a notice if that is assumed.

    Metadata are those of the ModelSpec standard; a tensor ``v_pred`` marks the models of XL that predict v.
    """
    if given is not None:
        return given, None
    stated = str(metadata.get("modelspec.prediction_type", "")).lower()
    architecture = str(metadata.get("modelspec.architecture", "")).lower().partition("/")[0]
    if stated in ("v", "v_prediction") or architecture.endswith("768-v") or "v_pred" in header:
        return "v_prediction", None
    if stated in ("epsilon", "eps") or architecture.endswith("v2-512") or family != "2.x":
        return "epsilon", None
    return "v_prediction", (
        "a file of Stable Diffusion 2.x does not say what its denoiser predicts; v is assumed, as in 2.1 of 768 "
        "pixels; give --prediction_type epsilon for a base model of 512 pixels"
    )


def _side(metadata: dict[str, str]) -> int | None:
    """Pixels of a square picture that the model was made for, if the ModelSpec metadata say so."""
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", str(metadata.get("modelspec.resolution", "")))
    return int(match[1]) if match and match[1] == match[2] and int(match[1]) % 8 == 0 and int(match[1]) else None


def _schedule(prediction_type: str, zero_snr: bool) -> dict[str, Any]:
    """The noise schedule of all published models of these families, for DDIM.

    Args:
        zero_snr: the last timestep is noise alone (a tensor ``ztsnr`` marks such models).
    """
    return {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "prediction_type": prediction_type,
        "rescale_betas_zero_snr": zero_snr,
        "timestep_spacing": "trailing" if zero_snr else "leading",
    }


def _index(family: str, parts: list[str]) -> dict[str, Any]:
    """``model_index.json``."""
    index: dict[str, Any] = {"_class_name": _FAMILIES[family][0], "scheduler": ["diffusers", "DDIMScheduler"]}
    for part in parts:
        is_text = part.startswith("text_encoder")
        index[part] = ["transformers" if is_text else "diffusers", PART_CLASSES[part]]
        if is_text:
            index[part.replace("text_encoder", "tokenizer")] = ["transformers", "CLIPTokenizer"]
    if family == "XL":
        index["force_zeros_for_empty_prompt"] = True
    return index


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Turn what a foreign file runs into, into one line."""
    try:
        yield
    except (LookupError, ValueError, TypeError, StopIteration, ZeroDivisionError) as error:
        missing = isinstance(error, LookupError) or not str(error)
        reason = f"tensors are missing or of another shape ({error})" if missing else str(error)
        raise EdgeSdkError(
            f"{path} is not a whole single-file checkpoint of Stable Diffusion 1.x, 2.x or XL: "
            f"{one_line(reason, 200)}; if diffusers can read it, make a folder: {_conversion(path)}"
        ) from error


def _conversion(path: Path) -> str:
    """The command by which diffusers makes a folder of a file."""
    is_xl = False
    with contextlib.suppress(EdgeSdkError):
        is_xl = any(name.startswith("conditioner.") for name in read_header(path))
    program = (
        f"from diffusers import {_FAMILIES['XL' if is_xl else '1.x'][0]} as P; "
        f"P.from_single_file({str(path)!r}).save_pretrained({str(path.with_suffix(''))!r})"
    )
    return python_command(program)


def _shapes(entries: Entries) -> Shapes:
    return {name: entry["shape"] for name, entry in entries.items()}


def _write(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
