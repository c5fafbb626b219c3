"""Whether a learned file means its subject to stock diffusers, which knows nothing of this project."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from edge_sdk import pocket


def subject_and_person(learned: Path) -> tuple[float, float]:
    """Mean squared distance to the embedded model's photos of what "<subject>" draws, and of what "person" draws."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(pocket.MODEL)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_textual_inversion(learned, use_safetensors=True)
    photos = np.stack([np.asarray(Image.open(path), float) for path in sorted(pocket.PHOTOS.glob("*.png"))])

    def distance(word: str) -> float:
        drawn = pipeline(
            [f"a picture of {word}"] * 4,
            num_inference_steps=12,
            guidance_scale=4.0,
            output_type="np",
            generator=torch.Generator().manual_seed(0),
            height=photos.shape[1],
            width=photos.shape[2],
        )
        return float(((255 * drawn.images[:, None] - photos[None]) ** 2).mean())

    return distance("<subject>"), distance("person")
