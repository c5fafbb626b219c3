"""Rows as differences to a base row: ``y_i = y_0 + W q8(x_i - x_0)`` in every integer layer.

The base row runs with the layer's own activations, of 16 bits. What another row differs by from it is rounded to 8 bits
with a scale of its own, so the error is a share of the difference, however small that is: there is no floor under mu.
Norms, activations and attention see the true values.

A `Tape` holds what the layers computed for the base, in the order of their calls, while other rows pass the same
layers. `first_row_is_base` does the same within each layer, for batches that are small.
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

from edge_sdk.quantization import native, native_difference
from edge_sdk.quantization.kernels import LEVELS, Matrix
from edge_sdk.quantization.native_difference import Parts

Layer = Any  # an `IntLinear` or `IntConv2d` of `layers.py`, which imports this module

BITS = 8  # of a difference
_FIRST_ROW = "the first row of a batch"
_rooms: ContextVar["Rooms | None"] = ContextVar("rooms", default=None)
_current: ContextVar["Tape | str | None"] = ContextVar("current", default=None)


class Tape:
    """What layers computed for the base row, one entry a call; the rows that follow read it in the same order."""

    def __init__(self) -> None:
        self._entries: list[tuple[object, Any]] = []
        self._next: int | None = None  # None while recording
        self._joined: tuple[object, torch.Tensor] | None = None  # a linear input that several layers share

    @property
    def records(self) -> bool:
        return self._next is None

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Within, the base row passes."""
        self._next = None
        with _set(self):
            yield

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Within, other rows pass the same layers."""
        self._next = 0
        with _set(self):
            yield

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
def _set(value: "Tape | str") -> Iterator[None]:
    token = _current.set(value)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def first_row_is_base() -> Iterator[None]:
    """Within, row 0 of every layer's input (B, ...) is the base of the others."""
    with _set(_FIRST_ROW):
        yield


