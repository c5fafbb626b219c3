"""The models that can unlearn: a diffusers denoiser to be trained, and everything around it frozen.

Families differ in the class of the denoiser: ``UNet2DModel`` (unconditional DDPM, on pixels), ``UNet2DConditionModel``
(Stable Diffusion 1.x, 2.x) and ``SD3Transformer2DModel`` (Stable Diffusion 3, a flow), the latter two on latents.
"""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from edge_sdk.diffusion import folder as model_files
from edge_sdk.diffusion.configs import LIBRARY_TABLES, check_config, read_config
from edge_sdk.diffusion.schedule import Schedule
from edge_sdk.errors import EdgeSdkError, is_panic, one_line
from edge_sdk.system.memory import keep_heap, use_cuda
from edge_sdk.unlearning.conditioning import ENCODERS, Condition

CLASSES = {"UNet2DModel": "unet", "UNet2DConditionModel": "unet", "SD3Transformer2DModel": "transformer"}
SUPPORTED = "DDPM (UNet2DModel), Stable Diffusion 1.x and 2.x, and Stable Diffusion 3"
MOST_TENSORS = 10_000  # of a network whose weights cannot be read
AT_ONCE = 1 << 14  # pixels that the VAE encodes or decodes together, if more pictures than one have fewer
MOST = 4096  # pixels of a picture's side, of a model that has no limit of its own
# What diffusers and transformers raise, of a folder that lacks a file or holds a damaged one.
UNREADABLE = (
    OSError,
    ValueError,
    RuntimeError,
    TypeError,
    LookupError,
    UnboundLocalError,
    AttributeError,
    ArithmeticError,
    SafetensorError,
)


@dataclass(frozen=True)
class Place:
    """Where a denoiser is, before it is loaded.

    Attributes:
        part: its folder below ``folder``, "" for old DDPM repositories that have none.
        config: of the denoiser, as its file has it.
        scale: pixels of a picture's side for each of what is diffused; None where diffusion is on pixels.
    """

    folder: Path
    part: str
    config: dict[str, Any]
    scale: int | None

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
        side = self.config.get("sample_size") if resolution is None else resolution // (self.scale or 1)
        if not isinstance(side, int) or side < 1:
            raise EdgeSdkError(f"{self.folder / self.part} does not say its size; give --resolution")
        return (int(self.config.get("in_channels", 3)), side, side)

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


