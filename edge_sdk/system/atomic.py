"""Files and folders that appear whole or not at all, however the process ends; the standard library alone.

Everything is written in a staging folder beside its destination, flushed to the disk and renamed. A staging folder is
private (0700), new, has a name that nobody can guess, and is locked by the process that writes in it. The lock ends
with its process. So a staging folder that nobody locks was left by a killed process, and the next write beside it
removes it. Process numbers decide nothing: in a container they are the same at every start.
"""

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from edge_sdk.system import platform
from edge_sdk.system.platform import sync

__all__ = [
    "PRIVATE",
    "SHIPPED",
    "folder_mode",
    "is_at",
    "make_folder",
    "remove_leftovers",
    "staging",
    "sync",
    "sync_all",
    "whole_file",
    "whole_folder",
]

PRIVATE, SHIPPED = 0o600, 0o666  # modes of files: for their owner alone, or for others too, less the umask
TRIES = 10


def folder_mode(mode: int) -> int:
    """The mode of a folder that holds files of a mode: who may read those may also enter it."""
    return mode | (mode & 0o444) >> 2


def make_folder(path: Path, mode: int = PRIVATE) -> None:
    """Make a folder and the missing ones above it for files of a mode; those that exist keep theirs.

    Raises:
        OSError: one cannot be made, or is no folder.
    """
    for folder in [folder for folder in (path, *path.parents) if not folder.exists()][::-1]:
        folder.mkdir(folder_mode(mode), exist_ok=True)


def sync_all(folder: Path) -> None:
    """Flush a folder and everything in it to the disk."""
    for path in (*folder.rglob("*"), folder):
        sync(path)


@contextlib.contextmanager
def staging(parent: Path, destination: str = "") -> Iterator[Path]:
    """Yield a private folder in ``parent`` that is removed afterwards; see `remove_leftovers` for ``destination``.

    Raises:
        OSError: the folder cannot be made.
    """
    remove_leftovers(parent, destination)
    for _ in range(TRIES):
        folder = parent / f".edge-sdk-{secrets.token_hex(16)}.tmp"
        handles: list[int] = []
        try:  # from before the folder is there to after it is gone: a signal may come at any call
            if _make_locked(folder, handles):
                yield folder
                return
        finally:
            try:
                shutil.rmtree(folder, ignore_errors=True)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            finally:
                for handle in handles:
                    os.close(handle)
    raise FileExistsError(f"no temporary folder can be made in {parent}")


@contextlib.contextmanager
def whole_file(path: Path, mode: int = PRIVATE) -> Iterator[Path]:
    """Yield where to write a file; on success it takes the place of ``path``, else nothing changes.

    Its mode is never wider than that of an older file of this name.

    Raises:
        OSError: the file could not be written; an older file of that name is then still whole.
    """
    with staging(path.parent, path.name) as folder:
        new = folder / path.name
        yield new
        if path.is_file():
            mode &= path.stat().st_mode
        os.chmod(new, _less_umask(mode, folder))
        sync(new)
        os.replace(new, path)
        sync(path.parent)


@contextlib.contextmanager
def whole_folder(path: Path, mode: int = PRIVATE) -> Iterator[Path]:
    """Yield a new folder to fill; on success it takes the place of ``path``, which may be an empty folder.

    Args:
        mode: of its files. A folder that it replaces passes its own mode on.

    Raises:
        OSError: it could not be written, or ``path`` holds something; nothing has changed then.
    """
    with staging(path.parent, path.name) as folder:
        new = folder / path.name
        new.mkdir()
        yield new
        mode = _less_umask(mode, folder)
        for entry in (new, *new.rglob("*")):
            os.chmod(entry, folder_mode(mode) if entry.is_dir() else mode)
        sync_all(new)
        if path.is_dir():
            os.chmod(new, path.stat().st_mode & 0o7777)
        platform.replace_folder(new, path)
        sync(path.parent)


def remove_leftovers(parent: Path, destination: str = "") -> None:
    """Remove the staging folders in a folder whose processes are gone.

    Args:
        destination: a name in this folder whose temporary files of earlier versions, ``.NAME.PID.tmp``, go too.
    """
    name = re.compile(
        r"\.edge-sdk-[0-9a-f]{32}\.tmp" + (rf"|\.{re.escape(destination)}\.\d+\.tmp" if destination else "")
    )
    with contextlib.suppress(OSError):
        for entry in [entry for entry in os.listdir(parent) if name.fullmatch(entry)]:
            _remove_unlocked(parent / entry)


def _remove_unlocked(path: Path) -> None:
    """Remove a file or folder of this user that no process locks."""
    with contextlib.suppress(OSError):
        handle = os.open(path, platform.READ | platform.NOFOLLOW)
        try:
            is_left = platform.lock(handle)  # else its process is alive
            if not is_left or not is_at(handle, path) or not platform.is_own(os.fstat(handle)):
                return
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        finally:
            os.close(handle)


def _make_locked(folder: Path, handles: list[int]) -> bool:
    """Make a folder and lock it by a descriptor, which is added to ``handles``.

    Returns:
        False if another process has taken the folder for a leftover before it was locked.
    """
    folder.mkdir(folder_mode(PRIVATE))
    try:
        handles.append(os.open(folder, platform.FOLDER | platform.NOFOLLOW))
        return platform.lock(handles[0]) and is_at(handles[0], folder)
    except FileNotFoundError:
        return False
    except OSError:  # a file system without locks: nothing is ever taken for a leftover there
        return True


def is_at(handle: int, path: Path) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False


def _less_umask(mode: int, folder: Path) -> int:
    """The mode that the system gives to a new file; read off one, because asking for the umask changes it."""
    if not mode & 0o077:
        return mode
    probe = folder / ".mode"
    handle = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    try:
        return os.fstat(handle).st_mode & mode
    finally:
        os.close(handle)
        probe.unlink()
