"""The models that can unlearn: a diffusers denoiser to be trained, and everything around it frozen."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from edge_sdk.diffusion.schedule import Schedule
from edge_sdk.diffusion.weight_files import WEIGHT_FILES, chosen_file, is_index, weight_files
from edge_sdk.errors import EdgeSdkError, is_panic, one_line
from edge_sdk.system.memory import keep_heap, use_cuda
from edge_sdk.unlearning.conditioning import ENCODERS, Condition
from edge_sdk.unlearning.place import Place, check_library_config, locate

AT_ONCE = 1 << 14  # pixels that the VAE encodes or decodes together, if more pictures than one have fewer
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
    weight_files(path)
    try:
        module, vae = _network(kind, path), None
        if place.scale is not None:
            weight_files(folder / "vae")
            vae = _network(diffusers.AutoencoderKL, folder / "vae").to(device).requires_grad_(False)
    except UNREADABLE as error:
        raise EdgeSdkError(f"{folder} cannot be loaded: {one_line(error, 300)}") from error
    for parameter in module.parameters():
        if not torch.isfinite(parameter).all():
            raise EdgeSdkError(f"{path} holds a number that is not finite; download it again")
    return Denoiser(place, module.to(device).eval().requires_grad_(False), place.schedule, shape, vae, device)


def _network(kind: Any, path: Path) -> Any:
    """A network of diffusers in float32, with every weight from its folder.

    Raises:
        ValueError: a weight is missing, which the library would draw at random.
    """
    from diffusers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what it warns of is refused below
    try:
        with _plain_names(path) as place:
            module, info = kind.from_pretrained(
                place, use_safetensors=True, low_cpu_mem_usage=False, output_loading_info=True
            )
    finally:
        logging.set_verbosity(verbosity)
    if missing := sorted(info["missing_keys"]):
        raise ValueError(f"{path.name or path} lacks {len(missing)} weights of its config, such as {missing[0]}")
    return module.float()


@contextmanager
def _plain_names(path: Path) -> Iterator[Path]:
    """A folder whose weights have the names that diffusers looks for: the given one, or a temporary one of links."""
    plain, chosen = WEIGHT_FILES[0], chosen_file(path)
    if chosen.name in (plain, f"{plain}.index.json"):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        links = Path(folder)
        shutil.copyfile(path / "config.json", links / "config.json")
        for file in weight_files(path):
            (links / (file.name if is_index(chosen.name) else plain)).symlink_to(file.resolve())
        if is_index(chosen.name):
            shutil.copyfile(chosen, links / f"{plain}.index.json")
        yield links


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
