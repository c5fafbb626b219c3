"""Captions: text files beside photos, in the encodings that editors write."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_sdk.captions import MAX_CAPTION, caption_of
from edge_sdk.errors import EdgeSdkError
from edge_sdk.images import load_photos

TEXT = "a café in {}, \U0001f600"
READ = {
    "UTF-8": TEXT.encode(),
    "UTF-8 with its mark": TEXT.encode("utf-8-sig"),
    "UTF-16, low byte first": b"\xff\xfe" + TEXT.encode("utf-16-le"),
    "UTF-16, high byte first": b"\xfe\xff" + TEXT.encode("utf-16-be"),
}
REFUSED = {
    "Windows-1252": "Möbel".encode("cp1252"),
    "Shift JIS": "写真".encode("shift_jis"),
    "UTF-16 without a mark": "photo".encode("utf-16-le"),
    "UTF-16 cut in a letter": b"\xff\xfea",
    "UTF-32": "photo".encode("utf-32"),
    "a picture": b"\x89PNG\r\n\x1a\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "photos" / "a.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("encoding", READ)
def test_a_caption_is_its_text_in_any_encoding_that_names_itself(encoding: str, folder: Path) -> None:
    (folder / "a.txt").write_bytes(READ[encoding])
    assert load_photos(folder, 16, use_captions=True).captions == (TEXT,)


@pytest.mark.parametrize("encoding", REFUSED)
def test_another_encoding_is_one_line_that_names_the_file(encoding: str, folder: Path) -> None:
    (folder / "a.txt").write_bytes(REFUSED[encoding])
    with pytest.raises(EdgeSdkError, match=r"^[^\n]*a\.txt is not UTF-8[^\n]*; save it as UTF-8[^\n]*$"):
        load_photos(folder, 16, use_captions=True)


@pytest.mark.parametrize("encoding", REFUSED)
def test_captions_that_nobody_uses_are_not_opened(encoding: str, folder: Path) -> None:
    (folder / "a.txt").write_bytes(REFUSED[encoding])
    photos = load_photos(folder, 16)
    assert photos.captions == ("",) and photos.skipped == ()


def test_captions_stay_with_their_photos(folder: Path) -> None:
    for name in ("b", "c"):
        Image.new("RGB", (16, 16), "red").save(folder / f"{name}.png")
    (folder / "0.png").write_text("no picture")
    (folder / "0.txt").write_text("of none")
    (folder / "a.txt").write_text(" a\n\tdark   {} ")
    (folder / "c.TXT").write_text("a red one")
    assert load_photos(folder, 16, use_captions=True).captions == ("a dark {}", "", "a red one")


@pytest.mark.parametrize("letter", ["a", "é", "\U0001f600"], ids=["one byte", "two bytes", "four bytes"])
def test_a_long_caption_is_cut_between_letters(letter: str, folder: Path) -> None:
    text = "x" + letter * MAX_CAPTION
    (folder / "a.txt").write_text(text, encoding="utf-8")
    caption = caption_of(folder / "a.png")
    assert text.startswith(caption) and MAX_CAPTION - 4 < len(caption.encode()) <= MAX_CAPTION
    (folder / "a.txt").write_text(text, encoding="utf-16")
    caption = caption_of(folder / "a.png")
    assert text.startswith(caption) and MAX_CAPTION - 8 < len(caption.encode("utf-16")) <= MAX_CAPTION


def test_a_linked_caption_is_read_like_a_linked_photo(folder: Path) -> None:
    (folder.parent / "blob").write_text("a {} of the hub")
    (folder / "a.txt").symlink_to("../blob")
    assert load_photos(folder, 16, use_captions=True).captions == ("a {} of the hub",)


UNREADABLE = {
    "FIFO": os.mkfifo,
    "folder": Path.mkdir,
    "link to nothing": lambda path: path.symlink_to("nowhere"),
    "link to a folder": lambda path: path.symlink_to("."),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_caption_that_cannot_be_read_is_one_line(kind: str, folder: Path) -> None:
    UNREADABLE[kind](folder / "a.txt")
    with pytest.raises(EdgeSdkError, match=r"^[^\n]*a\.txt cannot be read[^\n]*leave use_captions out$"):
        load_photos(folder, 16, use_captions=True)
    assert np.array_equal(load_photos(folder, 16).pixels, -np.ones((1, 3, 16, 16)))
