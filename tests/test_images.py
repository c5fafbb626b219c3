"""Photos: everything a user's folder can hold; one bad picture is named and skipped, no good one is an error."""

import errno
import io
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_sdk.errors import EdgeSdkError
from edge_sdk.images import MAX_PHOTOS, NOT_A_PHOTO, TILE, contact_sheet, load_photos, save_png, skip_notices, to_pil

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def noise(side: int = 32, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def animated(kind: str) -> bytes:
    return encoded(noise(), kind, save_all=True, append_images=[noise(seed=1)])


def png_of_size(side: int, extra: bytes = b"") -> bytes:
    """A PNG that says it is ``side`` pixels wide and high, in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    text = chunk(b"zTXt", b"note\0\0" + extra) if extra else b""
    return b"\x89PNG\r\n\x1a\n" + head + text + chunk(b"IDAT", zlib.compress(bytes(5000))) + chunk(b"IEND", b"")


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "truncated PNG": (lambda: encoded(noise(), "PNG")[:1500], "damaged"),
    "truncated JPEG": (lambda: encoded(noise(), "JPEG")[:-300], "damaged"),
    "truncated WebP": (lambda: encoded(noise(), "WEBP")[:-300], "damaged|not a PNG"),
    "not a picture": (lambda: b"<html>404</html>", "not a PNG, JPEG or WebP"),
    "empty": (lambda: b"", "not a PNG, JPEG or WebP"),
    "animated GIF": (lambda: animated("GIF"), "an animation"),
    "animated AVIF": (lambda: animated("AVIF"), "an animation"),
    "TIFF of two pages": (lambda: animated("TIFF"), "several pages"),
    "TIFF of decimals": (lambda: encoded(noise().convert("F"), "TIFF"), "floating-point"),
    "camera's raw file": (lambda: encoded(noise(), "TIFF", tiffinfo={50706: b"\1\4\0\0"}), "a camera's raw file"),
    "preview of a raw file": (lambda: encoded(noise(), "TIFF", tiffinfo={254: 1}), "a camera's raw file"),
    "HEIC that is cut": (lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC|damaged"),
    "animated PNG": (lambda: animated("PNG"), "an animation"),
    "animated WebP": (lambda: animated("WEBP"), "an animation"),
    "one pixel": (lambda: encoded(noise(1), "PNG"), "^1 x 1 pixels; each side must be 8 or more"),
    "144 million pixels": (lambda: png_of_size(12_000), "a decompression bomb"),
    "900 million pixels": (lambda: png_of_size(30_000), "a decompression bomb"),
    "text bomb": (lambda: png_of_size(32, extra=zlib.compress(bytes(80 * 2**20))), "damaged"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_picture_is_named_and_skipped_and_the_good_one_used(case: str, tmp_path: Path) -> None:
    make, reason = BAD[case]
    (tmp_path / "bad.png").write_bytes(make())
    with pytest.raises(EdgeSdkError, match=r"^[^\n]*no usable photo \(1 skipped; bad\.png: [^\n]*$"):
        load_photos(tmp_path, 16)
    noise().save(tmp_path / "good.png")
    photos = load_photos(tmp_path, 16)
    assert photos.pixels.shape == (1, 3, 16, 16) and [name for name, _ in photos.skipped] == ["bad.png"]
    assert re.search(reason, photos.skipped[0][1]), photos.skipped


def grey_16_bit() -> Image.Image:
    return Image.fromarray(np.full((32, 32), 100 * 257, np.uint16))


def palette(color: tuple[int, int, int], **options: object) -> bytes:
    image = Image.new("P", (32, 32), 0)
    image.putpalette([*color, 9, 9, 9])
    return encoded(image, "PNG", **options)


GOOD: dict[str, tuple[Callable[[], bytes], tuple[int, int, int]]] = {
    "RGB PNG": (lambda: encoded(Image.new("RGB", (32, 32), BLUE), "PNG"), BLUE),
    "RGB AVIF": (lambda: encoded(Image.new("RGB", (32, 32), BLUE), "AVIF", quality=100), BLUE),
    "RGB TIFF": (lambda: encoded(Image.new("RGB", (32, 32), BLUE), "TIFF", compression="tiff_lzw"), BLUE),
    "CMYK TIFF": (lambda: encoded(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "TIFF"), RED),
    "BMP": (lambda: encoded(Image.new("RGB", (32, 32), BLUE), "BMP"), BLUE),
    "GIF of one picture": (lambda: encoded(Image.new("P", (32, 32), 0), "GIF"), (0, 0, 0)),
    "RGB WebP": (lambda: encoded(Image.new("RGB", (32, 32), BLUE), "WEBP", lossless=True), BLUE),
    "CMYK JPEG": (lambda: encoded(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG"), RED),
    "palette": (lambda: palette(GREEN), GREEN),
    "palette with one transparent color": (lambda: palette(GREEN, transparency=0), WHITE),
    "palette with alpha values": (lambda: palette(GREEN, transparency=bytes([0, 255])), WHITE),
    "transparent RGBA": (lambda: encoded(Image.new("RGBA", (32, 32), (0, 0, 0, 0)), "PNG"), WHITE),
    "half transparent RGBA": (lambda: encoded(Image.new("RGBA", (32, 32), (*RED, 128)), "PNG"), (255, 127, 127)),
    "transparent grey": (lambda: encoded(Image.new("LA", (32, 32), (0, 0)), "PNG"), WHITE),
    "opaque grey with alpha": (lambda: encoded(Image.new("LA", (32, 32), (70, 255)), "PNG"), (70, 70, 70)),
    "16-bit grey": (lambda: encoded(grey_16_bit(), "PNG"), (100, 100, 100)),
    "one bit": (lambda: encoded(Image.new("1", (32, 32), 1), "PNG"), WHITE),
    "multi-picture JPEG of a phone": (lambda: mpo(Image.new("RGB", (32, 32), RED)), RED),
}


def mpo(first: Image.Image) -> bytes:
    return encoded(first, "MPO", save_all=True, append_images=[Image.new("RGB", (32, 32))])


@pytest.mark.parametrize("case", GOOD)
def test_every_kind_of_picture_becomes_rgb_on_white(case: str, tmp_path: Path) -> None:
    make, color = GOOD[case]
    (tmp_path / "photo.jpg").write_bytes(make())  # recognized by content, not by name
    pixels = load_photos(tmp_path, 16).pixels[0]
    expected = np.array(color, np.float32)[:, None, None] / 127.5 - 1
    assert np.abs(pixels - expected).max() < 3 / 127.5


# EXIF orientation -> how a camera stores a picture that is shown upright
TURN = Image.Transpose
STORED = {
    1: None,
    2: TURN.FLIP_LEFT_RIGHT,
    3: TURN.ROTATE_180,
    4: TURN.FLIP_TOP_BOTTOM,
    5: TURN.TRANSPOSE,
    6: TURN.ROTATE_90,
    7: TURN.TRANSVERSE,
    8: TURN.ROTATE_270,
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_a_rotated_photo_is_upright(orientation: int, kind: str, tmp_path: Path) -> None:
    upright = Image.new("RGB", (64, 64), WHITE)
    upright.paste(RED, (0, 0, 32, 32))
    upright.paste(BLUE, (32, 0, 64, 32))
    how = STORED[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright if how is None else upright.transpose(how)
    (tmp_path / "a.jpg").write_bytes(encoded(stored, kind, exif=exif, quality=95))
    pixels = np.asarray(to_pil(load_photos(tmp_path, 64).pixels[0]), int)
    for y, x, color in [(16, 16, RED), (16, 48, BLUE), (48, 16, WHITE), (48, 48, WHITE)]:
        assert np.abs(pixels[y, x] - color).max() < 12


def test_pixels_are_in_range_and_in_the_order_of_names(tmp_path: Path) -> None:
    for name, grey in [("c.png", 255), ("a.png", 0), ("b.png", 128)]:
        Image.new("L", (20, 12), grey).save(tmp_path / name)
    photos = load_photos(tmp_path, 8)
    assert photos.pixels.dtype == np.float32 and photos.pixels.shape == (3, 3, 8, 8) and photos.skipped == ()
    assert photos.pixels[:, 0, 0, 0] == pytest.approx([-1, 128 / 127.5 - 1, 1], abs=1e-6)
    assert photos.pixels.min() == -1 and photos.pixels.max() == 1


def test_a_picture_comes_back_exactly(tmp_path: Path) -> None:
    noise().save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(to_pil(load_photos(tmp_path, 32).pixels[0])), np.asarray(noise()))


@pytest.mark.parametrize("center_crop", [True, False], ids=["crop", "squeeze"])
def test_a_wide_photo_is_cropped_to_its_centre_or_squeezed(center_crop: bool, tmp_path: Path) -> None:
    wide = Image.new("RGB", (64, 32), GREEN)
    wide.paste(RED, (0, 0, 16, 32))
    wide.paste(BLUE, (48, 0, 64, 32))
    wide.save(tmp_path / "a.png")
    pixels = np.asarray(to_pil(load_photos(tmp_path, 16, center_crop).pixels[0]), int)
    left, right = (GREEN, GREEN) if center_crop else (RED, BLUE)
    assert np.array_equal(pixels[8, [0, 8, 15]], [left, GREEN, right])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    noise().save(tmp_path / "photos" / "good.png")
    noise(seed=1).save(tmp_path / "outside.png")
    return tmp_path / "photos"


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "link to a folder": (lambda place: place.symlink_to(".."), "subfolders are not read"),
    "link to a FIFO": (lambda place: (os.mkfifo(place.parent / ".fifo"), place.symlink_to(".fifo")), "not a regular"),
    "link to nowhere": (lambda place: place.symlink_to("nowhere.png"), "cannot be opened"),
    "link to itself": (lambda place: place.symlink_to(place.name), "cannot be opened"),
    "FIFO": (os.mkfifo, "not a regular file"),
    "subfolder": (Path.mkdir, "subfolders are not read"),
}


@pytest.mark.parametrize("case", ODD)
def test_what_is_not_a_file_of_the_folder_is_skipped(case: str, folder: Path) -> None:
    make, reason = ODD[case]
    make(folder / "odd.png")
    photos = load_photos(folder, 16)
    assert len(photos.pixels) == 1 and photos.skipped[0][0] == "odd.png" and reason in photos.skipped[0][1]


def test_links_to_pictures_are_read_wherever_they_lead(folder: Path) -> None:
    """As the hub's client keeps a photo set: names with links to blobs whose names say nothing."""
    (folder.parent / "blobs").mkdir()
    (folder.parent / "outside.png").rename(folder.parent / "blobs" / "0f3c")
    (folder / "inside.png").symlink_to("good.png")
    (folder / "linked.png").symlink_to("../blobs/0f3c")
    (folder / "link of a link.png").symlink_to("linked.png")
    photos = load_photos(folder, 32)
    assert photos.skipped == () and len(photos.pixels) == 4
    shown = [np.asarray(noise(seed=seed)) for seed in (0, 0, 1, 1)]
    assert all(np.array_equal(np.asarray(to_pil(p)), one) for p, one in zip(photos.pixels, shown, strict=True))
    assert len(load_photos(folder / "linked.png", 32).pixels) == 1


def test_what_programs_leave_in_a_folder_is_no_bad_photo(folder: Path) -> None:
    unseen = (".DS_Store", "._good.png", ".gitattributes", ".gitignore")
    named = ("Thumbs.db", "desktop.ini", "README.md", "metadata.jsonl", "metadata.csv", "IMG_1.AAE", "a.xmp", "LICENSE")
    for name in (*unseen, *named):
        (folder / name).write_bytes(b"\0junk")
    for name in ("__MACOSX", ".git", ".cache", "@eaDir"):
        (folder / name).mkdir()
        noise().save(folder / name / "inner.png")
    photos = load_photos(folder, 16)
    assert len(photos.pixels) == 1
    assert dict(photos.skipped) == dict.fromkeys((*named, "__MACOSX", "@eaDir"), NOT_A_PHOTO)


def test_an_unreadable_file_is_skipped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise().save(folder / "locked.png")
    real = os.open

    def refuse(path: str | Path, *rest: int) -> int:
        if Path(path).name == "locked.png":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *rest)

    monkeypatch.setattr(os, "open", refuse)
    assert load_photos(folder, 16).skipped == (("locked.png", "cannot be opened (Permission denied)"),)


