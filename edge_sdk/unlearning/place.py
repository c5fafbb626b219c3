"""Where a model that can unlearn is, and what is refused by its configs before any weight is read.

Families differ in the class of the denoiser: ``UNet2DModel`` (unconditional DDPM, on pixels), ``UNet2DConditionModel``
(Stable Diffusion 1.x, 2.x) and ``SD3Transformer2DModel`` (Stable Diffusion 3, a flow), the latter two on latents.
"""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_sdk.diffusion import folder as model_files
from edge_sdk.diffusion.components import check_quantization, check_weight_types
from edge_sdk.diffusion.configs import check_config, read_config
from edge_sdk.diffusion.pipeline import (
    INDEX,
    STABLE_DIFFUSION,
    check_component,
    check_pipeline,
    component_class,
    corrected_unet,
    square_side,
)
from edge_sdk.diffusion.schedule import Schedule
from edge_sdk.diffusion.schedulers import CLASSES, FLOW_CLASSES, check_last_step, scheduler_entries
from edge_sdk.diffusion.tables import LIBRARY_TABLES
from edge_sdk.diffusion.weight_files import weight_files
from edge_sdk.errors import EdgeSdkError, one_line
from edge_sdk.system.json import read_json
from edge_sdk.system.safetensors import read_header

SUPPORTED = "DDPM (UNet2DModel), Stable Diffusion 1.x and 2.x, and Stable Diffusion 3"
PIXEL_CHANNELS = 3
MOST_TENSORS = 10_000  # of a network whose weights cannot be read
MOST = 4096  # pixels of a picture's side, of a model that has no limit of its own
OTHER_AUTOENCODERS = ("vqvae", "movq", "vqgan", "vae_decoder", "image_vae")  # as pipelines name them


@dataclass(frozen=True)
class Family:
    """What belongs to a class of denoisers.

    Attributes:
        part: the denoiser's folder.
        in_channels: where its config has none.
        pipelines: accepted classes of pipelines.
        schedulers: accepted classes of schedulers.
        text_encoders: their folders and classes.
    """

    part: str
    in_channels: int
    pipelines: tuple[str, ...]
    schedulers: tuple[str, ...]
    text_encoders: dict[str, str] = field(default_factory=dict)


FAMILIES = {
    "UNet2DModel": Family("unet", 3, ("DDPMPipeline", "DDIMPipeline", "PNDMPipeline"), CLASSES),
    "UNet2DConditionModel": Family("unet", 4, STABLE_DIFFUSION, CLASSES, {"text_encoder": "CLIPTextModel"}),
    "SD3Transformer2DModel": Family(
        "transformer",
        16,
        ("StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline"),
        FLOW_CLASSES,
        {
            "text_encoder": "CLIPTextModelWithProjection",
            "text_encoder_2": "CLIPTextModelWithProjection",
            "text_encoder_3": "T5EncoderModel",
        },
    ),
}
# What a hub id brings beyond the parts that personalize takes: folders with weights, and files.
TRAINED_PARTS = ("", "transformer", "text_encoder_3")
TRAINED_FILES = ("scheduler_config.json", "tokenizer_3/*")


@dataclass(frozen=True)
class Place:
    """Where a denoiser is, before it is loaded.

    Attributes:
        part: its folder below ``folder``, "" for old DDPM repositories that have none.
        config: of the denoiser, as its file has it, corrected as diffusers does.
        scale: pixels of a picture's side for each of what is diffused; None where diffusion is on pixels.
        schedule: of its noise.
    """

    folder: Path
    part: str
    config: dict[str, Any]
    scale: int | None
    schedule: Schedule

    @property
    def in_channels(self) -> int:
        return int(self.config.get("in_channels", FAMILIES[self.config["_class_name"]].in_channels))

    def shape(self, resolution: int | None = None) -> tuple[int, int, int]:
        """(C, h, w) of what is diffused, for pictures of a side or of the model's own.

        Raises:
            EdgeSdkError: neither is known, or the model cannot have this side.
        """
        multiple, most = self._sides()
        if resolution is not None and (resolution % multiple or resolution > most):
            raise EdgeSdkError(
                f"resolution is {resolution}; of {self.folder / self.part} it must be a multiple of {multiple}, at "
                f"most {most}"
            )
        own = square_side(self.config.get("sample_size"))
        side = own if resolution is None else resolution // (self.scale or 1)
        if side is None or side < 1:
            raise EdgeSdkError(f"{self.folder / self.part} does not say its size; give --resolution")
        return (self.in_channels, side, side)

    def _sides(self) -> tuple[int, int]:
        """What a picture's side must be a multiple of, and its most.

        A DDPM must come back to every size that it halved; Stable Diffusion 3 has patches, and positions for so many.
        """
        kind, scale = self.config["_class_name"], self.scale or 1
        if kind == "UNet2DModel":
            return scale * 2 ** (len(self.config.get("block_out_channels", range(4))) - 1), MOST
        if kind == "SD3Transformer2DModel":
            patch = scale * self.config.get("patch_size", 2)
            return patch, patch * self.config.get("pos_embed_max_size", 96)
        return scale, MOST


