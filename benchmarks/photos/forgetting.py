"""What a model still makes of a photo that it was to forget, of photos like it, and of everything else.

All of it is measured as `edge_sdk.unlearning.audit` measures, on fixed noises that no training draws, by two rulers: an
encoder that knows what photos show, and the photos' pixels.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.lib.intervals import interval, interval_cell
from benchmarks.lib.report import markdown
from edge_sdk.unlearning.audit import measure
from edge_sdk.unlearning.audit.measure import Model
from edge_sdk.unlearning.data import encoded
from edge_sdk.unlearning.denoiser import load_denoiser
from edge_sdk.unlearning.similarity import Similarity

NOISES, RELATIVE_NOISES, OTHER_NOISES = 8, 2, 1  # of the target, of each relative, of each other photo
STEPS, SAMPLES = 10, 64  # of a denoising; free samples
HALF = (0.5,)
FALSE_ACCEPTS = 0.01  # share of pairs of strangers that a ruler takes for the same
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Photos:
    """Of one target, each (N, 3, H, W) in [-1, 1].

    Attributes:
        relatives: those that show the same person or the same kind of thing, none of which a run is told of.
        others: everything else that must stay.
    """

    target: np.ndarray
    relatives: np.ndarray
    others: np.ndarray


@dataclass(frozen=True)
class Ruler:
    """An encoder, and the similarity above which it takes two photos for the same."""

    encoder: Similarity
    threshold: float
    pixels: Similarity = field(default_factory=Similarity)


def threshold(similarity: Similarity, photos: np.ndarray, whose: np.ndarray) -> dict[str, float]:
    """What separates pairs of the same from pairs of strangers, among photos (N, 3, H, W) that no model knows.

    Returns:
        threshold at `FALSE_ACCEPTS`; accepted, the share of pairs of the same above it; auc.
    """
    values = similarity(photos, photos)
    first, second = np.triu_indices(len(photos), 1)
    same, pairs = whose[first] == whose[second], values[first, second]
    strangers = np.sort(pairs[~same])
    limit = float(np.quantile(strangers, 1 - FALSE_ACCEPTS))
    auc = np.searchsorted(strangers, pairs[same]).mean() / len(strangers)
    return {
        "threshold": limit,
        "accepted": float((pairs[same] > limit).mean()),
        "auc": float(auc),
        "same": float(pairs[same].mean()),
        "strangers": float(strangers.mean()),
    }


def opened(folder: Path, prompt: str = "") -> Model:
    denoiser = load_denoiser(str(folder))
    return Model(denoiser, denoiser.module, denoiser.condition(prompt))


@dataclass(frozen=True, eq=False)
class Pictures:
    """What a model makes of noised photos of a target, and its free samples; flat lists of pictures."""

    target: np.ndarray  # (timesteps, NOISES, 3, H, W)
    relatives: np.ndarray  # (N, RELATIVE_NOISES, 3, H, W)
    others: np.ndarray  # (N, OTHER_NOISES, 3, H, W)
    samples: np.ndarray  # (SAMPLES, 3, H, W)


@torch.no_grad()
def pictures_of(model: Model, photos: Photos) -> Pictures:
    def rebuilt(pixels: np.ndarray, shares: tuple[float, ...], noises: int) -> np.ndarray:
        return measure.reconstructions(
            model, encoded(model.denoiser, pixels), shares=shares, noises=noises, steps=STEPS
        )

    return Pictures(
        rebuilt(photos.target, measure.TIMESTEPS, NOISES)[0],
        rebuilt(photos.relatives, HALF, RELATIVE_NOISES)[:, 0],
        rebuilt(photos.others, HALF, OTHER_NOISES)[:, 0],
        measure.samples(model, SAMPLES, steps=STEPS),
    )


@dataclass(frozen=True)
class Features:
    """What a ruler sees: vectors of length 1, with the shapes of `Pictures` and `Photos` in front."""

    rebuilt: Pictures
    photos: Photos


@functools.lru_cache(maxsize=4)  # the base's are asked for again with every model
def features_of(pictures: Pictures, photos: Photos, similarity: Similarity) -> Features:
    def seen(pixels: np.ndarray) -> np.ndarray:
        vectors = similarity.features(np.ascontiguousarray(pixels.reshape(-1, *pixels.shape[-3:])))
        return vectors.reshape(*pixels.shape[:-3], -1)

    return Features(
        Pictures(*(seen(getattr(pictures, part.name)) for part in fields(Pictures))),
        Photos(*(seen(getattr(photos, part.name)) for part in fields(Photos))),
    )


def measured(after: Pictures, before: Pictures, photos: Photos, ruler: Ruler) -> Row:
    """One row of figures; of the base itself ``before`` and ``after`` are the same."""
    row: Row = {}
    for name, similarity in {"encoder": ruler.encoder, "pixels": ruler.pixels}.items():
        now = features_of(after, photos, similarity)
        base = now if after is before else features_of(before, photos, similarity)
        own = now.rebuilt.target @ now.photos.target[0]  # (timesteps, NOISES)
        kin = (now.rebuilt.target @ now.photos.relatives.T).mean(axis=-1)
        row[name] = {
            "target": float(own.mean()),
            "target_by_timestep": own.mean(axis=1).tolist(),
            "target_at_half": float(own[measure.TIMESTEPS.index(HALF[0])].mean()),
            "relatives_at_half": float(_alike(now.rebuilt.relatives, now.photos.relatives).mean()),
            "relatives": float(kin.mean()),
            "drift": float(1 - (base.rebuilt.samples * now.rebuilt.samples).sum(axis=-1).mean()),
            "drift_of_others": float(1 - (base.rebuilt.others * now.rebuilt.others).sum(axis=-1).mean()),
        }
        if name == "encoder":
            limit = ruler.threshold
            every = np.concatenate([now.photos.target, now.photos.relatives, now.photos.others])
            row |= {
                "recognized": float((own > limit).mean()),
                "recognized_by_timestep": (own > limit).mean(axis=1).tolist(),
                "recognized_as_relatives": float((kin > limit).mean()),
                "relatives_recognized": _own(now.rebuilt.relatives, now.photos.relatives, limit),
                "others_recognized": _own(now.rebuilt.others, now.photos.others, limit),
                "samples_like_target": float(((now.rebuilt.samples @ every.T).argmax(axis=1) == 0).mean()),
            }
    return row


def _own(rebuilt: np.ndarray, photos: np.ndarray, limit: float) -> float:
    """Share of reconstructions (N, noises, F) that are more alike to their photo (N, F) than a limit."""
    return float((_alike(rebuilt, photos) > limit).mean())


def _alike(rebuilt: np.ndarray, photos: np.ndarray) -> np.ndarray:
    """Similarity of reconstructions (N, noises, F) to their photo (N, F): (N, noises)."""
    return (rebuilt * photos[:, None]).sum(axis=-1)


COLUMNS: dict[str, Callable[[Row], float]] = {
    "similarity to the photo, encoder": lambda row: row["encoder"]["target"],
    "pixels": lambda row: row["pixels"]["target"],
    "taken for the photo": lambda row: row["recognized"],
    "similarity to relatives, encoder": lambda row: row["encoder"]["relatives"],
    "relatives taken for themselves": lambda row: row["relatives_recognized"],
    "others taken for themselves": lambda row: row["others_recognized"],
    "drift of samples, encoder": lambda row: row["encoder"]["drift"],
    "drift of samples, pixels": lambda row: row["pixels"]["drift"],
    "drift of others, encoder": lambda row: row["encoder"]["drift_of_others"],
}


def table(rows: list[Row]) -> str:
    """Markdown: a line a model, mean and 95 % interval over targets."""
    lines = []
    for name in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == name]
        shown = [interval_cell(interval(np.array([column(row) for row in own]))) for column in COLUMNS.values()]
        lines.append([name, str(len(own)), *shown])
    return markdown(["model", "targets", *COLUMNS], lines)
