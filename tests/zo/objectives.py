"""Objectives without a network: quadratics whose gradient is known."""

from collections.abc import Sequence

import numpy as np

from edge_sdk.zo import Draw


class Quadratic:
    """loss = 1/2 sum_i c_i (theta_i - target_i)^2 + offset(draw) + tilt(draw) . theta, with mean tilt 0 over noise."""

    num_images, num_prompts, num_train_timesteps = 5, 3, 1000
    latents_shape = (2, 2, 2)

    def __init__(self, shape: tuple[int, int] = (1, 6), tilt: float = 0.0, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.embedding_shape = shape
        self.curvature = rng.uniform(0.5, 2.0, shape)
        self.target = rng.standard_normal(shape)
        self.tilt = tilt
        self.calls: list[tuple[np.ndarray, list[Draw]]] = []

    def losses(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        self.calls.append((embeddings.copy(), list(draws)))
        gap = embeddings.astype(np.float64) - self.target
        quadratic = 0.5 * (self.curvature * gap**2).sum(axis=(1, 2))
        offset = np.array([float(d.noise.mean()) for d in draws])
        slope = np.array([float(d.noise[0, 0, 0]) for d in draws])
        return quadratic + offset + self.tilt * slope * embeddings.sum(axis=(1, 2))

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        return self.curvature * (theta - self.target)

    def residuals(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        raise NotImplementedError("a quadratic with a tilt is no sum of squares")


class LeastSquares:
    """Residuals matrix @ (theta - target) + bend * (theta - target)^2 + spread(draw), with mean spread 0 over noise."""

    num_images, num_prompts, num_train_timesteps = 5, 3, 1000
    latents_shape = (2, 2, 2)

    def __init__(self, shape: tuple[int, int] = (1, 6), noise: float = 0.0, bend: float = 0.0, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.embedding_shape, size = shape, int(np.prod(shape))
        self.matrix = rng.standard_normal((8, size)) * np.geomspace(1, 0.1, size)  # ill-conditioned
        self.target = rng.standard_normal(shape)
        self.noise, self.bend = noise, bend
        self.calls: list[tuple[np.ndarray, list[Draw]]] = []

    def residuals(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        self.calls.append((embeddings.copy(), list(draws)))
        gap = (embeddings.astype(np.float64) - self.target).reshape(len(draws), -1)
        spread = np.stack([d.noise.reshape(-1) for d in draws])
        return gap @ self.matrix.T + self.bend * (gap**2) @ self.matrix.T + self.noise * spread

    def losses(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        return (self.residuals(embeddings, draws) ** 2).mean(axis=1)

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        """Of the expected loss, without bend."""
        return (2 / 8 * self.matrix.T @ self.matrix @ (theta - self.target).reshape(-1)).reshape(theta.shape)