def locate(name_or_path: str) -> Place:
    """Find a model's denoiser; of a hub model, files are fetched.

    Raises:
        EdgeSdkError: there is none, or it is of a kind that cannot unlearn.
    """
    folder = model_files.find(name_or_path, TRAINED_FILES, TRAINED_PARTS)
    model_files.check_entries(folder)
    if (folder / model_files.INTEGER_MARK).exists():
        raise EdgeSdkError(f"{folder} holds integer weights; unlearn the float model it was made from, then quantize")
    index = read_index(folder)
    _refuse_other_autoencoders(folder, index)
    part = next((part for part in ("unet", "transformer", "") if (folder / part / "config.json").is_file()), None)
    if part is None:
        raise EdgeSdkError(f"{folder} has no unet or transformer with a config.json; supported are {SUPPORTED}")
    path = folder / part / "config.json"
    config = read_config(path, f"supported are {SUPPORTED}")
    kind = config.get("_class_name")
    if not isinstance(kind, str):
        raise EdgeSdkError(f"{path} is not the config of a diffusers model; supported are {SUPPORTED}")
    if kind not in FAMILIES or (part and FAMILIES[kind].part != part) or config.get("addition_embed_type"):
        raise EdgeSdkError(f"{folder / part} is a {kind}, which cannot unlearn yet; supported are {SUPPORTED}")
    family = FAMILIES[kind]
    check_component(folder, index, family.part, kind, SUPPORTED)
    check_quantization(folder / part, config, ())
    if why := _otherwise(config, family.in_channels):
        raise EdgeSdkError(
            f"{folder / part} {why}, which cannot unlearn yet; supported are {SUPPORTED} that are told no class and "
            "say as many channels as they take; give one of these"
        )
    check_library_config(folder / part, kind)
    for name, wanted in family.text_encoders.items():
        _check_text_encoder(folder, index, name, wanted)
    if kind == "UNet2DConditionModel":
        config = corrected_unet(config)
    schedule = _read_schedule(folder, index, family)
    place = Place(folder, part, config, _vae_scale(folder, index) if part else None, schedule)
    _check_channels(place)
    return place


def read_index(folder: Path) -> dict[str, Any]:
    """``model_index.json``, empty where a folder has none, as old DDPM repositories.

    Raises:
        EdgeSdkError: it is damaged, or of a pipeline that cannot unlearn.
    """
    path = folder / INDEX
    if not path.exists():
        return {}
    try:
        index = read_json(path, model_files.AGAIN)
    except EdgeSdkError as error:
        raise EdgeSdkError(f"{path} is not the index of a diffusers model ({error})") from error
    pipelines = [name for family in FAMILIES.values() for name in family.pipelines]
    check_pipeline(folder, index, pipelines, SUPPORTED, "cannot unlearn yet")
    return index


def _refuse_other_autoencoders(folder: Path, index: dict[str, Any]) -> None:
    """Raises EdgeSdkError for a model on latents of another autoencoder than AutoencoderKL, such as LDM's VQModel."""
    for name in OTHER_AUTOENCODERS:
        if component_class(index, name) is not None or (folder / name).is_dir():
            kind = component_class(index, name) or "an autoencoder"
            raise EdgeSdkError(
                f"{folder} has a {name} ({one_line(kind, 80)}), so its denoiser works on latents that cannot be "
                f"unlearned yet; supported are {SUPPORTED}"
            )


