"""The config of diffusers' ``UNet2DConditionModel``: what is supported of it, and the blocks that it describes."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from edge_sdk.diffusion.configs import known_entries
from edge_sdk.diffusion.tables import UNET
from edge_sdk.errors import EdgeSdkError

_DOWN, _UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
Depths = int | tuple[int, ...]  # transformer blocks: after every residual block of a level, or after each


@dataclass(frozen=True)
class BlockConfig:
    """A level of either side, or the middle.

    Attributes:
        channels: of its activations.
        depths: for each of its residual blocks, how many transformer blocks follow it; None where no transformer does.
        heads: of its attention.
        context: width of the text states that it attends to.
        only_cross: where a picture would attend to itself, it attends to the text.
    """

    channels: int
    depths: tuple[int | None, ...]
    heads: int
    context: int
    only_cross: bool = False


@dataclass(frozen=True)
class UNetConfig:
    """The part of diffusers' ``config.json`` that differs between the supported models."""

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int | tuple[int, ...] = 2
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    mid_block_type: str | None = "UNetMidBlock2DCrossAttn"  # None: there is no middle block
    up_block_types: tuple[str, ...] = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    attention_head_dim: int | tuple[int, ...] = 8  # diffusers' name; it is the number of heads
    transformer_layers_per_block: int | tuple[Depths, ...] = 1
    reverse_transformer_layers_per_block: tuple[Depths, ...] | None = None  # of the way up, if that is another
    only_cross_attention: bool | tuple[bool, ...] = False
    cross_attention_dim: int | tuple[int, ...] = 1280
    use_linear_projection: bool = False
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    addition_embed_type: str | None = None  # "text_time": SDXL's pooled text and sizes
    addition_time_embed_dim: int | None = None
    projection_class_embeddings_input_dim: int | None = None

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> "UNetConfig":
        """Read diffusers' config.

        Raises:
            EdgeSdkError: it describes a network that is not supported, naming the entry.
        """
        network = cls(**known_entries(cls, config, UNET))
        nested = any(isinstance(depths, tuple) for depths in network.per_block(network.transformer_layers_per_block))
        if nested and network.reverse_transformer_layers_per_block is None:
            raise EdgeSdkError(
                "the unet's config has lists in transformer_layers_per_block; then it needs "
                "reverse_transformer_layers_per_block too"
            )
        blocks = (*network.down_blocks, *network.up_blocks, *([network.mid_block] if network.mid_block else []))
        if not any(depth for block in blocks for depth in block.depths):
            raise EdgeSdkError("the unet's config has no block with cross-attention; supported are models of text")
        return network

    def per_block(self, value: Any) -> tuple[Any, ...]:
        """A setting that is given once or once a level, once a level."""
        return value if isinstance(value, tuple) else (value,) * len(self.block_out_channels)

    @cached_property
    def down_blocks(self) -> tuple[BlockConfig, ...]:
        """The levels on the way down, the largest picture first."""
        names, depths = self.down_block_types, self.per_block(self.transformer_layers_per_block)
        layers = self.per_block(self.layers_per_block)
        return tuple(self._level(i, layers[i], depths[i] if name == _DOWN else None) for i, name in enumerate(names))

    @cached_property
    def mid_block(self) -> BlockConfig | None:
        """The middle: a residual block alone, one on either side of a transformer, or nothing."""
        if self.mid_block_type is None:
            return None
        depth = self.per_block(self.transformer_layers_per_block)[-1]
        depth = depth[0] if isinstance(depth, tuple) else depth
        last = self._level(len(self.block_out_channels) - 1, 1, None)
        depths = (None,) if self.mid_block_type == "UNetMidBlock2D" else (depth, None)
        return BlockConfig(last.channels, depths, last.heads, last.context)

    @cached_property
    def up_blocks(self) -> tuple[BlockConfig, ...]:
        """The levels on the way up, the smallest picture first."""
        names, layers = self.up_block_types, self.per_block(self.layers_per_block)[::-1]
        depths = self.reverse_transformer_layers_per_block
        depths = self.per_block(self.transformer_layers_per_block)[::-1] if depths is None else depths
        return tuple(
            self._level(len(names) - 1 - i, layers[i] + 1, depths[i] if name == _UP else None)
            for i, name in enumerate(names)
        )

    def _level(self, level: int, layers: int, depths: Depths | None) -> BlockConfig:
        """A block of a level, which counts from the largest picture; ``depths`` is None without transformers."""
        if isinstance(depths, tuple) and len(depths) < layers:
            raise EdgeSdkError(
                f"the unet's config has {len(depths)} transformer_layers_per_block for {layers} layers of a block"
            )
        heads, context, only_cross = (
            self.per_block(value)[level]
            for value in (self.attention_head_dim, self.cross_attention_dim, self.only_cross_attention)
        )
        each = depths[:layers] if isinstance(depths, tuple) else (depths,) * layers
        return BlockConfig(self.block_out_channels[level], each, heads, context, only_cross)
