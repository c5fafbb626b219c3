"""The models that can unlearn: a diffusers denoiser to be trained, and everything around it frozen.

Families differ in the class of the denoiser: ``UNet2DModel`` (unconditional DDPM, on pixels), ``UNet2DConditionModel``
(Stable Diffusion 1.x, 2.x) and ``SD3Transformer2DModel`` (Stable Diffusion 3, a flow), the latter two on latents.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edge_sdk import model_files, pocket
from edge_sdk.diffusion.schedule import Schedule
from edge_sdk.errors import EdgeSdkError

CLASSES = {"UNet2DModel": "unet", "UNet2DConditionModel": "unet", "SD3Transformer2DModel": "transformer"}
SUPPORTED = "DDPM (UNet2DModel), Stable Diffusion 1.x and 2.x, and Stable Diffusion 3"
T5_TOKENS = 256  # of a prompt of Stable Diffusion 3, as diffusers has it
Condition = dict[str, torch.Tensor]  # what a denoiser is told of a prompt, by argument name, (1, ...) each


@dataclass
class Denoiser:
    """A loaded denoiser in float32.

    Attributes:
        part: its folder below ``folder``, "" for old DDPM repositories that have none.
        vae: None where diffusion is on pixels.
        shape: (C, h, w) of what is diffused.
    """

    name: str
    folder: Path
    part: str
    module: nn.Module
    schedule: Schedule
    shape: tuple[int, int, int]
    vae: nn.Module | None = None
    device: str = "cpu"
    config: dict[str, Any] = field(default_factory=dict)  # of the module, as its file has it
    _conditions: dict[str, Condition] = field(default_factory=dict)

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
        mean = torch.cat([self.vae.encode(one[None]).latent_dist.mean for one in pixels])
        return (mean - (self.vae.config.shift_factor or 0.0)) * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, x0: torch.Tensor) -> torch.Tensor:
        """x0 (N, C, h, w) -> pictures (N, 3, H, W) in [-1, 1]."""
        if self.vae is None:
            return x0.clamp(-1, 1)
        latents = x0 / self.vae.config.scaling_factor + (self.vae.config.shift_factor or 0.0)
        return torch.cat([self.vae.decode(one[None]).sample for one in latents]).clamp(-1, 1)

    def condition(self, prompt: str) -> Condition:
        """What the denoiser is told of a prompt; text encoders are loaded for it and freed."""
        if not self.is_conditional:
            return {}
        if prompt not in self._conditions:
            encoded = _ENCODERS[self.kind](self.folder, prompt)
            self._conditions[prompt] = {name: value.to(self.device) for name, value in encoded.items()}
        return self._conditions[prompt]


def load_denoiser(name_or_path: str, resolution: int | None = None, device: str = "cpu") -> Denoiser:
    """Load a model to be repaired; nothing is executed from its folder, pickles are refused.

    Args:
        name_or_path: "pocket", a diffusers folder, or a hub id.
        resolution: side in pixels; None for the model's own.

    Raises:
        EdgeSdkError: no such model, another kind of model, a damaged file, or a resolution that it cannot have.
    """
    import diffusers

    folder, part, config = locate(name_or_path)
    place, kind = folder / part, getattr(diffusers, config["_class_name"])
    model_files.weight_files(place)
    try:
        module = kind.from_pretrained(place, use_safetensors=True, low_cpu_mem_usage=False).float()
        vae = None
        if part and (folder / "vae").is_dir():
            model_files.weight_files(folder / "vae")
            vae = diffusers.AutoencoderKL.from_pretrained(folder / "vae", use_safetensors=True, low_cpu_mem_usage=False)
            vae.float().to(device).requires_grad_(False)
        schedule = _schedule(folder)
    except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        raise EdgeSdkError(f"{folder} cannot be loaded: {' '.join(str(error).split())[:300]}") from error
    for parameter in module.parameters():
        if not torch.isfinite(parameter).all():
            raise EdgeSdkError(f"{place} holds a number that is not finite; download it again")
    scale = 1 if vae is None else 2 ** (len(vae.config.block_out_channels) - 1)
    side = module.config.sample_size if resolution is None else resolution // scale
    if not isinstance(side, int) or side < 1:
        raise EdgeSdkError(f"{place} does not say its size; give --resolution")
    shape = (module.config.in_channels, side, side)
    return Denoiser(name_or_path, folder, part, module.to(device).eval().requires_grad_(False), schedule, shape, vae,
                    device, config)  # fmt: skip


def locate(name_or_path: str) -> tuple[Path, str, dict[str, Any]]:
    """The folder of a model, the denoiser's place in it, and the denoiser's config.

    Raises:
        EdgeSdkError: there is none, or it is of a kind that cannot unlearn.
    """
    folder = pocket.MODEL if name_or_path == "pocket" else model_files.find(name_or_path, TRAINED_FILES)
    if (folder / model_files.INTEGER_MARK).exists():
        raise EdgeSdkError(f"{folder} holds integer weights; unlearn the float model it was made from, then quantize")
    part = next((part for part in ("unet", "transformer", "") if (folder / part / "config.json").is_file()), None)
    if part is None:
        raise EdgeSdkError(f"{folder} has no unet or transformer with a config.json; supported are {SUPPORTED}")
    path = folder / part / "config.json"
    try:
        config = json.loads(path.read_text())
        found = config["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EdgeSdkError(f"{path} is not the config of a diffusers model; supported are {SUPPORTED}") from error
    if found not in CLASSES or (part and CLASSES[found] != part) or config.get("addition_embed_type"):
        raise EdgeSdkError(f"{folder / part} is a {found}, which cannot unlearn yet; supported are {SUPPORTED}")
    return folder, part, config


# What a hub id brings beyond the parts that personalize takes.
TRAINED_FILES = (
    "config.json", "scheduler_config.json", "diffusion_pytorch_model*.safetensors", "transformer/*.json",
    "transformer/*.safetensors", "text_encoder_3/*.json", "text_encoder_3/*.safetensors", "tokenizer_3/*",
)  # fmt: skip


def _schedule(folder: Path) -> Schedule:
    places = (folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json")
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise EdgeSdkError(f"{folder} has no scheduler_config.json; download the model again")
    return Schedule.from_dict(json.loads(path.read_text()))


def _stable_diffusion(folder: Path, prompt: str) -> Condition:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, unet=None, vae=None, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        use_safetensors=True,
    ).to(torch.float32)  # fmt: skip
    with torch.no_grad():
        return {"encoder_hidden_states": pipeline.encode_prompt(prompt, "cpu", 1, False)[0]}


def _stable_diffusion_3(folder: Path, prompt: str) -> Condition:
    from diffusers import StableDiffusion3Pipeline

    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, transformer=None, vae=None, use_safetensors=True)
    pipeline.to(torch.float32)
    length = min(T5_TOKENS, getattr(pipeline.tokenizer_3, "model_max_length", T5_TOKENS))
    with torch.no_grad():
        hidden, _, pooled, _ = pipeline.encode_prompt(
            prompt, None, None, "cpu", do_classifier_free_guidance=False, max_sequence_length=length
        )
    return {"encoder_hidden_states": hidden, "pooled_projections": pooled}


_ENCODERS: dict[str, Callable[[Path, str], Condition]] = {
    "UNet2DConditionModel": _stable_diffusion, "SD3Transformer2DModel": _stable_diffusion_3,
}  # fmt: skip
