"""What the quality benchmark tries in place of the vocabulary's principal directions."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.pocket.people import names
from edge_sdk.runtime.pytorch.directions import WIDE, covariance_of, principal_directions, readable_directions
from edge_sdk.runtime.pytorch.directions import variance_share as share_of

if TYPE_CHECKING:
    from benchmarks.quality.learn import Bench

# A model, how many are wanted, the run's seed -> directions (R, D) float32, orthogonal.
Basis = Callable[["Bench", int, int], np.ndarray]


def default(bench: "Bench", count: int, seed: int = 0) -> np.ndarray:
    """Those of `fast`: readable ones for wide tokens, else principal ones."""
    return (readable if bench.width >= WIDE else principal)(bench, count, seed)


def principal(bench: "Bench", count: int, seed: int = 0) -> np.ndarray:
    """Along which the vocabulary's words differ most."""
    return bench.principal[:count]


def nearest(words: int) -> Basis:
    """Along which so many words differ most, those nearest the initializer; lengths are their deviations."""

    def basis(bench: "Bench", count: int, seed: int = 0) -> np.ndarray:
        table = np.concatenate(list(bench.objective.text.rows_of_table()))
        chosen = table[np.argsort(np.linalg.norm(table - bench.initial, axis=1))[:words]]
        return principal_directions([chosen], count) * (chosen.std(axis=0).mean() / bench.std)

    return basis


def other_words(bench: "Bench", count: int, seed: int = 0) -> np.ndarray:
    """Along which the words that are no person's name differ most; lengths are their deviations."""
    table = np.concatenate(list(bench.objective.text.rows_of_table()))
    named = [bench.objective.text.word(name) for name in names()]
    chosen = np.delete(table, named, axis=0)
    return principal_directions([chosen], count) * (chosen.std(axis=0).mean() / bench.std)


def readable(bench: "Bench", count: int, seed: int = 0) -> np.ndarray:
    """Along which the text encoder's states change most."""
    return readable_directions(bench.objective.text.rows_of_table(), bench.jacobian_gram, count)


def expressive(bench: "Bench", count: int, seed: int = 0) -> np.ndarray:
    """Along which words, as they differ, change the text encoder's states most.

    With C the words' covariance and G the Gram matrix of the states' Jacobian: C^1/2 times the leading eigenvectors of
    C^1/2 G C^1/2, which keep most of the states' variance if tokens are spread as words are. Their span is given by its
    own principal directions.
    """
    covariance = _covariance(bench)
    variance, axes = np.linalg.eigh(covariance)
    root = axes * np.sqrt(np.maximum(variance, 0)) @ axes.T
    span = np.linalg.qr(root @ np.linalg.eigh(root @ bench.jacobian_gram @ root)[1][:, ::-1][:, :count])[0]
    inside = np.linalg.eigh(span.T @ covariance @ span)[1][:, ::-1]
    return _with_deviations(bench, (span @ inside).T)


def variance_share(bench: "Bench", basis: np.ndarray) -> float:
    """Of the words' variance, in the span of some orthogonal directions (R, D)."""
    return share_of(bench.objective.text.rows_of_table(), basis)


def _covariance(bench: "Bench") -> np.ndarray:
    return covariance_of(bench.objective.text.rows_of_table())


def _with_deviations(bench: "Bench", directions: np.ndarray) -> np.ndarray:
    """Unit directions with the words' standard deviation along each as their length, in units of the table's own."""
    deviation = np.sqrt(np.einsum("nd,de,ne->n", directions, _covariance(bench), directions))
    return (directions * deviation[:, None] / bench.std).astype(np.float32)


def random(bench: "Bench", count: int, seed: int = 0) -> np.ndarray:
    """Drawn at random, others in each seed, all of the principal ones' mean length."""
    drawn = np.random.default_rng(seed).standard_normal((bench.principal.shape[1], count))
    length = np.sqrt((bench.principal[:count] ** 2).sum(axis=1).mean())
    return (np.linalg.qr(drawn)[0].T * length).astype(np.float32)


def one_length(bench: "Bench", count: int, seed: int = 0) -> np.ndarray:
    """The principal ones, all of their mean length."""
    lengths = np.linalg.norm(bench.principal[:count], axis=1, keepdims=True)
    return (bench.principal[:count] / lengths * np.sqrt((lengths**2).mean())).astype(np.float32)
