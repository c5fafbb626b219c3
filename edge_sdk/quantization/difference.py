"""Rows as differences from a base row: ``y_i = y_0 + W q8(x_i - x_0)`` in every integer layer.

The base row runs with the layer's own activations, of 16 bits. The difference of another row from the base is rounded
to 8 bits with a scale of its own. So the error is a share of the difference, however small it is, and mu has no floor.
Norms, activations and attention see the true values.

A `Tape` holds what the layers computed for the base, in the order of their calls, while other rows pass through the
same layers. `first_row_is_base` does the same within each layer, for small batches.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from edge_sdk.quantization import activations, native, native_difference
from edge_sdk.quantization.kernels import LEVELS, Matrix
from edge_sdk.quantization.native_difference import BITS, Parts

Layer = Any  # an `IntLinear` or `IntConv2d` of `layers.py`, which imports this module

CHUNK = 1 << 22  # least size of a tape's block, in numbers
_current: ContextVar["Tape | _FirstRow | None"] = ContextVar("current", default=None)


class Tape:
    """What layers computed for the base row, one entry per call; later rows read the entries in the same order.

    A new recording reuses the tape's memory, because the system would have to clear new memory.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[object, Any]] = []
        self._blocks: list[torch.Tensor] = []
        self._at = self._used = 0  # the current block, and how many of its numbers are in use
        self._next: int | None = None  # the next entry to read; None while recording

    @property
    def records(self) -> bool:
        return self._next is None

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Within this block, layers record the base row; earlier entries are discarded."""
        self._entries, self._at, self._used, self._next = [], 0, 0, None
        with _set(self):
            yield
        del self._blocks[self._at + 1 :]

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Within this block, other rows pass through the same layers."""
        self._next = 0
        with _set(self):
            yield

    def new(self, like: torch.Tensor, *shape: int) -> torch.Tensor:
        """A float32 tensor for an entry, on the device of ``like``."""
        size = prod(shape)
        while self._at < len(self._blocks) and self._used + size > self._blocks[self._at].numel():
            self._at, self._used = self._at + 1, 0
        if self._at == len(self._blocks):
            self._blocks.append(activations.lasting(max(size, CHUNK), like.device))
        part = self._blocks[self._at][self._used : self._used + size]
        self._used += size
        return part.view(*shape)

    def write(self, owner: object, entry: Any) -> None:
        self._entries.append((owner, entry))

    def read(self, owner: object) -> Any:
        assert self._next is not None
        known, entry = self._entries[self._next]
        if known is not owner:
            raise RuntimeError("rows passed other layers than their base")
        self._next += 1
        return entry


@contextmanager
def _set(value: "Tape | _FirstRow") -> Iterator[None]:
    token = _current.set(value)
    try:
        yield
    finally:
        _current.reset(token)


class _FirstRow(NamedTuple):
    """Marks the first row of a batch as the base, and holds the memory for a layer's entry."""

    tape: Tape


@contextmanager
def first_row_is_base() -> Iterator[None]:
    """Within this block, row 0 of every layer's input (B, ...) is the base of the other rows."""
    with _set(_FirstRow(Tape())):
        yield


def is_active() -> bool:
    """Whether layers compute differences now."""
    return _current.get() is not None


@dataclass(frozen=True)
class Held:
    """Rows (n, C, H, W) stored as differences from a base: 8 bits per number, one scale per pixel.

    Attributes:
        q: (n, H, W, C) int8. scale: (n, H, W, 1) float32. base: (1, C, H, W) float32.
    """

    q: torch.Tensor
    scale: torch.Tensor
    base: torch.Tensor

    def __getitem__(self, rows: slice) -> "Held":
        return Held(self.q[rows], self.scale[rows], self.base)

    @property
    def shape(self) -> torch.Size:
        """(n, C, H, W)."""
        return torch.Size((len(self.q), *self.base.shape[1:]))

    def restored(self, out: torch.Tensor | None = None) -> torch.Tensor:
        """(n, C, H, W) float32, written to ``out`` (channels last) if given."""
        base = self.base.permute(0, 2, 3, 1)
        x = activations.empty(self.q.shape, device=self.q.device) if out is None else out.permute(0, 2, 3, 1)
        if _is_compiled(self.q):
            native_difference.restore(self.q, self.scale, base.contiguous(), x)
        else:
            torch.mul(self.q, self.scale, out=x).add_(base)
        return x.permute(0, 3, 1, 2)


