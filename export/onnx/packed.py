"""Matrices in the form that ONNX Runtime's ``MatMulNBits`` takes: blocks of columns, low nibbles first."""

import numpy as np

from edge_sdk.export.weights import Layer


def blocks(matrix: np.ndarray, bits: int, block: int) -> np.ndarray:
    """(N, K) int8, or 0..15 for 4 bits -> (N, blocks, bytes) uint8; int8 lies around 128, columns past K are zero."""
    n, k = matrix.shape
    padded = np.full((n, -(-k // block) * block), 128 if bits == 8 else 0, np.uint8)
    padded[:, :k] = matrix.view(np.uint8) ^ 0x80 if bits == 8 else matrix
    if bits == 8:
        return padded.reshape(n, -1, block)
    return nibbles(padded).reshape(n, -1, block // 2)


def scales(layer: Layer, block: int) -> np.ndarray:
    """(N, blocks) float32; an int8 row has one scale for all."""
    assert layer.scale is not None
    if layer.scale.ndim == 2:
        return layer.scale
    return np.repeat(layer.scale[:, None], -(-layer.matrix.shape[1] // block), axis=1)


def nibbles(values: np.ndarray) -> np.ndarray:
    """(N, G) in 0..15 -> (N, ceil(G / 2)) uint8."""
    even = np.pad(values, ((0, 0), (0, values.shape[1] % 2)))
    return np.ascontiguousarray(even[:, ::2] | even[:, 1::2] << 4)
