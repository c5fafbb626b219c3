"""Photos as Python has them: a folder, paths, pictures and arrays are the same pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_sdk import EdgeSdkError
from edge_sdk.images import load_photos
from edge_sdk.photos import read_photos


@pytest.fixture
def files(photos: Path) -> list[Path]:
    return sorted(photos.iterdir())


@pytest.mark.parametrize(
    "form",
    [
        lambda files: files,
        lambda files: tuple(map(str, files)),
        lambda files: [Image.open(file) for file in files],
        lambda files: [np.asarray(Image.open(file)) for file in files],
        lambda files: np.stack([np.asarray(Image.open(file)) for file in files]),
        lambda files: [np.asarray(Image.open(file)) / 255 for file in files],
        lambda files: [np.asarray(Image.open(file), np.float32) / 255 for file in files],
        lambda files: [np.asarray(Image.open(file))[::-1][::-1] for file in files],
        lambda files: [Image.open(files[0]), files[1], np.asarray(Image.open(files[2]).convert("RGBA"))],
    ],
    ids=["paths", "strings", "pictures", "arrays", "one array", "float64", "float32", "views", "mixed"],
)
def test_all_forms_give_the_pixels_of_the_folder(form: Any, photos: Path, files: list[Path]) -> None:
    expected, read = load_photos(photos, 16), read_photos(form(files), 16)
    assert (read.pixels == expected.pixels).all() and read.sizes == expected.sizes and len(read.captions) == 3


def test_a_picture_is_turned_upright() -> None:
    image = Image.fromarray(np.arange(8 * 16 * 3, dtype=np.uint8).reshape(8, 16, 3))
    turned = image.copy()
    turned.getexif()[0x0112] = 6
    upright = image.transpose(Image.Transpose.ROTATE_270)
    assert (read_photos([turned], 8).pixels == read_photos([upright], 8).pixels).all()
    assert read_photos([turned], 8).sizes == ((16, 8),)


def test_grey_arrays_and_clear_parts_are_read() -> None:
    grey = np.full((8, 8), 51, np.uint8)
    clear = np.zeros((8, 8, 4), np.uint8)
    pixels = read_photos([grey, clear], 8).pixels
    assert np.allclose(pixels[0], -0.6) and np.allclose(pixels[1], 1)


def test_a_bad_path_among_good_ones_is_skipped_and_said(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"nothing")
    read = read_photos([files[0], tmp_path / "no.png", tmp_path / "absent.png"], 16)
    assert len(read.pixels) == 1 and [name for name, _ in read.skipped] == ["no.png", "absent.png"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "photos has 0 entries; give 1 to 100"),
        ([np.zeros((8, 8, 3), np.uint8)] * 101, "photos has 101 entries"),
        (7, "photos is of type int"),
        (None, "photos is of type NoneType"),
        (np.zeros((8, 8, 3), np.uint8), "photos is of type ndarray"),
        (Image.new("RGB", (8, 8)), "photos is of type Image"),
        ([7], "photos[0] is int"),
        ([None], "photos[0] is NoneType"),
        ([np.zeros((3, 8, 8), np.uint8)], "photos[0] is an array (3, 8, 8) of uint8"),
        ([np.zeros((8, 8, 3), np.int64)], "of int64"),
        ([np.full((8, 8, 3), 2.0)], "of float64"),
        ([np.full((8, 8, 3), np.nan)], "of float64"),
        ([np.zeros((0, 8, 3), np.uint8)], "photos[0] is an array (0, 8, 3)"),
        ([np.zeros((8, 2, 3), np.uint8)], "photos[0] is 2 x 8 pixels"),
        (["nowhere.png"], "nowhere.png"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_photo_is_said_in_one_line(given: Any, words: str) -> None:
    with pytest.raises(EdgeSdkError) as error:
        read_photos(given, 16)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_picture_with_a_profile_is_converted_and_stays_as_it_is(tmp_path: Path) -> None:
    from tests.test_color_profile import P3

    image = Image.new("RGB", (8, 8), (200, 60, 60))
    image.info["icc_profile"] = P3
    image.save(tmp_path / "a.png", icc_profile=P3)
    read = read_photos([image], 8).pixels
    assert (read == load_photos(tmp_path, 8).pixels).all() and read[0, 0, 0, 0] > 200 / 127.5 - 1
    assert image.getpixel((0, 0)) == (200, 60, 60)
