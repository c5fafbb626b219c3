"""Memory of activations, used again within a forward pass instead of being returned to the system at once.

The system clears whatever memory it gives out, page by page: without this a pass at the true size of Stable Diffusion
1.5 spends a twelfth of its time there. What is kept and what is in use together never exceed what was in use at once
since the pass began, so the peak stays where it is; when the pass ends nothing is kept.
"""

import mmap
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from ctypes import c_char
from math import prod
from threading import RLock

import torch

LARGE = 1 << 20  # bytes, from which on the allocator returns a block to the system by itself


def _mapped(size: int) -> mmap.mmap:
    """Memory of this process alone, in pages of some megabytes where the system has them: it clears those sooner."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them
            block.madvise(mmap.MADV_HUGEPAGE)
    return block


class _Blocks:
    """Blocks of one forward pass by their size in bytes."""

    def __init__(self) -> None:
        self.kept: list[mmap.mmap] = []  # the one that was freed last is at the end
        self.used = self.unused = self.most = 0  # bytes
        self.closed = False
        self.lock = RLock()  # a block may be freed whenever Python collects garbage, here too

    def take(self, size: int) -> torch.Tensor:
        """(size,) uint8, with any contents."""
        with self.lock:
            at = next((i for i in reversed(range(len(self.kept))) if len(self.kept[i]) == size), None)
            if at is None:
                block = None
            else:
                block = self.kept.pop(at)
                self.unused -= size
            self.used += size
            self.most = max(self.most, self.used)
            self._bound()
        block = _mapped(size) if block is None else block
        held = (c_char * size).from_buffer(block)
        weakref.finalize(held, self._free, block).atexit = False
        return torch.frombuffer(held, dtype=torch.uint8)

    def _free(self, block: mmap.mmap) -> None:
        with self.lock:
            self.used -= len(block)
            if not self.closed:
                self.kept.append(block)
                self.unused += len(block)
                self._bound()

    def _bound(self) -> None:
        while self.used + self.unused > self.most:
            self.unused -= len(self.kept.pop(0))

    def close(self) -> None:
        with self.lock:
            self.closed = True
            self.kept.clear()


def lasting(size: int, device: torch.device) -> torch.Tensor:
    """(size,) float32, with any contents; for memory that outlives what it is used for, so that it is never kept."""
    if device.type != "cpu" or 4 * size < LARGE:
        return torch.empty(size, dtype=torch.float32, device=device)
    return torch.frombuffer(_mapped(4 * size), dtype=torch.float32)


_blocks: ContextVar[_Blocks | None] = ContextVar("blocks", default=None)
_room: ContextVar["Room | None"] = ContextVar("room", default=None)


@contextmanager
def reused() -> Iterator[None]:
    """Let what `empty` gives be used again in this block."""
    if _blocks.get():
        yield
        return
    blocks = _Blocks()
    token = _blocks.set(blocks)
    try:
        yield
    finally:
        _blocks.reset(token)
        blocks.close()


def empty(shape: Sequence[int], dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> torch.Tensor:
    """A contiguous tensor with any contents; on other devices than the processor it is PyTorch's."""
    size = prod(shape) * dtype.itemsize
    blocks = _blocks.get()
    if blocks is None or size < LARGE or (device is not None and device.type != "cpu"):
        return torch.empty(shape, dtype=dtype, device=device)
    return blocks.take(size).view(dtype).view(*shape)


class Room:
    """Memory for what one operation needs, used again by the next: what a system gives it has to clear first."""

    def __init__(self) -> None:
        self._buffer: torch.Tensor | None = None

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Within, `room` gives this."""
        token = _room.set(self)
        try:
            yield
        finally:
            _room.reset(token)

    def get(self, like: torch.Tensor, size: int) -> torch.Tensor:
        if self._buffer is None or self._buffer.numel() < size:
            self._buffer = None  # the old one goes first
            self._buffer = lasting(size, like.device)
        return self._buffer


def room(like: torch.Tensor, *shapes: Sequence[int]) -> list[torch.Tensor]:
    """Float32 tensors on the device of another one. Where there is a `Room`, they last until the next call."""
    lent = _room.get()
    if lent is None:
        return [empty(shape, device=like.device) for shape in shapes]
    sizes = [prod(shape) for shape in shapes]
    parts = lent.get(like, sum(sizes))[: sum(sizes)].split(sizes)
    return [part.view(*shape) for part, shape in zip(parts, shapes, strict=True)]
