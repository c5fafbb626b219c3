"""Directions to search: those of a table against its eigenvectors, those of an encoder against a known Jacobian."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_sdk.runtime.pytorch.directions import (
    WIDE,
    jacobian_gram,
    principal_directions,
    readable_directions,
    search_directions,
    variance_share,
)
from edge_sdk.runtime.pytorch.model import open_model


def table_of(spikes: int, width: int = 40, words: int = 1500, seed: int = 0) -> np.ndarray:
    """Noise of standard deviation 0.02, and a few directions in which words differ more."""
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.standard_normal((width, spikes)))[0].T
    lengths = np.linspace(0.12, 0.05, spikes)
    signal = rng.standard_normal((words, spikes)) * lengths @ directions
    return 0.02 * rng.standard_normal((words, width)) + signal + 0.3


def units(directions: np.ndarray) -> np.ndarray:
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


@pytest.mark.parametrize("count", [3, 10])
def test_principal_directions_are_those_in_which_words_differ_most(count: int) -> None:
    table = table_of(3)
    found = principal_directions(np.array_split(table, 7), count)
    assert found.shape == (count, 40) and found.dtype == np.float32
    covariance = np.cov(table.T)
    for direction, one in zip(found, np.linalg.norm(found, axis=1), strict=True):
        unit = direction / one
        assert np.allclose(covariance @ unit, (unit @ covariance @ unit) * unit, atol=1e-6)
        assert one * np.sqrt(covariance.diagonal()).mean() == pytest.approx(np.sqrt(unit @ covariance @ unit), rel=1e-4)
        assert direction[np.abs(direction).argmax()] > 0
    assert (np.diff(np.linalg.norm(found, axis=1)) < 0).all()
    assert np.allclose(found @ found.T, np.diag(np.linalg.norm(found, axis=1) ** 2), atol=1e-4)


@pytest.mark.parametrize("count", [1, 3, 40])
def test_the_variance_share_is_that_of_the_leading_eigenvalues(count: int) -> None:
    table = table_of(3)
    share = variance_share(np.array_split(table, 7), principal_directions([table], count))
    eigenvalues = np.linalg.eigvalsh(np.cov(table.T))[::-1]
    assert share == pytest.approx(eigenvalues[:count].sum() / eigenvalues.sum(), rel=1e-6)


def test_there_are_no_more_principal_directions_than_dimensions() -> None:
    table = table_of(3)
    assert len(principal_directions([table], 8)) == 8 and len(principal_directions([table], 99)) == 40
    assert np.array_equal(principal_directions([table], 8)[:3], principal_directions([table], 3))


def test_readable_directions_are_the_right_singular_vectors_of_what_reads_the_words() -> None:
    table, rng = table_of(3), np.random.default_rng(1)
    reading = rng.standard_normal((60, 40)) * np.geomspace(5, 0.5, 40)
    states = lambda vectors: torch.tanh(1e-3 * vectors @ torch.from_numpy(reading).float().T)  # noqa: E731
    gram = jacobian_gram(states, table[:3], 0.02)
    assert gram.shape == (40, 40) and np.trace(gram) == pytest.approx(3, rel=1e-6)
    found = readable_directions(np.array_split(table, 7), gram, 6)
    wanted = np.linalg.svd(reading)[2][:6]
    assert found.dtype == np.float32 and (np.abs((units(found) * wanted).sum(axis=1)) > 0.99).all()
    assert np.allclose(units(found) @ units(found).T, np.eye(6), atol=1e-4)
    covariance = np.cov(table.T)
    lengths = np.sqrt(np.einsum("nd,de,ne->n", units(found), covariance, units(found)))
    np.testing.assert_allclose(
        np.linalg.norm(found, axis=1) * np.sqrt(covariance.diagonal()).mean(), lengths, rtol=1e-4
    )


class Wide:
    """A text side whose encoder reads the last coordinates of a token, where words hardly differ."""

    def __init__(self, width: int) -> None:
        self.width, self.table = width, table_of(3, width, 1500) * np.linspace(2, 0.1, width)

    def rows_of_table(self) -> Iterator[np.ndarray]:
        yield from np.array_split(self.table, 3)

    def jacobian_gram(self) -> np.ndarray:
        return np.diag(np.arange(self.width, dtype=float))


@pytest.mark.parametrize(
    ("width", "basis", "kind"),
    [
        (WIDE - 1, None, "principal"),
        (WIDE, None, "readable"),
        (WIDE, "principal", "principal"),
        (40, "readable", "readable"),
    ],
)
def test_wide_tokens_are_searched_where_the_encoder_reads(width: int, basis: str | None, kind: str) -> None:
    text = Wide(width)
    found = search_directions(text, 4, basis)
    readable = np.eye(width)[::-1][:4]
    assert (np.abs(units(found) @ readable.T).max(axis=1) > 0.999).all() == (kind == "readable")
    if kind == "principal":
        assert np.array_equal(found, principal_directions(text.rows_of_table(), 4))


@pytest.mark.parametrize("family", ["pocket", "sdxl"])
def test_readable_directions_change_the_states_more_than_others(family: str, request: pytest.FixtureRequest) -> None:
    folder: Path | str = "pocket" if family == "pocket" else request.getfixturevalue("sdxl_folder")
    text = open_model(str(folder), "none").load_text()
    assert np.array_equal(text.search_directions(8), text.search_directions(8, "principal"))  # its tokens are narrow
    readable, gram = text.search_directions(8, "readable"), text.jacobian_gram()
    assert np.array_equal(readable, text.search_directions(8, "readable"))  # to the bit
    moved = {
        name: np.einsum("nd,de,ne->", units(basis), gram, units(basis))
        for name, basis in {"readable": readable, "principal": text.search_directions(8)}.items()
    }
    assert moved["readable"] > 1.2 * moved["principal"] and text.variance_share(readable) < 1
    if family == "sdxl":  # neither encoder reads the other's part
        first = text.widths[0]
        assert np.abs(gram[:first, first:]).max() < 1e-12 < np.trace(gram[first:, first:])


def test_integer_weights_have_nearly_the_readable_directions_of_floats() -> None:
    integer, floats = (open_model("pocket", weights).load_text() for weights in ("int8", "none"))
    both = [units(text.search_directions(32, "readable")) for text in (integer, floats)]
    assert np.square(both[0] @ both[1].T).sum() > 0.98 * 32
