"""When a run has nothing more to gain: the loss on draws that training never uses is flat."""

from collections.abc import Callable

from edge_sdk.zo.config import ZoConfig

FLAT = 0.01  # of the loss decrease so far: a smaller one since the last look ends the run
LOOK, SAVE = 330, 150  # forward passes between two looks, and between two checkpoints
LONGEST = 3  # times a preset's own number of steps


class Flat:
    """Looks every few steps; true once the decrease since the look before is below `FLAT` of the whole.

    Args:
        measure: the held-out loss now; fixed draws, so that two looks differ by the token alone.
        initial: the held-out loss of the initializer.
        before: that of the token the run goes on from.
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
    """About how many steps take so many forward passes, at least one."""
    return max(1, forwards // zo.forwards_per_step)
