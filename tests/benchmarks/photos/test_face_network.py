"""A network in dlib's format becomes an ONNX graph with the same vectors, which `--similarity` takes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F

from benchmarks.photos import face_network
from edge_sdk.errors import EdgeSdkError
from edge_sdk.images import save_png, to_pil
from edge_sdk.unlearning.similarity import Similarity

SIDE, MEANS = 30, (120.5, 117.25, 104.0)
BLOCKS = ((4, 1), (6, 2), (6, 1), (8, 2))  # filters and stride of each
FEATURES = 5


def integer(value: int) -> bytes:
    size = max(1, (abs(value).bit_length() + 7) // 8)
    return bytes([size | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(size, "little")


def number(value: float) -> bytes:
    mantissa, exponent = np.frexp(value)
    return integer(int(mantissa * 2**24)) + integer(int(exponent) - 24)


def text(value: bytes) -> bytes:
    return integer(len(value)) + value


def tensor(values: np.ndarray) -> bytes:
    shape = b"".join(map(integer, (values.size, 1, 1, 1)))
    return integer(2) + shape + values.astype("<f4").tobytes()


class Layers:
    """Random layers as dlib writes them; `forward` computes what they give."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(3)
        self.first = self.layer(3, 4, 5, 2)
        self.blocks, width = [], 4
        for filters, stride in BLOCKS:
            self.blocks.append((self.layer(width, filters, 3, stride), self.layer(filters, filters, 3, 1)))
            width = max(width, filters)
        self.linear = self.rng.standard_normal((width, FEATURES)).astype(np.float32)

    def layer(self, inputs: int, filters: int, size: int, stride: int) -> dict[str, Any]:
        draw = lambda *shape: self.rng.standard_normal(shape).astype(np.float32) / 3  # noqa: E731
        weights = {"weight": draw(filters, inputs, size, size), "bias": draw(filters)}
        return {**weights, "scale": 1 + draw(filters), "shift": draw(filters), "stride": stride}

    def record(self, layer: dict[str, Any]) -> bytes:
        filters, _, size, _ = layer["weight"].shape
        padding = 0 if layer["stride"] > 1 else size // 2
        values = np.concatenate([layer["weight"].ravel(), layer["bias"]])
        sizes = (filters, size, size, layer["stride"], layer["stride"], padding, padding)
        own = text(b"con_4") + tensor(values) + b"".join(map(integer, sizes))
        affine = np.concatenate([layer["scale"], layer["shift"]])
        return own + integer(1) + text(b"affine_") + tensor(affine) + integer(0)

    def data(self) -> bytes:
        head = integer(1) + text(b"loss_metric_2") + text(b"input_rgb_image_sized")
        head += b"".join(map(number, MEANS)) + integer(SIDE) + integer(SIDE)
        layers = [self.first, *(layer for block in self.blocks for layer in block)]
        tail = text(b"fc_2") + integer(FEATURES) + integer(len(self.linear)) + tensor(self.linear)
        return head + b"".join(map(self.record, layers)) + tail

    def forward(self, pixels: np.ndarray) -> np.ndarray:
        """Of pictures (N, 3, SIDE, SIDE) in [-1, 1]."""

        def apply(x: torch.Tensor, layer: dict[str, Any]) -> torch.Tensor:
            weight, bias, scale, shift = (torch.from_numpy(layer[k]) for k in ("weight", "bias", "scale", "shift"))
            padding = 0 if layer["stride"] > 1 else weight.shape[-1] // 2
            out = F.conv2d(x, weight, bias, layer["stride"], padding)
            return out * scale[:, None, None] + shift[:, None, None]

        x = (torch.from_numpy(pixels) * 127.5 + 127.5 - torch.tensor(MEANS)[:, None, None]) / 256
        x = F.max_pool2d(apply(x, self.first).relu(), 3, 2)
        for one, two in self.blocks:
            inner = apply(apply(x, one).relu(), two)
            x = F.avg_pool2d(x, 2) if one["stride"] == 2 else x
            shape = [len(x), *(max(a, b) for a, b in zip(inner.shape[1:], x.shape[1:], strict=True))]
            total = torch.zeros(shape)
            for part in (inner, x):
                total[:, : part.shape[1], : part.shape[2], : part.shape[3]] += part
            x = total.relu()
        return (x.mean(dim=(2, 3)) @ torch.from_numpy(self.linear)).numpy()


