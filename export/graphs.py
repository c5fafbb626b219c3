"""The graphs of a bundle: what goes in, what comes out, and how the networks are put together.

Inputs of all: ``input_ids`` (B, T) int64, an id from the vocabulary's length V on standing for vector id - V of
``learned`` (K, D) float32; for SDXL both encoders' ids, and parts of vectors, side by side, and ``sizes`` (B, 6).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from edge_sdk.diffusion.networks.clip import ClipConfig
from edge_sdk.diffusion.networks.unet_config import UNetConfig
from edge_sdk.diffusion.networks.vae import VaeConfig
from edge_sdk.diffusion.schedule import Schedule
from edge_sdk.export import network
from edge_sdk.export.ops import Ops, Value
from edge_sdk.runtime.pytorch.model import Model
from edge_sdk.runtime.pytorch.text import Text
from edge_sdk.runtime.pytorch.text_xl import TextEncoderPair

Shape = tuple[int | str, ...]
Tensors = dict[str, tuple[Shape, str]]  # name -> shape with sizes or symbols ("B" rows, "K" vectors), dtype


@dataclass(frozen=True)
class Graph:
    """One graph: values of its inputs to values of its outputs, in the order of ``outputs``."""

    inputs: Tensors
    outputs: Tensors
    build: Callable[[Ops, dict[str, Value]], tuple[Value, ...]] = field(repr=False)

    def described(self) -> dict[str, dict[str, Any]]:
        """Inputs and outputs as the manifest has them."""
        return {
            kind: {name: {"shape": list(shape), "dtype": dtype} for name, (shape, dtype) in tensors.items()}
            for kind, tensors in (("inputs", self.inputs), ("outputs", self.outputs))
        }

    def fixed(self, **sizes: int) -> "Graph":
        """The graph with a number for each symbol."""

        def known(tensors: Tensors) -> Tensors:
            return {
                name: (tuple(sizes[n] if isinstance(n, str) else n for n in shape), dtype)
                for name, (shape, dtype) in tensors.items()
            }

        return replace(self, inputs=known(self.inputs), outputs=known(self.outputs))


@dataclass(frozen=True)
class Networks:
    """All that graphs depend on beside the weights.

    Attributes:
        side: of pictures in pixels.
        end: the id of the second text encoder's end of text, for SDXL.
    """

    text: tuple[ClipConfig, ...]
    unet: UNetConfig
    vae: VaeConfig
    schedule: Schedule
    side: int
    end: int | None = None

    @classmethod
    def of(cls, model: Model, text: Text, side: int) -> "Networks":
        """Read a model's configs; raises EdgeSdkError if one is not supported."""
        configs = tuple(model.shapes(part).config for part in model.text_encoders)
        end = text.second.eos if isinstance(text, TextEncoderPair) else None
        return cls(configs, model.shapes("unet").config, model.shapes("vae").config, model.load_schedule(), side, end)

    @property
    def latents(self) -> tuple[int, int, int]:
        """(C, h, w)."""
        side = self.side // 2 ** (len(self.vae.block_out_channels) - 1)
        return self.unet.in_channels, side, side

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(config.hidden_size for config in self.text)

    @cached_property
    def coefficients(self) -> tuple[np.ndarray, np.ndarray]:
        """a and b of z_t = a x0 + b noise, (T, 1, 1, 1) float32 each."""
        a, b = (table.numpy().reshape(-1, 1, 1, 1) for table in self.schedule.coefficients())
        return a, b

    @cached_property
    def times(self) -> np.ndarray:
        """(T, C0) float32, the sinusoids that the denoiser is told of each timestep."""
        return network.sinusoids(self.schedule.times().numpy(), self.unet.block_out_channels[0])

    # the graphs
    def all(self) -> dict[str, Graph]:
        """Every graph of a bundle by its name."""
        return {
            "zo_loss": self.zo_loss(),
            "text_encoder": self.text_encoder(),
            "unet": self.denoiser(),
            "vae_encoder": self.vae_encoder(),
            "vae_decoder": self.vae_decoder(),
        }

    @property
    def prompt(self) -> Tensors:
        """The inputs that describe prompts."""
        length = sum(config.max_position_embeddings for config in self.text)
        tensors: Tensors = {"input_ids": (("B", length), "int64"), "learned": (("K", sum(self.widths)), "float32")}
        return tensors | ({"sizes": (("B", 6), "float32")} if self.is_xl else {})

    @property
    def draw(self) -> Tensors:
        """The inputs that are a draw; ``latents`` are of the photo, noise not yet added."""
        picture: Shape = ("B", *self.latents)
        return {"latents": (picture, "float32"), "noise": (picture, "float32"), "timestep": (("B",), "int64")}

    @property
    def is_xl(self) -> bool:
        return len(self.text) > 1

    def zo_loss(self) -> Graph:
        """loss (B,) of B draws with one embedding, and residual (B, C, h, w), of which it is the mean square."""

        def build(ops: Ops, x: dict[str, Value]) -> tuple[Value, ...]:
            residual = self._residual(ops, x, self._condition(ops, x))
            return _mean_square(ops, residual), residual

        outputs: Tensors = {"loss": (("B",), "float32"), "residual": (("B", *self.latents), "float32")}
        return Graph(self.prompt | self.draw, outputs, build)

    def zo_residual(self) -> Graph:
        """The same without the loss, for a processor on which a mean of squares would be rounded."""

        def build(ops: Ops, x: dict[str, Value]) -> tuple[Value, ...]:
            return (self._residual(ops, x, self._condition(ops, x)),)

        return Graph(self.prompt | self.draw, {"residual": (("B", *self.latents), "float32")}, build)

    def text_encoder(self) -> Graph:
        """What the denoiser is told of prompts: hidden (B, T, D), for SDXL also pooled (B, P)."""
        told: Tensors = {"hidden": (("B", self.text[0].max_position_embeddings, sum(self.widths)), "float32")}
        if self.is_xl:
            told["pooled"] = (("B", self.text[-1].projection_dim), "float32")
        inputs = {name: tensor for name, tensor in self.prompt.items() if name != "sizes"}

        def build(ops: Ops, x: dict[str, Value]) -> tuple[Value, ...]:
            return self._condition(ops, x)

        return Graph(inputs, told, build)

    def denoiser(self) -> Graph:
        """What the model predicts of noised latents, for generation."""
        told = self.text_encoder().outputs
        picture: Tensors = {"sample": (("B", *self.latents), "float32"), "timestep": (("B",), "int64")}
        sizes = {name: tensor for name, tensor in self.prompt.items() if name == "sizes"}

        def build(ops: Ops, x: dict[str, Value]) -> tuple[Value, ...]:
            return (self._predicted(ops, x, x["sample"], tuple(x[name] for name in told)),)

        return Graph(picture | told | sizes, {"predicted": (("B", *self.latents), "float32")}, build)

    def vae_encoder(self) -> Graph:
        """Pictures (B, 3, H, W) in [-1, 1] -> mean and std of their latents, scaled as the denoiser has them."""
        size, latents = (self.side, self.side), ("B", *self.latents)

        def build(ops: Ops, x: dict[str, Value]) -> tuple[Value, ...]:
            ops.part("vae")
            return network.vae_encoder(ops, self.vae, x["pixels"], size)

        return Graph(
            {"pixels": (("B", 3, *size), "float32")},
            {"mean": (latents, "float32"), "std": (latents, "float32")},
            build,
        )

    def vae_decoder(self) -> Graph:
        """Latents as the denoiser has them -> pictures (B, 3, H, W), about [-1, 1]."""

        def build(ops: Ops, x: dict[str, Value]) -> tuple[Value, ...]:
            ops.part("vae")
            return (network.vae_decoder(ops, self.vae, x["latents"], self.latents[1:]),)

        return Graph(
            {"latents": (("B", *self.latents), "float32")},
            {"pixels": (("B", 3, self.side, self.side), "float32")},
            build,
        )

    # their pieces
    def _condition(self, ops: Ops, x: dict[str, Value]) -> tuple[Value, ...]:
        """Hidden states, for SDXL also the pooled one."""
        if not self.is_xl:
            ops.part("text_encoder")
            return (network.text_encoder(ops, self.text[0], x["input_ids"], x["learned"])[0],)
        ids = ops.split(x["input_ids"], [config.max_position_embeddings for config in self.text], 1)
        vectors = ops.split(x["learned"], list(self.widths), 1)
        ops.part("text_encoder")
        first, _ = network.text_encoder(ops, self.text[0], ids[0], vectors[0], skip_last=True)
        ops.part("text_encoder_2")
        second, pooled = network.text_encoder(ops, self.text[1], ids[1], vectors[1], skip_last=True, end=self.end)
        return ops.concat([first, second], 2), pooled

    def _predicted(self, ops: Ops, x: dict[str, Value], sample: Value, told: tuple[Value, ...]) -> Value:
        ops.part("unet")
        time = ops.rows_of(self.times, x["timestep"])
        added = (told[1], x["sizes"]) if self.is_xl else None
        return network.unet(ops, self.unet, sample, self.latents[1:], time, told[0], added)

    def _residual(self, ops: Ops, x: dict[str, Value], told: tuple[Value, ...]) -> Value:
        """Predicted minus wanted, (B, C, h, w); see `edge_sdk.diffusion.prediction`."""
        a, b = (ops.rows_of(table, x["timestep"]) for table in self.coefficients)
        x0, noise, kind = x["latents"], x["noise"], self.schedule.prediction_type
        predicted = self._predicted(ops, x, ops.add(ops.mul(a, x0), ops.mul(b, noise)), told)
        wanted = noise
        if kind == "flow":
            wanted = ops.sub(noise, x0)
        elif kind == "v_prediction":
            wanted = ops.sub(ops.mul(a, noise), ops.mul(b, x0))
        return ops.sub(predicted, wanted)


MOST_LATENTS = 16_384  # h w of all rows of a call for a target


def default_rows(latents: tuple[int, int, int]) -> int:
    """Rows of a call for a target: a step of `fast` has 33, and large latents leave room for fewer."""
    return next(rows for rows in (33, 11, 3, 1) if rows == 1 or rows * latents[1] * latents[2] <= MOST_LATENTS)


def _mean_square(ops: Ops, residual: Value) -> Value:
    """(B,) losses."""
    return ops.mean(ops.mul(residual, residual), (1, 2, 3))