def test_a_file_name_stays_on_its_line(folder: Path) -> None:
    (folder / "two\nlines\x1b[2J.png").write_bytes(b"junk")
    ((name, _),) = load_photos(folder, 16).skipped
    assert name.isprintable()
    (folder / "good.png").unlink()
    with pytest.raises(EdgeSdkError) as caught:
        load_photos(folder, 16)
    assert str(caught.value).isprintable()


def test_what_lies_beyond_the_most_photos_is_said(tmp_path: Path) -> None:
    data = encoded(noise(8), "PNG")
    for i in range(2 * MAX_PHOTOS + 1):
        (tmp_path / f"{i:03}.png").write_bytes(data)
    photos = load_photos(tmp_path, 8)
    assert len(photos.pixels) == len(photos.captions) == MAX_PHOTOS and len(photos.skipped) == MAX_PHOTOS + 1
    assert photos.skipped[0] == (f"{MAX_PHOTOS}.png", f"there are more than {MAX_PHOTOS} photos")
    assert skip_notices(photos.skipped) == ["skipped 101 files (100.png to 200.png): there are more than 100 photos"]


def test_few_bad_files_are_named_and_many_of_one_kind_are_counted() -> None:
    few, many = [(f"{i}.heic", "HEIC") for i in range(10)], [(f"{i:02}.mov", "not a picture") for i in range(11)]
    assert skip_notices(few) == [f"skipped {i}.heic: HEIC" for i in range(10)]
    assert skip_notices([*many, ("a.png", "damaged")]) == [
        "skipped 11 files (00.mov to 10.mov): not a picture",
        "skipped a.png: damaged",
    ]
    assert skip_notices([("9.png", "there are more than 8 photos")]) == ["skipped 9.png: there are more than 8 photos"]


