"""Hashes of large models, remembered between runs in the user's cache folder.

An entry's key is itself a hash, of names, sizes, inodes and times: the file tells nobody which models are here. What
others could have written is not read, and a damaged file is as good as none.
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


def path() -> Path:
    """``edge-sdk/model-digests.json`` in XDG_CACHE_HOME, if that is absolute, or in ~/.cache."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(given) if os.path.isabs(given) else Path(os.path.expanduser("~/.cache"))
    return folder / "edge-sdk" / "model-digests.json"


def recall(key: str) -> str | None:
    """The hash that was remembered for a key, if there is one."""
    return _read().get(key)


def remember(key: str, digest: str) -> None:
    """Keep a hash for later runs, where there is a private place to keep it."""
    entries = _read()
    entries.pop(key, None)
    kept = dict([*entries.items(), (key, digest)][-MOST:])
    place = path()
    with contextlib.suppress(OSError):
        make_folder(place.parent)
        if not _is_private(os.lstat(place.parent), stat.S_ISDIR):
            return
        with whole_file(place) as temporary:
            temporary.write_text(json.dumps(kept), encoding="ascii")


def _read() -> dict[str, str]:
    try:
        if not _is_private(os.lstat(path().parent), stat.S_ISDIR):
            return {}
        handle = os.open(path(), platform.READ | platform.NOFOLLOW)
        with open(handle, "rb") as file:
            status = os.fstat(handle)
            if not _is_private(status, stat.S_ISREG) or status.st_size > MOST_BYTES:
                return {}
            entries = parse_json(file.read(MOST_BYTES))
    except (OSError, ValueError):
        return {}
    if not isinstance(entries, dict) or not all(_is_hash(text) for entry in entries.items() for text in entry):
        return {}
    return entries


def _is_private(status: os.stat_result, is_kind: Callable[[int], bool]) -> bool:
    """Whether it is of this kind, and ours, and nobody else can write it."""
    return is_kind(status.st_mode) and platform.is_own(status) and not (platform.IS_POSIX and status.st_mode & 0o022)


def _is_hash(text: object) -> bool:
    return isinstance(text, str) and _HASH.fullmatch(text) is not None
