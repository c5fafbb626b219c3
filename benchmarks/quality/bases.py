"""What the quality benchmark tries in place of the vocabulary's principal directions."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

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


def readable(bench: "Bench", count: int) -> np.ndarray:
    """Along which the text encoder's states change most: right singular vectors of its Jacobian at a few words.

    Lengths are the words' deviations. What finding them takes is not counted as forward passes.
    """
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
    directions = np.linalg.eigh(gram)[1].T[::-1][:count]
    deviation = np.sqrt(np.einsum("nd,de,ne->n", directions, np.cov(table.T), directions))
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
