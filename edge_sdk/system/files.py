"""Writing files so that nothing is lost or half-written, and one run a folder."""

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.errors import EdgeSdkError

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
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; on success it is flushed to the disk and renamed, else removed.

    Raises:
        EdgeSdkError: the disk is full or the place not writable; an older file of that name is still whole.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path):
        try:
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _sync(place: Path) -> None:
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


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


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def check_output_dir(folder: Path, resume: bool = False, run_files: tuple[str, ...] = RUN_FILES) -> None:
    """Check that an output folder can be written and holds no other results; call it with the lock held.

    Raises:
        EdgeSdkError: it cannot be written, or holds another run and ``resume`` is not asked for.
    """
    with disk_errors(folder):
        probe = folder / f".write-test.{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    refuse_taken(folder, resume, run_files)


def refuse_taken(folder: Path, resume: bool = False, run_files: tuple[str, ...] = RUN_FILES) -> None:
    """Raises EdgeSdkError if a folder holds results and ``resume`` is not asked for; nothing is written."""
    taken = [name for name in run_files if (folder / name).exists()]
    taken += [entry.name for entry in folder.glob("checkpoint-*")] if run_files is RUN_FILES else []
    if taken and not resume:
        hint = "; use another --output_dir, or --resume_from_checkpoint latest" if run_files is RUN_FILES else ""
        raise EdgeSdkError(f"{folder} already holds {taken[0]}{hint or '; use another --output_dir'}")


class RunLock:
    """At most one process at work in a folder. The lock ends with the process, however it ends.

    The empty file stays: removing it would let two later processes lock two different files of that name.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".lock"
        self._handle: int | None = None

    def __enter__(self) -> "RunLock":
        with disk_errors(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._handle)
            raise EdgeSdkError(
                f"another run is at work in {self.path.parent}; wait for it or use another --output_dir"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
