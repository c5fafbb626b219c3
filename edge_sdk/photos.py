"""Photos as Python programs have them: a folder, paths, PIL pictures, arrays."""

import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from edge_sdk.errors import EdgeSdkError
from edge_sdk.images import MAX_PHOTOS, Photos, load_photos, square_pixels
from edge_sdk.picture_file import MIN_SIDE

Photo: TypeAlias = "str | os.PathLike[str] | Image.Image | np.ndarray[Any, np.dtype[Any]]"
PhotoSource: TypeAlias = "str | os.PathLike[str] | Photos | Sequence[Photo]"
ACCEPTED = "give a folder, or a list of paths, PIL pictures or arrays (H, W, 3) of uint8, or of floats from 0 to 1"


def read_photos(source: PhotoSource, resolution: int, center_crop: bool = True, use_captions: bool = False) -> Photos:
    """Photos of any of these kinds as one square size; those that are read already stay as they are.

    Args:
        source: a folder or file, see `edge_sdk.images.load_photos`; or a sequence of paths, of PIL pictures (turned
            upright by their EXIF) and of arrays (H, W), (H, W, 3) or (H, W, 4): uint8, or floats from 0 to 1.
        resolution: side in pixels of the square that each photo becomes.
        center_crop: cut to a square around the centre first; otherwise the sides are squeezed.
        use_captions: read the text files beside photos that are files.

    Raises:
        EdgeSdkError: none can be used, there are more than 100, or an object is of another kind.
    """
    if isinstance(source, Photos):
        return source
    if isinstance(source, (str, os.PathLike)):
        return load_photos(source, resolution, center_crop, use_captions=use_captions)
    if isinstance(source, (Image.Image, np.ndarray)) or not isinstance(source, Sequence):
        if not isinstance(source, np.ndarray) or source.ndim != 4:
            raise EdgeSdkError(f"photos is of type {type(source).__name__}; {ACCEPTED}")
        source = list(source)
    if not 0 < len(source) <= MAX_PHOTOS:
        raise EdgeSdkError(f"photos has {len(source)} entries; give 1 to {MAX_PHOTOS}, of which 3 to 5 are enough")
    read, skipped = [], []
    for number, photo in enumerate(source):
        if isinstance(photo, (str, os.PathLike)):
            try:
                what = f"photos[{number}]"
                read.append(load_photos(photo, resolution, center_crop, what, use_captions=use_captions))
            except EdgeSdkError as error:
                skipped.append((os.path.basename(os.fspath(photo)), str(error)))
        else:
            picture = photo if isinstance(photo, Image.Image) else _picture(photo, number)
            if min(picture.size) < MIN_SIDE:
                raise EdgeSdkError(
                    f"photos[{number}] is {picture.width} x {picture.height} pixels; each side must be {MIN_SIDE} or "
                    "more"
                )
            pixels, size = square_pixels(picture, resolution, center_crop)
            read.append(Photos(pixels[None], ("",), (), (size,)))
    if not read:
        raise EdgeSdkError(f"photos holds no usable photo; {skipped[0][1]}")
    return Photos(
        np.concatenate([photos.pixels for photos in read]),
        tuple(caption for photos in read for caption in photos.captions),
        (*skipped, *(one for photos in read for one in photos.skipped)),
        tuple(size for photos in read for size in photos.sizes),
    )


def _picture(photo: object, number: int) -> Image.Image:
    """An array as a picture."""
    array = np.asarray(photo) if hasattr(photo, "__array__") else np.empty(0, object)
    channels = array.shape[2] if array.ndim == 3 else 3
    if array.dtype.kind == "f" and array.size and np.isfinite(array).all() and 0 <= array.min() <= array.max() <= 1:
        array = (array * 255).round().astype(np.uint8)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in (3, 4) or not array.size:
        kind = f"an array {array.shape} of {array.dtype}" if hasattr(photo, "__array__") else type(photo).__name__
        raise EdgeSdkError(f"photos[{number}] is {kind}; {ACCEPTED}")
    return Image.fromarray(np.ascontiguousarray(array))