@dataclass
class Denoiser:
    """A loaded denoiser in float32.

    Attributes:
        vae: None where diffusion is on pixels.
        shape: (C, h, w) of what is diffused.
    """

    place: Place
    module: nn.Module
    schedule: Schedule
    shape: tuple[int, int, int]
    vae: nn.Module | None = None
    device: str = "cpu"
    _conditions: dict[str, Condition] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.place.folder

    @property
    def kind(self) -> str:
        return type(self.module).__name__

    @property
    def is_conditional(self) -> bool:
        return self.kind != "UNet2DModel"

    def arguments(self, z: torch.Tensor, t: torch.Tensor, condition: Condition) -> tuple[tuple, dict[str, Any]]:
        """How the module is called for z (N, C, h, w) at timesteps t (N,): positional and named arguments."""
        time = self.schedule.times().to(z.device)[t]
        named = {name: value.expand(len(z), *value.shape[1:]) for name, value in condition.items()}
        if self.kind == "SD3Transformer2DModel":
            return (z,), {"timestep": time, **named, "return_dict": False}
        return (z, time), {**named, "return_dict": False}

    @torch.no_grad()
    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pictures (N, 3, H, W) in [-1, 1] -> x0 (N, C, h, w), the mean of the VAE's distribution."""
        if self.vae is None:
            return pixels
        mean = torch.cat([self.vae.encode(some).latent_dist.mean for some in pixels.split(self._at_once)])
        return (mean - (self.vae.config.shift_factor or 0.0)) * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, x0: torch.Tensor) -> torch.Tensor:
        """x0 (N, C, h, w) -> pictures (N, 3, H, W) in [-1, 1]."""
        if self.vae is None:
            return x0.clamp(-1, 1)
        latents = x0 / self.vae.config.scaling_factor + (self.vae.config.shift_factor or 0.0)
        return torch.cat([self.vae.decode(some).sample for some in latents.split(self._at_once)]).clamp(-1, 1)

    @property
    def _at_once(self) -> int:
        """Pictures that the VAE takes together: of large ones one, for memory's sake."""
        return max(1, AT_ONCE // (self.shape[1] * self.shape[2] * (self.place.scale or 1) ** 2))

    def condition(self, prompt: str) -> Condition:
        """What the denoiser is told of a prompt; text encoders are loaded for it and freed.

        Raises:
            EdgeSdkError: a text encoder or a tokenizer is missing or damaged, or a pickle.
        """
        if not self.is_conditional:
            return {}
        if prompt not in self._conditions:
            encoded = _encoded(self.kind, self.folder, prompt)
            self._conditions[prompt] = {name: value.to(self.device) for name, value in encoded.items()}
        return self._conditions[prompt]


def load_denoiser(name_or_place: str | Place, resolution: int | None = None, device: str = "cpu") -> Denoiser:
    """Load a model to be repaired; nothing is executed from its folder, pickles are refused.

    Args:
        name_or_place: "pocket", a diffusers folder, or a hub id; or what `locate` made of it.
        resolution: side in pixels; None for the model's own.

    Raises:
        EdgeSdkError: no such model, another kind of model, a damaged file, a resolution that it cannot have, or no
            such device.
    """
    import diffusers

    keep_heap()
    if device == "cuda":
        use_cuda()
    place = locate(name_or_place) if isinstance(name_or_place, str) else name_or_place
    folder, path, kind = place.folder, place.folder / place.part, getattr(diffusers, place.config["_class_name"])
    shape = place.shape(resolution)
    model_files.weight_files(path)
    try:
        module, vae = _network(kind, path), None
        if place.scale is not None:
            model_files.weight_files(folder / "vae")
            vae = _network(diffusers.AutoencoderKL, folder / "vae").to(device).requires_grad_(False)
        schedule = _schedule(folder)
    except UNREADABLE as error:
        raise EdgeSdkError(f"{folder} cannot be loaded: {one_line(error, 300)}") from error
    for parameter in module.parameters():
        if not torch.isfinite(parameter).all():
            raise EdgeSdkError(f"{path} holds a number that is not finite; download it again")
    return Denoiser(place, module.to(device).eval().requires_grad_(False), schedule, shape, vae, device)


def _network(kind: Any, path: Path) -> Any:
    """A network of diffusers in float32, with every weight from its folder.

    Raises:
        ValueError: a weight is missing, which the library would draw at random.
    """
    from diffusers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what it warns of is refused below
    try:
        module, info = kind.from_pretrained(
            path, use_safetensors=True, low_cpu_mem_usage=False, output_loading_info=True
        )
    finally:
        logging.set_verbosity(verbosity)
    if missing := sorted(info["missing_keys"]):
        raise ValueError(f"{path.name or path} lacks {len(missing)} weights of its config, such as {missing[0]}")
    return module.float()


def locate(name_or_path: str) -> Place:
    """Find a model's denoiser; of a hub model, files are fetched.

    Raises:
        EdgeSdkError: there is none, or it is of a kind that cannot unlearn.
    """
    folder = model_files.find(name_or_path, TRAINED_FILES)
    model_files.check_entries(folder)
    if (folder / model_files.INTEGER_MARK).exists():
        raise EdgeSdkError(f"{folder} holds integer weights; unlearn the float model it was made from, then quantize")
    part = next((part for part in ("unet", "transformer", "") if (folder / part / "config.json").is_file()), None)
    if part is None:
        raise EdgeSdkError(f"{folder} has no unet or transformer with a config.json; supported are {SUPPORTED}")
    path = folder / part / "config.json"
    config = read_config(path, f"supported are {SUPPORTED}")
    found = config.get("_class_name")
    if not isinstance(found, str):
        raise EdgeSdkError(f"{path} is not the config of a diffusers model; supported are {SUPPORTED}")
    if found not in CLASSES or (part and CLASSES[found] != part) or config.get("addition_embed_type"):
        raise EdgeSdkError(f"{folder / part} is a {found}, which cannot unlearn yet; supported are {SUPPORTED}")
    _refuse_libraries(folder / part, config)
    if why := _otherwise(config):
        raise EdgeSdkError(
            f"{folder / part} {why}, which cannot unlearn yet; supported are {SUPPORTED} that are told no class and "
            "say as many channels as they take; give one of these"
        )
    check_library_config(folder / part, found)
    return Place(folder, part, config, _vae_scale(folder) if part else None)


def check_library_config(folder: Path, kind: str) -> None:
    """Check what diffusers or transformers builds a network by, before it takes memory.

    Args:
        folder: of the network's config and weights.
        kind: the library's class.

    Raises:
        EdgeSdkError: the config is damaged or describes another network than the one that has these weights.
    """
    path = folder / "config.json"
    config, shapes = read_config(path, model_files.AGAIN), list[list[int]]()
    with contextlib.suppress(EdgeSdkError):  # damaged weights are an error of loading them
        for file in model_files.weight_files(folder):
            entries = model_files.read_header(file)
            entries.pop("__metadata__", None)
            shapes += [entry["shape"] for entry in entries.values()]
    try:
        sizes = set[int]().union(*shapes) if shapes else None
        check_config(config, LIBRARY_TABLES[kind], len(shapes) or MOST_TENSORS, sizes)
    except ValueError as error:
        raise EdgeSdkError(f"the model's {kind} cannot be used ({path}: {error}); supported are {SUPPORTED}") from error


def _otherwise(config: dict[str, Any]) -> str | None:
    """What a denoiser is told or says beyond a picture and a prompt, in words."""
    for name in ("class_embed_type", "num_class_embeds"):
        if config.get(name) is not None:
            return f"is told a class ({name} {config[name]!r})"
    taken, said = config.get("in_channels"), config.get("out_channels")
    if None not in (taken, said) and (taken != said or not isinstance(taken, int)):
        return f"takes {taken!r} channels and says {said!r}"
    return None


def _refuse_libraries(folder: Path, config: dict[str, Any]) -> None:
    """Raises EdgeSdkError for a config that makes diffusers load a library of the model's choice."""
    if config.get("quantization_config") is not None:
        raise EdgeSdkError(f"{folder} was quantized by another library (quantization_config); give the float model")


def _vae_scale(folder: Path) -> int | None:
    if not (folder / "vae").is_dir():
        return None
    path = folder / "vae" / "config.json"
    config = read_config(path, model_files.AGAIN)
    _refuse_libraries(folder / "vae", config)
    check_library_config(folder / "vae", "AutoencoderKL")
    if "block_out_channels" not in config:
        raise EdgeSdkError(f"{path} is not the config of an AutoencoderKL; {model_files.AGAIN}")
    return 2 ** (len(config["block_out_channels"]) - 1)


# What a hub id brings beyond the parts that personalize takes.
TRAINED_FILES = (
    "config.json",
    "scheduler_config.json",
    "diffusion_pytorch_model*.safetensors",
    "transformer/*.json",
    "transformer/*.safetensors",
    "text_encoder_3/*.json",
    "text_encoder_3/*.safetensors",
    "tokenizer_3/*",
)


def _schedule(folder: Path) -> Schedule:
    places = (folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json")
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise EdgeSdkError(f"{folder} has no scheduler_config.json; download the model again")
    return Schedule.from_dict(read_config(path, model_files.AGAIN))


def _encoded(kind: str, folder: Path, prompt: str) -> Condition:
    """What a kind of denoiser is told of a prompt, by the text encoders in a folder."""
    try:
        for part in sorted(folder.glob("text_encoder*")):
            check_library_config(part, "T5EncoderModel" if part.name == "text_encoder_3" else "CLIPTextModel")
        return ENCODERS[kind](folder, prompt)
    except BaseException as error:
        if not (isinstance(error, (*UNREADABLE, EdgeSdkError)) or is_panic(error)):
            raise
        raise EdgeSdkError(
            f"the text encoder or tokenizer of {folder} cannot be used ({one_line(error, 300)}); "
            "download the model again"
        ) from error