def held(x: torch.Tensor, owner: object) -> "torch.Tensor | Held":
    """An activation (B, C, H, W) that is needed later: unchanged, or for rows with a base as differences from it."""
    tape = _current.get()
    if not isinstance(tape, Tape):
        return x
    if tape.records:
        tape.write(owner, x)
        return x
    base = tape.read(owner)
    rows, base_row = (part.permute(0, 2, 3, 1).contiguous() for part in (x, base))
    if _is_compiled(x):
        q, scale = activations.empty(rows.shape, torch.int8), rows.new_empty((*rows.shape[:3], 1))
        native_difference.hold(rows, base_row, q, scale)
        return Held(q, scale, base)
    change = rows - base_row
    scale = change.abs().amax(dim=3, keepdim=True).clamp_min_(1e-12).div_(LEVELS[BITS])
    return Held(change.div_(scale).round_().to(torch.int8), scale, base)


def _is_compiled(x: torch.Tensor) -> bool:
    return x.device.type == "cpu" and native.library() is not None


class _Rows(NamedTuple):
    """The operations on a linear layer's input before its product."""

    norm: nn.LayerNorm | None
    gated: bool
    compiled: bool

    def of_base(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """x (..., K) or (..., 2 K) into ``out`` (M, K)."""
        if self.compiled:
            native_difference.rows(x.flatten(0, -2).float().contiguous(), self.norm, self.gated, out)
        else:
            out.copy_(self.plain(x).reshape(out.shape))

    def plain(self, x: torch.Tensor) -> torch.Tensor:
        """The same by PyTorch."""
        x = x if self.norm is None else self.norm(x)
        if self.gated:
            value, gate = x.chunk(2, dim=-1)
            x = F.gelu(gate).mul_(value)
        return x.float()


def linear(
    layers: Sequence[Layer],
    x: torch.Tensor,
    norm: nn.LayerNorm | None,
    gated: bool,
    outs: Sequence[torch.Tensor],
    added: bool,
    compiled: bool,
) -> None:
    """`IntLinear.forward` for layers that share one input, while differences are computed."""
    current, rows = _current.get(), _Rows(norm, gated, compiled)
    assert current is not None
    if isinstance(current, Tape):
        (_record_linear if current.records else _replay_linear)(current, layers, x, rows, outs, added)
        return
    tape = current.tape
    with tape.recording():
        _record_linear(tape, layers, x[:1], rows, [y[:1] for y in outs], added)
    if len(x) > 1:
        with tape.replaying():
            _replay_linear(tape, layers, x[1:], rows, [y[1:] for y in outs], added)


def _record_linear(
    tape: Tape, layers: Sequence[Layer], x: torch.Tensor, rows: _Rows, outs: Sequence[torch.Tensor], added: bool
) -> None:
    count = x.shape[:-1].numel()
    inputs, ys = tape.new(x, count, layers[0].in_features), [tape.new(x, count, each.out_features) for each in layers]
    rows.of_base(x, inputs)
    if rows.compiled:
        native.linears(inputs, [layer.matrix for layer in layers], layers[0].activation_bits, ys)
    else:
        for layer, y in zip(layers, ys, strict=True):
            layer.multiply(inputs, layer.activation_bits, y)
    tape.write(layers[0], (inputs, ys))
    for y, out in zip(ys, outs, strict=True):
        (out.add_ if added else out.copy_)(y.view(out.shape))


def _replay_linear(
    tape: Tape, layers: Sequence[Layer], x: torch.Tensor, rows: _Rows, outs: Sequence[torch.Tensor], added: bool
) -> None:
    inputs, ys = tape.read(layers[0])
    flat_outs = [out.view(-1, out.shape[-1]) for out in outs]
    if rows.compiled:
        flat, matrices = x.flatten(0, -2).float().contiguous(), [layer.matrix for layer in layers]
        native_difference.linear(flat, rows.norm, rows.gated, inputs, matrices, ys, flat_outs, added)
        return
    change = (rows.plain(x).reshape(-1, *inputs.shape) - inputs).view(-1, inputs.shape[1])
    for layer, y, out in zip(layers, ys, flat_outs, strict=True):
        by_row = out.view(-1, *y.shape)
        (by_row.add_ if added else by_row.copy_)(y)
        layer.multiply(change, BITS, out, added=True, bias=False)


class _Images(NamedTuple):
    """The operations on a convolution's input before its product."""

    norm: nn.GroupNorm | None
    activated: bool
    offsets: torch.Tensor | None
    compiled: bool

    def by(self, parts: Parts) -> native.Normalized | None:
        """The normalization in the form of the compiled products."""
        if self.norm is None:
            return None
        return native.group_norm(
            self.norm, self.activated, parts[0], parts[1] if len(parts) > 1 else None, self.offsets
        )

    def of_base(self, tape: Tape, parts: Parts) -> Parts:
        """The input of the convolution: one tensor (B, H, W, C), or the unchanged parts if there is no norm."""
        if self.norm is None:
            return parts
        if not self.compiled:
            return (self.plain(parts),)
        image = tape.new(parts[0], *parts[0].shape[:3], self.norm.num_channels)
        native_difference.images(parts, self.by(parts), None, image)
        return (image,)

    def plain(self, parts: Parts) -> torch.Tensor:
        """The same as one tensor, by PyTorch."""
        image = torch.cat(parts, dim=3)
        if self.norm is None:
            return image
        image = image.permute(0, 3, 1, 2)
        image = self.norm(image if self.offsets is None else image + self.offsets[:, :, None, None])
        return (F.silu(image) if self.activated else image).permute(0, 2, 3, 1)


def convolution(
    layer: Layer,
    x: torch.Tensor,
    skip: torch.Tensor | None,
    norm: nn.GroupNorm | None,
    activated: bool,
    offsets: torch.Tensor | None,
    out: torch.Tensor | None,
) -> torch.Tensor:
    """`IntConv2d.forward` while differences are computed."""
    tape = _current.get()
    if not isinstance(tape, Tape):
        raise RuntimeError("a convolution of rows with a base needs a tape")
    images = _Images(norm, activated, offsets, layer.compiles(x))
    parts = tuple(part.float().permute(0, 2, 3, 1).contiguous() for part in (x, skip) if part is not None)
    if tape.records:
        inputs = images.of_base(tape, parts)
        y = layer.convolve(inputs, layer.activation_bits)
        kept = tape.new(y, *y.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2)  # a copy: the caller may change y
        tape.write(layer, (inputs, kept.copy_(y)))
        return y if out is None else out.add_(y)
    inputs, y = tape.read(layer)
    if not images.compiled:
        change = layer.convolve((images.plain(parts) - torch.cat(inputs, dim=3),), BITS, bias=False).add_(y)
        return change if out is None else out.add_(change)
    base, matrix, by = y.permute(0, 2, 3, 1), layer.matrix, images.by(parts)
    shape = (len(x), *base.shape[1:])
    if layer.is_pointwise:
        to = activations.empty(shape) if out is None else out.permute(0, 2, 3, 1)
        native_difference.pointwise(parts, by, inputs, matrix, base, to, out is not None)
        return to.permute(0, 3, 1, 2)
    (change,) = activations.room(x, (*parts[0].shape[:3], layer.in_channels))
    peaks, to = native_difference.images(parts, by, inputs, change), activations.empty(shape)
    native_difference.convolution(change, peaks, matrix, base, to, (layer.kernel_size, layer.stride, layer.padding))
    return to.permute(0, 3, 1, 2) if out is None else out.add_(to.permute(0, 3, 1, 2))


def without_bias(matrix: Matrix) -> Matrix:
    """The same weights without a bias."""
    return replace(matrix, bias=None)
