"""How the library says what it is doing: one callback, silent by default, and counters that call it."""

import copy
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from edge_sdk.zo import Draw, Objective, near

OnProgress = Callable[[str, int, int], None]  # a stage's name, parts that are done, all parts (0: not counted)
LOGGER = logging.getLogger("edge_sdk")


def silent(stage: str, done: int, total: int) -> None:
    """The progress of which nobody wants to know."""


def counted(parts: Iterable[Any], total: int, stage: str, on_progress: OnProgress) -> Iterator[Any]:
    """Parts of a stage, of which each counts as done when the next one is taken."""
    count = Counter(total, stage, on_progress)
    for part in parts:
        yield part
        count.add()


class Counter:
    """Parts of a stage, counted as they are done."""

    def __init__(self, total: int, stage: str, on_progress: OnProgress) -> None:
        self.total, self.stage, self.on_progress, self.done = total, stage, on_progress, 0
        on_progress(stage, 0, total)

    def add(self, parts: int = 1) -> None:
        self.done += parts
        self.on_progress(self.stage, self.done, self.total)

    def calls(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, of which every call counts as a part."""

        def call(*arguments: Any) -> Any:
            value = function(*arguments)
            self.add()
            return value

        return call


class Pace:
    """Seconds that a forward pass takes: the mean over all calls of a denoiser after the first, which warms up."""

    def __init__(self) -> None:
        self.calls, self.rows, self.seconds = 0, 0, 0.0

    def add(self, rows: int, seconds: float) -> None:
        """Count a call of so many rows."""
        if self.calls == 1:
            self.rows, self.seconds = 0, 0.0
        self.calls, self.rows, self.seconds = self.calls + 1, self.rows + rows, self.seconds + seconds

    @property
    def seconds_per_row(self) -> float:
        """NaN before the first call."""
        return self.seconds / self.rows if self.rows else float("nan")


class CountingObjective:
    """An objective that says how many rows it has evaluated.

    Args:
        on_rows: is called with that number after every call.
    """

    def __init__(self, objective: Objective, pace: Pace, on_rows: Callable[[int], None]) -> None:
        self._objective, self._pace, self._on_rows = objective, pace, on_rows
        self._rows = [0]  # one count for all that `near` gives
        self.num_images, self.num_prompts = objective.num_images, objective.num_prompts
        self.num_train_timesteps = objective.num_train_timesteps
        self.latents_shape, self.embedding_shape = objective.latents_shape, objective.embedding_shape

    def near(self, embedding: np.ndarray) -> "CountingObjective":
        """The same beside an embedding; rows are counted together."""
        beside = copy.copy(self)
        beside._objective = near(self._objective, embedding)
        return beside

    def losses(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        return self._count(self._objective.losses, embeddings, draws)

    def residuals(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        return self._count(self._objective.residuals, embeddings, draws)

    def _count(self, call: Callable[..., np.ndarray], embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        began = time.monotonic()
        values = call(embeddings, draws)
        self._pace.add(len(draws), time.monotonic() - began)
        self._rows[0] += len(draws)
        self._on_rows(self._rows[0])
        return values
