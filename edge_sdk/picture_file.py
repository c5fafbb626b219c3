"""One picture file, decoded safely: upright, in sRGB, over white, at bounded memory.

Formats are recognized by content, and sizes are checked before anything is decoded. A picture of more than 40 million
pixels is read at a reduced scale: a JPEG by its decoder, which then never holds the whole picture.
"""

import io
import re
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, cast

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from edge_sdk.color_profile import srgb_transform
from edge_sdk.errors import MissingExtraError, one_line, require

FORMATS = ("PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")  # and JPEG and HEIC, which are opened by themselves
MAX_PIXELS = 40_000_000  # of a picture that is read at full scale
MAX_JPEG_PIXELS = 2**28  # the largest cameras of phones have 16384 x 12288
MAX_DECODED = 256 * 2**20  # bytes of a larger picture, decoded; decoders of WebP, AVIF and HEIC need 2 to 4 times that
MIN_SIDE = 8  # pixels
MARGIN = 2  # a reduced picture keeps this many times the resolution: then resampling hides the reduction
REDUCTIONS = (8, 4, 2)  # those of libjpeg
BAND = 2**20  # pixels that are converted at a time

_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I")
_WITH_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}  # a pixel in Pillow's memory; else 4
_ORIENTATION = 0x0112  # EXIF's tag
_INTEGERS = {1: "B", 3: "H", 4: "I"}  # EXIF's types
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DNG_VERSION, _SUBFILE_TYPE, _REDUCED = 50706, 254, 1  # TIFF's tags, and the bit of a preview
_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")


class UnusablePictureError(Exception):
    """Why one picture is skipped, in one line."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        image: RGB, upright; reduced where the file has more than `MAX_PIXELS`.
        size: (height, width) of the whole picture, upright.
    """

    image: Image.Image
    size: tuple[int, int]


def decode(file: BinaryIO, resolution: int) -> Picture:
    """Decode a picture file; the caller closes it.

    Args:
        resolution: side in pixels of the square that it becomes. No side is reduced below it.

    Raises:
        UnusablePictureError: for whatever the bytes are.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # untidy metadata: every viewer shows such a photo
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _decoded(file, resolution)
    except UnusablePictureError:
        raise
    except UnidentifiedImageError as error:
        raise UnusablePictureError("not a PNG, JPEG or WebP picture") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UnusablePictureError("a decompression bomb; save it smaller, or as JPEG") from error
    except MemoryError as error:
        raise UnusablePictureError("too large for this machine's memory") from error
    except Exception as error:
        # Whatever a decoder says of hostile bytes (it raises many kinds), the picture is one to skip.
        raise UnusablePictureError(f"damaged ({one_line(error, 100)})") from error


def _decoded(file: BinaryIO, resolution: int) -> Picture:
    image = _open(file)
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise UnusablePictureError(f"{width} x {height} pixels; each side must be {MIN_SIDE} or more")
    reduction = _reduction(width, height, resolution)
    by_decoder = isinstance(image, JpegImageFile)
    if by_decoder and reduction > 1:
        image.draft(None, (width // reduction, height // reduction))
    if width * height > MAX_PIXELS:
        _check_size(image, file, width, height)
    image.load()
    orientation = _orientation(image)
    rgb = _turned(_to_rgb(image, 1 if by_decoder else reduction), orientation)
    return Picture(rgb, (width, height) if orientation > 4 else (height, width))


def upright_rgb(image: Image.Image) -> Image.Image:
    """A picture that a program holds: upright, in sRGB, over white. The picture itself stays as it is."""
    return _turned(_to_rgb(image.copy(), 1), _orientation(image))


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _check_size(image: Image.Image, file: BinaryIO, width: int, height: int) -> None:
    needed, smaller = image.width * image.height * _BYTES.get(image.mode, 4), "smaller, or as JPEG"
    if isinstance(image, JpegImageFile):
        needed += _coefficient_bytes(image, file, width * height)
        smaller = "smaller, or not progressive"
        if width * height > MAX_JPEG_PIXELS:
            raise UnusablePictureError(
                f"{width} x {height} pixels; at most {MAX_JPEG_PIXELS // 10**6} million are read"
            )
    if needed > MAX_DECODED:
        raise UnusablePictureError(
            f"{width} x {height} pixels, {needed >> 20} MB to decode; at most {MAX_DECODED >> 20} MB are used: save it "
            f"{smaller}"
        )


def _open(file: BinaryIO) -> Image.Image:
    file.seek(0)
    head = file.read(64)
    file.seek(0)
    if head.startswith(b"\xff\xd8\xff"):
        return JpegImageFile(file)  # also of a multi-picture file, whose first picture is the photo
    if head[4:8] == b"ftyp":
        brands = {head[i : i + 4] for i in range(8, min(len(head), int.from_bytes(head[:4], "big")), 4)}
        if brands & set(_AVIF_BRANDS):
            return _still(_open_avif(file))
        if brands & set(_HEIF_BRANDS):
            return _open_heif(file)
    image = Image.open(file, formats=FORMATS)
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        if head[8:10] == b"CR" or _DNG_VERSION in tags or tags.get(_SUBFILE_TYPE, 0) & _REDUCED:
            raise UnusablePictureError("a camera's raw file; export the photo as JPEG")
    if image.mode == "F":
        raise UnusablePictureError("a picture of floating-point numbers; save it with 8 bits a channel")
    return _still(image)


def _still(image: Image.Image) -> Image.Image:
    if getattr(image, "n_frames", 1) > 1:
        raise UnusablePictureError("an animation" if image.format != "TIFF" else "several pages; save each as a file")
    return image


def _open_avif(file: BinaryIO) -> Image.Image:
    try:
        return Image.open(file, formats=("AVIF",))
    except Exception:  # libavif refuses a whole picture for damaged EXIF, so it gets the picture without
        file.seek(0)
        without = re.sub(rb"(?s)(infe\x02.{7})Exif", rb"\1none", file.read())  # the type of an item
        return Image.open(io.BytesIO(without), formats=("AVIF",))


def _open_heif(file: BinaryIO) -> Image.Image:
    try:
        require("a HEIC picture", "heif", "pillow_heif")
    except MissingExtraError as error:
        raise UnusablePictureError(
            f"{error}; or save it as JPEG (macOS: sips -s format jpeg A.heic --out A.jpg; iPhone: Settings, Camera, "
            "Formats, Most Compatible)"
        ) from error
    from pillow_heif import HeifImageFile

    return cast(Image.Image, HeifImageFile(file))


def _reduction(width: int, height: int, resolution: int) -> int:
    if width * height <= MAX_PIXELS:
        return 1
    return next((r for r in REDUCTIONS if min(width, height) // r >= MARGIN * resolution), 1)


def _coefficient_bytes(image: JpegImageFile, file: BinaryIO, pixels: int) -> int:
    """What a decoder keeps of a JPEG whose colours come in more than one scan: every coefficient, at any scale."""
    components = len(image.layer)
    end = file.tell()  # of the first scan's header
    file.seek(max(0, end - 8 - 2 * components))
    header = file.read(5)
    if "progressive" not in image.info and header[:2] == b"\xff\xda" and header[-1] == components:
        return 0
    areas = [horizontal * vertical for _, horizontal, vertical, _ in image.layer]
    return 2 * pixels * sum(areas) // max(areas)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 where it cannot be read or means nothing."""
    block = image.info.get("exif")
    if isinstance(block, bytes) and (value := _stored_orientation(block.removeprefix(b"Exif\0\0"))):
        return value
    try:  # a TIFF's own tags, XMP, EXIF as a PNG's text
        value = image.getexif().get(_ORIENTATION, 1)
        return value if value in _UPRIGHT else 1
    except Exception:  # whatever Pillow says of a damaged block, viewers show the photo as it is stored
        return 1


