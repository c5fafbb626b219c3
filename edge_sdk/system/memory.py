"""What the process holds, from the kernel's own counters."""

import ctypes
import gc
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.platform import peak_rss_mb, rss_mb, status_mb

__all__ = [
    "AnonPeak",
    "bound_heap",
    "code",
    "cuda_peak",
    "keep_heap",
    "leave_out_tracing",
    "peak_rss_mb",
    "release",
    "require_cuda",
    "rss_mb",
    "set_heap_thresholds",
    "status_mb",
    "use_cuda",
]

_MAPPINGS = Path("/proc/self/smaps")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_MADV_DONTNEED = 4  # of mman.h
HEAP_BLOCK = 1 << 18  # bytes
_TRACING = "torch._meta_registrations"


class AnonPeak:
    """The largest anonymous memory (what cannot be dropped and read again from a file) over the calls of `sample`."""

    def __init__(self) -> None:
        self.mb = 0.0
        self.sample()

    def sample(self) -> None:
        """Look once. Steps are short and alike, so looking after each one finds the level, not a spike inside it."""
        self.mb = max(self.mb, status_mb("RssAnon") or rss_mb())


def bound_heap() -> None:
    """Let the allocator return every large freed block at once, instead of keeping it for later (glibc only).

    By default glibc raises the size from which blocks go back, up to 32 MB, and keeps what is smaller.
    """
    set_heap_thresholds(HEAP_BLOCK, HEAP_BLOCK)


def keep_heap() -> None:
    """The opposite, for training on a server: freed blocks stay for the next step, up to 32 MB each (glibc only).

    A backward pass takes and frees all that it stores, at every step; the system clears what it gives out again.
    """
    set_heap_thresholds(32 << 20, 2**31 - 1)


def set_heap_thresholds(mapped: int, kept: int) -> None:
    """From which size, in bytes, blocks are mapped on their own; and how much that is free is kept (glibc only)."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, mapped)
        libc.mallopt(_M_TRIM_THRESHOLD, kept)


def leave_out_tracing() -> None:
    """Let PyTorch be imported without its Python rules for tracing programs, 17 MB; for a process of our own only.

    `import torch` ends with a module that registers them, and nothing here that runs a model traces one. Exporting
    and estimates on the meta device need them. Where PyTorch is imported already this changes nothing.
    """
    if "torch" not in sys.modules:
        sys.modules[_TRACING] = ModuleType(_TRACING)


def require_cuda() -> None:
    """Raises EdgeSdkError if PyTorch finds no GPU."""
    import torch

    if not torch.cuda.is_available():
        raise EdgeSdkError(
            f"device is cuda, but PyTorch {torch.__version__} finds no GPU here; use --device cpu, or install a build "
            "of PyTorch for this GPU"
        )


def use_cuda() -> None:
    """Make the GPU ready: peaks counted from here on, and float32 products in float32.

    PyTorch would run float convolutions with 10 bits of mantissa, which drown the differences of the loss.

    Raises:
        EdgeSdkError: PyTorch finds no GPU.
    """
    import torch

    require_cuda()
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.cuda.reset_peak_memory_stats()


def cuda_peak() -> dict[str, float]:
    """The most GPU memory that PyTorch held since `use_cuda`, in MB: allocated to tensors, reserved from the driver."""
    import torch

    allocated, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    return {"allocated": round(allocated / 1e6, 1), "reserved": round(reserved / 1e6, 1)}


def release() -> None:
    """Give memory back to the system, so that a stage that is over does not count any more.

    That is freed memory, and program code: importing PyTorch runs some 60 MB of it that no later stage needs.
    """
    gc.collect()
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):
            libc.malloc_trim(0)
        for start, stop in code():
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), _MADV_DONTNEED)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def code() -> Iterator[tuple[int, int]]:
    """Where code is mapped from files, as pairs of addresses; only on Linux.

    Such pages may be let go at any time: they stay in the system's file cache, and are mapped again when they are run.
    A mapping with a page that is not as in the file (a breakpoint, relocated code), swapped out or not, is left out.
    """
    if not _MAPPINGS.exists():
        return
    mapping = re.compile(r"^(\w+)-(\w+) r-xp \w+ \S+ \d+ +/.*\n((?:\w+:.*\n)*)", re.MULTILINE)
    for start, stop, counters in mapping.findall(_MAPPINGS.read_text(errors="replace")):
        if re.search(r"^Anonymous: +0 kB\n(.*\n)*Swap: +0 kB$", counters, re.MULTILINE):
            yield int(start, 16), int(stop, 16)
