"""Embedded ICC profiles: a picture's numbers become those of sRGB, which is what models were trained on."""

import functools
import io

import numpy as np
from PIL import Image, ImageCms

SAME = 2  # levels: a profile that moves no colour by more is sRGB itself
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # a profile's colour space -> Pillow's mode
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L")


class SrgbTransform:
    """From the colours of one profile to sRGB.

    Attributes:
        mode: Pillow's mode of the profile's colour space: RGB, L or CMYK.
    """

    def __init__(self, profile: ImageCms.ImageCmsProfile, mode: str) -> None:
        self.mode = mode
        self._transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")

    def __call__(self, image: Image.Image) -> Image.Image:
        """A picture of any mode that Pillow converts to the profile's -> RGB."""
        converted = ImageCms.applyTransform(image.convert(self.mode), self._transform)
        assert converted is not None
        return converted

    def is_identity(self) -> bool:
        """Whether it leaves all colours as they are."""
        if self.mode == "CMYK":
            return False
        levels = np.linspace(0, 255, 256 if self.mode == "L" else 17).round().astype(np.uint8)
        grid = np.stack(np.meshgrid(*[levels] * len(self.mode), indexing="ij"), axis=-1).reshape(1, -1, len(self.mode))
        probe = Image.fromarray(grid[..., 0] if self.mode == "L" else grid)
        return bool(np.abs(np.asarray(self(probe), int) - np.asarray(probe.convert("RGB"), int)).max() <= SAME)


@functools.lru_cache(maxsize=8)
def srgb_transform(icc: bytes, mode: str) -> SrgbTransform | None:
    """What converts a picture to sRGB; None where its profile is sRGB, is broken or is not for its colours.

    Args:
        icc: the embedded profile.
        mode: of the picture, as Pillow opened it.
    """
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        space = _MODES[profile.profile.xcolor_space.strip()]
        if (space == "CMYK") != (mode == "CMYK") or (space == "L" and mode not in _GREY):
            return None
        transform = SrgbTransform(profile, space)
        return None if transform.is_identity() else transform
    except Exception:  # whatever a library says of a broken profile, viewers show the picture without it
        return None
