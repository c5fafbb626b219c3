"""What the quality benchmark tries in place of the vocabulary's principal directions."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.pocket.people import names
from edge_sdk.runtime.pytorch.text import principal_directions

if TYPE_CHECKING:
    from benchmarks.quality.learn import Bench

Basis = Callable[["Bench", int], np.ndarray]  # a model, how many are wanted -> directions (R, D) float32, orthogonal
WORDS = 4  # whose surroundings `readable` looks at
PADDING = 5  # tokens after the prompt whose states it counts; the rest change alike


def principal(bench: "Bench", count: int) -> np.ndarray:
    """Along which the vocabulary's words differ most: those of `fast`."""
    return bench.principal[:count]


def nearest(words: int) -> Basis:
    """Along which so many words differ most, those nearest the initializer; lengths are their deviations."""

    def basis(bench: "Bench", count: int) -> np.ndarray:
        table = np.concatenate(list(bench.objective.text.rows_of_table()))
        chosen = table[np.argsort(np.linalg.norm(table - bench.initial, axis=1))[:words]]
        return principal_directions([chosen], count) * (chosen.std(axis=0).mean() / bench.std)

    return basis


def other_words(bench: "Bench", count: int) -> np.ndarray:
    """Along which the words that are no person's name differ most; lengths are their deviations."""
    table = np.concatenate(list(bench.objective.text.rows_of_table()))
    named = [bench.objective.text.word(name) for name in names()]
    chosen = np.delete(table, named, axis=0)
    return principal_directions([chosen], count) * (chosen.std(axis=0).mean() / bench.std)


def readable(bench: "Bench", count: int) -> np.ndarray:
    """Along which the text encoder's states change most: right singular vectors of its Jacobian at a few words.

    Lengths are the words' deviations. What finding them takes is not counted as forward passes.
    """
    directions = np.linalg.eigh(jacobian_gram(bench))[1].T[::-1][:count]
    return _with_deviations(bench, directions)


def expressive(bench: "Bench", count: int) -> np.ndarray:
    """Along which words, as they differ, change the text encoder's states most.

    With C the words' covariance and G the Gram matrix of `readable`: C^1/2 times the leading eigenvectors of
    C^1/2 G C^1/2, which keep most of the states' variance if tokens are spread as words are. Their span is given by its
    own principal directions.
    """
    covariance = _covariance(bench)
    variance, axes = np.linalg.eigh(covariance)
    root = axes * np.sqrt(np.maximum(variance, 0)) @ axes.T
    span = np.linalg.qr(root @ np.linalg.eigh(root @ jacobian_gram(bench) @ root)[1][:, ::-1][:, :count])[0]
    inside = np.linalg.eigh(span.T @ covariance @ span)[1][:, ::-1]
    return _with_deviations(bench, (span @ inside).T)


def jacobian_gram(bench: "Bench") -> np.ndarray:
    """J^T J of the text encoder's states, (D, D) float64, each of a few words' with a trace of one, summed."""
    text = bench.objective.text
    row, table = bench.objective.ids[0], np.concatenate(list(text.rows_of_table()))
    row = row[: int((row != row[-1]).nonzero().max()) + 1 + PADDING]
    gram, width = np.zeros((text.width, text.width)), text.width
    moves = 0.4 * bench.std * np.eye(width)
    with torch.inference_mode():
        for word in table[np.linspace(0, len(table) - 1, WORDS + 2)[1:-1].astype(int)]:
            tokens = torch.from_numpy(np.concatenate([word[None], word + moves])).float()[:, None]
            states = [text.condition(row.expand(len(t), -1), t).hidden.flatten(1) for t in tokens.split(32)]
            changes = torch.cat(states)[1:] - states[0][0]
            products = (changes @ changes.t()).double().numpy()
            gram += products / np.trace(products)
    return gram


def variance_share(bench: "Bench", basis: np.ndarray) -> float:
    """Of the words' variance, in the span of some orthogonal directions (R, D)."""
    unit = basis / np.linalg.norm(basis, axis=1, keepdims=True)
    covariance = _covariance(bench)
    return float(np.einsum("nd,de,ne->", unit, covariance, unit) / np.trace(covariance))


def _covariance(bench: "Bench") -> np.ndarray:
    return np.cov(np.concatenate(list(bench.objective.text.rows_of_table())).T)


def _with_deviations(bench: "Bench", directions: np.ndarray) -> np.ndarray:
    """Unit directions with the words' standard deviation along each as their length, in units of the table's own."""
    deviation = np.sqrt(np.einsum("nd,de,ne->n", directions, _covariance(bench), directions))
    return (directions * deviation[:, None] / bench.std).astype(np.float32)


def random(bench: "Bench", count: int) -> np.ndarray:
    """Drawn at random, all of the principal ones' mean length."""
    drawn = np.random.default_rng(0).standard_normal((bench.principal.shape[1], count))
    length = np.sqrt((bench.principal[:count] ** 2).sum(axis=1).mean())
    return (np.linalg.qr(drawn)[0].T * length).astype(np.float32)


def one_length(bench: "Bench", count: int) -> np.ndarray:
    """The principal ones, all of their mean length."""
    lengths = np.linalg.norm(bench.principal[:count], axis=1, keepdims=True)
    return (bench.principal[:count] / lengths * np.sqrt((lengths**2).mean())).astype(np.float32)