@pytest.fixture(scope="module")
def layers() -> Layers:
    return Layers()


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (6, 3, SIDE, SIDE)).astype(np.float32)


@pytest.fixture
def weights(tmp_path: Path, layers: Layers) -> Path:
    path = tmp_path / "network.dat"
    path.write_bytes(layers.data())
    return path


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def similarity_of(model: onnx.ModelProto, folder: Path) -> Similarity:
    path = folder / "face.onnx"
    path.write_bytes(model.SerializeToString())
    return Similarity(str(path))


def test_the_graph_gives_the_networks_vectors(
    tmp_path: Path, weights: Path, layers: Layers, pixels: np.ndarray
) -> None:
    features = similarity_of(face_network.convert(weights, None, 0.0), tmp_path).features(pixels)
    np.testing.assert_allclose(features, unit(layers.forward(pixels)), atol=1e-5)


def test_a_margin_draws_edges_out(tmp_path: Path, weights: Path, layers: Layers, pixels: np.ndarray) -> None:
    features = similarity_of(face_network.convert(weights, None, 0.25), tmp_path).features(pixels[..., :20, :20])
    padded = np.pad(pixels[..., :20, :20], ((0, 0), (0, 0), (5, 5), (5, 5)), mode="edge")
    np.testing.assert_allclose(features, unit(layers.forward(padded)), atol=1e-5)


def test_the_mean_of_given_faces_is_subtracted(
    tmp_path: Path, weights: Path, layers: Layers, pixels: np.ndarray
) -> None:
    folder = tmp_path / "faces"
    folder.mkdir()
    for number, picture in enumerate(pixels):
        save_png(to_pil(picture), folder / f"{number}.png")
    stored = np.round((pixels + 1) * 127.5).clip(0, 255).astype(np.float32) / 127.5 - 1
    vectors = layers.forward(stored)
    features = similarity_of(face_network.convert(weights, folder, 0.0), tmp_path).features(stored)
    np.testing.assert_allclose(features, unit(vectors - vectors.mean(axis=0)), atol=1e-3)


def changed(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new, 1)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "text": lambda data: b"not a network",
    "cut": lambda data: data[: len(data) // 2],
    "without its last matrix": lambda data: changed(data, b"fc_2", b"fc_3"),
    "a convolution without its map": lambda data: data.replace(b"affine_", b"other__"),
    "no picture": lambda data: changed(data, b"input_rgb", b"input_abc"),
    "another tensor version": lambda data: changed(data, b"con_4" + integer(2), b"con_4" + integer(3)),
    "not finite": lambda data: data[:-4] + np.array(np.nan, "<f4").tobytes(),
    "a size of zero": lambda data: changed(data, 2 * integer(SIDE), 2 * integer(0)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_networks_are_refused_in_one_line(
    tmp_path: Path, layers: Layers, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "damaged.dat"
    path.write_bytes(damage(layers.data()))
    with pytest.raises(EdgeSdkError, match="dlib") as refusal:
        face_network.convert(path, None, 0.0)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "options",
    [
        ["--weights", "none.dat"],
        ["--weights", "network.dat", "--margin", "-1"],
        ["--weights", "network.dat", "--faces", "none"],
        ["--weights", "network.dat", "--output", "no/such/file.onnx"],
    ],
    ids=["no weights", "margin", "no faces", "no folder"],
)
def test_a_users_mistake_is_one_line_and_status_2(tmp_path: Path, weights: Path, options: list[str]) -> None:
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.photos.face_network", *options],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not list(tmp_path.rglob("*.onnx"))
