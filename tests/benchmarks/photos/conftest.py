"""A folder of the shape of Fashion-MNIST, of drawings instead of photos, so that tests need no package."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from benchmarks.photos import fashion


def write_idx(path: Path, values: np.ndarray) -> None:
    header = np.array([fashion.MAGIC[values.ndim], *values.shape], ">u4").tobytes()
    path.write_bytes(gzip.compress(header + values.tobytes(), compresslevel=1))


@pytest.fixture(scope="session")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every class is a square of its own size, every photo one of 40 shades of it, so that clusters exist."""
    folder = tmp_path_factory.mktemp("fashion-mnist")
    for half, count in fashion.COUNTS.items():
        classes = (np.arange(count) % len(fashion.CLASSES)).astype(np.uint8)
        photos = np.zeros((count, fashion.SIDE, fashion.SIDE), np.uint8)
        shades = (40 + 5 * (np.arange(count) // 10 % 40)).astype(np.uint8)
        for number in range(len(fashion.CLASSES)):
            photos[classes == number, : 8 + 2 * number, : 28 - 2 * number] = 1
        photos = photos * shades[:, None, None]
        photos[:, -3:, -3:] = np.random.default_rng(0).integers(1, 256, (count, 1, 1))  # so that no two are equal
        write_idx(folder / f"{half}-images-idx3-ubyte.gz", photos)
        write_idx(folder / f"{half}-labels-idx1-ubyte.gz", classes)
    return folder
