"""Multiplications of a graph of ours: the networks of `edge_sdk.export`, built of shapes instead of nodes."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from torch import nn

from benchmarks.lib.architectures import ARCHITECTURES
from edge_sdk.diffusion.networks.clip import ClipConfig, ClipText
from edge_sdk.diffusion.networks.unet import UNet
from edge_sdk.diffusion.networks.unet_config import UNetConfig
from edge_sdk.export import network
from edge_sdk.quantization import shapes_only
from edge_sdk.quantization.kernels import conv_levels
from edge_sdk.quantization.native import winograd_tile

Shape = tuple[int, ...]
PIXELS = 8  # side of a picture, in latents


class Products:
    """The operations of `edge_sdk.export.ops` on shapes of one row.

    Args:
        module: whose parameters are the weights' shapes.
        bits: of activations, 16 or 8.

    Attributes:
        counts: what they multiply, by how the kernels do it: "linear", "attention", or convolutions "winograd 2" and
            "winograd 4", by the side of the tiles.
    """

    def __init__(self, module: nn.Module, bits: int = 16) -> None:
        self._bits = bits
        self._weights = {name: tuple(value.shape) for name, value in module.state_dict().items()}
        self.counts: Counter[str] = Counter()

    @property
    def count(self) -> int:
        return self.counts.total()

    def part(self, name: str) -> None:
        """All weights are of one part here."""

    # with weights
    def linear(self, x: Shape, layer: str) -> Shape:
        rows, columns = self._weights[f"{layer}.weight"][:2]
        self.counts["linear"] += math.prod(x[:-1]) * rows * columns
        return (*x[:-1], rows)

    def conv(
        self, x: Shape, layer: str, size: tuple[int, int], stride: int = 1, pads: Sequence[int] = (1, 1, 1, 1)
    ) -> Shape:
        shape = self._weights[f"{layer}.weight"]
        height = (size[0] + pads[0] + pads[2] - shape[2]) // stride + 1
        width = (size[1] + pads[1] + pads[3] - shape[3]) // stride + 1
        kernel, strides = (shape[2], shape[3]), (stride, stride)
        levels = conv_levels(self._bits, kernel, strides, shape[1])
        tile = winograd_tile(kernel, strides, shape[1], height * width, levels)
        self.counts["linear" if tile is None else f"winograd {tile}"] += height * width * math.prod(shape)
        return (x[0], shape[0], height, width)

    def layer_norm(self, x: Shape, layer: str, eps: float) -> Shape:
        return x

    def group_norm(self, x: Shape, layer: str, size: tuple[int, int], groups: int, eps: float) -> Shape:
        return x

    def token_embedding(self, ids: Shape, learned: Shape | None) -> Shape:
        return (*ids, self._weights["embeddings.token_embedding.weight"][1])

    def weight(self, name: str) -> Shape:
        return self._weights[name]

    # without
    def constant(self, array: np.ndarray) -> Shape:
        return array.shape

    def rows_of(self, table: np.ndarray, index: Shape) -> Shape:
        return (*index, *table.shape[1:])

    def add(self, x: Shape, y: Shape) -> Shape:
        return np.broadcast_shapes(x, y)

    sub = mul = add

    def silu(self, x: Shape) -> Shape:
        return x

    cos = sin = exp = gelu = quick_gelu = silu

    def clip(self, x: Shape, low: float, high: float) -> Shape:
        return x

    def concat(self, values: Sequence[Shape], axis: int) -> Shape:
        first = values[0]
        return (*first[:axis], sum(value[axis] for value in values), *first[axis + 1 :])

    def split(self, x: Shape, sizes: Sequence[int], axis: int) -> list[Shape]:
        even = x[axis] // len(sizes)
        return [(*x[:axis], even if size == -1 else size, *x[axis + 1 :]) for size in sizes]

    def reshape(self, x: Shape, shape: Sequence[int]) -> Shape:
        sizes = [x[i] if size == 0 else size for i, size in enumerate(shape)]
        known = math.prod(size for size in sizes if size != -1)
        return tuple(math.prod(x) // known if size == -1 else size for size in sizes)

    def transpose(self, x: Shape, order: Sequence[int]) -> Shape:
        return tuple(x[i] for i in order)

    def mean(self, x: Shape, axes: Sequence[int]) -> Shape:
        return tuple(size for i, size in enumerate(x) if i not in axes)

    def upsample(self, x: Shape, size: tuple[int, int], to: tuple[int, int]) -> Shape:
        return (*x[:2], *to)

    def attention(self, q: Shape, k: Shape, v: Shape, heads: int, causal: bool = False) -> Shape:
        self.counts["attention"] += 2 * math.prod(q) * k[1]  # queries by keys, weights by values
        return q

    def first_of(self, ids: Shape, wanted: int, x: Shape) -> Shape:
        return (x[0], x[2])


def denoiser_products(config: UNetConfig, side: int, words: int = 77) -> int:
    """Multiply-accumulates of one row of a denoiser without ``added`` conditioning, for pictures of ``side`` pixels."""
    return denoiser_counts(config, side, words).total()


def denoiser_counts(config: UNetConfig, side: int, words: int = 77, bits: int = 16) -> Counter[str]:
    """The same as `Products.counts`."""
    with shapes_only():
        ops = Products(UNet(config), bits)
    size = (side // PIXELS, side // PIXELS)
    time, context = (1, config.block_out_channels[0]), (1, words, _width(config))
    network.unet(ops, config, (1, config.in_channels, *size), size, time, context)
    return ops.counts


def text_products(config: ClipConfig) -> int:
    """Multiply-accumulates of one row of a text encoder."""
    with shapes_only():
        ops = Products(ClipText(config))
    network.text_encoder(ops, config, (1, config.max_position_embeddings), None)
    return ops.count


def architecture_products(name: str, side: int) -> tuple[int, int]:
    """Of the denoiser and of the text encoder of one of `benchmarks.lib.architectures`, one row."""
    unet, texts, *_ = ARCHITECTURES[name]
    config = UNetConfig.from_dict(
        {name: list(value) if isinstance(value, tuple) else value for name, value in unet.items()}
    )
    return denoiser_products(config, side), text_products(ClipConfig.from_dict(texts[0]))


def _width(config: UNetConfig) -> int:
    width = config.cross_attention_dim
    return width[0] if isinstance(width, tuple) else width
