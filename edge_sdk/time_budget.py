"""``time_budget_s``: what a run can still do before its time is up."""

import math
import time
from dataclasses import dataclass

from edge_sdk.errors import EdgeSdkError


class TimeUpError(Exception):
    """The time budget is spent in the middle of something that can be left out."""


@dataclass(frozen=True)
class TimeBudget:
    """Seconds of wall-clock time since a moment.

    Attributes:
        seconds: None for no limit.
        started: the moment, on the clock of `time.monotonic`.

    Raises:
        EdgeSdkError: the number is not above 0.
    """

    seconds: float | None
    started: float

    def __post_init__(self) -> None:
        if self.seconds is not None and not self.seconds > 0:
            raise EdgeSdkError(f"time_budget_s is {self.seconds}; it must be above 0")

    @property
    def left(self) -> float:
        """Seconds that are left; infinite without a limit."""
        return math.inf if self.seconds is None else self.started + self.seconds - time.monotonic()

    def check(self, reserve: float = 0.0) -> None:
        """Raises TimeUpError if no more than a reserve is left, in seconds."""
        if self.left <= reserve:
            raise TimeUpError
