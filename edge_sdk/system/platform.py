"""What systems do differently: locks, ways to open a file, owners, memory figures. No other module asks for a system.

Linux has all of it and macOS most. Where something is missing the next best is done, and never a wrong thing.
"""

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl: Any = None  # type: ignore[no-redef]
try:
    import resource
except ImportError:
    resource: Any = None  # type: ignore[no-redef]
try:
    import msvcrt
except ImportError:
    msvcrt: Any = None  # type: ignore[no-redef]

IS_POSIX = fcntl is not None
NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
# Read bytes, without waiting for the other end of a pipe, and not in child processes.
READ = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))
FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
STOPPING: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
_STATUS = Path("/proc/self/status")


def lock(handle: int) -> bool:
    """Lock an open file for as long as it is open; False if another process has locked it.

    Raises:
        OSError: the file system has no locks.
    """
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    elif msvcrt is not None:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
    return True


def is_own(status: os.stat_result) -> bool:
    """Whether a file is this user's, where files have owners."""
    return not hasattr(os, "geteuid") or status.st_uid == os.geteuid()


def sync(path: Path) -> None:
    """Flush a file, or a folder's entries, to the disk; Windows flushes no folders."""
    if IS_POSIX or not path.is_dir():
        handle = os.open(path, os.O_RDONLY if IS_POSIX else os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def replace_folder(new: Path, path: Path) -> None:
    """Rename a folder; an empty one of that name goes."""
    if not IS_POSIX:
        with contextlib.suppress(FileNotFoundError):
            path.rmdir()
    os.replace(new, path)


def read_at(handle: int, length: int, offset: int) -> bytes:
    """Bytes of an open file from an offset; at most ``length``."""
    if hasattr(os, "pread"):
        return os.pread(handle, length, offset)
    os.lseek(handle, offset, os.SEEK_SET)
    return os.read(handle, length)


def status_mb(key: str) -> float | None:
    """A field of /proc/self/status in MB (10**6 bytes), None where there is no /proc."""
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    return None


def rss_mb() -> float:
    """Resident memory now, in MB; where the system does not say, the largest so far."""
    now = status_mb("VmRSS")
    return peak_rss_mb() if now is None else now


def peak_rss_mb() -> float:
    """Largest resident memory since the process started, in MB; 0 where the system does not say."""
    peak = status_mb("VmHWM")
    if peak is not None:
        return peak
    if resource is not None:
        kept: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return kept / 1e6 if sys.platform == "darwin" else kept * 1024 / 1e6
    return _windows_peak_mb()


def _windows_peak_mb() -> float:
    """PeakWorkingSetSize of psapi's PROCESS_MEMORY_COUNTERS."""
    import ctypes

    library = getattr(ctypes, "windll", None)
    if library is None:
        return 0.0
    counters = (ctypes.c_size_t * 10)()  # cb and PageFaultCount, two 32-bit numbers, then nine sizes
    library.kernel32.GetCurrentProcess.restype = ctypes.c_void_p
    process = ctypes.c_void_p(library.kernel32.GetCurrentProcess())
    done = library.kernel32.K32GetProcessMemoryInfo(process, ctypes.byref(counters), ctypes.sizeof(counters) - 8)
    return counters[1] / 1e6 if done else 0.0
