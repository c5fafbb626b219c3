"""The autoencoder of Stable Diffusion, with the names and the numbers of diffusers' `AutoencoderKL`."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from edge_sdk.diffusion.configs import known_entries
from edge_sdk.diffusion.networks.bands import convolved, level, rows_of
from edge_sdk.diffusion.tables import VAE
from edge_sdk.quantization.threads import by_size

WHOLE_ELEMENTS = 1 << 23  # of an activation that an encoder ``in_bands`` has whole in memory


@dataclass(frozen=True)
class VaeConfig:
    """The part of diffusers' ``config.json`` that differs between the supported models, with its defaults."""

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215
    shift_factor: float | None = None
    mid_block_add_attention: bool = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> "VaeConfig":
        """Read diffusers' config; raises EdgeSdkError if it describes a network that is not supported."""
        return cls(**known_entries(cls, config, VAE))


class _ResnetBlock(nn.Module):
    def __init__(self, config: VaeConfig, inner: int, outer: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(config.norm_num_groups, inner, 1e-6)
        self.conv1 = nn.Conv2d(inner, outer, 3, padding=1)
        self.norm2 = nn.GroupNorm(config.norm_num_groups, outer, 1e-6)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inner, outer, 1) if inner != outer else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = self.norm2(self.conv1(F.silu(self.norm1(x), inplace=True)))  # what is used up is not kept in a name
        hidden = self.conv2(F.silu(normed, inplace=True))
        return hidden.add_(x if self.conv_shortcut is None else self.conv_shortcut(x))


class _Attention(nn.Module):
    """One head over all pixels."""

    def __init__(self, config: VaeConfig, channels: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(config.norm_num_groups, channels, 1e-6)
        self.to_q, self.to_k = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.to_v, self.to_out = nn.Linear(channels, channels), nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.group_norm(x).flatten(2).transpose(1, 2)  # (B, S, C)
        q, k, v = (project(rows)[:, None] for project in (self.to_q, self.to_k, self.to_v))
        out = self.to_out[0](F.scaled_dot_product_attention(q, k, v)[:, 0])
        return out.transpose(1, 2).unflatten(2, x.shape[2:]) + x


class _Resampler(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride, padding=0 if stride == 2 else 1)


class _Block(nn.Module):
    def __init__(self, config: VaeConfig, inner: int, outer: int, layers: int) -> None:
        super().__init__()
        sizes = [inner] + [outer] * (layers - 1)
        self.resnets = nn.ModuleList([_ResnetBlock(config, size, outer) for size in sizes])


def _middle(config: VaeConfig, channels: int) -> _Block:
    block = _Block(config, channels, channels, 2)
    if config.mid_block_add_attention:
        block.attentions = nn.ModuleList([_Attention(config, channels)])
    return block


def _through_middle(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    x = block.resnets[0](x)
    if hasattr(block, "attentions"):
        x = block.attentions[0](x)
    return block.resnets[1](x)


class _Encoder(nn.Module):
    """Pictures to moments; ``in_bands`` trades time for memory, see `edge_sdk.diffusion.networks.bands`."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        channels = config.block_out_channels
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.in_bands = False
        self.down_blocks = nn.ModuleList()
        for i, outer in enumerate(channels):
            block = _Block(config, channels[max(i - 1, 0)], outer, config.layers_per_block)
            if i < len(channels) - 1:
                block.downsamplers = nn.ModuleList([_Resampler(outer, 2)])
            self.down_blocks.append(block)
        self.mid_block = _middle(config, channels[-1])
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, channels[-1], 1e-6)
        self.conv_out = nn.Conv2d(channels[-1], 2 * config.latent_channels, 3, padding=1)

    @by_size(lambda encoder, pixels: pixels[:, 0].numel() * encoder.conv_in.out_channels)
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        get, size = convolved(self.conv_in, rows_of(pixels), pixels.shape[2]), pixels.shape[2:]
        x: torch.Tensor | None = None
        for block in self.down_blocks:
            outer = block.resnets[-1].conv2.out_channels
            large = self.in_bands and outer * size.numel() > WHOLE_ELEMENTS
            if large and hasattr(block, "downsamplers") and min(size) % 2 == 0:
                x = level(block, get if x is None else rows_of(x), *size)
                size = x.shape[2:]
                continue
            x = get(0, size[0]) if x is None else x
            for resnet in block.resnets:
                x = resnet(x)
            if hasattr(block, "downsamplers"):
                x = block.downsamplers[0].conv(F.pad(x, (0, 1, 0, 1)))
            size = x.shape[2:]
        return self.conv_out(F.silu(self.conv_norm_out(_through_middle(self.mid_block, x)), inplace=True))


class _Decoder(nn.Module):
    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        channels = config.block_out_channels[::-1]
        self.conv_in = nn.Conv2d(config.latent_channels, channels[0], 3, padding=1)
        self.mid_block = _middle(config, channels[0])
        self.up_blocks = nn.ModuleList()
        for i, outer in enumerate(channels):
            block = _Block(config, channels[max(i - 1, 0)], outer, config.layers_per_block + 1)
            if i < len(channels) - 1:
                block.upsamplers = nn.ModuleList([_Resampler(outer, 1)])
            self.up_blocks.append(block)
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, channels[-1], 1e-6)
        self.conv_out = nn.Conv2d(channels[-1], config.out_channels, 3, padding=1)

    @by_size(lambda decoder, x: x[:, 0].numel() * 4 ** (len(decoder.up_blocks) - 1) * decoder.conv_out.in_channels)
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = _through_middle(self.mid_block, self.conv_in(x))
        for block in self.up_blocks:
            for resnet in block.resnets:
                x = resnet(x)
            if hasattr(block, "upsamplers"):
                x = block.upsamplers[0].conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv_out(F.silu(self.conv_norm_out(x), inplace=True))


class Vae(nn.Module):
    """Pictures to the mean and standard deviation of their latents, and latents to pictures; not yet scaled."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = _Encoder(config), _Decoder(config)
        double, single = 2 * config.latent_channels, config.latent_channels
        self.quant_conv = nn.Conv2d(double, double, 1) if config.use_quant_conv else None
        self.post_quant_conv = nn.Conv2d(single, single, 1) if config.use_post_quant_conv else None

    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, H, W) in [-1, 1] -> mean and std, each (B, C, h, w)."""
        moments = self.encoder(pixels.contiguous(memory_format=torch.channels_last))
        if self.quant_conv is not None:
            moments = self.quant_conv(moments)
        mean, log_variance = moments.chunk(2, dim=1)
        return mean, torch.exp(0.5 * log_variance.clamp(-30, 20))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) -> (B, 3, H, W), about [-1, 1]."""
        latents = latents.contiguous(memory_format=torch.channels_last)
        return self.decoder(latents if self.post_quant_conv is None else self.post_quant_conv(latents))
