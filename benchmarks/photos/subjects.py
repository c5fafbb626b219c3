"""What is learned from five photos: styles of Fashion-MNIST that the model has never seen, and a class of which it has
seen nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.photos import fashion, wardrobe
from benchmarks.quality.learn import TOKEN, VIEWS, Bench
from edge_sdk.diffusion.prompts import training_prompts
from edge_sdk.runtime.pytorch.directions import principal_directions
from edge_sdk.runtime.pytorch.model import open_model
from edge_sdk.runtime.pytorch.objective import StableDiffusionObjective, encode_images

UNKNOWN_CLASS_STYLES = 6  # of the class that the model has seen nothing of, the most frequent ones
PROMPTS = "object"


@dataclass(frozen=True)
class Subject:
    """A style, and the word that a user would start from."""

    number: int  # of the class
    style: int
    word: str

    @property
    def is_new_class(self) -> bool:
        return self.number == wardrobe.UNKNOWN_CLASS


def everyone() -> list[Subject]:
    """24 subjects: two styles of each class that is known, and styles of the class that is not."""
    classes = [c for c in range(len(fashion.CLASSES)) if c != wardrobe.UNKNOWN_CLASS]
    known = [Subject(c, s, fashion.CLASSES[c]) for c in classes for s in wardrobe.UNKNOWN_STYLES]
    return known + [Subject(wardrobe.UNKNOWN_CLASS, s, "shoe") for s in range(UNKNOWN_CLASS_STYLES)]


def photos_of(subjects: Sequence[Subject], folder: Path, seed: int = 0) -> np.ndarray:
    """(N * VIEWS, 28, 28) uint8: of each subject those to learn from, then those that are unseen, drawn at random."""
    photos, classes = fashion.read("train", folder)
    styles = fashion.styles(photos, classes, folder)
    rows = []
    for subject in subjects:
        own = np.flatnonzero((classes == subject.number) & (styles == subject.style))
        rng = np.random.default_rng([seed, subject.number, subject.style])
        rows.append(rng.choice(own, VIEWS, replace=False))
    return photos[np.concatenate(rows)]


def bench(name: str, weights: str, pixels: np.ndarray) -> Bench:
    """The model as an objective of pictures (N * VIEWS, 3, 32, 32); its initial token is that of "thing"."""
    model = open_model(name, weights, "integer")
    text = model.load_text()
    ids = text.tokenize(training_prompts(PROMPTS, TOKEN), {TOKEN: 1})
    latents = encode_images(model.load("vae"), pixels)
    objective = StableDiffusionObjective(text, model.load("unet"), model.load_schedule(), latents, ids, 1)
    return Bench(
        model,
        objective,
        text.initial_embedding(wardrobe.ANYTHING, 1),
        text.norm_range(),
        text.vocabulary_std(),
        principal_directions(text.rows_of_table(), text.width),
    )


def started_at(full: Bench, word: str) -> Bench:
    """The same, with tokens that start from a word."""
    return replace(full, initial=full.objective.text.initial_embedding(word, 1))
