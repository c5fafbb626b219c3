"""Fashion-MNIST's files are read whole or refused; styles are the same in both halves."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.photos import fashion
from edge_sdk.errors import EdgeSdkError

IMAGES = "t10k-images-idx3-ubyte.gz"


def test_pictures_have_a_black_border_and_three_equal_channels(drawings: Path) -> None:
    photos, classes = fashion.read("t10k", drawings)
    pixels = fashion.pictures(photos[:5])
    assert pixels.shape == (5, 3, 32, 32) and pixels.dtype == np.float32
    assert (pixels[:, :, :2] == -1).all() and (pixels[:, 0] == pixels[:, 2]).all()
    np.testing.assert_allclose(pixels[4, 0, 2:-2, 2:-2], photos[4] / 127.5 - 1, atol=1e-6)
    assert classes[13] == 3


def test_styles_are_clusters_within_a_class_and_shared_by_both_halves(drawings: Path) -> None:
    styles = {half: fashion.styles(*fashion.read(half, drawings), drawings) for half in fashion.COUNTS}
    np.testing.assert_array_equal(styles["train"][:10_000], styles["t10k"])  # which have the same drawings
    photos, classes = fashion.read("train", drawings)
    own = styles["train"][classes == 3]
    shades = photos[classes == 3][:, 0, 0].astype(float)
    spread = [shades[own == k].std() for k in range(fashion.STYLES) if (own == k).any()]
    assert len(spread) > 8 and max(spread) < shades.std() / 2


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: gzip.compress(data)[:-20],
    "one byte short": lambda data: gzip.compress(data[:-1]),
    "one byte long": lambda data: gzip.compress(data + b"0"),
    "another type": lambda data: gzip.compress(data[:2] + b"\x0d" + data[3:]),
    "not compressed": lambda data: data,
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_are_refused_in_one_line(
    tmp_path: Path, drawings: Path, damage: Callable[[bytes], bytes]
) -> None:
    for path in drawings.glob("t10k*"):
        shutil.copy(path, tmp_path)
    data = gzip.decompress((tmp_path / IMAGES).read_bytes())
    (tmp_path / IMAGES).write_bytes(damage(data))
    with pytest.raises(EdgeSdkError, match="dataset-fashion-mnist") as refusal:
        fashion.read("t10k", tmp_path)
    assert "\n" not in str(refusal.value)


def test_a_class_that_does_not_exist_is_refused(tmp_path: Path, drawings: Path) -> None:
    for path in drawings.glob("t10k*"):
        shutil.copy(path, tmp_path)
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(gzip.decompress(labels.read_bytes())[:-1] + b"\x0a"))
    with pytest.raises(EdgeSdkError, match="labels"):
        fashion.read("t10k", tmp_path)


@pytest.mark.skipif(not fashion.FOLDER.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_real_photos_are_those_of_zalando() -> None:
    photos, classes = fashion.read("train")
    assert np.bincount(classes).tolist() == [6000] * 10
    assert classes[:5].tolist() == [9, 0, 0, 3, 0] and photos[0].sum() == 76247