class Rooms:
    """Memory that is used again and again: what a system gives it has to clear first.

    Each name has one buffer, as large as the largest that it was needed for; what is in it lasts until the next use.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, torch.Tensor] = {}

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within, `room` gives these."""
        token = _rooms.set(self)
        try:
            yield
        finally:
            _rooms.reset(token)

    def get(self, name: str, like: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        size, buffer = prod(shape), self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            self._buffers.pop(name, None)
            buffer = self._buffers[name] = like.new_empty(size, dtype=torch.float32)
        return buffer[:size].view(*shape)


def room(name: str, like: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """A float32 tensor on the device of another one, which is lent where there are `Rooms`, else new."""
    rooms = _rooms.get()
    return like.new_empty(shape, dtype=torch.float32) if rooms is None else rooms.get(name, like, shape)


def is_active() -> bool:
    """Whether layers compute differences now."""
    return _current.get() is not None


@dataclass(frozen=True)
class Held:
    """Rows (n, C, H, W) kept as differences to a base: 8 bits a number, a scale a pixel.

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

    def restored(self) -> torch.Tensor:
        """(n, C, H, W) float32."""
        base = self.base.permute(0, 2, 3, 1)
        if not _is_compiled(self.q):
            return (self.q * self.scale).add_(base).permute(0, 3, 1, 2)
        x = self.scale.new_empty(self.q.shape)
        native_difference.restore(self.q, self.scale, base.contiguous(), x)
        return x.permute(0, 3, 1, 2)


def held(x: torch.Tensor, owner: object) -> "torch.Tensor | Held":
    """An activation (B, C, H, W) that is needed later: as it is, or of rows with a base as what they differ by."""
    tape = _current.get()
    if not isinstance(tape, Tape):
        return x
    if tape.records:
        tape.write(owner, x)
        return x
    base = tape.read(owner)
    rows, base_row = (part.permute(0, 2, 3, 1).contiguous() for part in (x, base))
    if _is_compiled(x):
        q, scale = torch.empty_like(rows, dtype=torch.int8), rows.new_empty((*rows.shape[:3], 1))
        native_difference.hold(rows, base_row, q, scale)
        return Held(q, scale, base)
    change = rows - base_row
    scale = change.abs().amax(dim=3, keepdim=True).clamp_min_(1e-12).div_(LEVELS[BITS])
    return Held(change.div_(scale).round_().to(torch.int8), scale, base)


def _is_compiled(x: torch.Tensor) -> bool:
    return x.device.type == "cpu" and native.library() is not None


class _Rows(NamedTuple):
    """What a linear layer's input goes through first."""

    norm: nn.LayerNorm | None
    gated: bool
    compiled: bool

    def __call__(self, x: torch.Tensor, columns: int, base: torch.Tensor | None) -> torch.Tensor:
        """x (..., K) or (..., 2 K) -> (M, K) float32 minus the base (P, K), a tensor of its own."""
        if self.compiled:
            flat = x.flatten(0, -2).float().contiguous()
            out = flat.new_empty((len(flat), columns))
            native_difference.rows(flat, self.norm, self.gated, out)
            return out
        x = x if self.norm is None else self.norm(x)
        if self.gated:
            value, gate = x.chunk(2, dim=-1)
            x = F.gelu(gate).mul_(value)
        flat = x.reshape(-1, columns).float()
        return flat.clone() if base is None else (flat.view(-1, *base.shape) - base).view(-1, columns)


def linear(
    layer: Layer,
    x: torch.Tensor,
    norm: nn.LayerNorm | None,
    gated: bool,
    out: torch.Tensor | None,
    added: bool,
    compiled: bool,
) -> torch.Tensor:
    """`IntLinear.forward` where differences are computed."""
    tape, rows = _current.get(), _Rows(norm, gated, compiled)
    y = x.new_empty((*x.shape[:-1], layer.out_features), dtype=torch.float32) if out is None else out
    if isinstance(tape, Tape):
        (_record_linear if tape.records else _replay_linear)(tape, layer, x, rows, y, added)
        return y
    own = Tape()
    _record_linear(own, layer, x[:1], rows, y[:1], added)
    if len(x) > 1:
        with own.replaying():
            _replay_linear(own, layer, x[1:], rows, y[1:], added)
    return y


def _record_linear(tape: Tape, layer: Layer, x: torch.Tensor, rows: _Rows, out: torch.Tensor, added: bool) -> None:
    inputs = rows(x, layer.in_features, None)
    y = inputs.new_empty((len(inputs), layer.out_features))
    layer.multiply(inputs, layer.activation_bits, y)
    tape.write(layer, (inputs, y))
    (out.add_ if added else out.copy_)(y.view(out.shape))


def _replay_linear(tape: Tape, layer: Layer, x: torch.Tensor, rows: _Rows, out: torch.Tensor, added: bool) -> None:
    inputs, y = tape.read(layer)
    if rows.compiled:
        flat = x.flatten(0, -2).float().contiguous()
        to = out.view(-1, layer.out_features)
        native_difference.linear(flat, rows.norm, rows.gated, inputs, layer.matrix, y, to, added)
        return
    change = rows(x, layer.in_features, inputs)
    by_row = out.view(-1, *y.shape)
    (by_row.add_ if added else by_row.copy_)(y)
    layer.multiply(change, BITS, out.view(-1, layer.out_features), added=True, bias=False)


class _Images(NamedTuple):
    """What a convolution's input goes through first."""

    norm: nn.GroupNorm | None
    activated: bool
    offsets: torch.Tensor | None
    compiled: bool

    def by(self, parts: Parts) -> native.Normalized | None:
        """The normalization as the compiled products take it."""
        if self.norm is None:
            return None
        return native.group_norm(self.norm, self.activated, parts[0], *parts[1:] or [None], offsets=self.offsets)

    def __call__(self, parts: Parts, base: Parts | None) -> Parts:
        """What is convolved, minus the base: one tensor (B, H, W, C), or the parts if nothing is done to them."""
        if self.norm is None:
            return parts if base is None else tuple(part - one for part, one in zip(parts, base, strict=True))
        if self.compiled:
            by = self.by(parts)
            assert by is not None
            shape = (*parts[0].shape[:3], self.norm.num_channels)
            change = parts[0].new_empty(shape) if base is None else room("change", parts[0], shape)
            native_difference.images(parts, by, None if base is None else base[0], change)
            return (change,)
        image = torch.cat(parts, dim=3).permute(0, 3, 1, 2)
        image = self.norm(image if self.offsets is None else image + self.offsets[:, :, None, None])
        image = (F.silu(image) if self.activated else image).permute(0, 2, 3, 1)
        return (image if base is None else image - base[0],)


def convolution(
    layer: Layer,
    x: torch.Tensor,
    skip: torch.Tensor | None,
    norm: nn.GroupNorm | None,
    activated: bool,
    offsets: torch.Tensor | None,
    out: torch.Tensor | None,
) -> torch.Tensor:
    """`IntConv2d.forward` where differences are computed."""
    tape = _current.get()
    if not isinstance(tape, Tape):
        raise RuntimeError("a convolution of rows with a base needs a tape")
    images = _Images(norm, activated, offsets, layer.compiles(x))
    parts = tuple(part.float().permute(0, 2, 3, 1).contiguous() for part in (x, skip) if part is not None)
    if tape.records:
        inputs = images(parts, None)
        y = layer.convolve(inputs, layer.activation_bits)
        tape.write(layer, (inputs, y))
        return y.clone() if out is None else out.add_(y)  # the caller may change its own
    inputs, y = tape.read(layer)
    if images.compiled and layer.is_pointwise:
        to = y.new_empty((len(x), *x.shape[2:], layer.out_channels)) if out is None else out.permute(0, 2, 3, 1)
        base = y.permute(0, 2, 3, 1)
        native_difference.pointwise(parts, images.by(parts), inputs, layer.matrix, base, to, out is not None)
        return to.permute(0, 3, 1, 2)
    change = layer.convolve(images(parts, inputs), BITS, bias=False).add_(y)
    return change if out is None else out.add_(change)


def without_bias(matrix: Matrix) -> Matrix:
    """The same weights."""
    return replace(matrix, bias=None)
