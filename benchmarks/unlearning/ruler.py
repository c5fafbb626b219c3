"""Measures a model that unlearned against its base, on noises that are the same for every model."""

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.lib.intervals import interval
from benchmarks.pocket.classifier import Classifier, load_classifier
from benchmarks.unlearning.cases import Case
from benchmarks.unlearning.faces import NUM_PEOPLE, people
from edge_sdk.unlearning.audit import measure
from edge_sdk.unlearning.audit.measure import Model
from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.data import Pictures
from edge_sdk.unlearning.similarity import Similarity
from edge_sdk.unlearning.training.losses import Losses
from edge_sdk.unlearning.training.trainable import Trainable, in_form

SAMPLES = 128
STEPS = 10  # of every denoising
INTEGERS = ("int8", "int4")  # forms of the weights that ship
HALF, NOISES = (0.5,), 4  # from where, and how often, pictures other than the target are reconstructed


@functools.cache
def _classifier() -> Classifier:
    return load_classifier()


def picked(pixels: np.ndarray) -> np.ndarray:
    """Who each picture (..., 3, 16, 16) shows, of the people that the model knows: (N,)."""
    return picked_of(pixels, people()[:NUM_PEOPLE])


def picked_of(pixels: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Who each picture (..., 3, 16, 16) shows, of candidates (M, 6): (N,)."""
    return _classifier().pick(torch.from_numpy(pixels.reshape(-1, *pixels.shape[-3:])), candidates)


class Ruler:
    """One target's.

    Args:
        reference: a model that never saw the target, if there is one.
    """

    def __init__(self, base: Model, case: Case, prompt: str = "", reference: Model | None = None) -> None:
        self.base, self.case, self.similarity, self.reference = base, case, Similarity(), reference
        x0, self._settings = case.target.x0, UnlearnConfig(retention="data", prompt=prompt)
        self._kept = Losses(base.denoiser, x0, x0[:, None], case.kept.x0, self._settings)
        self.samples = self._drawn(base)
        self.near = self._half(base, case.neighbours)
        self._others = picked(self.samples) != case.person
        self._bins, self._losses = measure.denoising_losses(base, self._kept)
        self._before = measure.by_bin(self._bins, self._losses)
        self._wanted = None if reference is None else self._rebuilt(reference)
        calls = {form: in_form(base.denoiser.module, form) for form in INTEGERS}
        self._rounded = {form: self._drawn(replace(base, call=call)) for form, call in calls.items()}

    @functools.cached_property
    def base_row(self) -> dict[str, Any]:
        """What holds before unlearning; the spread is how much the base's own reconstructions of a neighbour differ."""
        pairs = [
            float(measure.drift(self.similarity, one[[i]], one[[j]])[0])
            for one in self.near.reshape(len(self.case.neighbours), NOISES, *self.near.shape[1:])
            for i in range(NOISES)
            for j in range(i)
        ]
        loss = interval(self._losses)
        return {
            **self(self.base),
            **self.in_forms(Trainable(self.base.denoiser.module)),
            "neighbour_spread": float(np.mean(pairs)),
            "kept_loss": float(self._before.mean()),
            "kept_loss_interval": [loss[end] / loss["mean"] - 1 for end in ("low", "high")],
        }

    def __call__(self, model: Model) -> dict[str, Any]:
        """One row of figures."""
        found = self._rebuilt(model)
        own = measure.similarities(self.similarity, found, self.case.target.pixels)[0]
        drawn = self._drawn(model)
        moved = measure.drift(self.similarity, self.samples, drawn)[self._others]
        hits = int(measure.hits(self.similarity, drawn, self.case.target.pixels[0], self.case.retained.pixels).sum())
        each = measure.denoising_losses(model, self._kept)[1]
        losses, rise = measure.by_bin(self._bins, each), interval(each, self._losses)
        row = {
            "target_similarity": float(own.mean()),
            "by_timestep": own.mean(axis=1).tolist(),
            "person_in_samples": float((picked(drawn) == self.case.person).mean()),
            "samples_like_target": hits / SAMPLES,
            "samples_like_target_at_most": measure.upper_bound(hits, SAMPLES),
            "drift": float(moved.mean()),
            "worst_drift": float(np.quantile(moved, 0.95)),
            "kernel_distance": measure.kernel_distance(*map(self.similarity.features, (self.samples, drawn))),
            "neighbour_drift": float(
                measure.drift(self.similarity, self.near, self._half(model, self.case.neighbours)).mean()
            ),
            "kept_rise": float(losses.sum() / self._before.sum() - 1),
            "kept_by_bin": losses.tolist(),
            "kept_rise_interval": [rise["low"] - 1, rise["high"] - 1],
        }
        if len(self.case.unseen):
            seen = picked(self._half(model, self.case.unseen))
            row["person_in_unseen"] = float((seen == self.case.person).mean())
        if self._wanted is not None:
            flat = (values.reshape(-1, *values.shape[3:]) for values in (self._wanted, found))
            row["distance_to_reference"] = float(measure.drift(self.similarity, *flat).mean())
            row["answers_to_reference"] = self._answers(model)
        return row

    def shown(self, model: Model) -> np.ndarray:
        """What becomes of the target from half of all timesteps on: (NOISES, 3, 16, 16)."""
        return measure.reconstructions(model, self.case.target, shares=HALF, noises=NOISES, steps=STEPS)[0, 0]

    def in_forms(self, trainable: Trainable) -> dict[str, float]:
        """Target similarity with the weights as integer checkpoints hold them, and drift from the base held so."""
        row = {}
        for form in INTEGERS:
            model = replace(self.base, call=trainable.frozen(form))
            own = measure.similarities(self.similarity, self._rebuilt(model), self.case.target.pixels)
            moved = measure.drift(self.similarity, self._rounded[form], self._drawn(model))[self._others]
            row |= {f"target_similarity_{form}": float(own.mean()), f"drift_{form}": float(moved.mean())}
        return row

    def _drawn(self, model: Model) -> np.ndarray:
        """Free samples, (SAMPLES, 3, 16, 16)."""
        return measure.samples(model, SAMPLES, steps=STEPS)

    def _rebuilt(self, model: Model) -> np.ndarray:
        return measure.reconstructions(model, self.case.target, steps=STEPS)

    def _half(self, model: Model, pictures: Pictures) -> np.ndarray:
        found = measure.reconstructions(model, pictures, shares=HALF, noises=NOISES, steps=STEPS)
        return found.reshape(-1, *found.shape[3:])

    def _answers(self, model: Model) -> float:
        """Mean squared difference from what the reference says of the noised target, over all timesteps."""
        assert self.reference is not None
        x0 = self.case.target.x0
        shown = Losses(model.denoiser, x0, x0[:, None], x0, replace(self._settings, retention="teacher"))
        shown.teachers["none"] = self.reference.call
        return float(measure.loss_by_timestep(model, shown).mean())
