"""The pieces of the denoiser: residual blocks, transformers, and the levels that they make.

Neither attention scores nor a feed-forward's hidden layer ever exist for all pixels at once.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from edge_sdk.diffusion.networks.bands import add_pointwise, normed_convolution
from edge_sdk.diffusion.networks.flow import Flow, spread
from edge_sdk.diffusion.networks.unet_config import BlockConfig, UNetConfig
from edge_sdk.quantization import difference, joint
from edge_sdk.quantization.activations import empty, room
from edge_sdk.quantization.attention import Keys, attention, prepared
from edge_sdk.quantization.layers import IntConv2d, runs_in_integers

HIDDEN_ELEMENTS = 512 * 2560  # of a feed-forward's hidden layer computed together
QUERY_ROWS = 1024  # of an attention's queries computed together
WHOLE_ELEMENTS = 1 << 20  # of an activation, from which on its normalized form is never whole


class Stage(NamedTuple):
    """A part of a forward pass that changes a flow."""

    run: Callable[[Flow], None]
    sees_text: bool = False


class ResnetBlock(nn.Module):
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
        if isinstance(self.conv1, IntConv2d) and self.conv1.compiles(x) and not torch.is_grad_enabled():
            return self._compiled(x, time, skip)
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

    def _compiled(self, x: torch.Tensor, time: torch.Tensor, skip: torch.Tensor | None) -> torch.Tensor:
        hidden = self.conv1(x, skip, norm=self.norm1, activated=True)
        offsets = self.time_emb_proj(F.silu(time)).contiguous()
        hidden = self.conv2(hidden, norm=self.norm2, activated=True, offsets=offsets)
        return hidden.add_(x) if self.conv_shortcut is None else self.conv_shortcut(x, skip, out=hidden)


def _with_branch(x: torch.Tensor, branch: Callable[[torch.Tensor], torch.Tensor], rows: int) -> torch.Tensor:
    """x + branch(x) for x (B, S, C), some of S at a time; x itself is changed, unless gradients need it as it was."""
    if torch.is_grad_enabled():
        return torch.cat([part + branch(part) for part in x.split(rows, dim=1)], dim=1)
    for part in x.split(rows, dim=1):
        part.add_(branch(part))
    return x


class Attention(nn.Module):
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
        if runs_in_integers(self.to_q) and not torch.is_grad_enabled():
            return self._in_place(norm, x.contiguous(), context)
        keys = self._keys(norm(x) if context is None else context)
        return _with_branch(
            x, lambda part: self.to_out[0](attention(self.to_q(norm(part)), keys, self.heads)), QUERY_ROWS
        )

    def _in_place(self, norm: nn.LayerNorm, x: torch.Tensor, context: torch.Tensor | None) -> torch.Tensor:
        """The same in x itself; what queries see takes their place."""
        if len(x) > 1 and x.shape[1] > QUERY_ROWS and not difference.is_active():
            for i in range(len(x)):
                self._in_place(norm, x[i : i + 1], None if context is None else context[i : i + 1])
            return x
        rows = min(x.shape[1], QUERY_ROWS)
        if context is None:
            q, k, v = joint.linear((self.to_q, self.to_k, self.to_v), x, norm, room(x, *[x.shape] * 3))
            keys = prepared(k, v, self.heads, rounded=True)
            del k, v
        else:
            keys, (q,) = self._keys(context), room(x, (len(x), rows, x.shape[2]))
        for i, part in enumerate(x.split(rows, dim=1)):
            if context is None:
                queries = q[:, i * rows : i * rows + part.shape[1]]
            else:
                queries = self.to_q(part, norm, out=q[:, : part.shape[1]])
            self.to_out[0](attention(queries, keys, self.heads, queries), out=part, added=True)
        return x

    def _keys(self, context: torch.Tensor) -> Keys:
        k, v = joint.linear((self.to_k, self.to_v), context)
        rounded = runs_in_integers(self.to_q)
        coarse = rounded and (difference.is_active() or self.to_q.activation_bits == difference.BITS)
        return prepared(k, v, self.heads, rounded, coarse)


class GatedLinear(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 8 * channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return F.gelu(gate).mul_(value)


class FeedForward(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([GatedLinear(channels), nn.Identity(), nn.Linear(4 * channels, channels)])

    def bands(self, x: torch.Tensor) -> list[slice]:
        """Positions of x (B, S, C) that are computed together if these are the same in all rows."""
        step = max(1, HIDDEN_ELEMENTS // (8 * x.shape[2]))
        return [slice(first, first + step) for first in range(0, x.shape[1], step)]

    def add_band(self, norm: nn.LayerNorm, x: torch.Tensor, band: slice) -> None:
        """Add to some positions of x (B, S, C) what becomes of their norm, in place."""
        part = x[:, band]
        if not runs_in_integers(self.net[2]):
            part += self.net[2](self.net[0](norm(part)))
            return
        whole = part.contiguous()
        (hidden,) = room(x, (*part.shape[:2], 8 * x.shape[2]))
        self.net[2](self.net[0].proj(whole, norm, out=hidden), gated=True, out=whole, added=True)
        if whole is not part:
            part.copy_(whole)

    def forward(self, norm: nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
        """x (B, S, C) plus what becomes of norm(x); x may be changed."""
        rows = max(1, HIDDEN_ELEMENTS // (8 * x.shape[2]))
        if runs_in_integers(self.net[2]) and not torch.is_grad_enabled():
            x = x.contiguous()
            flat = x.flatten(0, 1)
            hidden = empty((min(rows, len(flat)), 8 * x.shape[2]), x.dtype, x.device)
            for part in flat.split(rows):
                self.net[2](self.net[0].proj(part, norm, out=hidden[: len(part)]), gated=True, out=part, added=True)
            return x
        return _with_branch(x, lambda part: self.net[2](self.net[0](norm(part))), rows)


class TransformerBlock(nn.Module):
    def __init__(self, block: BlockConfig) -> None:
        super().__init__()
        channels, self.only_cross = block.channels, block.only_cross
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, block.context if block.only_cross else channels, block.heads)
        self.norm2, self.attn2 = nn.LayerNorm(channels), Attention(channels, block.context, block.heads)
        self.norm3, self.ff = nn.LayerNorm(channels), FeedForward(channels)

    def stages(self, flow: Flow, banded: bool) -> Iterator[Stage]:
        """Of x (B or G, S, C), which may be changed: it attends to itself, to the context, then the feed-forward."""
        yield Stage(self._attend_only if self.only_cross else self._attend_itself, self.only_cross)
        yield Stage(self._attend_text, True)
        if not banded:
            yield Stage(self._feed_forward)
            return
        for band in self.ff.bands(flow.x):
            yield Stage(partial(self._feed_band, band=band))

    def _attend_only(self, flow: Flow) -> None:
        flow.x = self.attn1(self.norm1, spread(flow.x, flow.rows, len(flow.context)), flow.context)

    def _attend_itself(self, flow: Flow) -> None:
        flow.x = spread(self.attn1(self.norm1, flow.x), flow.rows, len(flow.context))

    def _attend_text(self, flow: Flow) -> None:
        flow.x = self.attn2(self.norm2, flow.x, flow.context)

    def _feed_forward(self, flow: Flow) -> None:
        flow.x = self.ff(self.norm3, flow.x)

    def _feed_band(self, flow: Flow, band: slice) -> None:
        self.ff.add_band(self.norm3, flow.x, band)


class Transformer(nn.Module):
    def __init__(self, config: UNetConfig, block: BlockConfig, depth: int) -> None:
        super().__init__()
        channels, self.linear = block.channels, config.use_linear_projection
        project = (lambda: nn.Linear(channels, channels)) if self.linear else (lambda: nn.Conv2d(channels, channels, 1))
        self.norm = nn.GroupNorm(config.norm_num_groups, channels, 1e-6)
        self.proj_in = project()
        self.transformer_blocks = nn.ModuleList([TransformerBlock(block) for _ in range(depth)])
        self.proj_out = project()

    def stages(self, flow: Flow, banded: bool) -> Iterator[Stage]:
        """Of x (B or G, C, H, W), to which the outcome is added."""
        size = flow.x.shape[2:]
        yield Stage(self._enter)
        for block in self.transformer_blocks:
            yield from block.stages(flow, banded)
        yield Stage(partial(self._leave, size=size))

    def _enter(self, flow: Flow) -> None:
        x = flow.x
        flow.push(x)
        if isinstance(self.proj_in, IntConv2d) and not torch.is_grad_enabled():
            hidden = self.proj_in(x, norm=self.norm)
        else:
            hidden = self.norm(x)
            hidden = hidden if self.linear else self.proj_in(hidden)
        hidden = hidden.flatten(2).transpose(1, 2)  # (B, S, C)
        flow.x = self.proj_in(hidden) if self.linear else hidden

    def _leave(self, flow: Flow, size: torch.Size) -> None:
        hidden = self.proj_out(flow.x) if self.linear else flow.x
        hidden = hidden.transpose(1, 2).unflatten(2, size)
        hidden = hidden if self.linear else self.proj_out(hidden)
        flow.x = hidden.add_(spread(flow.pop(), flow.rows, len(hidden)))


class Resampler(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride, padding=1)


class Block(nn.Module):
    """A level of either side, or the middle: residual blocks, each with a transformer or without.

    Args:
        inputs: channels that go into each residual block, those of a skip connection included.
        time: width of the time embedding.
        joins: a skip connection goes into each residual block.
    """

    def __init__(
        self, config: UNetConfig, block: BlockConfig, inputs: list[int], time: int, joins: bool = False
    ) -> None:
        super().__init__()
        self.joins = joins
        self.resnets = nn.ModuleList([ResnetBlock(config, inner, block.channels, time) for inner in inputs])
        transformers = [Transformer(config, block, depth) for depth in block.depths if depth is not None]
        self.attentions = nn.ModuleList(transformers)

    def stages(self, i: int, flow: Flow, banded: bool) -> Iterator[Stage]:
        """Residual block i, and the transformer after it, if there is one."""
        yield Stage(partial(self._residual, i=i))
        if i < len(self.attentions):
            yield from self.attentions[i].stages(flow, banded)

    def _residual(self, flow: Flow, i: int) -> None:
        skip = None if not self.joins else spread(flow.skip(), flow.rows, len(flow.x))
        flow.x = self.resnets[i](flow.x, spread(flow.time, flow.rows, len(flow.x)), skip)
