"""Reading safetensors files: their headers, and where their tensors are."""

import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.inputs import open_input
from edge_sdk.system.json import parse_json

MAX_HEADER = 100 * 2**20


def read_header(path: Path, max_bytes: int | None = None) -> dict[str, Any]:
    """The header of a safetensors file, which the library checks against the file's size.

    Args:
        max_bytes: a larger file is refused.

    Raises:
        EdgeSdkError: not a safetensors file, cut short, edited, or too large.
    """
    try:
        with open_input(path) as file:
            size = os.fstat(file.fileno()).st_size
            if max_bytes is not None and size > max_bytes:
                raise EdgeSdkError(f"{path} is larger than {max_bytes >> 20} MB, the most that is read here")
            length = int.from_bytes(file.read(8), "little")
            if length > min(MAX_HEADER, size - 8):
                raise EdgeSdkError(f"{path} is cut short or not a safetensors file ({size} bytes); download it again")
            text = file.read(length)
        with safe_open(path, "numpy"):
            header = parse_json(text)
    except OSError as error:
        raise EdgeSdkError(f"{path} cannot be read: {error.strerror or error}") from error
    except (SafetensorError, ValueError) as error:
        raise EdgeSdkError(f"{path} is cut short or damaged ({error!s:.120}); download it again") from error
    if not isinstance(header.get("__metadata__", {}), dict):
        raise EdgeSdkError(f"{path} has metadata that is not a list of texts; download it again")
    return header


def data_start(path: Path) -> int:
    """Where the tensors of a safetensors file begin: the offsets in its header count from there."""
    with open_input(path) as file:
        return 8 + int.from_bytes(file.read(8), "little")
