"""How alike two pictures are: a measure that can be exchanged, and is named wherever its numbers are shown.

"pixels" compares pictures as they are. A face encoder or a copy detector as an ONNX graph (one picture input, one
feature vector output) is what a provider should give for photographs: it is run by ONNX Runtime, nothing else.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge_sdk.errors import EdgeSdkError, one_line
from edge_sdk.system.inputs import check_input
from edge_sdk.system.paths import expanded

SIDE = 32  # pixels, to which "pixels" reduces larger pictures
MOST_SIDE = 4096  # pixels, of the pictures that a graph takes
TRIED = 224  # pixels, of the pictures on which a graph that takes any side is tried
MOST_SHARED = 0.5  # mean similarity of different pictures, above which limits mean little
COMPARED = 64  # pictures at most, to find that out


class Similarity:
    """Cosine of feature vectors, in [-1, 1].

    Args:
        name: "pixels", or the path of an ONNX graph that takes (N, 3, H, W) float32 in [-1, 1].

    Raises:
        EdgeSdkError: no such graph, or not one of pictures to vectors: it is tried on a pair.
    """

    def __init__(self, name: str = "pixels") -> None:
        self.name = name if name == "pixels" else Path(name).name
        self._graph = None if name == "pixels" else _Graph(expanded(name))

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Pictures (N, 3, H, W) and (M, 3, H, W) in [-1, 1] -> (N, M) float32."""
        return self.features(first) @ self.features(second).T

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """(N, 3, H, W) -> (N, F) float32 of length 1; raises EdgeSdkError if the graph fails on these."""
        if self._graph is None:
            vectors = reduced(pixels, SIDE).reshape(len(pixels), -1)
            vectors = vectors - vectors.mean(axis=1, keepdims=True)
        else:
            vectors = self._graph(pixels)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.maximum(lengths, 1e-9)).astype(np.float32)


def shared_notice(similarity: Similarity, pixels: np.ndarray) -> list[str]:
    """A line if a graph finds all pictures (N, 3, H, W) alike, as face encoders do whose vectors have a common part.

    Every limit of similarity assumes that different pictures are about 0 alike.
    """
    count = min(len(pixels), COMPARED)
    if similarity.name == "pixels" or count < 2:
        return []
    features = similarity.features(pixels[:count])
    mean = float(((features @ features.T).sum() - count) / (count * (count - 1)))
    if mean <= MOST_SHARED:
        return []
    return [
        f"similarity {similarity.name} finds retained pictures {mean:.2f} alike in the mean, limits assume about 0; "
        "give a graph that subtracts the mean vector of many pictures, or raise the limits of similarity"
    ]


class _Graph:
    """An ONNX graph of pictures (N, 3, H, W) to vectors (N, F).

    Raises:
        EdgeSdkError: it cannot be opened, or does not take a pair of pictures or those that it is called with.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime

        self._path, settings = path, onnxruntime.SessionOptions()
        settings.log_severity_level = 4  # what it says is in the error
        with self._refused():
            check_input(path)
            self._session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
            if [len(given.shape) for given in self._session.get_inputs()] != [4]:
                raise ValueError("it must take one picture")
            self._given = self._session.get_inputs()[0]
            side = self._given.shape[-1]
            if side == 3 or (isinstance(side, int) and not 1 <= side <= MOST_SIDE):
                raise ValueError(f"its input is {self._given.shape}")
        self._side = side if isinstance(side, int) else None
        self(np.zeros((2, 3, self._side or TRIED, self._side or TRIED), np.float32))

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        with self._refused():
            vectors = self._session.run(None, {self._given.name: _resized(pixels, self._side or pixels.shape[-1])})[0]
            if len(vectors) != len(pixels):
                raise ValueError(f"{len(pixels)} pictures gave {len(vectors)} vectors")
            return vectors.reshape(len(pixels), -1)

    @contextlib.contextmanager
    def _refused(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the runtime's own classes have no common base
            raise EdgeSdkError(
                f"similarity {self._path} cannot be used ({one_line(error, 120)}); "
                "give 'pixels' or an ONNX graph of float32 pictures (N, 3, H, W), any number of them, to vectors (N, F)"
            ) from error


def reduced(pixels: np.ndarray, side: int) -> np.ndarray:
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
