"""Writing files so that nothing is lost or half-written, and one run a folder."""

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.errors import EdgeSdkError
from edge_sdk.system import platform
from edge_sdk.system.atomic import (
    PRIVATE,
    SHIPPED,
    is_at,
    make_folder,
    remove_leftovers,
    staging,
    sync,
    sync_all,
    whole_file,
    whole_folder,
)
from edge_sdk.system.checkpoints import checkpoints

__all__ = [
    "PRIVATE",
    "RUN_FILES",
    "SHIPPED",
    "RunLock",
    "check_output_dir",
    "disk_errors",
    "free_place",
    "make_folder",
    "private_umask",
    "remove_leftovers",
    "replacing",
    "safetensors_bytes",
    "staging",
    "sync",
    "sync_all",
    "whole_folder",
    "write_bytes",
    "write_json",
]

RUN_FILES = ("run.json", "learned_embeds.safetensors")


@contextlib.contextmanager
def disk_errors(what: Path) -> Iterator[None]:
    """Turn a failing disk into a message about ``what``; everything written before stays as it was."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise EdgeSdkError(f"{what} cannot be written: the disk is full; free some space and resume") from error
        raise EdgeSdkError(f"{what} cannot be written: {error.strerror or error}; choose another place") from error


@contextlib.contextmanager
def replacing(path: Path, mode: int = PRIVATE) -> Iterator[Path]:
    """Yield a temporary name for ``path``; on success it is flushed to the disk and renamed, else removed.

    Args:
        mode: `PRIVATE` for what tells of the user's pictures, or `SHIPPED` for what is made for others to read.

    Raises:
        EdgeSdkError: the disk is full or the place not writable; an older file of that name is still whole.
    """
    with disk_errors(path), whole_file(path, mode) as temporary:
        yield temporary


def write_bytes(path: Path, data: bytes, mode: int = PRIVATE) -> None:
    """Write a file whole or not at all; its owner alone can read it, unless ``mode`` is `SHIPPED`."""
    with replacing(path, mode) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def private_umask() -> Iterator[None]:
    """Within, files and folders that libraries make are for their owner alone."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def safetensors_bytes(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """What safetensors writes, with the header's entries sorted: the library's own order differs from call to call."""
    from safetensors.numpy import save

    data = save(tensors, metadata)
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(dict(sorted(header.items())), separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def write_json(path: Path, value: Any, mode: int = PRIVATE) -> None:
    """Write indented JSON whole or not at all; see `write_bytes` for ``mode``."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode(), mode)


def check_output_dir(folder: Path, resume: bool = False, run_files: tuple[str, ...] = RUN_FILES) -> None:
    """Check that an output folder can be written and holds no other results; call it with the lock held.

    Raises:
        EdgeSdkError: it cannot be written, or holds another run and ``resume`` is not asked for.
    """
    with disk_errors(folder), staging(folder) as place:
        (place / "probe").write_bytes(b"")
    refuse_taken(folder, resume, run_files)


def refuse_taken(folder: Path, resume: bool = False, run_files: tuple[str, ...] = RUN_FILES) -> None:
    """Raises EdgeSdkError if a folder holds results and ``resume`` is not asked for; nothing is written."""
    taken = [name for name in run_files if (folder / name).exists()]
    taken += [path.name for _, path in checkpoints(folder)] if run_files is RUN_FILES else []
    if taken and not resume:
        hint = "; use another --output_dir, or --resume_from_checkpoint latest" if run_files is RUN_FILES else ""
        raise EdgeSdkError(f"{folder} already holds {taken[0]}{hint or '; use another --output_dir'}")


def free_place(folder: Path, option: str) -> Path:
    """Where a new folder is to be: its path without links.

    Args:
        option: that names it, for messages.

    Raises:
        EdgeSdkError: it holds something, or is a place that cannot be replaced.
    """
    with disk_errors(folder):
        place = folder.resolve()
        if place == Path.cwd() or place.is_mount():
            raise EdgeSdkError(f"{folder} cannot be replaced; give a new folder as --{option}")
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise EdgeSdkError(f"{folder} already exists and is not an empty folder; use another --{option}")
        return place


class RunLock:
    """At most one process at work in a folder. The lock ends with the process, however it ends.

    The empty file stays. What a killed process left in the folder is removed once the lock is held.

    Args:
        folder: it and missing folders above it are made.
        mode: of its files, `PRIVATE` or `SHIPPED`; a folder that exists keeps its own mode.
    """

    def __init__(self, folder: Path, mode: int = PRIVATE) -> None:
        self.path, self._mode = folder / ".lock", mode
        self._handle: int | None = None

    def __enter__(self) -> "RunLock":
        with disk_errors(self.path.parent):
            make_folder(self.path.parent, self._mode)
            self._handle = self._locked()
        remove_leftovers(self.path.parent)
        return self

    def _locked(self) -> int:
        """A descriptor of the file of this name that holds its lock."""
        while True:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | platform.NOFOLLOW, self._mode)
            if not platform.lock(handle):
                os.close(handle)
                raise EdgeSdkError(
                    f"another run is at work in {self.path.parent}; wait for it or use another --output_dir"
                )
            if is_at(handle, self.path):  # else its holder has removed it meanwhile
                return handle
            os.close(handle)

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
