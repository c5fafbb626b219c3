"""The subspace gradient (paper eqs 4-8): noise where the token has hardly moved is projected out."""

import numpy as np


def low_variance_directions(history: np.ndarray, threshold: float) -> np.ndarray:
    """Directions that hold the last ``threshold`` share of the history's variance.

    The history is centred, so at most tau - 1 components have variance. Components without any variance are left out;
    the released code keeps one of them, an arbitrary direction.

    Args:
        history: (tau, d) float, one token value a row.
        threshold: nu.

    Returns:
        (r, d) float32 with orthonormal rows.
    """
    history = history.astype(np.float64)
    std = history.std(axis=0)
    standardized = (history - history.mean(axis=0)) / np.where(std > 0, std, 1.0)  # eq 4
    _, singular, components = np.linalg.svd(standardized, full_matrices=False)  # eq 5
    variance = singular**2
    total = variance.sum()
    if total == 0:
        return np.zeros((0, history.shape[1]), np.float32)
    rank = int((singular > singular[0] * 1e-10).sum())
    enough = np.flatnonzero(np.cumsum(variance) / total > 1 - threshold)
    kept = int(enough[0]) + 1 if len(enough) else rank  # eq 6: i*
    return components[kept:rank].astype(np.float32)  # eq 7: the components after i*


class Subspace:
    """Collects token values; after every ``buffer`` of them, it renews the directions to project out."""

    def __init__(self, size: int, buffer: int, threshold: float) -> None:
        self.buffer, self.threshold = buffer, threshold
        self.history = np.zeros((0, size), np.float32)  # (< tau, d), token values since the last renewal
        self.removed = np.zeros((0, size), np.float32)  # (r, d), P_nu; empty for the first tau steps

    def project(self, gradient: np.ndarray) -> np.ndarray:
        """g (I - P^T P), eq 8, for a gradient of any shape with d elements; float64."""
        if not len(self.removed):
            return gradient
        flat = gradient.reshape(-1)
        p = self.removed.astype(np.float64)
        return (flat - (flat @ p.T) @ p).reshape(gradient.shape)

    def push(self, theta: np.ndarray) -> None:
        """Record the token after an update."""
        if not self.buffer:
            return
        self.history = np.concatenate([self.history, theta.reshape(1, -1)])
        if len(self.history) == self.buffer:
            self.removed = low_variance_directions(self.history, self.threshold)
            self.history = self.history[:0]
