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
