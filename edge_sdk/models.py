"""Where a model is and how its parts are loaded: the embedded one, a diffusers folder, an integer checkpoint, a hub id.

Parts are loaded one at a time, so that the VAE can be used and freed before the denoiser exists.
"""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sdk import model_files, pocket
from edge_sdk.errors import EdgeSdkError, MissingExtraError

if TYPE_CHECKING:
    from torch import nn

    from edge_sdk.diffusion.text import TextEncoder

POCKET = pocket.MODEL
VAE_WEIGHTS = "int8"  # the VAE runs a few times only; int4 would cost pictures and save little
_CLASSES = {
    "unet": ("diffusers.models.unets.unet_2d_condition", "UNet2DConditionModel"),
    "vae": ("diffusers.models.autoencoders.autoencoder_kl", "AutoencoderKL"),
    "text_encoder": ("transformers.models.clip.modeling_clip", "CLIPTextModel"),
}


@dataclass(frozen=True)
class Model:
    """A checked model folder and how its weights are to be executed.

    Attributes:
        weights: "int8", "int4" or "none".
        execution: "integer", "fused" or, for float weights, "dequantized".
    """

    name: str
    folder: Path
    weights: str
    execution: str
    stored_as_integers: bool

    @property
    def is_pocket(self) -> bool:
        return self.folder == POCKET

    def fingerprint(self) -> str:
        """Identifies the model's files."""
        return model_files.fingerprint(self.folder)

    def config(self, part: str) -> dict[str, Any]:
        return json.loads((self.folder / part / "config.json").read_text())

    def vae_scale(self) -> int:
        """Pixels of a picture's side per latent.

        Raises:
            EdgeSdkError: the VAE's config does not say.
        """
        channels = self.config("vae").get("block_out_channels")
        if not isinstance(channels, list) or not channels:
            raise EdgeSdkError(f"{self.folder / 'vae' / 'config.json'} has no block_out_channels; download it again")
        return 2 ** (len(channels) - 1)

    def resolution(self) -> int:
        """The side of a picture in pixels that the model was made for.

        Raises:
            EdgeSdkError: the model's configs do not say.
        """
        side = self.config("unet").get("sample_size")
        if not isinstance(side, int):
            raise EdgeSdkError(f"{self.folder / 'unet' / 'config.json'} has no sample_size; give --resolution")
        return side * self.vae_scale()

    def load(self, part: str) -> "nn.Module":
        """One of "unet", "vae" and "text_encoder", in eval mode, with integer layers unless weights are "none".

        Raises:
            EdgeSdkError: the part cannot be loaded; one line naming the folder.
        """
        from edge_sdk.quantization import load_component, quantize_module

        kind, folder = _class_of(part), self.folder / part
        if self.stored_as_integers:
            return load_component(lambda: _build(kind, folder), folder, self.execution)
        for file in model_files.weight_files(folder):
            model_files.check_finite(file)
        try:
            module = kind.from_pretrained(folder, use_safetensors=True, local_files_only=True, **_float32(part))
        except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
            raise EdgeSdkError(f"{folder} cannot be loaded: {_one_line(error)}") from error
        module.eval().requires_grad_(False)
        if self.weights == "none":
            return module
        return quantize_module(module, VAE_WEIGHTS if part == "vae" else self.weights, self.execution)

    def load_text(self) -> "TextEncoder":
        """The tokenizer with the text encoder."""
        from edge_sdk.diffusion.text import TextEncoder

        return TextEncoder(self.load_tokenizer(), self.load("text_encoder"))

    def load_tokenizer(self) -> Any:
        kind = _import("transformers.models.clip.tokenization_clip", "CLIPTokenizer")
        try:
            return kind.from_pretrained(self.folder / "tokenizer", local_files_only=True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EdgeSdkError(f"{self.folder / 'tokenizer'} cannot be loaded: {_one_line(error)}") from error

    def load_scheduler(self) -> Any:
        """A DDIM scheduler with the model's own table; training reads its table, generation runs it."""
        kind = _import("diffusers.schedulers.scheduling_ddim", "DDIMScheduler")
        try:
            return kind.from_pretrained(self.folder / "scheduler", local_files_only=True)
        except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
            raise EdgeSdkError(f"{self.folder / 'scheduler'} cannot be loaded: {_one_line(error)}") from error


def open_model(name_or_path: str, weights: str = "int8", execution: str = "integer") -> Model:
    """Find and check a model; no weight is read yet. The network is used for a hub id only.

    Args:
        name_or_path: "pocket", a diffusers folder, an integer checkpoint, or a hub id such as "org/name".
        weights: "int8", "int4" or "none". An integer checkpoint has its own and any other request is refused.
        execution: "integer" or "fused".

    Raises:
        EdgeSdkError: no such model, a file is missing, damaged or a pickle, or the architecture is not supported.
        MissingExtraError: PyTorch and its companions are not installed.
    """
    for package in ("torch", "diffusers", "transformers", "optimum"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError("running a PyTorch model", "torch")
    folder = POCKET if name_or_path == "pocket" else model_files.find(name_or_path)
    stored = model_files.check(folder)
    if stored not in (None, weights):
        raise EdgeSdkError(f"{name_or_path} holds {stored} weights; ask for --weights {stored}, not {weights}")
    return Model(name_or_path, folder, weights, "dequantized" if weights == "none" else execution, stored is not None)


def _class_of(part: str) -> Any:
    return _import(*_CLASSES[part])


def _import(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise MissingExtraError("running a PyTorch model", "torch") from error


def _build(kind: Any, folder: Path) -> "nn.Module":
    config = json.loads((folder / "config.json").read_text())
    if hasattr(kind, "from_config"):
        return kind.from_config(config)
    return kind(kind.config_class.from_dict(config))


def _float32(part: str) -> dict[str, Any]:
    import torch

    return {"dtype" if part == "text_encoder" else "torch_dtype": torch.float32}


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
