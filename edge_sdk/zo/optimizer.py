"""Adam on one small array, kept in float64 so that a checkpoint continues bit for bit."""

import math

import numpy as np

from edge_sdk.zo.config import ZoConfig

END_FACTOR = 0.1  # the end of a cosine schedule, as a share of the learning rate


class Adam:
    """m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; theta <- theta - lr * m^ / (sqrt(v^) + eps), bias-corrected."""

    def __init__(self, config: ZoConfig, shape: tuple[int, int]) -> None:
        self.config = config
        self.m, self.v = np.zeros(shape), np.zeros(shape)  # float64
        self.count = 0  # updates so far

    def update(self, theta: np.ndarray, gradient: np.ndarray, step: int) -> np.ndarray:
        """The next token, float32; ``step`` (from 0) sets the learning rate only."""
        c = self.config
        self.count += 1
        self.m = c.adam_beta1 * self.m + (1 - c.adam_beta1) * gradient
        self.v = c.adam_beta2 * self.v + (1 - c.adam_beta2) * gradient**2
        m = self.m / (1 - c.adam_beta1**self.count)
        v = self.v / (1 - c.adam_beta2**self.count)
        rate = learning_rate(c, step)
        return (theta.astype(np.float64) - rate * m / (np.sqrt(v) + c.adam_eps)).astype(np.float32)


def learning_rate(config: ZoConfig, step: int) -> float:
    """Step size of step ``step`` (from 0)."""
    if config.lr_schedule == "constant":
        return config.learning_rate
    share = min(1.0, step / config.max_train_steps)
    return config.learning_rate * (END_FACTOR + (1 - END_FACTOR) * 0.5 * (1 + math.cos(math.pi * share)))
