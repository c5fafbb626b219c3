"""The conditional denoiser of Stable Diffusion 1.x, 2.x and XL, with the names and the numbers of diffusers' own.

It exists for memory: importing diffusers and what it pulls in costs more than a streamed model, and here neither
attention scores nor a feed-forward's hidden layer ever exist for all pixels at once. Checkpoints of diffusers'
`UNet2DConditionModel` load without conversion; a test compares the outputs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from edge_sdk.diffusion.configs import known_entries
from edge_sdk.diffusion.networks.bands import add_pointwise, normed_convolution
from edge_sdk.diffusion.networks.timesteps import TimeEmbedding, sinusoids
from edge_sdk.diffusion.tables import UNET
from edge_sdk.errors import EdgeSdkError
from edge_sdk.quantization.attention import attention
from edge_sdk.quantization.layers import runs_in_integers
from edge_sdk.quantization.threads import by_size

HIDDEN_ELEMENTS = 512 * 2560  # of a feed-forward's hidden layer computed together
QUERY_ROWS = 1024  # of an attention's queries computed together
WHOLE_ELEMENTS = 1 << 20  # of an activation, from which on its normalized form is never whole
_DOWN, _UP = ("DownBlock2D", "CrossAttnDownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")


@dataclass(frozen=True)
class UNetConfig:
    """The part of diffusers' ``config.json`` that differs between the supported models, with its defaults."""

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    up_block_types: tuple[str, ...] = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    attention_head_dim: int | tuple[int, ...] = 8  # diffusers' name; it is the number of heads
    transformer_layers_per_block: int | tuple[int, ...] = 1
    cross_attention_dim: int = 1280
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
        return cls(**known_entries(cls, config, UNET))

    def each(self, value: "int | tuple[int, ...]") -> tuple[int, ...]:
        """A setting that is given once or once a block, once a block."""
        return value if isinstance(value, tuple) else (value,) * len(self.block_out_channels)


class _ResnetBlock(nn.Module):
    def __init__(self, config: UNetConfig, inner: int, outer: int, time: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(config.norm_num_groups, inner, config.norm_eps)
        self.conv1 = nn.Conv2d(inner, outer, 3, padding=1)
        self.time_emb_proj = nn.Linear(time, outer)
        self.norm2 = nn.GroupNorm(config.norm_num_groups, outer, config.norm_eps)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inner, outer, 1) if inner != outer else None

    def forward(self, x: torch.Tensor, time: torch.Tensor, skip: torch.Tensor | None = None) -> torch.Tensor:
        """The channels of a skip connection follow those of x; where they are many, they are joined by rows only."""
        if skip is not None and x[0].numel() + skip[0].numel() <= WHOLE_ELEMENTS:
            x, skip = torch.cat([x, skip], dim=1), None
        parts = (x,) if skip is None else (x, skip)
        if skip is None and x[0].numel() <= WHOLE_ELEMENTS:
            hidden = self.conv1(F.silu(self.norm1(x), inplace=True))
        else:
            hidden = normed_convolution(self.norm1, self.conv1, *parts)
        hidden += self.time_emb_proj(F.silu(time))[:, :, None, None]
        hidden = self.norm2(hidden)  # what is used up is not kept in a name
        hidden = self.conv2(F.silu(hidden, inplace=True))
        return hidden.add_(x) if self.conv_shortcut is None else add_pointwise(hidden, self.conv_shortcut, *parts)


def _added(x: torch.Tensor, branch: Callable[[torch.Tensor], torch.Tensor], rows: int) -> torch.Tensor:
    """x + branch(x) for x (B, S, C), some of S at a time; x itself is changed, unless gradients need it as it was."""
    if torch.is_grad_enabled():
        return torch.cat([part + branch(part) for part in x.split(rows, dim=1)], dim=1)
    for part in x.split(rows, dim=1):
        part.add_(branch(part))
    return x


