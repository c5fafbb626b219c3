"""Checkpoints: one small safetensors file that continues a run bit for bit, or the one before it.

The file format is safetensors (8-byte little-endian header length, JSON header, contiguous data), written here with
numpy alone because a phone port has to do the same. A checkpoint is filled elsewhere, flushed to the disk and renamed
(`edge_sdk/system/atomic.py`): a reader sees all of it or nothing. A folder without a state counts for nothing.

What must be the same when a run goes on, the photos above all, is kept as salted hashes. So no two runs can be linked
by them, and no table of known pictures fits. Who holds a checkpoint and a guess of all its photos can still test it.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import struct
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.system.atomic import PRIVATE, folder_mode, remove_leftovers, staging, sync, whole_file
from edge_sdk.system.inputs import read_input
from edge_sdk.system.json import parse_json
from edge_sdk.system.schema import Many, Maybe, Real, Whole, check
from edge_sdk.zo.config import ZoConfig
from edge_sdk.zo.loop import State

SCHEMA_VERSION = "3"  # 2 knew a model by parts of its files only
STATE_FILE = "state.safetensors"
KEEP = 2  # generations
_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8"), "I64": np.dtype("<i8")}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_MAX_BYTES = 64 * 2**20


_SIZE = Whole(0, _MAX_BYTES)
_ENTRY = {"dtype": tuple(_DTYPES), "shape": Many(_SIZE, 0, 4), "data_offsets": Many(_SIZE, 2, 2)}
_COUNTS = ("step", "forwards", "average_count", "bad_steps", "adam.count", "newton.count")
_METADATA = {"schema_version": str, "config": str, "seed": str, "mu_min": Maybe(str), "fingerprints": str}


class CheckpointError(ValueError):
    """A checkpoint cannot be used; one line naming the file and what is wrong with it."""


def save_state(path: Path, state: State, fingerprints: dict[str, str]) -> None:
    """Write a state. ``fingerprints`` (of model, data, ...) must be the same again when it is loaded.

    Raises:
        OSError: the file could not be written; an older file of that name is then still whole.
    """
    with whole_file(path) as temporary:
        temporary.write_bytes(_state_bytes(state, fingerprints))


def salted(value: str, salt: str) -> str:
    """The hash that is kept in place of a value; ``salt`` is kept beside it, 32 hexadecimal digits."""
    return hashlib.sha256(bytes.fromhex(salt) + value.encode()).hexdigest()


def _state_bytes(state: State, fingerprints: dict[str, str]) -> bytes:
    counts = [state.step, state.forwards, state.average_count, state.bad_steps, state.adam.count, state.newton.count]
    tensors = {
        "embedding": state.embedding,
        "adam_m": state.adam.m,
        "adam_v": state.adam.v,
        "average_sum": state.average_sum,
        "subspace_history": state.subspace.history,
        "subspace_removed": state.subspace.removed,
        "newton_basis": state.newton.basis,
        "newton_slope": state.newton.slope,
        "newton_curvature": state.newton.curvature,
        "newton_seen": state.newton.seen,
        "counts": np.array(counts, np.int64),
        "seconds": np.array([state.seconds]),
    }
    salt = secrets.token_hex(16)
    metadata = {
        "schema_version": SCHEMA_VERSION,
        "config": json.dumps(state.config.to_dict()),
        "seed": str(state.seed),
        "mu_min": repr(state.mu_min),
        "salt": salt,
        "fingerprints": json.dumps({name: salted(v, salt) for name, v in sorted(fingerprints.items())}),
    }
    return _file_bytes(tensors, metadata)


def load_state(path: Path, fingerprints: dict[str, str] | None = None) -> State:
    """Read a state back.

    Raises:
        CheckpointError: the file is cut short, edited, of another schema, holds a number that is not finite, or was
            made with other fingerprints.
    """
    tensors, metadata = _read(path)
    try:
        if metadata["schema_version"] != SCHEMA_VERSION:
            raise CheckpointError(
                f"{path} was saved by another version of edge-sdk (schema version {metadata['schema_version']}, this "
                f"one reads {SCHEMA_VERSION}); start a new run, or resume with that version"
            )
        config = ZoConfig.from_dict(parse_json(metadata["config"]))
        made_with = parse_json(metadata["fingerprints"])
        check(made_with, {str: str}, "fingerprints")
        check(seed := int(metadata["seed"][:20]), Whole(0, 2**64 - 1), "seed")
        salt = metadata.get("salt")  # earlier versions kept the values themselves
        hashes = {k: v if salt is None else salted(v, salt) for k, v in (fingerprints or {}).items()}
        different = [name for name, value in hashes.items() if made_with.get(name) != value]
        basis, mu_min = tensors["newton_basis"], float(metadata.get("mu_min", "nan"))
        state = State.start(config, seed, tensors["embedding"], mu_min, basis)
        shape, size = state.embedding.shape, state.embedding.size
        expected = {
            "adam_m": (shape, "F64"), "adam_v": (shape, "F64"), "average_sum": (shape, "F64"),
            "counts": ((6,), "I64"), "seconds": ((1,), "F64"),
            "subspace_history": ((len(tensors["subspace_history"]), size), "F32"),
            "subspace_removed": ((len(tensors["subspace_removed"]), size), "F32"),
            "newton_basis": ((len(basis), *shape), "F32"),
            "newton_slope": (state.newton.slope.shape, "F64"),
            "newton_curvature": (state.newton.curvature.shape, "F64"), "newton_seen": (state.newton.seen.shape, "I64"),
        }  # fmt: skip
        for name, (wanted, dtype) in expected.items():
            if tensors[name].shape != wanted or tensors[name].dtype != _DTYPES[dtype]:
                raise CheckpointError(f"{path} is damaged: {name} has shape {tensors[name].shape}, not {wanted}")
        counts = dict(zip(_COUNTS, map(int, tensors["counts"]), strict=True))
        limits = dict.fromkeys(_COUNTS, Whole(0, counts["step"]))
        check(counts, limits | {"step": Whole(0, 10**9), "forwards": Whole(0, 2**53)})
        rows = {name: len(tensors[f"subspace_{name}"]) for name in ("history", "removed")}
        check(rows, dict.fromkeys(rows, Whole(0, config.subspace_buffer)))
        check(float(tensors["seconds"][0]), Real(0, 1e12), "seconds")
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is not a checkpoint of this program ({error!s:.200})") from error
    for name, value in tensors.items():
        if not np.isfinite(value).all():
            raise CheckpointError(f"{path} is damaged: {name} holds a number that is not finite")
    for name in different:
        raise CheckpointError(f"{path} was made with another {name}; resume with the same one or start a new run")
    state.adam.m, state.adam.v = tensors["adam_m"], tensors["adam_v"]
    state.average_sum = tensors["average_sum"]
    state.subspace.history, state.subspace.removed = tensors["subspace_history"], tensors["subspace_removed"]
    state.newton.slope, state.newton.curvature = tensors["newton_slope"], tensors["newton_curvature"]
    state.newton.seen = tensors["newton_seen"]
    state.step, state.forwards, state.average_count, state.bad_steps, state.adam.count, state.newton.count = (
        counts.values()
    )
    state.seconds = float(tensors["seconds"][0])
    return state


def save_checkpoint(run_dir: Path, state: State, fingerprints: dict[str, str]) -> Path:
    """Write ``checkpoint-<step>/state.safetensors`` and remove all but the two newest; returns the new file.

    Raises:
        OSError: it could not be written; what was there before is as it was.
    """
    folder = run_dir / f"checkpoint-{state.step}"
    with staging(run_dir) as place:
        new = place / folder.name
        new.mkdir(folder_mode(PRIVATE))
        (new / STATE_FILE).write_bytes(_state_bytes(state, fingerprints))
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
    return [(step, folder) for step, folder in _numbered(run_dir) if (folder / STATE_FILE).is_file()]


def _numbered(run_dir: Path) -> list[tuple[int, Path]]:
    names = [(re.fullmatch(r"checkpoint-(\d+)", entry.name, re.ASCII), entry) for entry in run_dir.glob("checkpoint-*")]
    return sorted(((int(match[1]), entry) for match, entry in names if match), reverse=True)


def _file_bytes(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": metadata}
    offset, blobs = 0, list[bytes]()
    for name, value in tensors.items():
        blob = np.ascontiguousarray(value).tobytes()
        header[name] = {
            "dtype": _NAMES[value.dtype],
            "shape": list(value.shape),
            "data_offsets": [offset, offset + len(blob)],
        }
        offset += len(blob)
        blobs.append(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(blobs)


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    try:
        data = read_input(path, _MAX_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    try:
        (length,) = struct.unpack_from("<Q", data)
        header = parse_json(data[8 : 8 + length])
        check(header, {"__metadata__": _METADATA})
        metadata, body = header.pop("__metadata__"), data[8 + length :]
        tensors: dict[str, np.ndarray] = {}
        end = 0
        for name, entry in header.items():
            check(entry, _ENTRY, name)
            dtype = _DTYPES[entry["dtype"]]
            start, stop = entry["data_offsets"]
            if start != end or stop > len(body) or stop - start != dtype.itemsize * prod(entry["shape"]):
                raise ValueError("cut short or edited")
            tensors[name] = np.frombuffer(body[start:stop], dtype).reshape(entry["shape"]).copy()
            end = stop
        if end != len(body):
            raise ValueError("cut short or edited")
    except (KeyError, ValueError, TypeError, AttributeError, struct.error) as error:
        raise CheckpointError(f"{path} is damaged ({error!s:.200})") from error
    return tensors, metadata
