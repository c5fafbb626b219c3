"""Which pictures are not copies of one another: what a set of retained pictures is worth as evidence.

The more pictures a free sample is compared with, the fewer are most like a target. Copies that are mirrored, turned,
moved, or of another brightness or contrast must not count for that, and copies of a target least of all.
"""

from itertools import product

import numpy as np

from edge_sdk.unlearning.similarity import reduced

SIDE = 16  # pixels, to which pictures are reduced
SHIFT = 4  # of those, by which one copy may be moved against another; what is moved further is like other samples
ALIKE = 0.95  # cosine of what overlaps, from which two pictures are copies
MOST = 1024  # distinct pictures that are looked for: time rises with their square
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
    seen = reduced(targets, SIDE)
    for start in range(0, len(pictures), BLOCK):
        block = reduced(pictures[start : start + BLOCK], SIDE)
        alike = likeness(block, np.concatenate([seen, block])) >= ALIKE
        known, among = alike[:, : len(seen)].any(axis=1), alike[:, len(seen) :]
        plain = np.ptp(block, axis=(2, 3)).max(axis=1) < 1e-3
        new: list[int] = []
        for i in np.flatnonzero(~known & ~plain):
            if len(kept) + len(new) < MOST and not among[i, new].any():
                new.append(int(i))
        kept += [start + i for i in new]
        seen = np.concatenate([seen, block[new]])
    return np.array(kept, np.int64)


def likeness(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosines (N, M) of what overlaps of pictures (N, 3, h, w) and (M, 3, h, w).

    Of all ways to turn, mirror and move a picture the highest counts; brightness and contrast do not.
    """
    highest = np.full((len(first), len(second)), -1, np.float32)
    steps = range(-SHIFT, SHIFT + 1)
    of_second = {(y, x): _unit(_moved(second, y, x)).reshape(len(second), -1).T for y, x in product(steps, steps)}
    for y, x in product(steps, steps):
        window = _unit(_moved(first, y, x))
        for quarters, mirrored in product(range(4), (False, True)):
            turned = np.rot90(window, quarters, axes=(2, 3))[..., :: -1 if mirrored else 1]
            moved_by = _turned(y, x, quarters, mirrored)
            np.maximum(highest, turned.reshape(len(first), -1) @ of_second[moved_by], out=highest)
    return highest


def _turned(y: int, x: int, quarters: int, mirrored: bool) -> tuple[int, int]:
    """Where the other picture's window is, of a window moved by y and x that is then turned and mirrored."""
    for _ in range(quarters):
        y, x = -x, y
    return -y, x if mirrored else -x


def _moved(pictures: np.ndarray, y: int, x: int) -> np.ndarray:
    """What of pictures (N, 3, h, w) is left if they are moved up and left, or down and right of negative numbers."""
    height, width = pictures.shape[2:]
    return pictures[:, :, max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)]


def _unit(pictures: np.ndarray) -> np.ndarray:
    """Pictures (N, 3, h, w) of length 1 without brightness and contrast; zero where they are of one colour."""
    centred = pictures - pictures.mean(axis=(2, 3), keepdims=True)
    lengths = np.sqrt(np.square(centred).sum(axis=(1, 2, 3), keepdims=True))
    return np.where(lengths > 1e-3, centred / np.maximum(lengths, 1e-3), 0).astype(np.float32)