class _Attention(nn.Module):
    def __init__(self, channels: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context, channels, bias=False)
        self.to_v = nn.Linear(context, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, norm: nn.LayerNorm, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """x (B, S, C) plus what norm(x) sees in the context (B, T, D), or in itself; x may be changed.

        Keys and values are there for all of T, the rest for some rows of x at a time.
        """
        k, v = self._keys_and_values(norm(x) if context is None else context)
        return _added(x, lambda part: self.to_out[0](self._mixed(self.to_q(norm(part)), k, v)), QUERY_ROWS)

    def _keys_and_values(self, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.to_k(context), self.to_v(context)

    def _mixed(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return attention(q, k, v, self.heads, rounded=runs_in_integers(self.to_q))


class _GatedLinear(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 8 * channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return F.gelu(gate).mul_(value)


class _FeedForward(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([_GatedLinear(channels), nn.Identity(), nn.Linear(4 * channels, channels)])

    def forward(self, norm: nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
        """x (B, S, C) plus what becomes of norm(x); x may be changed."""
        rows = max(1, HIDDEN_ELEMENTS // (8 * x.shape[2]))
        return _added(x, lambda part: self.net[2](self.net[0](norm(part))), rows)


class _TransformerBlock(nn.Module):
    def __init__(self, channels: int, context: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn1 = nn.LayerNorm(channels), _Attention(channels, channels, heads)
        self.norm2, self.attn2 = nn.LayerNorm(channels), _Attention(channels, context, heads)
        self.norm3, self.ff = nn.LayerNorm(channels), _FeedForward(channels)

    def forward(self, x: torch.Tensor, context: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
        """x (B or G, S, C), which may be changed, looks at itself and at the context (B, T, D); -> (B, S, C)."""
        x = _spread(self.attn1(self.norm1, x), rows, len(context))
        x = self.attn2(self.norm2, x, context)
        return self.ff(self.norm3, x)


class _Transformer(nn.Module):
    def __init__(self, config: UNetConfig, channels: int, heads: int, depth: int) -> None:
        super().__init__()
        self.linear = config.use_linear_projection
        make = (lambda: nn.Linear(channels, channels)) if self.linear else (lambda: nn.Conv2d(channels, channels, 1))
        self.norm = nn.GroupNorm(config.norm_num_groups, channels, 1e-6)
        self.proj_in = make()
        blocks = [_TransformerBlock(channels, config.cross_attention_dim, heads) for _ in range(depth)]
        self.transformer_blocks = nn.ModuleList(blocks)
        self.proj_out = make()

    def forward(self, x: torch.Tensor, context: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
        size = x.shape[2:]
        hidden = self.norm(x)
        if not self.linear:
            hidden = self.proj_in(hidden)
        hidden = hidden.flatten(2).transpose(1, 2)  # (B, S, C)
        if self.linear:
            hidden = self.proj_in(hidden)
        for block in self.transformer_blocks:
            hidden = block(hidden, context, rows)
        if self.linear:
            hidden = self.proj_out(hidden)
        hidden = hidden.transpose(1, 2).unflatten(2, size)
        return (hidden if self.linear else self.proj_out(hidden)).add_(_spread(x, rows, len(context)))


class _Resampler(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride, padding=1)


class _Block(nn.Module):
    """A level of either side, or the middle: residual blocks, each with a transformer or without."""

    def __init__(self, config: UNetConfig, sizes: list[tuple[int, int]], time: int, heads: int, depth: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([_ResnetBlock(config, inner, outer, time) for inner, outer in sizes])
        if depth:
            made = [_Transformer(config, outer, heads, depth) for _, outer in sizes]
            self.attentions = nn.ModuleList(made)

    def attend(self, i: int, x: torch.Tensor, context: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
        return self.attentions[i](x, context, rows) if hasattr(self, "attentions") else x


def _spread(x: torch.Tensor, rows: torch.Tensor | None, count: int) -> torch.Tensor:
    """x (B, ...), or what it is for each of ``count`` rows if it is still one for each sample, (G, ...)."""
    return x if rows is None or len(x) == count else x[rows]


class UNet(nn.Module):
    """(z_t, t, text) -> what the model predicts."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        channels, time = config.block_out_channels, 4 * config.block_out_channels[0]
        heads, depths = config.each(config.attention_head_dim), config.each(config.transformer_layers_per_block)
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(channels[0], time)
        if config.addition_embed_type == "text_time":
            self.add_embedding = TimeEmbedding(config.projection_class_embeddings_input_dim or 0, time)
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        skips, before = [channels[0]], channels[0]
        for i, kind in enumerate(config.down_block_types):
            sizes = [(before if j == 0 else channels[i], channels[i]) for j in range(config.layers_per_block)]
            block = _Block(config, sizes, time, heads[i], depths[i] if kind == _DOWN[1] else 0)
            skips += [channels[i]] * config.layers_per_block
            if i < len(channels) - 1:
                block.downsamplers = nn.ModuleList([_Resampler(channels[i], 2)])
                skips.append(channels[i])
            self.down_blocks.append(block)
            before = channels[i]
        self.mid_block = _Block(config, [(before, before)] * 2, time, heads[-1], 0)
        self.mid_block.attentions = nn.ModuleList([_Transformer(config, before, heads[-1], depths[-1])])
        for i, kind in enumerate(config.up_block_types):
            level = len(channels) - 1 - i
            sizes = [
                ((before if j == 0 else channels[level]) + skips.pop(), channels[level])
                for j in range(config.layers_per_block + 1)
            ]
            block = _Block(config, sizes, time, heads[level], depths[level] if kind == _UP[1] else 0)
            if level:
                block.upsamplers = nn.ModuleList([_Resampler(channels[level], 1)])
            self.up_blocks.append(block)
            before = channels[level]
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, channels[0], config.norm_eps)
        self.conv_out = nn.Conv2d(channels[0], config.out_channels, 3, padding=1)

    @by_size(lambda unet, sample: sample[:, 0].numel() * unet.config.block_out_channels[0])
    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        context: torch.Tensor,
        added: tuple[torch.Tensor, torch.Tensor] | None = None,
        rows: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """One forward pass. What comes before the text is first looked at is computed once a sample.

        Args:
            sample: (G, C, h, w) float32 noised latents.
            timestep: scalar or (G,).
            context: (B, T, D) float32 text states.
            added: SDXL only, pooled text (B, P) and sizes (B, 6).
            rows: (B,) int64, which sample each row of the context goes with; by default its own, with G = B.
        """
        sample = sample.contiguous(memory_format=torch.channels_last)
        if added is not None and rows is not None:  # what SDXL adds is the text's, so nothing comes before it
            sample, timestep, rows = sample[rows], timestep.expand(len(sample))[rows], None
        time = self._time(timestep.expand(len(sample)), added)
        count = len(context)
        x = self.conv_in(sample)
        skips: list[torch.Tensor] = []  # but for conv_in's, which is used last: it costs little to make again
        for block in self.down_blocks:
            for i in range(len(block.resnets)):
                x = block.resnets[i](x, _spread(time, rows, len(x)))
                x = block.attend(i, x, context, rows)
                skips.append(x)
            if hasattr(block, "downsamplers"):
                x = block.downsamplers[0].conv(x)
                skips.append(x)
        time = _spread(time, rows, count)
        x = self.mid_block.resnets[0](_spread(x, rows, count), time)
        x = self.mid_block.resnets[1](self.mid_block.attend(0, x, context, rows), time)
        for block in self.up_blocks:
            for i in range(len(block.resnets)):
                skip = skips.pop() if skips else self.conv_in(sample)
                x = block.resnets[i](x, time, _spread(skip, rows, count))
                x = block.attend(i, x, context, rows)
            if hasattr(block, "upsamplers"):
                x = F.interpolate(x, size=skips[-1].shape[2:], mode="nearest")
                x = block.upsamplers[0].conv(x)
        return self.conv_out(F.silu(self.conv_norm_out(x), inplace=True))

    def _time(self, timestep: torch.Tensor, added: tuple[torch.Tensor, torch.Tensor] | None) -> torch.Tensor:
        time = self.time_embedding(sinusoids(timestep, self.config.block_out_channels[0]))
        if not hasattr(self, "add_embedding"):
            return time
        if added is None or self.config.addition_time_embed_dim is None:
            raise EdgeSdkError("this denoiser needs the pooled text and the picture's sizes; use it as an SDXL model")
        pooled, sizes = added
        ids = sinusoids(sizes.flatten(), self.config.addition_time_embed_dim).view(len(pooled), -1)
        return time + self.add_embedding(torch.cat([pooled, ids], dim=1))
