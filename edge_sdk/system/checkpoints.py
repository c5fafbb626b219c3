"""Checkpoints on disk: one state a folder, there whole or not at all, and the one before it.

A checkpoint is filled elsewhere, flushed to the disk and renamed (`edge_sdk/system/atomic.py`): a reader sees all of it
or nothing. A folder without a state counts for nothing. What a state's bytes mean is in `edge_sdk/zo/checkpoint.py`.
"""

import contextlib
import os
import re
import shutil
from pathlib import Path

from edge_sdk.system.atomic import PRIVATE, folder_mode, remove_leftovers, staging, sync, whole_file
from edge_sdk.system.inputs import read_input
from edge_sdk.zo.checkpoint import MAX_BYTES, CheckpointError, read_state, state_bytes
from edge_sdk.zo.loop import State

STATE_FILE = "state.safetensors"
KEEP = 2  # generations


def save_state(path: Path, state: State, fingerprints: dict[str, str], salt: str | None = None) -> None:
    """Write a state. ``fingerprints`` (of model, data, ...) must be the same again when it is loaded.

    Args:
        salt: see `edge_sdk.zo.checkpoint.salted`; None for a fresh one.

    Raises:
        OSError: the file could not be written; an older file of that name is then still whole.
    """
    with whole_file(path) as temporary:
        temporary.write_bytes(state_bytes(state, fingerprints, salt))


def load_state(path: Path, fingerprints: dict[str, str] | None = None) -> State:
    """Read a state back.

    Raises:
        CheckpointError: the file cannot be read, or see `read_state`.
    """
    try:
        data = read_input(path, MAX_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    return read_state(data, str(path), fingerprints)


def save_checkpoint(run_dir: Path, state: State, fingerprints: dict[str, str]) -> Path:
    """Write ``checkpoint-<step>/state.safetensors`` and remove all but the two newest; returns the new file.

    Raises:
        OSError: it could not be written; what was there before is as it was.
    """
    folder = run_dir / f"checkpoint-{state.step}"
    with staging(run_dir) as place:
        new = place / folder.name
        new.mkdir(folder_mode(PRIVATE))
        (new / STATE_FILE).write_bytes(state_bytes(state, fingerprints))
        os.chmod(new / STATE_FILE, PRIVATE)
        sync(new / STATE_FILE)
        sync(new)
        if folder.is_dir():  # of a damaged state that an older one took the place of
            os.replace(new / STATE_FILE, folder / STATE_FILE)
            sync(folder)
        else:
            os.replace(new, folder)
        sync(run_dir)
    for _, old in checkpoints(run_dir)[KEEP:]:
        shutil.rmtree(old, ignore_errors=True)
    for _, unfinished in _numbered(run_dir):
        remove_leftovers(unfinished, STATE_FILE)
        with contextlib.suppress(OSError):
            unfinished.rmdir()  # nothing but an empty folder
    return folder / STATE_FILE


def latest_checkpoint(run_dir: Path, fingerprints: dict[str, str] | None = None) -> tuple[State, Path, list[str]]:
    """The newest usable checkpoint of a run: its state, its file, and why newer ones were passed over.

    Raises:
        CheckpointError: there is none.
    """
    problems: list[str] = []
    for _, folder in checkpoints(run_dir):
        try:
            return load_state(folder / STATE_FILE, fingerprints), folder / STATE_FILE, problems
        except CheckpointError as error:
            problems.append(str(error))
    raise CheckpointError(problems[0] if problems else f"{run_dir} holds no checkpoint-<step> folder to resume from")


def checkpoints(run_dir: Path) -> list[tuple[int, Path]]:
    """Steps and folders of a run's checkpoints, newest first; a folder without a state is none."""
    return [(step, folder) for step, folder in _numbered(run_dir) if (folder / STATE_FILE).exists()]


def _numbered(run_dir: Path) -> list[tuple[int, Path]]:
    names = [(re.fullmatch(r"checkpoint-(\d+)", entry.name, re.ASCII), entry) for entry in run_dir.glob("checkpoint-*")]
    return sorted(((int(match[1]), entry) for match, entry in names if match), reverse=True)
