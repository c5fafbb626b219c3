"""Small files in the user's cache folder: what a run may remember for a later one, and nothing depends on.

A file maps keys, which are hashes, to short texts. So it tells nobody which models are here. It is its owner's alone
and appears whole or not at all. What others could have written is not read, and a damaged file is as good as none.
"""

import contextlib
import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from edge_sdk.system import platform
from edge_sdk.system.atomic import make_folder, whole_file
from edge_sdk.system.json import parse_json

MOST = 64  # entries, the oldest go first
MOST_BYTES = 1 << 16
_HASH = re.compile(r"[0-9a-f]{64}")


def cache_folder() -> Path:
    """``edge-sdk`` in XDG_CACHE_HOME, if that is absolute, or in ~/.cache.

    Raises:
        OSError: the user has no home folder.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        return given / "edge-sdk"
    home = os.path.expanduser("~") if os.environ.get("HOME", "/") else ""
    if not os.path.isabs(home):
        raise OSError("there is no home folder; set HOME or XDG_CACHE_HOME to an absolute path")
    return Path(home) / ".cache" / "edge-sdk"


def place_of(name: str) -> Path | None:
    """A file of this name in the cache folder; None for a user without a home folder."""
    with contextlib.suppress(OSError):
        return cache_folder() / name
    return None


def recall(place: Path | None, is_value: Callable[[str], bool]) -> dict[str, str]:
    """All entries of a file, oldest first; none if it is missing, not private, or any entry is not as it must be.

    Args:
        is_value: whether a text can be a value.
    """
    if place is None:
        return {}
    try:
        if not _is_private(os.lstat(place.parent), stat.S_ISDIR):
            return {}
        with open(place, "rb", opener=_no_link) as file:
            status = os.fstat(file.fileno())
            if not _is_private(status, stat.S_ISREG) or status.st_size > MOST_BYTES:
                return {}
            entries = parse_json(file.read(MOST_BYTES))
    except (OSError, ValueError):
        return {}
    if not isinstance(entries, dict) or not all(
        is_hash(key) and isinstance(value, str) and is_value(value) for key, value in entries.items()
    ):
        return {}
    return entries


def remember(place: Path | None, key: str, value: str, is_value: Callable[[str], bool]) -> None:
    """Add an entry, where there is a private place for the file; see `recall` for ``is_value``."""
    if place is None:
        return
    entries = recall(place, is_value)
    entries.pop(key, None)
    kept = dict([*entries.items(), (key, value)][-MOST:])
    with contextlib.suppress(OSError):
        make_folder(place.parent)
        if not _is_private(os.lstat(place.parent), stat.S_ISDIR):
            return
        with whole_file(place) as temporary:
            temporary.write_text(json.dumps(kept), encoding="ascii")


def is_hash(text: object) -> bool:
    """Whether it is a SHA-256 in hexadecimal digits."""
    return isinstance(text, str) and _HASH.fullmatch(text) is not None


def _no_link(place: str, _: int) -> int:
    return os.open(place, platform.READ | platform.NOFOLLOW)


def _is_private(status: os.stat_result, is_kind: Callable[[int], bool]) -> bool:
    """Whether it is of this kind, and ours, and nobody else can write it."""
    return is_kind(status.st_mode) and platform.is_own(status) and not (platform.IS_POSIX and status.st_mode & 0o022)
