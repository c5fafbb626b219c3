"""What the process holds, from the kernel's own counters."""

import resource
import sys
from pathlib import Path

from edge_sdk.errors import EdgeSdkError

_STATUS = Path("/proc/self/status")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
HEAP_BLOCK = 1 << 16  # bytes


def status_mb(key: str) -> float | None:
    """A field of /proc/self/status in MB (10**6 bytes), None where there is no /proc."""
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    return None


def rss_mb() -> float:
    """Resident memory now, in MB."""
    now = status_mb("VmRSS")
    return peak_rss_mb() if now is None else now


def peak_rss_mb() -> float:
    """Largest resident memory since the process started, in MB."""
    peak = status_mb("VmHWM")
    if peak is not None:
        return peak
    kept = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kept / 1e6 if sys.platform == "darwin" else kept * 1024 / 1e6


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
    import ctypes

    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, HEAP_BLOCK)
        libc.mallopt(_M_TRIM_THRESHOLD, HEAP_BLOCK)


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
    """Give freed memory back to the system, so that a stage that is over does not count any more."""
    import ctypes
    import gc

    gc.collect()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