@pytest.mark.parametrize("place", ["empty", "missing", "fifo"])
def test_a_place_without_photos_is_a_one_line_error(place: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(EdgeSdkError, match=rf"^train_data_dir [^\n]*{place} (holds no|cannot be read)[^\n]*; give "):
        load_photos(tmp_path / place, 16)


def test_one_photo_can_be_given_as_a_file(folder: Path) -> None:
    (folder / "good.txt").write_text("a red mug")
    noise().save(folder / "other.png")
    photos = load_photos(folder / "good.png", 16)
    assert len(photos.pixels) == 1 and photos.captions == ("",)
    assert load_photos(folder / "good.png", 16, use_captions=True).captions == ("a red mug",)


def test_the_sizes_are_those_of_the_upright_photos_as_they_came(tmp_path: Path) -> None:
    Image.new("RGB", (40, 20), RED).save(tmp_path / "a.png")
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: turn by 90 degrees
    Image.new("RGB", (60, 30), RED).save(tmp_path / "b.jpg", exif=turned)
    (tmp_path / "c.png").write_bytes(b"no picture")
    assert load_photos(tmp_path, 16).sizes == ((20, 40), (60, 30))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF"])
def test_random_bit_flips_are_skipped_or_refused_and_nothing_else(kind: str, tmp_path: Path) -> None:
    whole, rng = encoded(noise(24), kind), np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole)
        for at in rng.integers(len(data), size=rng.integers(1, 4)):
            data[at] ^= 1 << rng.integers(8)
        (tmp_path / "a.png").write_bytes(data)
        try:
            assert np.abs(load_photos(tmp_path, 16).pixels).max() <= 1
        except EdgeSdkError as error:
            assert str(error).isprintable()


def test_a_contact_sheet_shows_every_picture_enlarged_in_its_place() -> None:
    colors = [[RED, GREEN], [BLUE]]
    sheet = contact_sheet([(str(y), [Image.new("RGB", (16, 16), c) for c in row]) for y, row in enumerate(colors)])
    assert sheet.size == (8 + 2 * (TILE + 8), 2 * (TILE + 36))
    for y, row in enumerate(colors):
        for x, color in enumerate(row):
            left, top = 8 + x * (TILE + 8), 28 + y * (TILE + 36)
            tile = np.asarray(sheet.crop((left, top, left + TILE, top + TILE)))
            assert (tile == color).all()


def test_a_png_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    save_png(noise(), path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EdgeSdkError, match="the disk is full"):
        save_png(noise(seed=1), path)
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(noise())) and os.listdir(tmp_path) == ["a.png"]
