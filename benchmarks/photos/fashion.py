"""Fashion-MNIST, 70,000 photos of products in ten classes (Xiao et al., 2017), and styles within the classes.

The photos are Debian's package ``dataset-fashion-mnist``, under the Expat licence. A style is a cluster of a class's
photos, of the training and the test half alike.
"""

import functools
import gzip
import zlib
from pathlib import Path

import numpy as np

from benchmarks.photos.olivetti import in_three_channels
from edge_sdk.errors import EdgeSdkError

FOLDER = Path("/usr/share/datasets/fashion-mnist")
SIDE, PADDED = 28, 32  # pixels of a photo, and with a black border
CLASSES = ("tshirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
STYLES = 16  # of a class
COUNTS = {"train": 60_000, "t10k": 10_000}
MAGIC = {1: 0x801, 3: 0x803}  # of a file of bytes in one or three dimensions
REDUCED = 8  # pixels of a side that clusters look at
ROUNDS = 25  # of k-means


def read(half: str, folder: Path = FOLDER) -> tuple[np.ndarray, np.ndarray]:
    """Photos (N, 28, 28) uint8 and classes (N,) uint8.

    Args:
        half: "train" or "t10k".

    Raises:
        EdgeSdkError: a file is missing or damaged.
    """
    count = COUNTS[half]
    photos = _array(folder / f"{half}-images-idx3-ubyte.gz", (count, SIDE, SIDE))
    classes = _array(folder / f"{half}-labels-idx1-ubyte.gz", (count,))
    if classes.max() >= len(CLASSES):
        raise _refused(folder / f"{half}-labels-idx1-ubyte.gz")
    return photos, classes


def _array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The bytes of an IDX file: a number that tells the type, the shape, all big-endian, then the values."""
    header, size = 4 + 4 * len(shape), int(np.prod(shape))
    try:
        with gzip.open(path) as file:
            data = file.read(header + size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _refused(path) from error
    if len(data) != header + size or tuple(np.frombuffer(data, ">u4", 1 + len(shape))) != (MAGIC[len(shape)], *shape):
        raise _refused(path)
    return np.frombuffer(data, np.uint8, size, header).reshape(shape)


def _refused(path: Path) -> EdgeSdkError:
    return EdgeSdkError(
        f"{path} is not the file of Fashion-MNIST; install Debian's dataset-fashion-mnist, or give its folder as --data"
    )


def pictures(photos: np.ndarray) -> np.ndarray:
    """Photos (N, 28, 28) uint8 with their border -> (N, 3, 32, 32) float32 in [-1, 1]."""
    edge = (PADDED - SIDE) // 2
    return in_three_channels(np.pad(photos, ((0, 0), (edge, edge), (edge, edge))), PADDED)


@functools.lru_cache(maxsize=2)
def centres(folder: Path = FOLDER) -> np.ndarray:
    """Of the styles, (10, STYLES, 64) float32, the larger ones first: k-means of the training half, class by class."""
    photos, classes = read("train", folder)
    features = _reduced(photos)
    return np.stack([_clusters(features[classes == number]) for number in range(len(CLASSES))])


def styles(photos: np.ndarray, classes: np.ndarray, folder: Path = FOLDER) -> np.ndarray:
    """The style of each photo within its class, (N,) int64."""
    features, near = _reduced(photos), centres(folder)
    out = np.empty(len(photos), np.int64)
    for number in range(len(CLASSES)):
        own = classes == number
        out[own] = _nearest(features[own], near[number])
    return out


def _reduced(photos: np.ndarray) -> np.ndarray:
    """(N, 64) float32 in [0, 1]."""
    padded = np.pad(photos, ((0, 0), (2, 2), (2, 2)))
    side = PADDED // REDUCED
    return padded.reshape(len(photos), REDUCED, side, REDUCED, side).mean((2, 4), dtype=np.float32).reshape(
        len(photos), -1
    ) / np.float32(255)


def _nearest(features: np.ndarray, near: np.ndarray) -> np.ndarray:
    return ((near**2).sum(1) - 2 * features @ near.T).argmin(axis=1)


def _clusters(features: np.ndarray) -> np.ndarray:
    near = features[np.random.default_rng(0).choice(len(features), STYLES, replace=False)]
    for _ in range(ROUNDS):
        own = _nearest(features, near)
        near = np.stack([features[own == k].mean(0) if (own == k).any() else near[k] for k in range(STYLES)])
    return near[np.argsort(-np.bincount(_nearest(features, near), minlength=STYLES), kind="stable")]
