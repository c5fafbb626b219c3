"""One target, one method, one seed: unlearn in steps, and measure at some of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from benchmarks.baselines.unlearning import NEIGHBOURS, RULES, Stepper
from benchmarks.pocket.classifier import Classifier, load_classifier
from benchmarks.pocket.people import any_people, render
from benchmarks.unlearning.faces import NUM_PEOPLE, held_out_views, people, training_views
from edge_sdk.unlearning import measure
from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.data import Pictures
from edge_sdk.unlearning.denoiser import Denoiser
from edge_sdk.unlearning.loop import Unlearner
from edge_sdk.unlearning.losses import Losses
from edge_sdk.unlearning.measure import Model
from edge_sdk.unlearning.similarity import Similarity

SAMPLES, RETAINED, SEEN, UNSEEN = 128, 2048, 32, 8
LEAST_CHANGED = 3  # attributes in which a surrogate person differs from the target and from everyone
TARGET_SEED = 7000  # of the views that are forgotten
OURS = "ours"
Method = Callable[[Losses], Iterator[Any]]


@dataclass(frozen=True)
class Case:
    """What is to be forgotten of a model, and everything that it is measured against."""

    person: int
    target: Pictures  # one picture
    surrogates: torch.Tensor  # (1, S, C, h, w)
    retained: Pictures  # of all other people
    unseen: Pictures  # other views of the person, which unlearning is not told of
    kept: Pictures  # held-out views of the others
    neighbours: Pictures  # the retained pictures most like the target


def as_pictures(denoiser: Denoiser, pixels: np.ndarray) -> Pictures:
    return Pictures(pixels, denoiser.encode(torch.from_numpy(pixels)))


def make_case(denoiser: Denoiser, person: int, surrogates: int) -> Case:
    """Surrogates are other people in the same pose, with the same expression, on the same background."""

    def view(who: np.ndarray) -> np.ndarray:
        return render(who, np.random.default_rng(TARGET_SEED + person)).pixels

    target = view(people()[person : person + 1])
    rng, others = np.random.default_rng(TARGET_SEED + 500 + person), list[np.ndarray]()
    for candidate in any_people(2000, rng):
        if len(others) < surrogates and (people() != candidate).sum(axis=1).min() >= LEAST_CHANGED - 1 and (
            candidate != people()[person]
        ).sum() >= LEAST_CHANGED:  # fmt: skip
            others.append(view(candidate[None]))
    pixels, whose = training_views()
    rows = np.random.default_rng(person).permutation(np.flatnonzero(whose != person))[:RETAINED]
    similarity = Similarity()
    near = rows[similarity(target, pixels[rows])[0].argsort()[-8:]]
    fresh, whose_fresh = held_out_views()
    kept = np.random.default_rng(1).permutation(np.flatnonzero(whose_fresh != person))[:256]
    x0 = denoiser.encode(torch.from_numpy(np.concatenate(others)))
    return Case(
        person, as_pictures(denoiser, target), x0[None], as_pictures(denoiser, pixels[rows]),
        as_pictures(denoiser, fresh[whose_fresh == person][:UNSEEN]), as_pictures(denoiser, fresh[kept]),
        as_pictures(denoiser, pixels[near]),
    )  # fmt: skip


class Ruler:
    """Measures a model against its base."""

    def __init__(self, base: Model, case: Case) -> None:
        self.base, self.case, self.similarity = base, case, Similarity()
        self._classifier: Classifier = load_classifier()
        self.samples, self.near = measure.samples(base, SAMPLES), self._near(base)
        self._is_person = self._picked(self.samples) == case.person
        kept = UnlearnConfig(retention="data")
        self._losses = Losses(base.denoiser, case.target.x0, case.target.x0[:, None], case.kept.x0, kept)

    def __call__(self, model: Model) -> dict[str, Any]:
        case, similarity = self.case, self.similarity
        rebuilt = measure.reconstructions(model, case.target)
        own = measure.similarities(similarity, rebuilt, case.target.pixels)[0]
        other = measure.reconstructions(model, case.unseen)[:, 2:]
        drawn = measure.samples(model, SAMPLES)
        moved = measure.drift(similarity, self.samples, drawn)[~self._is_person]
        near = measure.drift(similarity, self.near, self._near(model))
        return {
            "target_similarity": float(own.mean()), "by_timestep": own.mean(axis=1).tolist(),
            "person_in_unseen": float((self._picked(other.reshape(-1, *other.shape[3:])) == case.person).mean()),
            "person_in_samples": float((self._picked(drawn) == case.person).mean()),
            "drift": float(moved.mean()), "worst_drift": float(np.quantile(moved, 0.95)),
            "neighbour_drift": float(near.mean()),
            "kept_loss": float(measure.loss_by_timestep(model, self._losses).mean()),
        }  # fmt: skip

    def _near(self, model: Model) -> np.ndarray:
        found = measure.reconstructions(model, self.case.neighbours)[:, 2, :4]
        return found.reshape(-1, *found.shape[2:])

    def _picked(self, pixels: np.ndarray) -> np.ndarray:
        return self._classifier.pick(torch.from_numpy(pixels), people()[:NUM_PEOPLE])


def run(
    base: Model, case: Case, ruler: Ruler, method: str, strength: float, config: UnlearnConfig, stops: tuple[int, ...]
) -> list[dict[str, Any]]:
    """One row a stop. ``method`` is "ours" or one of `RULES`; ``strength`` is what it multiplies its forgetting by."""
    surrogates = case.surrogates
    if method == "ReTrack":
        gaps = torch.cdist(case.target.x0.flatten(1), case.retained.x0.flatten(1))
        surrogates = case.retained.x0[gaps[0].topk(NEIGHBOURS, largest=False).indices][None]
        config = replace(config, timestep_weight="uniform")
    if method.startswith(OURS):
        config = replace(config, unlearn_weight=strength)
    losses = Losses(base.denoiser, case.target.x0, surrogates, case.retained.x0, config)
    runner: Any
    if method.startswith(OURS):
        runner = Unlearner(losses)
        advance = runner.step
    else:
        runner = Stepper(losses, RULES[method], strength)
        advance = runner.advance
    rows, done = [], 0
    for stop in stops:
        while done < stop:
            advance()
            done += 1
        with torch.no_grad():
            rows.append({"steps": stop, **ruler(replace(base, call=runner.trainable.frozen()))})
    if method.startswith(OURS):
        rows[-1]["without_rise"] = sum(s.retain_change <= 0 for s in runner.history) / len(runner.history)
    return rows
