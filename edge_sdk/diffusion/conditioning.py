"""What the denoiser of Stable Diffusion XL receives beside the text."""

from collections.abc import Sequence

import numpy as np


def add_time_ids(originals: Sequence[tuple[int, int]], target: tuple[int, int]) -> np.ndarray:
    """Sizes of N pictures, (N, 6) float32: original height and width, crop top and left, target height and width.

    The crop is always (0, 0), as for a centred subject (SDXL paper, section 2.2).
    """
    return np.array([(*original, 0, 0, *target) for original in originals], np.float32)