def _stored_orientation(block: bytes) -> int | None:
    """The first orientation of an EXIF block; Pillow loses it behind a tag whose offset is wrong."""
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8:
        return None
    first = struct.unpack_from(order + "I", block, 4)[0]
    if first + 2 > len(block):
        return None
    for at in range(first + 2, len(block) - 11, 12)[: struct.unpack_from(order + "H", block, first)[0]]:
        tag, kind, count = struct.unpack_from(order + "HHI", block, at)
        if tag == _ORIENTATION and kind in _INTEGERS and count:
            value = struct.unpack_from(order + _INTEGERS[kind], block, at + 8)[0]
            if value in range(1, 9):
                return int(value)
    return None


def _to_rgb(image: Image.Image, reduction: int) -> Image.Image:
    """A picture of any mode, reduced by a whole factor, in bands, because conversions need room."""
    icc = image.info.get("icc_profile")
    transform = srgb_transform(icc, image.mode) if isinstance(icc, bytes) else None
    plain = image.mode == "RGB" and "transparency" not in image.info
    if plain and transform is None and reduction == 1:
        return image
    width, height = image.size
    result = image if plain and reduction == 1 else Image.new("RGB", (-(-width // reduction), -(-height // reduction)))
    rows = max(BAND // width // reduction, 1) * reduction
    for top in range(0, height, rows):
        band = _opaque(image.crop((0, top, width, min(top + rows, height))), transform)
        result.paste(band.reduce(reduction), (0, top // reduction))
    return result


def _opaque(image: Image.Image, transform: Callable[[Image.Image], Image.Image] | None) -> Image.Image:
    """RGB over white."""
    if image.mode in _SIXTEEN_BITS:
        image = Image.fromarray(np.clip(np.asarray(image) // 257, 0, 255).astype(np.uint8))
    if image.mode not in _WITH_ALPHA and "transparency" not in image.info:
        return transform(image) if transform else image.convert("RGB")
    rgba = image.convert("RGBA")
    if transform:
        alpha = rgba.getchannel("A")
        rgba = transform(rgba)
        rgba.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
