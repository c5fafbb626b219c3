"""A library compiled from C++ sources on first use and kept in the user's cache folder.

A library's name ends in the hash of its contents. So a name always fits its file, however many processes compile at
once or are killed. A file is loaded only if this user owns it, nobody else can write it, and the bytes that are then
open have that hash. Anything else is built again.
"""

import contextlib
import ctypes
import hashlib
import os
import platform as processor_of
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.system import platform
from edge_sdk.system.files import PRIVATE, make_folder, staging
from edge_sdk.system.user_cache import cache_folder

BUILD_SECONDS = 300


@dataclass(frozen=True)
class Sources:
    """The sources of a library, and how to compile them."""

    name: str
    files: Sequence[Path]
    headers: Sequence[Path]
    flags: Sequence[str]
    symbols: Sequence[str]  # of a complete library

    def prefix(self) -> str:
        """The start of the library's file name: a hash of its sources, flags and processor."""
        processor = processor_of.machine() + processor_of.processor()
        cpuinfo = Path("/proc/cpuinfo")
        if cpuinfo.exists():
            kinds = ("flags", "Features", "model name")
            lines = {line for line in cpuinfo.read_text().splitlines() if line.startswith(kinds)}
            processor += "".join(sorted(lines))
        text = b"".join(path.read_bytes() for path in (*self.files, *self.headers))
        digest = hashlib.sha256(text + " ".join(self.flags).encode() + processor.encode())
        return f"{self.name}-{digest.hexdigest()[:16]}"


def open_library(sources: Sources) -> ctypes.CDLL:
    """The library, built if there is no valid one.

    Raises:
        OSError: the cache folder cannot be used or belongs to somebody else, or the library cannot be loaded.
        subprocess.SubprocessError: the library cannot be built.
    """
    with _private_cache() as (folder, handle):
        prefix = sources.prefix()
        library = _load(folder, handle, prefix, sources.symbols)
        if library is None:
            with staging(folder) as place:
                _build_apart(sources, place)
                _publish(place / f"{sources.name}.so", handle, prefix)
            library = _load(folder, handle, prefix, sources.symbols)
        if library is None:
            raise OSError(f"what was built in {folder} has changed since")
        return library


def install(compiled: Path, sources: Sources) -> None:
    """Copy a library that was compiled elsewhere to where `open_library` looks for it."""
    with _private_cache() as (folder, handle), staging(folder) as place:
        _publish(Path(shutil.copyfile(compiled, place / compiled.name)), handle, sources.prefix())


@contextlib.contextmanager
def _private_cache() -> Iterator[tuple[Path, int]]:
    """The cache folder, created if it is missing, and its descriptor.

    Raises:
        OSError: it cannot be created, is a link or no folder, or others own it or can write in it.
    """
    if not platform.IS_POSIX:
        raise OSError("kernels are compiled on Linux and macOS only")
    folder = cache_folder()
    make_folder(folder)
    handle = os.open(folder, platform.FOLDER | platform.NOFOLLOW)
    try:
        if not _is_ours(os.fstat(handle)):
            raise OSError(f"others own {folder} or can write in it; run chmod 700, or set XDG_CACHE_HOME to another")
        yield folder, handle
    finally:
        os.close(handle)


def _is_ours(info: os.stat_result) -> bool:
    return platform.is_own(info) and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _open_ours(path: str | Path, folder: int | None = None) -> int | None:
    """A descriptor of a file that this user owns and nobody else can write; None for anything else."""
    try:
        handle = os.open(path, platform.READ | platform.NOFOLLOW, dir_fd=folder)
    except OSError:
        return None
    info = os.fstat(handle)
    if stat.S_ISREG(info.st_mode) and _is_ours(info):
        return handle
    os.close(handle)
    return None


def _digest(handle: int) -> str:
    with open(handle, "rb", closefd=False) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _built(handle: int, prefix: str) -> list[tuple[str, str]]:
    """Names of built libraries in the cache folder, and the hashes in them."""
    names = ((name, re.fullmatch(rf"{re.escape(prefix)}-([0-9a-f]{{64}})\.so", name)) for name in os.listdir(handle))
    return sorted((name, match[1]) for name, match in names if match)


def _load(folder: Path, handle: int, prefix: str, symbols: Sequence[str]) -> ctypes.CDLL | None:
    """The first library whose bytes have the hash in its name and that has all symbols.

    It is loaded through the descriptor that was hashed, where the system has names for descriptors. The descriptor
    stays open: otherwise the loader would mistake a later file with the same number for this library.
    """
    for name, digest in _built(handle, prefix):
        opened = _open_ours(name, handle)
        if opened is None:
            continue
        if _digest(opened) != digest:
            os.close(opened)
            continue
        place = Path(f"/proc/self/fd/{opened}")
        library = ctypes.CDLL(str(place if place.exists() else folder / name))
        if all(hasattr(library, symbol) for symbol in symbols):
            return library
    return None


def _publish(compiled: Path, handle: int, prefix: str) -> None:
    """Move a compiled library into the cache folder, named by the hash of its bytes, and delete damaged libraries."""
    opened = _open_ours(compiled)
    if opened is None:
        raise OSError(f"{compiled} is not what was compiled")
    try:
        os.fchmod(opened, PRIVATE)
        os.fsync(opened)
        current = f"{prefix}-{_digest(opened)}.so"
        os.replace(compiled, current, dst_dir_fd=handle)
        os.fsync(handle)
    finally:
        os.close(opened)
    for name, digest in _built(handle, prefix):
        other = _open_ours(name, handle)
        if other is None or _digest(other) != digest:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=handle)
        if other is not None:
            os.close(other)


def _build_apart(sources: Sources, folder: Path) -> None:
    """Build in a separate process, so that the imports of the compiler driver do not stay in this one's memory.

    It finds the ``ninja`` that is installed with this Python, even if the environment is not activated.
    """
    command = [sys.executable, "-m", "edge_sdk.quantization.build", sources.name, str(folder)]
    command += [*map(str, sources.files), "--", *sources.flags]
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    subprocess.run(
        command, check=True, timeout=BUILD_SECONDS, capture_output=True, env=os.environ | {"PATH": places}, umask=0o077
    )


def _build(name: str, folder: str, *arguments: str) -> None:
    """Compile with PyTorch's extension loader into a folder."""
    from torch.utils.cpp_extension import load

    end = arguments.index("--")
    files, flags = list(arguments[:end]), list(arguments[end + 1 :])
    load(name, files, extra_cflags=flags, build_directory=folder, is_python_module=False)


if __name__ == "__main__":
    _build(*sys.argv[1:])
