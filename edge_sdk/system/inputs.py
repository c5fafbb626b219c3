"""Input files: opened without waiting, and only if they are regular files.

Opening a named pipe waits until somebody writes to it, and a device may have no end, so neither is ever read.
"""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import cast

from edge_sdk.system.platform import READ

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_input(path: str | os.PathLike[str], buffering: int = -1) -> BufferedReader:
    """Open a file for reading bytes.

    Raises:
        OSError: the file is missing, not readable, or not a regular file; ``strerror`` and ``filename`` are set.
    """
    handle = os.open(path, READ)
    try:
        _require_regular(os.fstat(handle).st_mode, path)
        return cast(BufferedReader, os.fdopen(handle, "rb", buffering))
    except BaseException:
        os.close(handle)
        raise


def read_input(path: str | os.PathLike[str], most: int) -> bytes:
    """The bytes of a file of at most ``most`` bytes.

    Raises:
        OSError: see `open_input`; or the file is larger.
    """
    with open_input(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most >> 20} MB, the most that is read here", os.fspath(path))
    return data


def check_input(path: str | os.PathLike[str]) -> None:
    """Check a file that a library opens by its name.

    Raises:
        OSError: see `open_input`.
    """
    _require_regular(os.stat(path).st_mode, path)


def check_folder(folder: Path) -> None:
    """Check everything below a folder that a library reads from.

    Raises:
        OSError: an entry is neither a file nor a folder, also where a link leads to it.
    """
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            if path.exists():
                check_input(path)


def _require_regular(mode: int, path: str | os.PathLike[str]) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", os.fspath(path))
