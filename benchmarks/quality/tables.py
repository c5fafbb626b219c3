"""The embedded model with tokens of 768 numbers: its words rotated beside numbers that the first layer ignores.

The model computes what it computed before. Only what its table of words shows of that differs.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edge_sdk.runtime.pytorch.directions import WORDS, jacobian_gram, principal_directions
from edge_sdk.runtime.pytorch.objective import StableDiffusionObjective
from edge_sdk.runtime.pytorch.text import Condition

if TYPE_CHECKING:
    from benchmarks.quality.learn import Bench

WIDTH = 768
Filling = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]  # table (V, D), width -> numbers (V, width)


def white(table: np.ndarray, width: int, rng: np.random.Generator) -> np.ndarray:
    """Normal numbers of the words' mean variance."""
    return rng.standard_normal((len(table), width)) * np.sqrt(table.var(axis=0).mean())


def shuffled(table: np.ndarray, width: int, rng: np.random.Generator) -> np.ndarray:
    """Other words' numbers: the same spectrum, so that the table does not show which numbers are read."""
    return np.concatenate([rng.permutation(table) for _ in range(width // table.shape[1])], axis=1)


class WideText:
    """A text encoder behind a fixed linear layer that reads D of 768 rotated numbers.

    Attributes:
        table: (V, 768) float64.
        reading: (768, D) float32, orthonormal columns.
    """

    width, scale = WIDTH, 1.0

    def __init__(self, inner: Any, filling: Filling, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        words = np.concatenate(list(inner.rows_of_table()))
        rotation = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0]
        self.inner = inner
        self.table = np.hstack([words, filling(words, WIDTH - inner.width, rng)]) @ rotation.T
        self.reading = torch.from_numpy(rotation[:, : inner.width]).float()

    def rows_of_table(self) -> Iterator[np.ndarray]:
        yield self.table

    def jacobian_gram(self) -> np.ndarray:
        """Of the states, see `edge_sdk.runtime.pytorch.text.TextEncoder.jacobian_gram`."""
        words = self.table[np.linspace(0, len(self.table) - 1, WORDS + 2)[1:-1].astype(int)]
        std = float(self.table.std(axis=0, ddof=1).mean())
        return jacobian_gram(lambda vectors: self.inner.states(vectors @ self.reading), words, std)

    def condition(self, ids: Any, learned: torch.Tensor, time_ids: torch.Tensor | None = None) -> Condition:
        """learned (B, K, 768) float32, see `edge_sdk.runtime.pytorch.text.TextEncoder.condition`."""
        return self.inner.condition(ids, learned @ self.reading, time_ids)


def widened(bench: "Bench", filling: Filling) -> "Bench":
    """The same model and pictures with a wide table."""
    inner, objective = bench.objective.text, bench.objective
    text = WideText(inner, filling)
    word = int(np.argmin(((np.concatenate(list(inner.rows_of_table())) - bench.initial) ** 2).sum(axis=1)))
    norms = np.quantile(np.linalg.norm(text.table, axis=1), [0.001, 0.999])
    wide = StableDiffusionObjective.__new__(StableDiffusionObjective)
    wide.__dict__ |= objective.__dict__ | {"text": text, "embedding_shape": (1, WIDTH)}
    return replace(
        bench,
        objective=wide,
        initial=text.table[word][None].astype(np.float32),
        norms=(float(norms[0] / 2), float(norms[1] * 2)),
        std=float(text.table.std(axis=0, ddof=1).mean()),
        principal=principal_directions([text.table], 128),
    )
