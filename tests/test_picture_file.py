"""Pictures as phones make them: very large ones at bounded memory, untidy EXIF, HEIC."""

import io
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_sdk import picture_file
from edge_sdk.picture_file import UnusablePictureError, decode

ROOT = Path(__file__).parents[1]
PICTURE = Image.effect_mandelbrot((64, 48), (-2, -1.5, 1, 1.5), 50).convert("RGB")
TURNED = b"Exif\0\0II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0x0112, 3, 1, 6) + bytes(4)


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def read(data: bytes, resolution: int = 8) -> picture_file.Picture:
    return decode(io.BytesIO(data), resolution)


# very large pictures

LARGE = {
    "48 megapixels": ((8064, 6048), {}),
    "50 megapixels, upright": ((6120, 8160), {}),
    "64 megapixels, turned": ((9248, 6936), {"exif": TURNED}),
    "50 megapixels, progressive": ((8160, 6120), {"progressive": True}),
    "54 megapixels": ((8500, 6400), {}),
}


def grey_photo(size: tuple[int, int], **options: object) -> bytes:
    """A JPEG in few bytes: dark, its first quarter bright."""
    picture = Image.new("L", size, 40)
    picture.paste(200, (0, 0, size[0] // 2, size[1] // 2))
    return encoded(picture, "JPEG", **options)


@pytest.mark.parametrize("resolution", [64, 1024])
@pytest.mark.parametrize("case", LARGE)
def test_a_large_jpeg_is_read_at_reduced_scale(case: str, resolution: int) -> None:
    size, options = LARGE[case]
    picture = read(grey_photo(size, **options), resolution)
    turned = "exif" in options
    assert picture.size == (size if turned else size[::-1])
    assert 2 * resolution <= min(picture.image.size) and picture.image.width * picture.image.height <= 20e6
    corners = [(10, 10), (picture.image.width - 10, 10), (10, picture.image.height - 10)]
    levels = [picture.image.getpixel(corner)[0] for corner in corners]
    assert np.abs(np.array(levels) - ([40, 200, 40] if turned else [200, 40, 40])).max() < 5


def test_200_megapixels_are_read_and_a_larger_jpeg_is_refused() -> None:
    data = grey_photo((16384, 12288))
    picture = read(data, 512)
    assert picture.size == (12288, 16384) and picture.image.size == (2048, 1536)
    at = data.index(b"\xff\xc0") + 5
    taller = data[:at] + struct.pack(">HH", 17000, 16384) + data[at + 4 :]
    with pytest.raises(UnusablePictureError, match=r"^16384 x 17000 pixels; at most 268 million"):
        read(taller, 512)


def test_twenty_photos_of_50_megapixels_take_less_memory_than_one_of_them_decoded(tmp_path: Path) -> None:
    photo = Image.linear_gradient("L").convert("RGB").resize((8160, 6120))
    photo.save(tmp_path / "00.jpg", exif=TURNED)
    del photo
    for i in range(1, 20):
        (tmp_path / f"{i:02}.jpg").hardlink_to(tmp_path / "00.jpg")
    program = (
        "import sys; from edge_sdk.images import load_photos; from edge_sdk.system.memory import peak_rss_mb\n"
        "before = peak_rss_mb(); print(len(load_photos(sys.argv[1], 512).pixels), peak_rss_mb() - before)"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, cwd=ROOT)
    count, growth = done.stdout.split()
    assert count == "20" and float(growth) < 150, done.stderr  # MB; the pixels themselves are 63, one decoded is 200


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that small pictures are large ones."""
    monkeypatch.setattr(picture_file, "MAX_PIXELS", 64 * 48 - 1)
    monkeypatch.setattr(picture_file, "MAX_DECODED", 64 * 48 * 4)
    monkeypatch.setattr(picture_file, "BAND", 1000)


@pytest.mark.parametrize(("resolution", "reduction"), [(3, 8), (4, 4), (8, 2), (12, 2), (13, 1), (24, 1)])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP"])
def test_other_large_pictures_are_reduced_as_a_whole(
    kind: str, resolution: int, reduction: int, small_limits: None
) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = read(encoded(PICTURE, kind, **options), resolution)
    assert np.array_equal(np.asarray(picture.image), np.asarray(PICTURE.reduce(reduction)))
    assert picture.size == (48, 64)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "I;16"])
def test_bands_leave_no_seam(mode: str, small_limits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    grey = PICTURE.convert("L")
    stored = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode == "I;16" else PICTURE.convert(mode)
    in_bands = np.asarray(read(encoded(stored, "PNG"), 24).image)
    monkeypatch.setattr(picture_file, "BAND", 2**20)
    assert np.array_equal(in_bands, np.asarray(read(encoded(stored, "PNG"), 24).image))
    assert mode == "1" or np.abs(in_bands.astype(int) - np.asarray(PICTURE)).max() < 80


def test_what_a_decoder_would_hold_is_bounded(small_limits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A progressive JPEG is kept whole by its decoder, in coefficients of two bytes, however small it is read."""
    baseline, progressive, full = (
        encoded(PICTURE, "JPEG", **options)
        for options in ({}, {"progressive": True}, {"progressive": True, "subsampling": 0})
    )
    assert read(baseline, 3).image.size == (8, 6)
    assert read(progressive, 3).image.size == (8, 6)  # 3 bytes a pixel
    with pytest.raises(UnusablePictureError, match=r"^64 x 48 pixels, [^\n]* save it smaller, or not progressive$"):
        read(full, 3)  # 6 bytes a pixel
    monkeypatch.setattr(picture_file, "MAX_DECODED", 64 * 48 * 2)
    assert read(baseline, 3).image.size == (8, 6)
    assert read(encoded(PICTURE.convert("L"), "PNG"), 3).image.size == (8, 6)  # 1 byte a pixel
    for data in (progressive, encoded(PICTURE, "PNG"), encoded(PICTURE, "WEBP")):
        with pytest.raises(UnusablePictureError, match=r"^64 x 48 pixels, \d+ MB to decode; [^\n]* save it smaller"):
            read(data, 3)


# untidy metadata


def exif(*entries: tuple[int, int, int, bytes], order: str = "<", count: int | None = None, after: int = 0) -> bytes:
    """A block of raw entries (tag, type, count, value or offset)."""
    head = {"<": b"II*\0\x08\0\0\0", ">": b"MM\0*\0\0\0\x08"}[order]
    body = b"".join(struct.pack(order + "HHI4s", *entry) for entry in entries)
    number = struct.pack(order + "H", len(entries) if count is None else count)
    return b"Exif\0\0" + head + number + body + struct.pack(order + "I", after)


def orientation(value: int, kind: int = 3, count: int = 1) -> tuple[int, int, int, bytes]:
    return 0x0112, kind, count, struct.pack({1: "<Bxxx", 3: "<HH", 4: "<I"}[kind], *[value] * (2 if kind == 3 else 1))


FAR = struct.pack("<I", 100_000)
TURNS = {
    "tidy": exif(orientation(6)),
    "maker past the end": exif((0x010F, 2, 20, FAR), orientation(6)),
    "resolution past the end": exif(orientation(6), (0x011A, 5, 1, FAR)),
    "unit given twice": exif((0x0128, 3, 2, b"\2\0\2\0"), orientation(6)),
    "tag given twice": exif((0x010F, 2, 4, b"abc\0"), (0x010F, 2, 4, b"abd\0"), orientation(6)),
    "orientation given twice": exif(orientation(6), orientation(3)),
    "orientation of two numbers": exif(orientation(6, count=2)),
    "orientation as a byte": exif(orientation(6, 1)),
    "orientation as a long": exif(orientation(6, 4)),
    "orientation after a bad one": exif(orientation(9), orientation(6)),
    "cut after the orientation": exif(orientation(6), (0x0110, 2, 20, FAR))[:-12],
    "more entries than bytes": exif(orientation(6), count=60_000),
    "unknown type": exif((0x0111, 77, 1, b"abcd"), orientation(6)),
    "details past the end": exif(orientation(6), (0x8769, 4, 1, FAR)),
    "details that hold themselves": exif(orientation(6), (0x8769, 4, 1, b"\x08\0\0\0")),
    "place past the end": exif(orientation(6), (0x8825, 4, 1, FAR)),
    "next directory is the first": exif(orientation(6), after=8),
    "high byte first": exif((0x0112, 3, 1, b"\0\6\0\0"), order=">"),
}
STAYS = {
    "orientation 0": exif(orientation(0)),
    "orientation 9": exif(orientation(9)),
    "orientation 65535": exif(orientation(65535)),
    "orientation as text": exif((0x0112, 2, 2, b"6\0\0\0")),
    "no entry of an orientation": exif(orientation(6), count=0),
    "junk": b"Exif\0\0" + b"\x13" * 40,
    "nothing": b"Exif\0\0",
    "without a directory": b"Exif\0\0II*\0\xff\xff\xff\xff",
    "cut in its head": b"Exif\0\0II*\0\x08",
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("case", [*TURNS, *STAYS])
def test_untidy_exif_is_read_as_far_as_it_goes(case: str, kind: str) -> None:
    data = encoded(PICTURE, kind, exif=(TURNS | STAYS)[case], **({"lossless": True} if kind == "WEBP" else {}))
    picture = read(data)
    assert picture.size == ((64, 48) if case in TURNS else (48, 64))
    turned = PICTURE.transpose(Image.Transpose.ROTATE_270) if case in TURNS else PICTURE
    difference = np.abs(np.asarray(picture.image, int) - np.asarray(turned, int))
    assert difference.mean() < (12 if kind == "JPEG" else 0.01)


@pytest.mark.parametrize(
    "head", [b"XX\0*", b"MM\0\0", b"MM\0*\xff\xff\xff\xff"], ids=["no TIFF", "cut", "no directory"]
)
def test_an_avif_with_damaged_exif_is_read(head: bytes) -> None:
    tags = Image.Exif()
    tags[0x010F] = "a maker of phones"
    data = encoded(PICTURE, "AVIF", exif=tags)
    assert data.count(b"MM\0*") == 1
    at = data.index(b"MM\0*")
    assert read(data[:at] + head + data[at + len(head) :]).size == (48, 64)


SEGMENTS = {
    "multi-picture index that is junk": (0xE2, b"MPF\0" + b"\x99" * 30),
    "multi-picture index without a count": (0xE2, b"MPF\0II*\0\x08\0\0\0\0\0"),
    "multi-picture index without its pictures": (0xE2, b"MPF\0" + exif((0xB001, 4, 1, b"\2\0\0\0"))[6:]),
    "one of five parts of a profile": (0xE2, b"ICC_PROFILE\0\x01\x05abc"),
    "Photoshop's, cut": (0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\x10\1"),
    "XMP that is no XML": (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:"),
    "EXIF and EXIF again": (0xE1, TURNED),
}


@pytest.mark.parametrize("case", SEGMENTS)
def test_segments_that_viewers_pass_over_cost_no_photo(case: str) -> None:
    marker, content = SEGMENTS[case]
    plain = encoded(PICTURE, "JPEG", exif=TURNED)
    data = plain[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content + plain[2:]
    assert np.array_equal(np.asarray(read(data).image), np.asarray(read(plain).image))


def test_the_photo_of_a_multi_picture_file_is_its_first_picture(small_limits: None) -> None:
    data = encoded(PICTURE, "MPO", save_all=True, append_images=[Image.new("RGB", (640, 480), "red")], exif=TURNED)
    picture = read(data, 3)
    assert picture.size == (64, 48) and picture.image.size == (6, 8)
    assert np.asarray(picture.image)[..., 0].mean() < 128


# HEIC


def test_a_heic_picture_is_read_with_the_extra() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(PICTURE).save(buffer, quality=95, exif=TURNED)
    picture = decode(buffer, 8)
    assert picture.size == (64, 48)
    turned = np.asarray(PICTURE.transpose(Image.Transpose.ROTATE_270), int)
    assert np.abs(np.asarray(picture.image, int) - turned).mean() < 12


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"msf1"], ids=lambda brand: brand.decode())
def test_without_the_extra_heic_is_named_with_how_to_convert(brand: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnusablePictureError) as caught:
        read(b"\0\0\0\x18ftyp" + brand + bytes(4) + b"mif1heic" + bytes(100))
    message = str(caught.value)
    assert message.startswith("a HEIC picture needs pillow-heif") and "\n" not in message
    assert "its extra heif" in message and re.search("sips -s format jpeg", message) and "iPhone" in message
