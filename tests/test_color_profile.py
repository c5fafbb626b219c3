"""Photos with an embedded profile are read in the colours that they show; any other one with its bytes as they are."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from edge_sdk.picture_file import decode
from tests.icc import GAMMA, cmyk_profile, encode, grey_profile, rgb_profile, to_srgb

COLORS = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LOSSLESS = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}


def read(picture: Image.Image, kind: str = "PNG", **options: object) -> np.ndarray:
    """(H, W, 3) of what a file of the picture gives."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return np.asarray(decode(buffer, 8).image, float)


@pytest.mark.parametrize("name", GAMMA)
def test_colours_are_those_that_the_profile_means(name: str) -> None:
    found = read(Image.fromarray(COLORS), icc_profile=rgb_profile(name))
    assert np.abs(found - to_srgb(name, COLORS)).max() < 1
    assert np.abs(found - COLORS).max() > 50


@pytest.mark.parametrize("kind", LOSSLESS)
def test_every_format_carries_a_profile(kind: str) -> None:
    found = read(Image.fromarray(COLORS), kind, icc_profile=rgb_profile("Display P3"), **LOSSLESS[kind])
    difference = np.abs(found - to_srgb("Display P3", COLORS))
    assert difference.mean() < 2 if kind == "AVIF" else difference.max() < 1


@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
def test_a_jpeg_of_a_phone_is_converted(progressive: bool) -> None:
    flat = Image.new("RGB", (32, 32), (200, 60, 60))
    found = read(flat, "JPEG", icc_profile=rgb_profile("Display P3"), quality=95, progressive=progressive)
    assert np.abs(found - to_srgb("Display P3", np.array((200, 60, 60)))).max() < 4


def test_transparent_and_indexed_pictures_are_converted() -> None:
    profile, expected = rgb_profile("Display P3"), to_srgb("Display P3", COLORS)
    clear = np.concatenate([COLORS, np.full((16, 24, 1), 128, np.uint8)], axis=-1)
    found = read(Image.fromarray(clear), icc_profile=profile)
    assert np.abs(found - (expected * 128 + 255 * 127) / 255).max() < 2
    indexed = Image.fromarray(COLORS).quantize(256)
    expected = to_srgb("Display P3", np.asarray(indexed.convert("RGB")))
    assert np.abs(read(indexed, icc_profile=profile) - expected).max() < 1


@pytest.mark.parametrize("bits", ["8 bits", "16 bits", "with alpha"])
def test_a_grey_profile_bends_grey_pictures(bits: str) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    array = {"8 bits": levels, "16 bits": levels.astype(np.uint16) * 257}.get(bits)
    picture = Image.fromarray(levels).convert("LA") if array is None else Image.fromarray(array)
    found = read(picture, icc_profile=grey_profile(1.8))
    assert np.abs(found[..., 0] - encode((levels / 255) ** 1.8)).max() < 3
    assert (found == found[..., :1]).all() and np.abs(found[..., 0] - levels).max() > 10


def test_a_grey_picture_with_a_profile_for_colours_is_converted() -> None:
    found = read(Image.new("L", (16, 16), 100), icc_profile=rgb_profile("ProPhoto"))
    assert np.abs(found - to_srgb("ProPhoto", np.full(3, 100))).max() < 1


def test_inks_are_converted_by_their_profile() -> None:
    found = read(Image.new("CMYK", (16, 16), (0, 0, 0, 128)), "TIFF", icc_profile=cmyk_profile())
    assert np.abs(found - 118).max() < 2  # L* of 50


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_pictures_tagged_srgb_give_the_bytes_of_untagged_ones(mode: str, kind: str) -> None:
    if (mode, kind) == ("RGBA", "JPEG"):
        mode = "CMYK"  # with a profile for other colours
    picture = Image.fromarray(COLORS).convert(mode)
    assert np.array_equal(read(picture, kind, icc_profile=SRGB), read(picture, kind))


P3 = rgb_profile("Display P3")
RED = P3.index(b"rXYZ") + 4  # where the table says where it is
BROKEN = {
    "cut": P3[:200],
    "junk": b"\x13" * 500,
    "short": b"icc",
    "primaries past its end": P3[:RED] + b"\xff\xff\xff\x00" + P3[RED + 4 :],
    "no primaries": P3.replace(b"rXYZ", b"xxxx"),
    "for inks": cmyk_profile(),
    "for grey": grey_profile(1.0),
    "of another space": P3.replace(b"RGB XYZ ", b"HSV XYZ "),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_broken_profile_is_passed_over(case: str, kind: str) -> None:
    picture = Image.fromarray(COLORS)
    assert np.array_equal(read(picture, kind, icc_profile=BROKEN[case]), read(picture, kind))
