"""A person's photos, read safely: one bad picture is named and skipped, no good picture is an error.

Formats are recognized by content (PNG, JPEG, WebP), sizes are checked before anything is decoded, and what is read
leaves this module as pixels only: no names, no EXIF.
"""

import codecs
import io
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from edge_sdk.errors import EdgeSdkError, one_line
from edge_sdk.system.files import write_bytes
from edge_sdk.system.inputs import open_input
from edge_sdk.system.paths import expanded

FORMATS = ("PNG", "JPEG", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MAX_BYTES = 64 * 2**20
MAX_PIXELS = 40_000_000
MIN_SIDE = 8  # pixels
MAX_PHOTOS = 100  # a token learns from 3 to 5; what lies beyond a hundred is skipped and said
MAX_CAPTION = 2000  # bytes
TILE = 128  # pixels, smallest picture on a contact sheet
SMALL, ENLARGED = 64, 256  # pixels: a smaller side is enlarged when asked for, to this one at least


class _Unusable(Exception):
    """Why one picture is skipped."""


@dataclass(frozen=True)
class Photos:
    """What could be read."""

    pixels: np.ndarray  # (N, 3, H, W) float32 in [-1, 1]
    captions: tuple[str, ...]  # one a photo, empty where there is none
    skipped: tuple[tuple[str, str], ...]  # (file name, reason), for messages only
    sizes: tuple[tuple[int, int], ...]  # (height, width) of each as it came, upright, before cropping and resizing


def load_photos(
    source: str | os.PathLike[str],
    resolution: int,
    center_crop: bool = True,
    what: str = "train_data_dir",
    limit: int = MAX_PHOTOS,
    stop_at_limit: bool = False,
) -> Photos:
    """Read every photo of a folder (not of its subfolders), or one photo, in the order of names.

    Args:
        resolution: side in pixels of the square that each photo becomes.
        center_crop: cut to a square around the centre first; otherwise the sides are squeezed.
        what: the option's name, for messages.
        limit: at most so many photos.
        stop_at_limit: do not look at what lies beyond the limit.

    Raises:
        EdgeSdkError: the place does not exist or holds no usable photo.
    """
    root = expanded(source)
    try:
        files = (
            [root] if root.is_file() else sorted(entry for entry in root.iterdir() if not entry.name.startswith("."))
        )
    except OSError as error:
        raise EdgeSdkError(f"{what} {root} cannot be read: {error.strerror}; give a folder with photos") from error
    photos: list[np.ndarray] = []
    captions: list[str] = []
    skipped: list[tuple[str, str]] = []
    sizes: list[tuple[int, int]] = []
    for file in files:
        if file.suffix.lower() == ".txt":
            continue  # the caption of the photo beside it
        if stop_at_limit and len(photos) == limit:
            break
        try:
            if len(photos) == limit:
                raise _Unusable(f"there are more than {limit} photos")
            image = _decode(_read(file, root if root.is_dir() else root.parent))
            caption = _caption(file)
            photos.append(_to_array(_square(image, resolution, center_crop)))
            captions.append(caption)
            sizes.append((image.height, image.width))
        except _Unusable as error:
            skipped.append(("".join(c if c.isprintable() else "?" for c in file.name), str(error)))
    if not photos:
        why = f"; {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise EdgeSdkError(f"{what} {root} holds no usable photo ({len(skipped)} skipped{why}); give PNG, JPEG or WebP")
    return Photos(np.stack(photos), tuple(captions), tuple(skipped), tuple(sizes))


def check_photos(
    source: str | os.PathLike[str], what: str = "train_data_dir", whole: bool = False, limit: int = MAX_PHOTOS
) -> Photos:
    """Look whether a folder can be used, before a model is loaded: photos of a few pixels.

    Args:
        whole: look at every photo, else only up to the first usable one.

    Raises:
        EdgeSdkError: see `load_photos`.
    """
    return load_photos(source, MIN_SIDE, what=what, limit=limit if whole else 1, stop_at_limit=not whole)


def _read(file: Path, root: Path) -> bytes:
    try:
        if file.is_symlink() and not file.resolve().is_relative_to(root.resolve()):
            raise _Unusable("a link that leads out of the folder")
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as opened:
            info = os.fstat(opened.fileno())
            if stat.S_ISDIR(info.st_mode):
                raise _Unusable("a folder; subfolders are not read")
            if not stat.S_ISREG(info.st_mode):
                raise _Unusable("not a regular file")
            if info.st_size > MAX_BYTES:
                raise _Unusable(f"larger than {MAX_BYTES >> 20} MB")
            return opened.read(MAX_BYTES)
    except IsADirectoryError as error:
        raise _Unusable("a folder; subfolders are not read") from error
    except (OSError, RuntimeError) as error:
        raise _Unusable(f"cannot be opened ({getattr(error, 'strerror', None) or error})") from error


def _decode(data: bytes) -> Image.Image:
    """An upright RGB picture; transparent parts become white."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise _Unusable(f"{width} x {height} pixels; at most {MAX_PIXELS // 10**6} million are read")
            if min(width, height) < MIN_SIDE:
                raise _Unusable(f"{width} x {height} pixels; each side must be {MIN_SIDE} or more")
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # phones add a small second picture
                raise _Unusable("an animation")
            image.load()
            upright = ImageOps.exif_transpose(image)
            return _to_rgb(upright)
    except _Unusable:
        raise
    except UnidentifiedImageError as error:
        raise _Unusable("not a PNG, JPEG or WebP picture") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _Unusable(f"a decompression bomb; at most {MAX_PIXELS // 10**6} million pixels are read") from error
    except MemoryError as error:
        raise _Unusable("too large for this machine's memory") from error
    except Exception as error:
        # Whatever a decoder says of hostile bytes (it raises many kinds), the picture is one to skip.
        raise _Unusable(f"damaged ({one_line(error, 100)})") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):  # 16-bit grey
        values = np.asarray(image, np.float64)
        return Image.fromarray(np.clip(values / 257, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _square(image: Image.Image, resolution: int, center_crop: bool) -> Image.Image:
    if center_crop:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    if image.size == (resolution, resolution):
        return image
    shrinking = min(image.size) > resolution
    return image.resize((resolution, resolution), Image.Resampling.LANCZOS if shrinking else Image.Resampling.BICUBIC)


def _to_array(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float32).transpose(2, 0, 1) / 127.5 - 1


def _caption(file: Path) -> str:
    beside = file.with_suffix(".txt")
    if not beside.is_file() or beside.is_symlink():
        return ""
    try:
        with open_input(beside) as opened:
            data = opened.read(MAX_CAPTION)
        whole = len(data) < MAX_CAPTION  # else the last letter may be cut, and is left out
        text = codecs.getincrementaldecoder("utf-8")().decode(data, final=whole)
    except (OSError, UnicodeDecodeError) as error:
        raise _Unusable(f"its caption {beside.name} is not UTF-8 text") from error
    return " ".join(text.split())


def to_pil(pixels: np.ndarray) -> Image.Image:
    """(3, H, W) float in [-1, 1] or (H, W, 3) uint8 -> a picture."""
    if pixels.dtype != np.uint8:
        pixels = np.clip((pixels.transpose(1, 2, 0) + 1) * 127.5, 0, 255).round().astype(np.uint8)
    return Image.fromarray(pixels)


def save_png(image: Image.Image, path: Path) -> None:
    """Write a PNG whole or not at all, with the text ``info["parameters"]`` of the picture where it has one.

    Its owner alone can read it.
    """
    buffer, text = io.BytesIO(), PngInfo()
    if "parameters" in image.info:
        text.add_text("parameters", image.info["parameters"])
    image.save(buffer, "PNG", pnginfo=text)
    write_bytes(path, buffer.getvalue())


def enlarge(image: Image.Image) -> Image.Image:
    """A picture smaller than 64 pixels a side, enlarged without smoothing by a whole factor; any other as it is."""
    if min(image.size) >= SMALL:
        return image
    factor = -(-ENLARGED // min(image.size))
    larger = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    larger.info = dict(image.info)
    return larger


def contact_sheet(rows: list[tuple[str, list[Image.Image]]]) -> Image.Image:
    """Labelled rows of pictures of one size; small ones are enlarged without smoothing."""
    side = rows[0][1][0].width
    scale = max(1, -(-TILE // side))
    tile, gap, label = side * scale, 8, 28
    width = gap + (tile + gap) * max(len(pictures) for _, pictures in rows)
    sheet = Image.new("RGB", (width, (tile + label + gap) * len(rows)), "#f4f4f2")
    pen = ImageDraw.Draw(sheet)
    for y, (text, pictures) in enumerate(rows):
        top = y * (tile + label + gap)
        pen.text((gap, top + 9), text, fill="#222222", font_size=14)
        for x, picture in enumerate(pictures):
            enlarged = picture.resize((tile, tile), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (gap + x * (tile + gap), top + label))
    return sheet
