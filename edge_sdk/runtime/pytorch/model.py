"""Where a model is and how its parts are loaded: the embedded one, a diffusers folder, an integer checkpoint, a hub id.

Parts are loaded one at a time, so that the VAE can be used and freed before the denoiser exists. No float model is
ever whole in memory, but for ``weights="none"``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sdk import pocket
from edge_sdk.config import DEVICES, EXECUTIONS, PREDICTION_TYPES, RESIDENCIES, WEIGHTS, check_resolution, one_of
from edge_sdk.diffusion import components
from edge_sdk.diffusion import folder as model_files
from edge_sdk.diffusion.configs import read_config
from edge_sdk.diffusion.location import fingerprint, locate, weights_fingerprint
from edge_sdk.diffusion.pipeline import component_class, corrected_unet, square_side
from edge_sdk.diffusion.prompts import training_prompts
from edge_sdk.diffusion.schedulers import CLASSES
from edge_sdk.diffusion.single_file import SingleFile
from edge_sdk.diffusion.tables import MOST_BLOCKS
from edge_sdk.diffusion.weight_files import weight_files
from edge_sdk.errors import EdgeSdkError, one_line, require
from edge_sdk.system.memory import bound_heap, release, use_cuda

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import numpy as np
    import torch
    from torch import nn

    from edge_sdk.diffusion.ddim import Ddim
    from edge_sdk.diffusion.schedule import Schedule
    from edge_sdk.quantization.source import FloatWeights
    from edge_sdk.runtime.pytorch.generate import DenoiserStage, TextStage, VaeStage
    from edge_sdk.runtime.pytorch.objective import Latents, StableDiffusionObjective
    from edge_sdk.runtime.pytorch.text import Text

VAE_WEIGHTS = "int8"  # the VAE runs a few times only; int4 would cost pictures and save little


@dataclass(frozen=True)
class Model:
    """A checked model folder and how its weights are to be executed.

    Attributes:
        weights: "int8", "int4" or "none".
        execution: "integer", "fused" or, for float weights, "dequantized".
        residency: "resident", "mapped" or "streamed"; the last two for an integer checkpoint only.
        device: "cpu" or "cuda".
        activations: "16", "8" or "difference", of the objective; see `PersonalizeConfig`.
        owned: what goes with the model, such as a temporary folder.
        single_file: what holds the weights, if ``folder`` does not.
    """

    name: str
    folder: Path
    weights: str
    execution: str
    stored_as_integers: bool
    residency: str = "resident"
    device: str = "cpu"
    activations: str = "16"
    owned: object = field(default=None, repr=False, compare=False)
    packages = ("torch", "diffusers", "transformers", "optimum-quanto", "numpy")  # that it runs on
    mu_min = None  # comes with a bundle only
    single_file: SingleFile | None = field(default=None, repr=False, compare=False)

    @property
    def is_pocket(self) -> bool:
        return self.folder in (pocket.MODEL, pocket.INT8)

    @property
    def parts(self) -> tuple[str, ...]:
        """What has weights: "text_encoder", for SDXL "text_encoder_2", "unet" and "vae"."""
        return components.parts(self.folder)

    @property
    def text_encoders(self) -> tuple[str, ...]:
        """Those of the `parts` that are text encoders."""
        return components.text_encoders(self.folder)

    @property
    def is_xl(self) -> bool:
        return len(self.text_encoders) > 1

    @property
    def label(self) -> str:
        """Its name without the place where it lies."""
        return self.name if self.is_pocket else self.folder.name

    @property
    def initializer_token(self) -> str | None:
        """The word to start from if the user names none."""
        return "person" if self.is_pocket else None

    def training_prompts(self, kind: str, placeholder: str) -> Sequence[str]:
        """The prompts of "object" or "style"; the embedded model has its own."""
        return training_prompts("pocket" if self.is_pocket else kind, placeholder)

    def latents_shape(self, side: int) -> tuple[int, int, int]:
        """(C, h, w) of a picture of so many pixels a side."""
        return self.config("unet").get("in_channels", 4), side // self.vae_scale(), side // self.vae_scale()

    @property
    def num_train_timesteps(self) -> int:
        return self.load_schedule().num_train_timesteps

    def fingerprint(self) -> str:
        """Identifies the model's files."""
        return fingerprint(self.folder, self.single_file)

    def preset(self, name: str) -> None:
        """No settings come with a model folder."""

    def weights_hash(self) -> str:
        """Identifies the model's weights."""
        return weights_fingerprint(self.folder, self.single_file)

    def fingerprints(self) -> dict[str, str]:
        """What identifies the model and how it runs."""
        how = (self.weights, self.execution, self.residency, self.device, self.activations)
        return {"model": self.fingerprint(), "weights": " ".join(how).removesuffix(" 16")}

    def config(self, part: str) -> dict[str, Any]:
        """The config of one of the `parts`, corrected as diffusers does on loading."""
        config = read_config(self.folder / part / "config.json", "download it again")
        return corrected_unet(config) if part == "unet" and not self.is_xl else config

    def vae_scale(self) -> int:
        """Pixels of a picture's side per latent.

        Raises:
            EdgeSdkError: the VAE's config does not say.
        """
        channels = self.config("vae").get("block_out_channels", [64])
        if not isinstance(channels, list) or not 0 < len(channels) <= MOST_BLOCKS:
            raise EdgeSdkError(f"{self.folder / 'vae' / 'config.json'} has no block_out_channels; download it again")
        return 2 ** (len(channels) - 1)

    def resolution(self) -> int:
        """The side of a picture in pixels that the model was made for.

        Raises:
            EdgeSdkError: the model's configs do not say.
        """
        side = square_side(self.config("unet").get("sample_size"))
        if side is None:
            raise EdgeSdkError(
                f"{self.folder / 'unet' / 'config.json'} has no sample_size of a square picture; give --resolution"
            )
        check_resolution(side * self.vae_scale())
        return side * self.vae_scale()

    def weights_of(self, part: str) -> str:
        """The weights that a part has."""
        return VAE_WEIGHTS if part == "vae" and self.weights != "none" else self.weights

    def builder(self, part: str) -> "Callable[[], nn.Module]":
        """Makes one of the `parts` with the shapes of its config.

        Raises:
            EdgeSdkError: the config describes a network that is not supported.
        """
        from edge_sdk.diffusion.networks import clip, unet, unet_config, vae

        kinds: dict[str, tuple[Any, Any]] = {
            "unet": (unet_config.UNetConfig, unet.UNet),
            "vae": (vae.VaeConfig, vae.Vae),
            "text_encoder": (clip.ClipConfig, clip.ClipText),
            "text_encoder_2": (clip.ClipConfig, partial(clip.ClipText, projected=True)),
        }
        read, make = kinds[part]
        try:
            config = read.from_dict(self.config(part))
        except EdgeSdkError as error:
            raise EdgeSdkError(
                f"{self.folder / part / 'config.json'} cannot be used: {one_line(error, 300)}"
            ) from error
        return lambda: make(config)

    def shapes(self, part: str) -> "nn.Module":
        """One of the `parts` on the meta device, in eval mode: with integer layers unless weights are "none"."""
        from edge_sdk.quantization import integer_form, shapes_only

        build = self.builder(part)
        if self.weights != "none":
            return integer_form(build, self.weights_of(part), self.execution)
        with shapes_only():
            return build().eval().requires_grad_(False)

    def source(self, part: str) -> "FloatWeights":
        """The weights of a part that is not an integer checkpoint's, to be read a piece at a time.

        Raises:
            EdgeSdkError: quanto saved it as integers, and other ones, or floats, are asked for.
        """
        from edge_sdk.quantization.source import FloatWeights

        if self.single_file is not None:
            return FloatWeights([self.single_file.path], self.single_file.entries[part])
        source = FloatWeights(weight_files(self.folder / part))
        if source.integers and self.weights_of(part) != "int8":
            raise EdgeSdkError(
                f"{self.folder / part} was saved by quanto as int8; ask for --weights int8, not {self.weights}"
            )
        return source

    def load(self, part: str) -> "nn.Module":
        """One of the `parts`, in eval mode, with integer layers unless weights are "none".

        Raises:
            EdgeSdkError: the part cannot be loaded; one line naming the folder.
        """
        from edge_sdk.quantization import load_component, quantized

        try:
            if self.stored_as_integers:
                build = self.builder(part)
                release()  # what imports took
                module = load_component(build, self.folder / part, self.execution, self.residency)
                if part == "vae":
                    module.encoder.in_bands = self.residency == "streamed"
                return module.to(self.device)
            module, source = self.shapes(part), self.source(part)
            if self.weights == "none":
                tensors = {name: source.read(name, tuple(t.shape)) for name, t in module.state_dict().items()}
            else:
                tensors = dict(quantized(module, source))
            module.load_state_dict(tensors, assign=True)
        except (ValueError, RuntimeError, TypeError, IndexError) as error:
            raise EdgeSdkError(f"{self.folder / part} cannot be loaded: {one_line(error, 300)}") from error
        return module.requires_grad_(False).to(self.device)

    def load_text(self) -> "Text":
        """The text side: the tokenizer with the text encoder, for SDXL two of each that look like one."""
        from edge_sdk.runtime.pytorch.text import TextEncoder
        from edge_sdk.runtime.pytorch.text_xl import TextEncoderPair

        names = zip(components.tokenizers(self.folder), self.text_encoders, strict=True)
        texts = [TextEncoder.from_folder(self.folder / tokenizer, self.load(part)) for tokenizer, part in names]
        if len(texts) == 1:
            return texts[0]
        return TextEncoderPair(texts[0], texts[1], model_files.zero_negative(self.folder))

    def load_objective(
        self, text: "Text", latents: "Latents", ids: "np.ndarray", num_vectors: int, time_ids: "np.ndarray"
    ) -> "StableDiffusionObjective":
        """Load the denoiser; the objective holds it and the text encoders, see `edge_sdk.runtime.base.Runtime`."""
        from edge_sdk.runtime.pytorch.objective import StableDiffusionObjective

        networks = text, self.load("unet"), self.load_schedule()
        release()
        return StableDiffusionObjective(*networks, latents, ids, num_vectors, time_ids, self.activations)

    def sampler(self) -> "tuple[Ddim, tuple[torch.Tensor, torch.Tensor]]":
        """The schedule, and a and b of every timestep, (T,) float32 each."""
        schedule = self.load_schedule()
        return schedule, schedule.coefficients()

    def text_stage(self, objective: "StableDiffusionObjective | None" = None) -> "AbstractContextManager[TextStage]":
        """The text encoders, an objective's own where there is one."""
        from edge_sdk.runtime.pytorch.generate import TextStage, held

        return held(TextStage(self.load_text() if objective is None else objective.text), "text")

    def denoiser_stage(
        self, objective: "StableDiffusionObjective | None" = None
    ) -> "AbstractContextManager[DenoiserStage]":
        """The denoiser, an objective's own where there is one."""
        from edge_sdk.runtime.pytorch.generate import DenoiserStage, held

        unet = self.load("unet") if objective is None else objective.unet
        return held(DenoiserStage(unet, self.load_schedule(), self.device), "unet")

    def vae_stage(self) -> "AbstractContextManager[VaeStage]":
        """The autoencoder."""
        from edge_sdk.runtime.pytorch.generate import VaeStage, held

        vae: Any = self.load("vae")
        return held(VaeStage(vae), "vae")

    def load_schedule(self) -> "Schedule":
        """The model's noise schedule, which training reads and generation runs with DDIM."""
        from edge_sdk.diffusion.schedule import Schedule

        path, index = self.folder / "scheduler" / "scheduler_config.json", model_files.read_index(self.folder)
        try:
            declared = component_class(index, "scheduler")
            return Schedule.from_dict(read_config(path, "download it again"), CLASSES, declared, not self.is_xl)
        except EdgeSdkError as error:
            raise EdgeSdkError(f"{path} cannot be used: {one_line(error, 300)}") from error


