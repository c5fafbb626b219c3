"""Many runs of the product's own loop at once: each in its thread, their evaluations joined into one large batch.

A row of a batch does not depend on the others, so every run gets the numbers it would get alone (up to float
rounding); only the time is shared. Times in the results are therefore measured on runs of their own.
"""

import copy
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from edge_sdk.zo import Draw, Objective, near


class View:
    """Some images of a shared objective, as an objective of their own."""

    def __init__(self, shared: Objective, first: int, count: int, together: "Lockstep | None" = None) -> None:
        """``together``: joins the evaluations with those of other runs."""
        self.first, self.num_images = first, count
        self.num_prompts, self.num_train_timesteps = shared.num_prompts, shared.num_train_timesteps
        self.latents_shape, self.embedding_shape = shared.latents_shape, shared.embedding_shape
        self._evaluate = together or shared

    def near(self, embedding: np.ndarray) -> "View":
        """The same beside an embedding; not joined with other runs."""
        beside = copy.copy(self)
        beside._evaluate = near(self._evaluate, embedding)
        return beside

    def to_global(self, draw: Draw) -> Draw:
        return replace(draw, image=draw.image + self.first)

    def losses(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        return self._evaluate.losses(embeddings, self._all_global(draws))

    def residuals(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        return self._evaluate.residuals(embeddings, self._all_global(draws))

    def _all_global(self, draws: Sequence[Draw]) -> list[Draw]:
        """Rows that share a draw still do."""
        moved = {id(d): self.to_global(d) for d in draws}
        return [moved[id(d)] for d in draws]


class Lockstep:
    """Joins the requests of ``runs`` threads; the last one to ask evaluates for all."""

    def __init__(self, objective: Objective, runs: int, max_batch: int = 96) -> None:
        self.objective, self.alive, self.max_batch = objective, runs, max_batch
        self._changed = threading.Condition()
        self._waiting: dict[int, tuple[np.ndarray, Sequence[Draw]]] = {}
        self._answers: dict[int, np.ndarray] = {}
        self._failure: BaseException | None = None
        self._what = "losses"

    def near(self, embedding: np.ndarray) -> "Lockstep":
        """Itself: the rows of a call have many bases."""
        return self

    def losses(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        return self._ask("losses", embeddings, draws)

    def residuals(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        return self._ask("residuals", embeddings, draws)

    def _ask(self, what: str, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        """All runs ask for the same at a time: they are of one configuration."""
        me = threading.get_ident()
        with self._changed:
            self._what, self._waiting[me] = what, (embeddings, draws)
            self._evaluate_if_complete()
            while me not in self._answers and self._failure is None:
                self._changed.wait()
            if self._failure is not None:
                raise RuntimeError("another run failed") from self._failure
            return self._answers.pop(me)

    def _evaluate_if_complete(self) -> None:
        if not self._waiting or len(self._waiting) < self.alive:
            return
        asked, self._waiting = self._waiting, {}
        rows = np.concatenate([embeddings for embeddings, _ in asked.values()])
        draws = [d for _, ds in asked.values() for d in ds]
        try:
            chunks = range(0, len(draws), self.max_batch)
            out = np.concatenate(
                [
                    getattr(self.objective, self._what)(rows[i : i + self.max_batch], draws[i : i + self.max_batch])
                    for i in chunks
                ]
            )
        except BaseException as error:
            self._failure = error
            self._changed.notify_all()
            raise
        start = 0
        for thread, (embeddings, _) in asked.items():
            self._answers[thread] = out[start : start + len(embeddings)]
            start += len(embeddings)
        self._changed.notify_all()

    def run_all(self, jobs: Sequence[Callable[[], object]]) -> list:
        """Run every job in its thread and return what they return, in order."""
        results: list = [None] * len(jobs)

        def work(i: int) -> None:
            try:
                results[i] = jobs[i]()
            finally:
                with self._changed:
                    self.alive -= 1
                    self._evaluate_if_complete()

        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(jobs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failure is not None:
            raise self._failure
        return results
