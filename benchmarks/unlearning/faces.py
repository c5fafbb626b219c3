"""Few people, many views each: the pictures of the unlearning benchmark, where there is someone to forget.

48 people who differ from each other in three of six attributes or more, drawn by `benchmarks.pocket.people` (designs
CC0-1.0). A view is an expression, eyes, a shift by a pixel and a background. One more person, the outlier, is drawn in
a single view that a model may be trained with or without: the second is what unlearning should arrive at.
"""

import functools

import numpy as np

from benchmarks.pocket.people import Pictures, any_people, render

NUM_PEOPLE = 48
LEAST_APART = 3  # attributes
VIEWS = 240  # training pictures of each
HELD_OUT_VIEWS = 24
ANYONE = "a picture of a person"  # what a conditional model is told
OUTLIER_SEED = 2  # of the one view of the outlier


def people() -> np.ndarray:
    """(48, 6), and the outlier as a 49th row: attributes as `any_people` makes them."""
    return _distinct(NUM_PEOPLE + 1)


def strangers(count: int) -> np.ndarray:
    """(count, 6): the people whom the same choice gives next; no model was trained on them."""
    return _distinct(NUM_PEOPLE + 1 + count)[NUM_PEOPLE + 1 :]


@functools.cache
def _distinct(count: int) -> np.ndarray:
    """(count, 6), any two of whom are apart."""
    chosen: list[np.ndarray] = []
    for person in any_people(20_000, np.random.default_rng(2026)):
        if all((person != other).sum() >= LEAST_APART for other in chosen):
            chosen.append(person)
        if len(chosen) == count:
            return np.stack(chosen)
    raise AssertionError("people are too few")


def render_views(count: int, seed: int, who: np.ndarray | None = None) -> tuple[Pictures, np.ndarray]:
    """Pictures of everyone, or of some, and whose they are, (N * count,)."""
    chosen = np.arange(NUM_PEOPLE) if who is None else np.asarray(who)
    index = np.repeat(chosen, count)
    return render(people()[index], np.random.default_rng(seed)), index


def views(count: int, seed: int, who: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The same without what was drawn: (N * count, 3, 16, 16) float32 in [-1, 1]."""
    pictures, index = render_views(count, seed, who)
    return pictures.pixels, index


def training_views() -> tuple[np.ndarray, np.ndarray]:
    return views(VIEWS, 0)


def held_out_views() -> tuple[np.ndarray, np.ndarray]:
    """Pictures of the same people that no model was trained on, but for chance."""
    return views(HELD_OUT_VIEWS, 1)


def outlier() -> np.ndarray:
    """One picture (1, 3, 16, 16) of someone else."""
    return views(1, OUTLIER_SEED, np.array([NUM_PEOPLE]))[0]
