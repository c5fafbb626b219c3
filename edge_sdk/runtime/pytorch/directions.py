"""Directions that Gauss-Newton may search, of a vocabulary's table and of the text encoder behind it.

Functions take the table in pieces (n, D) float64, as the optimizer's variable. They give (R, D) float32, orthogonal, R
the least of ``count`` and D. A direction's length is the words' standard deviation along it, in units of the table's
own (per dimension, mean over dimensions); its largest coordinate is positive.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np
import torch

WIDE = 512  # numbers of a token, from which on `fast` searches a small part of the space
PROMPT, AFTER = "a picture of", 5  # what stands before the word; tokens after it whose states count
WORDS = 4  # around which the text encoder is looked at
MOVE = 0.4  # of one coordinate, in standard deviations of the table: as far as the preset `fast` looks
ROWS = 32  # of a call of the text encoder

States = Callable[[torch.Tensor], torch.Tensor]  # vectors (B, D) float32 -> the states of a short prompt (B, M) float32


class Table(Protocol):
    """A text side as this module sees it."""

    width: int

    def rows_of_table(self) -> Iterator[np.ndarray]: ...
    def jacobian_gram(self) -> np.ndarray: ...


def search_directions(text: Table, count: int, basis: str | None = None) -> np.ndarray:
    """The directions to search; by default wide tokens have readable ones, others principal ones.

    Args:
        basis: one of `edge_sdk.config.SEARCH_BASES`.
    """
    if (basis or ("readable" if text.width >= WIDE else "principal")) == "principal":
        return principal_directions(text.rows_of_table(), count)
    return readable_directions(text.rows_of_table(), text.jacobian_gram(), count)


def principal_directions(rows: Iterable[np.ndarray], count: int) -> np.ndarray:
    """Directions in which a vocabulary's words differ, the most first."""
    covariance = covariance_of(rows)
    variance, columns = np.linalg.eigh(covariance)  # the smallest first
    return _directions(columns, variance, covariance, count)


def readable_directions(rows: Iterable[np.ndarray], gram: np.ndarray, count: int) -> np.ndarray:
    """Directions along which the text encoder's states change, the most first.

    Args:
        gram: see `jacobian_gram`.
    """
    covariance, columns = covariance_of(rows), np.linalg.eigh(gram)[1]
    return _directions(columns, ((covariance @ columns) * columns).sum(axis=0), covariance, count)


def jacobian_gram(states: States, words: np.ndarray, std: float) -> np.ndarray:
    """Of the states' Jacobian J at some words, J^T J scaled to a trace of one, summed: (D, D) float64.

    It takes D + 1 rows of the text encoder for each word, and no backward pass.

    Args:
        words: (W, D).
        std: of the table.
    """
    width = words.shape[1]
    gram, moves = np.zeros((width, width)), MOVE * std * np.eye(width)
    with torch.inference_mode():
        for word in words:
            here = states(torch.from_numpy(word[None]).float())
            changes = here.new_empty(width, here.shape[1])  # 24 MB for Stable Diffusion 1.5
            for first in range(0, width, ROWS):
                around = torch.from_numpy(word + moves[first : first + ROWS]).float()
                changes[first : first + ROWS] = states(around) - here
            products = (changes @ changes.t()).double().cpu().numpy()
            gram += products / max(float(np.trace(products)), 1e-300)
    return gram


def variance_share(rows: Iterable[np.ndarray], directions: np.ndarray) -> float:
    """Of a vocabulary's variance, the share in the span of some directions.

    Args:
        directions: (R, D), orthogonal.
    """
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    n, total, squares, inside = 0, np.zeros(()), 0.0, 0.0
    for piece in rows:
        n, total, squares = n + len(piece), total + piece.sum(axis=0), squares + float((piece**2).sum())
        inside += float(((piece @ unit.T) ** 2).sum())
    return (inside - float(((unit @ total) ** 2).sum()) / n) / (squares - float(total @ total) / n)


def covariance_of(rows: Iterable[np.ndarray]) -> np.ndarray:
    """Of a table's rows, (D, D) float64."""
    n, total, products = 0, np.zeros(()), np.zeros(())
    for piece in rows:
        n, total, products = n + len(piece), total + piece.sum(axis=0), products + piece.T @ piece
    return (products - np.outer(total, total) / n) / (n - 1)


def _directions(columns: np.ndarray, variance: np.ndarray, covariance: np.ndarray, count: int) -> np.ndarray:
    """The last ``count`` of some orthonormal columns (D, D), the last first, given the words' variance along each."""
    largest = np.abs(columns).argmax(axis=0)
    columns = columns * np.sign(columns[largest, np.arange(len(columns))])
    lengths = np.sqrt(np.maximum(variance, 0)) / np.sqrt(covariance.diagonal()).mean()
    return (columns * lengths).T[::-1][:count].astype(np.float32)
