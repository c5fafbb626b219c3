"""How alike two pictures are: a measure that can be exchanged, and is named wherever its numbers are shown.

"pixels" compares pictures as they are. A face encoder or a copy detector as an ONNX graph (one picture input, one
feature vector output) is what a provider should give for photographs: it is run by ONNX Runtime, nothing else.
"""

from pathlib import Path

import numpy as np

from edge_sdk.errors import EdgeSdkError

SIDE = 32  # pixels, to which "pixels" reduces larger pictures


class Similarity:
    """Cosine of feature vectors, in [-1, 1].

    Args:
        name: "pixels", or the path of an ONNX graph that takes (N, 3, H, W) float32 in [-1, 1].

    Raises:
        EdgeSdkError: no such graph, or not one of pictures to vectors.
    """

    def __init__(self, name: str = "pixels") -> None:
        self.name = name if name == "pixels" else Path(name).name
        self._session = None if name == "pixels" else _open(Path(name))

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Pictures (N, 3, H, W) and (M, 3, H, W) in [-1, 1] -> (N, M) float32."""
        return self.features(first) @ self.features(second).T

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """(N, 3, H, W) -> (N, F) float32 of length 1."""
        if self._session is None:
            vectors = _reduced(pixels, SIDE).reshape(len(pixels), -1)
            vectors = vectors - vectors.mean(axis=1, keepdims=True)
        else:
            given = self._session.get_inputs()[0]
            side = given.shape[-1] if isinstance(given.shape[-1], int) else pixels.shape[-1]
            vectors = self._session.run(None, {given.name: _resized(pixels, side)})[0].reshape(len(pixels), -1)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.maximum(lengths, 1e-9)).astype(np.float32)


def _open(path: Path):  # type: ignore[no-untyped-def]
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        if [len(given.shape) for given in session.get_inputs()] != [4]:
            raise ValueError("it must take one picture")
    except Exception as error:  # the runtime's own classes have no common base
        raise EdgeSdkError(
            f"similarity {path} cannot be used ({' '.join(str(error).split())[:120]}); "
            "give 'pixels' or an ONNX graph of pictures (N, 3, H, W) to vectors (N, F)"
        ) from error
    return session


def _reduced(pixels: np.ndarray, side: int) -> np.ndarray:
    """By averaging whole blocks, if a picture has any to spare."""
    factor = pixels.shape[-1] // side
    if factor < 2:
        return pixels
    size = pixels.shape[-1] // factor
    cut = pixels[..., : size * factor, : size * factor]
    return cut.reshape(*cut.shape[:2], size, factor, size, factor).mean(axis=(3, 5))


def _resized(pixels: np.ndarray, side: int) -> np.ndarray:
    if pixels.shape[-1] == side:
        return pixels.astype(np.float32)
    import torch
    import torch.nn.functional as F

    return F.interpolate(torch.from_numpy(pixels).float(), side, mode="bilinear", antialias=True).numpy()
