"""Paths as users write them, and what other programs leave in folders."""

import os
from pathlib import Path

from edge_sdk.errors import EdgeSdkError

# What Explorer, unpackers and indexers add to a folder; what others add, Finder and git first, begins with a dot.
LEFTOVERS = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "__pycache__", "@eadir", "lost+found")


def is_leftover(name: str) -> bool:
    """Whether a file or folder of this name is no part of a model or bundle, which nobody opens."""
    return name.startswith(".") or name.lower() in LEFTOVERS


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with a leading ``~`` or ``~user`` replaced by the home folder, as a shell does.

    A shell leaves ``--output_dir=~/run`` alone, and other programs start this one without a shell.

    Raises:
        EdgeSdkError: nobody has this home folder, so a folder named ``~...`` would be made.
    """
    given = os.fspath(path)
    whole = os.path.expanduser(given)
    if given.startswith("~") and whole == given:
        name = given.partition("/")[0]
        raise EdgeSdkError(
            f"{given} begins with {name}, which is nobody's home folder here; give the whole path, or ./{given} for "
            "what has this very name"
        )
    return Path(whole)
