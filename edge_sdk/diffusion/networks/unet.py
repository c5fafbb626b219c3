"""The conditional denoiser of Stable Diffusion 1.x, 2.x and XL, with the names and the numbers of diffusers' own.

It exists for memory: importing diffusers and what it pulls in costs more than a streamed model. Checkpoints of
diffusers' `UNet2DConditionModel` load without conversion, those without a middle block or with lists of layers too; a
test compares the outputs.
"""

import torch
import torch.nn.functional as F
from torch import nn

from edge_sdk.diffusion.networks.timesteps import TimeEmbedding, sinusoids
from edge_sdk.diffusion.networks.unet_blocks import Block, Resampler, spread
from edge_sdk.diffusion.networks.unet_config import UNetConfig
from edge_sdk.errors import EdgeSdkError
from edge_sdk.quantization.layers import IntConv2d
from edge_sdk.quantization.threads import by_size


class UNet(nn.Module):
    """(z_t, t, text) -> what the model predicts."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        channels, time = config.block_out_channels, 4 * config.block_out_channels[0]
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(channels[0], time)
        if config.addition_embed_type == "text_time":
            self.add_embedding = TimeEmbedding(config.projection_class_embeddings_input_dim or 0, time)
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        skips, before = [channels[0]], channels[0]
        for level, block in enumerate(config.down_blocks):
            outputs = [block.channels] * len(block.depths)
            module = Block(config, block, [before, *outputs[1:]], time)
            skips += outputs
            if level < len(channels) - 1:
                module.downsamplers = nn.ModuleList([Resampler(block.channels, 2)])
                skips.append(block.channels)
            self.down_blocks.append(module)
            before = block.channels
        middle = config.mid_block
        self.mid_block = None if middle is None else Block(config, middle, [before] * len(middle.depths), time)
        for i, block in enumerate(config.up_blocks):
            outputs = [block.channels] * len(block.depths)
            inputs = [x + skips.pop() for x in (before, *outputs[1:])]
            module = Block(config, block, inputs, time)
            if i < len(channels) - 1:
                module.upsamplers = nn.ModuleList([Resampler(block.channels, 1)])
            self.up_blocks.append(module)
            before = block.channels
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
                x = block.resnets[i](x, spread(time, rows, len(x)))
                x = block.attend(i, x, context, rows)
                skips.append(x)
            if hasattr(block, "downsamplers"):
                x = block.downsamplers[0].conv(x)
                skips.append(x)
        time, x = spread(time, rows, count), spread(x, rows, count)
        if self.mid_block is not None:
            for i in range(len(self.mid_block.resnets)):
                x = self.mid_block.attend(i, self.mid_block.resnets[i](x, time), context, rows)
        for block in self.up_blocks:
            for i in range(len(block.resnets)):
                skip = skips.pop() if skips else self.conv_in(sample)
                x = block.resnets[i](x, time, spread(skip, rows, count))
                x = block.attend(i, x, context, rows)
            if hasattr(block, "upsamplers"):
                x = F.interpolate(x, size=skips[-1].shape[2:], mode="nearest")
                x = block.upsamplers[0].conv(x)
        if isinstance(self.conv_out, IntConv2d) and not torch.is_grad_enabled():
            return self.conv_out(x, norm=self.conv_norm_out, activated=True)
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
