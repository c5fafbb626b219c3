"""People on whom no setting of any method was chosen, in addition to the 24 of `benchmarks.pocket.people`."""

import functools

import numpy as np

from benchmarks.pocket.people import HELD_OUT_PAIRS, SIZES, canonical, held_out_people

TUNED_ON = 12  # of `held_out_people`, on whom settings are chosen
COUNT = 20


@functools.cache
def fresh_people() -> np.ndarray:
    """People to report on, (20, 6), with a hair pair that no training picture has.

    Any two differ in three attributes or more, and each differs so from the 24.
    """
    rng, people = np.random.default_rng(28), [*held_out_people()]
    first = len(people)
    while len(people) < first + COUNT:
        pair = HELD_OUT_PAIRS[len(people) % len(HELD_OUT_PAIRS)]
        person = canonical(np.array([[*pair, *(rng.integers(size) for size in SIZES[2:])]]))[0]
        if all((person != other).sum() >= 3 for other in people):
            people.append(person)
    return np.stack(people[first:])
