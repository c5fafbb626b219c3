"""The bytes of a checkpoint: one small safetensors file that continues a run bit for bit.

The file format is safetensors (8-byte little-endian header length, JSON header, contiguous data), written here with
numpy alone because a phone port has to do the same. `edge_sdk/system/checkpoints.py` puts the bytes on disk.

Inputs that must be the same when a run is resumed, above all the photos, are kept as salted hashes. So the hashes link
no two runs, and a table of known pictures is useless. Anyone who has a checkpoint can still test a guess of all photos.
"""

import hashlib
import json
import secrets
import struct
from math import prod
from typing import Any

import numpy as np

from edge_sdk.zo.config import ZoConfig
from edge_sdk.zo.loop import State

SCHEMA_VERSION = "3"  # version 2 identified a model by parts of its files only
_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8"), "I64": np.dtype("<i8")}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
MAX_BYTES = 64 * 2**20  # of a file
MAX_HEADER = 2**20
_COUNTS = ("step", "forwards", "average_count", "bad_steps", "adam.count", "newton.count")
_METADATA = ("schema_version", "config", "seed", "fingerprints")  # and, in some versions, mu_min and salt


class CheckpointError(ValueError):
    """A checkpoint cannot be used; one line naming the file and what is wrong with it."""


def salted(value: str, salt: str) -> str:
    """The hash that is stored in place of a value; ``salt``, 32 hexadecimal digits, is stored with it."""
    return hashlib.sha256(bytes.fromhex(salt) + value.encode()).hexdigest()


def state_bytes(state: State, fingerprints: dict[str, str], salt: str | None = None) -> bytes:
    """A state as the bytes of a file; `read_state` refuses the file if the ``fingerprints`` differ then.

    Args:
        salt: see `salted`; None for a fresh one. With the same salt the same state gives the same bytes.
    """
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
    salt = salt or secrets.token_hex(16)
    metadata = {
        "schema_version": SCHEMA_VERSION,
        "config": json.dumps(state.config.to_dict()),
        "seed": str(state.seed),
        "mu_min": repr(state.mu_min),
        "salt": salt,
        "fingerprints": json.dumps({name: salted(v, salt) for name, v in sorted(fingerprints.items())}),
    }
    return _file_bytes(tensors, metadata)


def read_state(data: bytes, path: str, fingerprints: dict[str, str] | None = None) -> State:
    """The state that the bytes of a file hold.

    Args:
        path: of the file, for error messages.

    Raises:
        CheckpointError: the bytes are cut short, edited, of another schema, hold a number that is not finite, or were
            made with other fingerprints.
    """
    tensors, metadata = _read(data, path)
    try:
        if metadata["schema_version"] != SCHEMA_VERSION:
            raise CheckpointError(
                f"{path} was saved by another version of edge-sdk (schema version {metadata['schema_version']}, this "
                f"one reads {SCHEMA_VERSION}); start a new run, or resume with that version"
            )
        config = ZoConfig.from_dict(_parse(metadata["config"]))
        made_with = _parse(metadata["fingerprints"])
        seed = int(metadata["seed"][:20])
        _require(all(isinstance(value, str) for value in made_with.values()), "a fingerprint is no text")
        _require(0 <= seed < 2**64, f"the seed is {seed}")
        salt = metadata.get("salt")  # earlier versions kept the values themselves
        hashes = {k: v if salt is None else salted(v, salt) for k, v in (fingerprints or {}).items()}
        different = [name for name, value in hashes.items() if made_with.get(name) != value]
        basis, mu_min = tensors["newton_basis"], float(metadata.get("mu_min", "nan"))
        state = State.start(config, seed, tensors["embedding"], mu_min, basis)
        shape, size = state.embedding.shape, state.embedding.size
        expected = {
            "adam_m": (shape, "F64"),
            "adam_v": (shape, "F64"),
            "average_sum": (shape, "F64"),
            "counts": ((6,), "I64"),
            "seconds": ((1,), "F64"),
            "subspace_history": ((len(tensors["subspace_history"]), size), "F32"),
            "subspace_removed": ((len(tensors["subspace_removed"]), size), "F32"),
            "newton_basis": ((len(basis), *shape), "F32"),
            "newton_slope": (state.newton.slope.shape, "F64"),
            "newton_curvature": (state.newton.curvature.shape, "F64"),
            "newton_seen": (state.newton.seen.shape, "I64"),
        }
        for name, (wanted, dtype) in expected.items():
            if tensors[name].shape != wanted or tensors[name].dtype != _DTYPES[dtype]:
                raise CheckpointError(f"{path} is damaged: {name} has shape {tensors[name].shape}, not {wanted}")
        counts = dict(zip(_COUNTS, map(int, tensors["counts"]), strict=True))
        most = dict.fromkeys(_COUNTS, counts["step"]) | {"step": 10**9, "forwards": 2**53}
        for name, count in counts.items():
            _require(0 <= count <= most[name], f"{name} is {count}")
        for name in ("subspace_history", "subspace_removed"):
            _require(len(tensors[name]) <= config.subspace_buffer, f"{name} has {len(tensors[name])} rows")
        _require(not tensors["seconds"][0] < 0 and not tensors["seconds"][0] > 1e12, "seconds is out of range")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
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


def _read(data: bytes, path: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    try:
        (length,) = struct.unpack_from("<Q", data)
        _require(length <= min(MAX_HEADER, len(data) - 8), "the header is cut short or too long")
        header = _parse(data[8 : 8 + length].decode())
        metadata, body = header.pop("__metadata__"), data[8 + length :]
        _require(all(isinstance(metadata[name], str) for name in _METADATA), "an entry of its metadata is no text")
        tensors: dict[str, np.ndarray] = {}
        end = 0
        for name, entry in header.items():
            dtype, shape, (start, stop) = _DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
            sizes = [*shape, start, stop]
            _require(all(type(size) is int and 0 <= size <= MAX_BYTES for size in sizes), f"{name} has other sizes")
            _require(len(shape) <= 4 and start == end and stop <= len(body), "cut short or edited")
            _require(stop - start == dtype.itemsize * prod(shape), "cut short or edited")
            tensors[name] = np.frombuffer(body[start:stop], dtype).reshape(shape).copy()
            end = stop
        _require(end == len(body), "cut short or edited")
    except (KeyError, ValueError, TypeError, AttributeError, struct.error) as error:
        raise CheckpointError(f"{path} is damaged ({error!s:.200})") from error
    return tensors, metadata


def _parse(text: str) -> dict[str, Any]:
    """The object of a text of JSON, in which no key is given twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _require(len(dict(pairs)) == len(pairs), "a key is given twice")
        return dict(pairs)

    try:
        value = json.loads(text, object_pairs_hook=unique)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    _require(isinstance(value, dict), "no object")
    return value


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