def open_model(
    name_or_path: str,
    weights: str = "int8",
    execution: str = "integer",
    residency: str = "resident",
    device: str = "cpu",
    from_floats: bool = False,
    prediction_type: str | None = None,
) -> Model:
    """Find and check a model; no weight is read yet. The network is used for a hub id only.

    Args:
        name_or_path: "pocket", a diffusers folder, a single-file checkpoint (.safetensors), an integer checkpoint, or
            a hub id such as "org/name".
        weights: "int8", "int4" or "none". An integer checkpoint has its own and any other request is refused.
        execution: "integer" or "fused".
        residency: "resident", "mapped" or "streamed"; see `edge_sdk.quantization.load_component`.
        device: "cpu" or "cuda"; a GPU takes resident weights only.
        from_floats: take the embedded model's float weights where there is an integer checkpoint of it.
        prediction_type: of a single-file checkpoint, "epsilon" or "v_prediction"; None for what it says itself, or
            what is usual. A folder has it in its schedule.

    Raises:
        EdgeSdkError: no such model or device, an unsupported architecture, or a file is missing, damaged or a pickle.
        MissingExtraError: PyTorch and its companions are not installed.
    """
    require("running a PyTorch model", "torch", "torch")
    one_of("weights", weights, WEIGHTS)
    one_of("execution", execution, EXECUTIONS)
    one_of("residency", residency, RESIDENCIES)
    one_of("device", device, DEVICES)
    if device == "cuda":
        if residency != "resident":
            raise EdgeSdkError(f"device cuda takes resident weights only, not {residency}; use --residency resident")
        use_cuda()
    if prediction_type is not None:
        one_of("prediction_type", prediction_type, PREDICTION_TYPES)
    integers = pocket.INT8 if name_or_path == "pocket" and weights == "int8" and not from_floats else None
    location = locate(name_or_path, prediction_type, instead=integers)
    stored = location.stored
    if stored not in (None, weights):
        raise EdgeSdkError(f"{name_or_path} holds {stored} weights; ask for --weights {stored}, not {weights}")
    if stored is None and residency != "resident":
        raise EdgeSdkError(
            f"{name_or_path} holds float weights, which cannot be {residency}; make an integer checkpoint first: "
            "edge-sdk quantize"
        )
    if stored is None and weights != "none":
        require("quantizing a model", "torch", "optimum")
    bound_heap()
    run_as = "dequantized" if weights == "none" else execution
    how = weights, run_as, stored is not None, residency, device
    return Model(name_or_path, location.folder, *how, single_file=location.single_file)
