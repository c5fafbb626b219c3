"""A person's photos, read safely: one bad picture is named and skipped, no good picture is an error.

What is read leaves this module as pixels only: no names, no EXIF. `picture_file.decode` says what a picture may be.
"""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from edge_sdk.captions import caption_of, is_caption
from edge_sdk.errors import EdgeSdkError
from edge_sdk.picture_file import MIN_SIDE, UnusablePictureError, decode, upright_rgb
from edge_sdk.system.files import write_bytes
from edge_sdk.system.inputs import open_input
from edge_sdk.system.paths import LEFTOVERS, expanded

MAX_BYTES = 256 * 2**20
MAX_PHOTOS = 100  # a token learns from 3 to 5; what lies beyond a hundred is skipped and said
MAX_NAMED = 10  # of the files that are skipped for one reason; more are counted
NOT_A_PHOTO = "not a photo"  # why a leftover is skipped: nobody meant it to be one
TILE = 128  # pixels, smallest picture on a contact sheet
SMALL, ENLARGED = 64, 256  # pixels: a smaller side is enlarged when asked for, to this one at least

# What file managers, cameras, git and the hub leave in a folder of photos, beside files whose names begin with a dot.
_LEFTOVER_NAMES = (*LEFTOVERS, "$recycle.bin", "license")
_LEFTOVER_SUFFIXES = (".aae", ".csv", ".ini", ".json", ".jsonl", ".md", ".parquet", ".thm", ".xmp", ".yaml", ".yml")


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
    use_captions: bool = False,
) -> Photos:
    """Read every photo of a folder (not of its subfolders), or one photo, in the order of names.

    A link to a file is read like the file, because whoever names a folder means what it shows.

    Args:
        resolution: side in pixels of the square that each photo becomes.
        center_crop: cut to a square around the centre first; otherwise the sides are squeezed.
        what: the option's name, for messages.
        limit: at most so many photos.
        stop_at_limit: do not look at what lies beyond the limit.
        use_captions: read the text files beside the photos.

    Raises:
        EdgeSdkError: the place does not exist or holds no usable photo, or a caption is not text.
    """
    root = expanded(source)
    try:
        files = (
            [root] if root.is_file() else sorted(entry for entry in root.iterdir() if not entry.name.startswith("."))
        )
    except OSError as error:
        raise EdgeSdkError(f"{what} {root} cannot be read: {error.strerror}; give a folder with photos") from error
    squares: list[np.ndarray] = []  # (H, W, 3) uint8
    captions: list[str] = []
    skipped: list[tuple[str, str]] = []
    sizes: list[tuple[int, int]] = []
    for file in files:
        if is_caption(file):
            continue
        if stop_at_limit and len(squares) == limit:
            break
        try:
            if len(squares) == limit:
                raise UnusablePictureError(f"there are more than {limit} photos")
            square, size = _read(file, resolution, center_crop)
        except UnusablePictureError as error:
            skipped.append((_shown(file.name), NOT_A_PHOTO if _is_leftover(file) else str(error)))
            continue
        captions.append(caption_of(file) if use_captions else "")
        squares.append(square)
        sizes.append(size)
    if not squares:
        why = f"; {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise EdgeSdkError(f"{what} {root} holds no usable photo ({len(skipped)} skipped{why}); give PNG, JPEG or WebP")
    pixels = np.empty((len(squares), 3, resolution, resolution), np.float32)
    for i, square in enumerate(squares):
        pixels[i] = _to_array(square)
    return Photos(pixels, tuple(captions), tuple(skipped), tuple(sizes))


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


def skip_notices(skipped: Sequence[tuple[str, str]]) -> list[str]:
    """`Photos.skipped` in lines for the user: one a file, or one with the count where many have the same reason."""
    names: dict[str, list[str]] = {}
    for name, why in skipped:
        names.setdefault(why, []).append(name)
    lines = []
    for why, alike in names.items():
        if len(alike) > MAX_NAMED or (len(alike) > 1 and why.startswith("there are more than")):
            lines.append(f"skipped {len(alike)} files ({alike[0]} to {alike[-1]}): {why}")
        else:
            lines += [f"skipped {name}: {why}" for name in alike]
    return lines


def _shown(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name)


def _is_leftover(file: Path) -> bool:
    return file.name.lower() in _LEFTOVER_NAMES or file.suffix.lower() in _LEFTOVER_SUFFIXES


def _read(file: Path, resolution: int, center_crop: bool) -> tuple[np.ndarray, tuple[int, int]]:
    """A photo's square (H, W, 3) uint8, and its whole size (height, width)."""
    try:
        if file.is_dir():
            raise UnusablePictureError("a folder; subfolders are not read")
        opened = open_input(file)
    except (OSError, RuntimeError) as error:
        raise UnusablePictureError(f"cannot be opened ({getattr(error, 'strerror', None) or error})") from error
    with opened:
        if os.fstat(opened.fileno()).st_size > MAX_BYTES:
            raise UnusablePictureError(f"larger than {MAX_BYTES >> 20} MB")
        picture = decode(opened, resolution)
    return np.asarray(_square(picture.image, resolution, center_crop)), picture.size


def _square(image: Image.Image, resolution: int, center_crop: bool) -> Image.Image:
    if center_crop:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    if image.size == (resolution, resolution):
        return image
    shrinking = min(image.size) > resolution
    return image.resize((resolution, resolution), Image.Resampling.LANCZOS if shrinking else Image.Resampling.BICUBIC)


def square_pixels(image: Image.Image, resolution: int, center_crop: bool) -> tuple[np.ndarray, tuple[int, int]]:
    """A loaded picture as pixels (3, H, W) float32 in [-1, 1], and its upright (height, width) before that."""
    upright = upright_rgb(image)
    return _to_array(_square(upright, resolution, center_crop)), (upright.height, upright.width)


def _to_array(square: np.ndarray | Image.Image) -> np.ndarray:
    return np.asarray(square, np.float32).transpose(2, 0, 1) / 127.5 - 1


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