def check_library_config(folder: Path, kind: str) -> None:
    """Check what diffusers or transformers builds a network by, before it takes memory.

    Args:
        folder: of the network's config and weights.
        kind: the library's class.

    Raises:
        EdgeSdkError: the config is damaged or describes another network than the one that has these weights.
    """
    path = folder / "config.json"
    config, headers = read_config(path, model_files.AGAIN), dict[Path, dict[str, Any]]()
    with contextlib.suppress(EdgeSdkError):  # damaged weights are an error of loading them
        headers = {file: read_header(file) for file in weight_files(folder)}
    for file, header in headers.items():
        check_weight_types(file, header)
    entries = [entry for header in headers.values() for name, entry in header.items() if name != "__metadata__"]
    sizes = set[int]().union(*(entry["shape"] for entry in entries)) if entries else None
    try:
        check_config(config, LIBRARY_TABLES[kind], len(entries) or MOST_TENSORS, sizes)
    except ValueError as error:
        raise EdgeSdkError(f"the model's {kind} cannot be used ({path}: {error}); supported are {SUPPORTED}") from error


def _otherwise(config: dict[str, Any], channels: int) -> str | None:
    """What a denoiser is told or says beyond a picture and a prompt, in words; ``channels`` are the default."""
    for name in ("class_embed_type", "num_class_embeds"):
        if config.get(name) is not None:
            return f"is told a class ({name} {config[name]!r})"
    taken, given = config.get("in_channels", channels), config.get("out_channels", channels)
    if given is not None and (taken != given or not isinstance(taken, int)):
        return f"takes {taken!r} channels and says {given!r}"
    return None


def _check_text_encoder(folder: Path, index: dict[str, Any], name: str, wanted: str) -> None:
    """Raises EdgeSdkError for a text encoder of another class; one that is absent is an error of the first prompt."""
    check_component(folder, index, name, wanted, SUPPORTED)
    path = folder / name / "config.json"
    if not path.is_file():
        return
    config = read_config(path, model_files.AGAIN)
    if (declared := config.get("architectures") or [wanted]) != [wanted]:
        raise EdgeSdkError(f"{folder / name} is a {one_line(declared, 120)}; supported is {wanted} ({SUPPORTED})")
    check_quantization(folder / name, config, ())
    check_library_config(folder / name, wanted)


def _vae_scale(folder: Path, index: dict[str, Any]) -> int | None:
    """Pixels of a picture's side for each latent; None of a model without an autoencoder."""
    if not (folder / "vae").is_dir():
        return None
    check_component(folder, index, "vae", "AutoencoderKL", SUPPORTED)
    path = folder / "vae" / "config.json"
    config = read_config(path, model_files.AGAIN)
    if (kind := config.get("_class_name", "AutoencoderKL")) != "AutoencoderKL":
        raise EdgeSdkError(f"{folder / 'vae'} is a {one_line(kind, 80)}; supported is AutoencoderKL ({SUPPORTED})")
    check_quantization(folder / "vae", config, ())
    check_library_config(folder / "vae", "AutoencoderKL")
    if "block_out_channels" not in config:
        raise EdgeSdkError(f"{path} is not the config of an AutoencoderKL; {model_files.AGAIN}")
    return 2 ** (len(config["block_out_channels"]) - 1)


def _check_channels(place: Place) -> None:
    """Raises EdgeSdkError if what is diffused are neither pictures in colour nor latents of the model's autoencoder."""
    where = place.folder / place.part
    if place.scale is None and place.config["_class_name"] != "UNet2DModel":
        raise EdgeSdkError(f"{place.folder} has no vae, and {where} works on latents; {model_files.AGAIN}")
    if place.scale is None:
        wanted, what = PIXEL_CHANNELS, "pictures have"
    else:
        wanted, what = read_config(place.folder / "vae" / "config.json", "").get("latent_channels", 4), "the vae gives"
    if place.in_channels != wanted:
        raise EdgeSdkError(f"{where} diffuses {place.in_channels} channels, and {what} {wanted}; give another model")


def _read_schedule(folder: Path, index: dict[str, Any], family: Family) -> Schedule:
    """The noise schedule; sampling begins at its last step."""
    places = (folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json")
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise EdgeSdkError(f"{folder} has no scheduler_config.json; download the model again")
    config, declared = read_config(path, model_files.AGAIN), component_class(index, "scheduler")
    try:
        check_last_step(scheduler_entries(config, family.schedulers, declared), True)
        return Schedule.from_dict(config, family.schedulers, declared)
    except EdgeSdkError as error:
        raise EdgeSdkError(f"{path} cannot be used: {error}; supported are {SUPPORTED}") from error
