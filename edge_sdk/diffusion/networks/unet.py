"""The conditional denoiser of Stable Diffusion 1.x, 2.x and XL, with the names and the numbers of diffusers' own.

It exists for memory: importing diffusers and what it pulls in costs more than a streamed model. Checkpoints of
diffusers' `UNet2DConditionModel` load without conversion, those without a middle block or with lists of layers too; a
test compares the outputs.
"""

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from edge_sdk.diffusion.networks.flow import Flow, spread
from edge_sdk.diffusion.networks.timesteps import TimeEmbedding, sinusoids
from edge_sdk.diffusion.networks.unet_blocks import Block, Resampler, Stage
from edge_sdk.diffusion.networks.unet_config import UNetConfig
from edge_sdk.errors import EdgeSdkError
from edge_sdk.quantization.activations import empty
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
            module = Block(config, block, inputs, time, joins=True)
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
        flow = Flow(sample, timestep.expand(len(sample)), context, added, rows)
        for stage in self.stages(flow):
            stage.run(flow)
        return flow.x

    def stages(self, flow: Flow, banded: bool = False) -> Iterator[Stage]:
        """The parts of a forward pass, each to be run before the next one is asked for.

        Args:
            flow: any that passes them all, for the shapes.
            banded: where it is large, a feed-forward is a stage for some positions of the picture at a time.
        """
        yield Stage(self._begin, hasattr(self, "add_embedding"))
        for block in self.down_blocks:
            for i in range(len(block.resnets)):
                yield from block.stages(i, flow, banded)
                yield Stage(_push)
            if hasattr(block, "downsamplers"):
                yield Stage(partial(_downsample, conv=block.downsamplers[0].conv))
        yield Stage(_spread_all)
        if self.mid_block is not None:
            for i in range(len(self.mid_block.resnets)):
                yield from self.mid_block.stages(i, flow, banded)
        for block in self.up_blocks:
            for i in range(len(block.resnets)):
                yield from block.stages(i, flow, banded)
            if hasattr(block, "upsamplers"):
                yield Stage(partial(_upsample, conv=block.upsamplers[0].conv))
        yield Stage(self._end)

    def _begin(self, flow: Flow) -> None:
        flow.time = self._time(flow.timestep, flow.added)
        flow.first_skip = self._first_skip  # costs little to make again where it is used, last
        flow.x = self.conv_in(flow.sample)

    def _first_skip(self, flow: Flow) -> torch.Tensor:
        return self.conv_in(flow.sample)

    def _end(self, flow: Flow) -> None:
        if isinstance(self.conv_out, IntConv2d) and not torch.is_grad_enabled():
            flow.x = self.conv_out(flow.x, norm=self.conv_norm_out, activated=True)
        else:
            flow.x = self.conv_out(F.silu(self.conv_norm_out(flow.x), inplace=True))

    def _time(self, timestep: torch.Tensor, added: tuple[torch.Tensor, torch.Tensor] | None) -> torch.Tensor:
        time = self.time_embedding(sinusoids(timestep, self.config.block_out_channels[0]))
        if not hasattr(self, "add_embedding"):
            return time
        if added is None or self.config.addition_time_embed_dim is None:
            raise EdgeSdkError("this denoiser needs the pooled text and the picture's sizes; use it as an SDXL model")
        pooled, sizes = added
        ids = sinusoids(sizes.flatten(), self.config.addition_time_embed_dim).view(len(pooled), -1)
        return time + self.add_embedding(torch.cat([pooled, ids], dim=1))


def _push(flow: Flow) -> None:
    flow.push(flow.x)


def _downsample(flow: Flow, conv: nn.Module) -> None:
    flow.x = conv(flow.x)
    flow.push(flow.x)


def _upsample(flow: Flow, conv: nn.Module) -> None:
    size = flow.next_size()
    if torch.is_grad_enabled():
        flow.x = conv(F.interpolate(flow.x, size=size, mode="nearest"))
        return
    batch, channels = flow.x.shape[:2]
    out = empty((batch, *size, channels), flow.x.dtype, flow.x.device).permute(0, 3, 1, 2)
    flow.x = conv(torch.ops.aten.upsample_nearest2d.out(flow.x, size, out=out))


def _spread_all(flow: Flow) -> None:
    count = len(flow.context)
    flow.time, flow.x = spread(flow.time, flow.rows, count), spread(flow.x, flow.rows, count)
