"""Which retained pictures count: copies of others and of targets do not, however they are turned or moved."""

from collections.abc import Callable

import numpy as np
import pytest

from edge_sdk.unlearning.audit import distinct as module
from edge_sdk.unlearning.audit.distinct import distinct


def smooth(count: int, seed: int, side: int = 32) -> np.ndarray:
    """Pictures (count, 3, side, side) of soft random patches, each unlike the others."""
    patches = np.random.default_rng(seed).uniform(-0.8, 0.8, (count, 3, 8, 8))
    return np.repeat(np.repeat(patches, side // 8, axis=2), side // 8, axis=3).astype(np.float32)


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "same": lambda p: p,
    "mirrored": lambda p: p[..., ::-1],
    "upside down": lambda p: p[..., ::-1, :],
    "turned": lambda p: np.rot90(p, 1, axes=(2, 3)),
    "moved": lambda p: np.roll(p, (2, -2), axis=(2, 3)),
    "mirrored and moved": lambda p: np.roll(p[..., ::-1], (-4, 2), axis=(2, 3)),
    "brighter": lambda p: p + 0.2,
    "of less contrast": lambda p: p * 0.5,
    "of another cast": lambda p: p + np.array([0.2, -0.2, 0], np.float32).reshape(3, 1, 1),
    "noised": lambda p: p + np.random.default_rng(0).normal(0, 0.03, p.shape).astype(np.float32),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("block", [256, 5])
def test_copies_count_once_and_those_of_targets_not_at_all(
    copy: Callable[[np.ndarray], np.ndarray], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    pictures, targets = smooth(12, 1), smooth(2, 2)
    padded = np.concatenate([pictures, copy(pictures), copy(targets), np.full((3, 3, 32, 32), 0.3, np.float32)])
    np.testing.assert_array_equal(distinct(padded, targets), np.arange(12))


def test_no_more_are_looked_for_than_is_affordable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 5)
    assert list(distinct(smooth(12, 1), smooth(1, 2))) == [0, 1, 2, 3, 4]
