"""What the quality benchmark tries in place of a token's principal directions."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from edge_sdk.diffusion.text import covariance_of

if TYPE_CHECKING:
    from benchmarks.quality.learn import Bench

Basis = Callable[["Bench", int], np.ndarray]  # a model, how many are wanted -> directions (R, D) float32, orthogonal


def principal(bench: "Bench", count: int) -> np.ndarray:
    """Along which the text encoder's states change most: those of `fast`."""
    return bench.principal[:count]


def vocabulary(bench: "Bench", count: int) -> np.ndarray:
    """Along which the vocabulary's words differ most."""
    return of_words(bench.objective.text.rows_of_table(), count, bench.std)


def nearest(words: int) -> Basis:
    """Along which so many words differ most, those nearest the initializer."""

    def basis(bench: "Bench", count: int) -> np.ndarray:
        table = np.concatenate(list(bench.objective.text.rows_of_table()))
        chosen = np.argsort(np.linalg.norm(table - bench.initial, axis=1))[:words]
        return of_words([table[chosen]], count, bench.std)

    return basis


def random(bench: "Bench", count: int) -> np.ndarray:
    """Drawn at random, all of the principal ones' mean length."""
    drawn = np.random.default_rng(0).standard_normal((bench.principal.shape[1], count))
    length = np.sqrt((bench.principal[:count] ** 2).sum(axis=1).mean())
    return (np.linalg.qr(drawn)[0].T * length).astype(np.float32)


def one_length(bench: "Bench", count: int) -> np.ndarray:
    """The principal ones, all of their mean length."""
    lengths = np.linalg.norm(bench.principal[:count], axis=1, keepdims=True)
    return (bench.principal[:count] / lengths * np.sqrt((lengths**2).mean())).astype(np.float32)


def of_words(rows: Iterable[np.ndarray], count: int, std: float) -> np.ndarray:
    """Principal directions of a table in pieces; their lengths are its words' deviations, in units of ``std``."""
    variance, directions = np.linalg.eigh(covariance_of(rows))  # of columns, the shortest first
    return (directions * np.sqrt(np.maximum(variance, 0)) / std).T[::-1][:count].astype(np.float32)
