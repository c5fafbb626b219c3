"""Pixels of a decoder as bytes."""

import numpy as np

from edge_sdk.errors import EdgeSdkError


def as_bytes(pixels: np.ndarray) -> np.ndarray:
    """Pixels (N, 3, H, W) float32, of which -1 to 1 is shown, to pictures (N, H, W, 3) uint8.

    Raises:
        EdgeSdkError: a pixel is not finite.
    """
    if not np.isfinite(pixels).all():
        raise EdgeSdkError(
            "the model computed a picture that is not finite, so none is written; check its scheduler's config and its "
            "weights, or take fewer steps"
        )
    return ((pixels.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8).transpose(0, 2, 3, 1)
