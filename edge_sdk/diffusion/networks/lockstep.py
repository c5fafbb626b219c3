"""Rows that pass the denoiser in lockstep with a base row, and are computed as differences to it.

Each stage takes the base first, and then the other rows a few at a time, while what the layers computed for the base
is there. So the base is computed once for all rows of a call, and before the text is seen there is nothing else.
Between stages a row is its activation and what it differs by at the skip connections, see `difference.Held`.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch

from edge_sdk.diffusion.networks.flow import Flow
from edge_sdk.diffusion.networks.unet import UNet
from edge_sdk.quantization import activations, difference
from edge_sdk.quantization.threads import sized

POSITIONS = 1024  # of all rows that a stage takes together


def differences(
    unet: UNet,
    sample: torch.Tensor,
    timestep: torch.Tensor,
    context: torch.Tensor,
    added: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """The denoiser's outputs (B, C, h, w) for one sample, row 0 being the base.

    Args:
        sample: (1, C, h, w) float32. timestep: scalar or (1,).
        context, added: of B rows, as `UNet.forward` takes them.
    """
    sample = sample.contiguous(memory_format=torch.channels_last)
    timestep = timestep.expand(1)
    base = _flow(sample, timestep, context, added, slice(0, 1))
    size = rows_together(sample.shape[2] * sample.shape[3])
    parts = [slice(first, first + size) for first in range(1, len(context), size)]
    others: list[Flow] = []
    tape = difference.Tape()
    with sized(sample[:, 0].numel() * unet.config.block_out_channels[0]), activations.Room().lent():
        for stage in unet.stages(base, banded=True):
            if stage.sees_text and not others:
                others = [_fork(base, _flow(sample, timestep, context, added, part)) for part in parts]
            with tape.recording():
                stage.run(base)
            for first in range(0, len(others), group := _group(others)):
                with tape.replaying():
                    _run(stage.run, others[first : first + group])
    return torch.cat([base.x, *(flow.x for flow in others)])


def rows_together(positions: int) -> int:
    """How many rows of so many positions a stage takes together."""
    return max(1, POSITIONS // positions)


def _flow(sample: torch.Tensor, timestep: torch.Tensor, context: torch.Tensor, added: Any, part: slice) -> Flow:
    own = None if added is None else (added[0][part], added[1][part])
    rows = context[part]
    return Flow(sample.expand(len(rows), -1, -1, -1), timestep.expand(len(rows)), rows, own, None)


def _fork(base: Flow, flow: Flow) -> Flow:
    """Rows that have come as far as the base; what the base will not change is shared with it."""
    count = len(flow.context)
    for name in ("x", "time", "first_skip"):
        if hasattr(base, name):
            value = getattr(base, name)
            setattr(flow, name, torch.cat([value] * count) if isinstance(value, torch.Tensor) else value)
    flow.skips = [skip.expand(count, *skip.shape[1:]) for skip in base.skips]
    return flow


def _group(others: Sequence[Flow]) -> int:
    """How many flows a stage takes together."""
    if not others or not hasattr(others[0], "x"):
        return 1
    x = others[0].x
    positions = x.shape[2] * x.shape[3] if x.dim() == 4 else x.shape[1]
    return max(1, rows_together(positions) // len(x))


def _run(run: Callable[[Flow], None], flows: Sequence[Flow]) -> None:
    if len(flows) == 1:
        run(flows[0])
        return
    joined = _Joined(flows)
    run(joined)
    group = _Group(joined.x, [joined.x[part] for part in joined.parts])
    for flow, part in zip(flows, group.parts, strict=True):
        flow.x, flow.group = part, group


class _Group(NamedTuple):
    """What a stage made of several flows, and the part of each."""

    x: torch.Tensor
    parts: list[torch.Tensor]

    def is_of(self, flows: Sequence[Flow]) -> bool:
        """Whether the flows have come no further since."""
        return len(flows) == len(self.parts) and all(f.x is part for f, part in zip(flows, self.parts, strict=True))


class _Joined(Flow):
    """Several flows as one, for a stage."""

    def __init__(self, flows: Sequence[Flow]) -> None:
        sample, timestep, context, self.time = (
            torch.cat([getattr(flow, name) for flow in flows]) for name in ("sample", "timestep", "context", "time")
        )
        group = flows[0].group
        self.x = group.x if group and group.is_of(flows) else torch.cat([flow.x for flow in flows])
        super().__init__(sample, timestep, context, None, None)
        self.flows, self.first_skip, self.skips = flows, flows[0].first_skip, flows[0].skips
        ends = list(accumulate(len(flow.context) for flow in flows))
        self.parts = [slice(end - len(flow.context), end) for flow, end in zip(flows, ends, strict=True)]

    def push(self, x: torch.Tensor) -> None:
        kept = difference.held(x, Flow)
        for flow, part in zip(self.flows, self.parts, strict=True):
            flow.skips.append(kept[part])

    def pop(self) -> torch.Tensor:
        kept = [flow.skips.pop() for flow in self.flows]
        if not all(isinstance(each, difference.Held) for each in kept):
            return torch.cat(kept)
        _, channels, height, width = kept[0].shape
        shape = (len(self.context), height, width, channels)
        x = activations.empty(shape, device=self.context.device).permute(0, 3, 1, 2)
        for each, part in zip(kept, self.parts, strict=True):
            each.restored(x[part])
        return x
