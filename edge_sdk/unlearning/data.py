"""The pictures of an unlearning run: targets, retained pictures, surrogates, masks; read, checked, encoded once."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_sdk.errors import EdgeSdkError
from edge_sdk.images import NOT_A_PHOTO, Photos, load_photos
from edge_sdk.unlearning.denoiser import Denoiser

MAX_PICTURES = 100_000
SAME = 2.5 / 255  # root mean square difference in [0, 1] below which two pictures are one


@dataclass(frozen=True)
class Pictures:
    """Pictures of a folder and what the model diffuses of them."""

    pixels: np.ndarray  # (N, 3, H, W) float32 in [-1, 1]
    x0: torch.Tensor  # (N, C, h, w) float32
    skipped: tuple[tuple[str, str], ...] = ()  # files that could not be used, and why

    def __len__(self) -> int:
        return len(self.x0)

    def __getitem__(self, rows: np.ndarray) -> "Pictures":
        """Those of some numbers, (K,) int64."""
        return Pictures(self.pixels[rows], self.x0[torch.from_numpy(rows)])


def side_of(denoiser: Denoiser) -> int:
    """Pixels of a picture's side."""
    return denoiser.shape[1] * (denoiser.place.scale or 1)


def encoded(denoiser: Denoiser, pixels: np.ndarray) -> Pictures:
    """Pictures (N, 3, H, W) in [-1, 1] with what the model diffuses of them."""
    return Pictures(pixels, denoiser.encode(torch.from_numpy(pixels).to(denoiser.device)))


def read(denoiser: Denoiser, folder: str | Path, what: str, whole: bool = False) -> Pictures:
    """Read and encode every picture of a folder, in the order of names.

    Args:
        what: the option's name, for messages.
        whole: no file may be skipped.

    Raises:
        EdgeSdkError: no usable picture, or one is not of this model's number of channels.
    """
    photos = load_photos(folder, side_of(denoiser), what=what, limit=MAX_PICTURES)
    if whole:
        refuse_skipped(photos, folder, what)
    pictures = encoded(denoiser, photos.pixels)
    if pictures.x0.shape[1] != denoiser.shape[0]:
        raise EdgeSdkError(f"the model diffuses {denoiser.shape[0]} channels, pictures have {pictures.x0.shape[1]}")
    return replace(pictures, skipped=photos.skipped)


def refuse_skipped(photos: Photos, folder: str | Path, what: str) -> None:
    """Raises EdgeSdkError if a file of a folder could not be used; what programs leave there is none."""
    unusable = [(name, why) for name, why in photos.skipped if why != NOT_A_PHOTO]
    if unusable:
        name, why = unusable[0]
        raise EdgeSdkError(f"{what} {folder}: {name} cannot be used ({why}); all files there are: mend or remove it")


def refuse_overlap(targets: Pictures, others: Pictures, what: str = "retain_data_dir") -> None:
    """Raises EdgeSdkError if a target is also among pictures that the model is to know, those of an option."""
    for i, target in enumerate(targets.pixels):
        gaps = np.sqrt(((others.pixels - target) ** 2).mean(axis=(1, 2, 3))) / 2
        if gaps.min() < SAME:
            raise EdgeSdkError(
                f"picture {i + 1} of forget_data_dir is also picture {int(gaps.argmin()) + 1} of {what}; a target "
                f"cannot be kept: take it out of {what}"
            )


def refuse_forgotten(pictures: Pictures, requests: list[dict[str, Any]], what: str) -> None:
    """Raises EdgeSdkError if a picture of an option is one that an earlier request made the model forget."""
    for request in requests:
        gone, salt = set(request["targets"]), bytes.fromhex(request["salt"])
        for i, pixels in enumerate(pictures.pixels):
            if salted_hash(pixels, salt) in gone:
                raise EdgeSdkError(
                    f"picture {i + 1} of {what} is one that an earlier request made this model forget; take it out of "
                    f"{what}"
                )


def salted_hash(pixels: np.ndarray, salt: bytes) -> str:
    """What a report says of a picture instead of showing it."""
    return hashlib.sha256(salt + np.ascontiguousarray(pixels, np.float32).tobytes()).hexdigest()
