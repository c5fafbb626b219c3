"""What a model says of people it was never shown: where forgetting ends.

Strangers are chosen as the 48 were, after them, so for the base they are what a target is for a model retrained without
that target. The outlier, whom one of two trained models has never seen, is a single case of true retraining.
"""

from typing import Any

import numpy as np
import torch

from benchmarks.lib.intervals import t_interval
from benchmarks.pocket.people import render
from benchmarks.unlearning.cases import TARGET_SEED, UNSEEN
from benchmarks.unlearning.faces import NUM_PEOPLE, outlier, people, strangers
from benchmarks.unlearning.like_with_like_report import LEVELS
from benchmarks.unlearning.ruler import HALF, STEPS, picked_of
from edge_sdk.unlearning.audit import measure
from edge_sdk.unlearning.audit.measure import Model
from edge_sdk.unlearning.data import encoded
from edge_sdk.unlearning.similarity import Similarity

STRANGERS, NOISES = 16, 8
UNSEEN_SEED = 9000  # of a stranger's other views


def by_level(model: Model, pixels: np.ndarray) -> dict[str, float]:
    """Similarity of reconstructions to one picture (1, 3, H, W), from each noise level and in the mean."""
    rebuilt = measure.reconstructions(model, encoded(model.denoiser, pixels), noises=NOISES, steps=STEPS)
    own = measure.similarities(Similarity(), rebuilt, pixels)[0].mean(axis=1)
    return {
        "target_similarity": float(own.mean()),
        **{f"from_{level}": float(value) for level, value in zip(LEVELS, own, strict=True)},
    }


@torch.no_grad()
def stranger_rows(model: Model, samples: np.ndarray) -> list[dict[str, float]]:
    """A row for each stranger: the target's figures, of someone whom the model does not know."""
    rows = []
    for i, who in enumerate(strangers(STRANGERS)):
        among = np.concatenate([people()[:NUM_PEOPLE], who[None]])
        target = render(who[None], np.random.default_rng(TARGET_SEED + NUM_PEOPLE + 1 + i)).pixels
        other = render(np.repeat(who[None], UNSEEN, axis=0), np.random.default_rng(UNSEEN_SEED + i)).pixels
        seen = measure.reconstructions(model, encoded(model.denoiser, other), shares=HALF, noises=4, steps=STEPS)
        rows.append(
            {
                **by_level(model, target),
                "person_in_unseen": float((picked_of(seen, among) == NUM_PEOPLE).mean()),
                "person_in_samples": float((picked_of(samples, among) == NUM_PEOPLE).mean()),
            }
        )
    return rows


def floor(model: Model, samples: np.ndarray, retrained: Model | None = None) -> dict[str, Any]:
    """By name: t intervals over strangers; the outlier before, and in the model that was trained without."""
    rows = stranger_rows(model, samples)
    out: dict[str, Any] = {
        f"{len(rows)} strangers": {key: t_interval([row[key] for row in rows]) for key in rows[0]},
    }
    if retrained is not None:
        with torch.no_grad():
            for name, one in (("outlier, before", model), ("outlier, retrained without", retrained)):
                out[name] = {key: {"mean": value} for key, value in by_level(one, outlier()).items()}
    return out
