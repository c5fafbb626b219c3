"""Which pictures are not copies of one another: what a set of retained pictures is worth as evidence.

The more pictures a free sample is compared with, the fewer are most like a target. Copies that are mirrored, turned,
moved, or of another brightness or contrast must not count for that, and copies of a target least of all.
"""

from collections.abc import Iterator

import numpy as np

from edge_sdk.unlearning.similarity import reduced

SIDE = 16  # pixels, to which pictures are reduced
SHIFT = 2  # of those, by which a copy may be moved
ALIKE = 0.95  # cosine of what overlaps, from which two pictures are copies; 64 faces of the embedded model: 0.948
MOST = 4096  # distinct pictures that are looked for: time rises with their square
BLOCK = 256  # pictures that are compared together


def distinct(pictures: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The pictures of more than one colour that are copies of no target and of no picture before them.

    Args:
        pictures: (N, 3, H, W) in [-1, 1].
        targets: (M, 3, H, W) in [-1, 1].

    Returns:
        Their numbers, rising, (K,) int64 with K at most `MOST`.
    """
    kept: list[int] = []
    centres = _centres(targets)
    for start in range(0, len(pictures), BLOCK):
        block = pictures[start : start + BLOCK]
        own = _centres(block)
        known, among = likeness(block, centres).max(axis=1), likeness(block, own)
        among = np.maximum(among, among.T)
        new: list[int] = []
        for i in range(len(block)):
            room, plain = len(kept) + len(new) < MOST, not own[i].any()
            if room and not plain and known[i] < ALIKE and (among[i, new] < ALIKE).all():
                new.append(i)
        kept += [start + i for i in new]
        centres = np.concatenate([centres, own[new]])
    return np.array(kept, np.int64)


def likeness(pictures: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Cosine of pictures (N, 3, H, W) and `_centres` (M, F), of all ways to turn, mirror and move one the highest."""
    highest = np.full((len(pictures), len(centres)), -1, np.float32)
    for window in _windows(reduced(pictures, SIDE)):
        np.maximum(highest, _unit(window) @ centres.T, out=highest)
    return highest


def _centres(pictures: np.ndarray) -> np.ndarray:
    """Pictures (N, 3, H, W) without a margin, as vectors (N, F) of length 1."""
    small = reduced(pictures, SIDE)
    return _unit(small[..., SHIFT:-SHIFT, SHIFT:-SHIFT])


def _windows(pictures: np.ndarray) -> Iterator[np.ndarray]:
    """All parts of a centre's size of pictures (N, 3, h, w) that are turned and mirrored."""
    height, width = (side - 2 * SHIFT for side in pictures.shape[2:])
    for quarters in range(4):
        turned = np.rot90(pictures, quarters, axes=(2, 3))
        for mirrored in (turned, turned[..., ::-1]):
            for y in range(2 * SHIFT + 1):
                for x in range(2 * SHIFT + 1):
                    yield mirrored[..., y : y + height, x : x + width]


def _unit(pictures: np.ndarray) -> np.ndarray:
    """(N, 3, h, w) -> (N, F) of length 1 without brightness and contrast; zero of pictures of one colour."""
    vectors = (pictures - pictures.mean(axis=(2, 3), keepdims=True)).reshape(len(pictures), -1)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(lengths > 1e-3, vectors / np.maximum(lengths, 1e-3), 0).astype(np.float32)
