"""Stops a run that has nothing more to gain: when the loss on draws that training never uses is flat."""

from collections.abc import Callable

from edge_sdk.zo.config import ZoConfig

FLAT = 0.01  # share of the loss decrease so far; a smaller decrease since the last measurement ends the run
LOOK, SAVE = 330, 150  # forward passes between two measurements, and between two checkpoints
LONGEST = 3  # the most steps of a run, as a multiple of the preset's


class Flat:
    """Measures every few steps; true once the decrease since the last measurement is below `FLAT` of the whole.

    Args:
        measure: gives the held-out loss now, on fixed draws, so that two measurements differ by the token alone.
        initial: the held-out loss of the initializer.
        before: the held-out loss of the token from which the run continues.
    """

    def __init__(self, measure: Callable[[], float], initial: float, before: float, zo: ZoConfig) -> None:
        self._measure, self._initial, self._before = measure, initial, before
        self._every = steps_of(LOOK, zo)

    def __call__(self, step: int) -> bool:
        if step % self._every:
            return False
        now = self._measure()
        gained, self._before = self._before - now, now
        return gained < FLAT * (self._initial - now)


def steps_of(forwards: int, zo: ZoConfig) -> int:
    """About how many steps take this many forward passes, at least one."""
    return max(1, forwards // zo.forwards_per_step)
