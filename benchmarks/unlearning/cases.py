"""What is to be forgotten of a benchmark model, and everything that it is measured against."""

from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.pocket.people import Pictures as Drawn
from benchmarks.pocket.people import any_people, caption, render
from benchmarks.unlearning.faces import NUM_PEOPLE, OUTLIER_SEED, held_out_views, people, training_views
from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.data import Pictures, encoded
from edge_sdk.unlearning.denoiser import Denoiser
from edge_sdk.unlearning.similarity import Similarity
from edge_sdk.unlearning.training.surrogate import make_surrogates

OUTLIER = NUM_PEOPLE  # the target that a reference model was never shown
RETAINED, UNSEEN, KEPT, NEIGHBOURS = 2048, 4, 256, 8
LEAST_CHANGED = 3  # attributes in which a given surrogate differs from the target; from everyone else one less
TARGET_SEED = 7000  # of the views that are forgotten


@dataclass(frozen=True)
class Case:
    """One target.

    Attributes:
        person: whose picture it is.
        caption: all that can be said of it.
        target: one picture.
        surrogates: x0 (1, S, C, h, w).
        retained: pictures of all other people, for training.
        unseen: other views of the person, which unlearning is not told of; empty for the outlier, which has one view.
        kept: held-out views of the others.
        neighbours: the retained pictures most like the target.
    """

    person: int
    caption: str
    target: Pictures
    surrogates: torch.Tensor
    retained: Pictures
    unseen: Pictures
    kept: Pictures
    neighbours: Pictures


def make_case(denoiser: Denoiser, person: int, config: UnlearnConfig) -> Case:
    """``config`` says which surrogates; given ones are strangers in the same pose, on the same background."""
    drawn = _view(person, people()[person])
    target = drawn.pixels
    pixels, whose = training_views()
    rows = np.random.default_rng(person).permutation(np.flatnonzero(whose != person))[:RETAINED]
    near = rows[Similarity()(target, pixels[rows])[0].argsort()[-NEIGHBOURS:]]
    fresh, whose_fresh = held_out_views()
    kept = np.random.default_rng(1).permutation(np.flatnonzero(whose_fresh != person))[:KEPT]
    pictures, retained = encoded(denoiser, target), encoded(denoiser, pixels[rows])
    if config.surrogate == "given":
        x0 = encoded(denoiser, _strangers(person, config.num_surrogates)).x0[None]
    else:
        x0 = make_surrogates(denoiser, pictures, retained, config, Similarity()).x0
    said = caption(people()[person], int(drawn.background[0]))
    unseen = encoded(denoiser, fresh[whose_fresh == person][:UNSEEN])
    others = (encoded(denoiser, chosen) for chosen in (fresh[kept], pixels[near]))
    return Case(person, said, pictures, x0, retained, unseen, *others)


def _view(person: int, who: np.ndarray) -> Drawn:
    """Someone in the pose, with the expression and on the background of a target."""
    seed = OUTLIER_SEED if person == OUTLIER else TARGET_SEED + person
    return render(who[None], np.random.default_rng(seed))


def _strangers(person: int, count: int) -> np.ndarray:
    found: list[np.ndarray] = []
    for candidate in any_people(5000, np.random.default_rng(TARGET_SEED + 500 + person)):
        apart = (people() != candidate).sum(axis=1)
        if apart.min() >= LEAST_CHANGED - 1 and apart[person] >= LEAST_CHANGED:
            found.append(_view(person, candidate).pixels)
        if len(found) == count:
            return np.concatenate(found)
    raise AssertionError("strangers are too few")
