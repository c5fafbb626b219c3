"""CLIP-T, CLIP-I and DINO: cosines of features of pictures, and of pictures and prompts.

As in Ruiz et al., 2023: CLIP-I and DINO are means over all pairs of a photo and a generated picture, CLIP-T is the mean
over generated pictures, each with its own prompt. Which DINO is meant differs between papers (ViT-S/16 of 2021 or
DINOv2), so figures compare only with the same network.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from edge_sdk.errors import EdgeSdkError, one_line
from edge_sdk.system.json import read_json

BATCH = 16  # pictures a call


@dataclass(frozen=True)
class Features:
    """Unit vectors of pictures, (N, F) float32 each."""

    clip: np.ndarray
    dino: np.ndarray


class Scorer:
    """A CLIP and a DINO, each a folder as transformers saves it, with safetensors and a ``preprocessor_config.json``.

    DINO is a `Dinov2Model` or a `ViTModel`.

    Raises:
        EdgeSdkError: a folder cannot be used.
    """

    def __init__(self, clip: Path, dino: Path) -> None:
        self._clip, self._clip_pixels = _load(clip, ("clip",))
        self._dino, self._dino_pixels = _load(dino, ("dinov2", "vit"))
        with _named(clip):
            self._tokenizer = transformers.CLIPTokenizer.from_pretrained(clip, local_files_only=True)

    def features(self, pictures: Sequence[Image.Image]) -> Features:
        """Of pictures of any size."""
        clip = [_pooled(self._clip.get_image_features(self._clip_pixels(batch))) for batch in _batches(pictures)]
        dino = [self._dino(self._dino_pixels(batch)).last_hidden_state[:, 0] for batch in _batches(pictures)]
        return Features(_unit(torch.cat(clip)), _unit(torch.cat(dino)))

    def texts(self, prompts: Sequence[str]) -> np.ndarray:
        """Unit vectors of prompts, (N, F) float32."""
        ids = self._tokenizer(list(prompts), padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            return _unit(_pooled(self._clip.get_text_features(ids["input_ids"], ids["attention_mask"])))


def scores(photos: Features, generated: Features, texts: np.ndarray) -> dict[str, float]:
    """The three scores.

    Args:
        texts: (N, F), the prompt of each generated picture.
    """
    return {
        "clip_t": float((generated.clip * texts).sum(axis=1).mean()),
        "clip_i": float((photos.clip @ generated.clip.T).mean()),
        "dino": float((photos.dino @ generated.dino.T).mean()),
    }


def _load(folder: Path, accepted: Sequence[str]) -> tuple[Any, Any]:
    """A network in eval mode, and what makes pixels (N, 3, H, W) of pictures; its classes are of our choice."""
    kinds = {
        "clip": (transformers.CLIPModel, transformers.CLIPImageProcessorPil),
        "dinov2": (transformers.Dinov2Model, transformers.BitImageProcessorPil),
        "vit": (transformers.ViTModel, transformers.ViTImageProcessorPil),
    }
    with _named(folder):
        kind = read_json(folder / "config.json", "give a folder as save_pretrained writes it").get("model_type")
        if kind not in accepted:
            raise ValueError(f"it is of the kind {kind!r:.60}, not {' or '.join(accepted)}")
        network_class, processor_class = kinds[kind]
        processor = processor_class.from_pretrained(folder, local_files_only=True)
        network = network_class.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )

    def pixels(pictures: Sequence[Image.Image]) -> torch.Tensor:
        return processor([picture.convert("RGB") for picture in pictures], return_tensors="pt")["pixel_values"]

    return network.eval().requires_grad_(False), pixels


class _named:
    """Turns what a library raises about a folder into one line."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        if not self._folder.is_dir():
            raise EdgeSdkError(
                f"there is no folder {self._folder}; give one as transformers' save_pretrained writes it"
            )

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, OSError | ValueError | KeyError | RuntimeError):
            raise EdgeSdkError(
                f"{self._folder} cannot be used ({one_line(error, 200)}); give a folder as transformers' "
                "save_pretrained writes it, with safetensors and its image processor"
            ) from error


def _batches(pictures: Sequence[Image.Image]) -> Iterator[Sequence[Image.Image]]:
    for start in range(0, len(pictures), BATCH):
        yield pictures[start : start + BATCH]


def _pooled(output: Any) -> torch.Tensor:
    """The projected features; transformers 5 wraps them."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def _unit(vectors: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(vectors.float(), dim=1).detach().numpy()
