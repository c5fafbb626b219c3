"""A token's principal directions against Jacobians that are known or differentiated."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from edge_sdk.models import open_model
from edge_sdk.principal import principal_directions

WIDTH, STATES = 24, 5_000


class Linear:
    """A text side whose states are a linear function of the token, with singular values 1, 1/2, 1/4, ..."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(1)
        self.axes = np.linalg.qr(self.rng.standard_normal((WIDTH, WIDTH)))[0].T
        others = np.linalg.qr(self.rng.standard_normal((STATES, WIDTH)))[0].T
        self.matrix = torch.from_numpy(self.axes.T * 2.0 ** -np.arange(WIDTH) @ others).float()

    def covariance(self) -> np.ndarray:
        rows = np.random.default_rng(2).standard_normal((500, WIDTH)) * np.linspace(0.01, 0.03, WIDTH)
        return np.cov(rows.T)

    def some_words(self, count: int) -> np.ndarray:
        return self.rng.standard_normal((count, WIDTH))

    def states_of(self, template: str) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda vectors: vectors @ self.matrix + 1


def test_they_are_the_jacobians_right_singular_vectors() -> None:
    text = Linear()
    found = principal_directions(text, "{}", 6)  # type: ignore[arg-type]
    assert found.shape == (6, WIDTH) and found.dtype == np.float32
    lengths = np.linalg.norm(found, axis=1)
    units = found / lengths[:, None]
    assert (np.abs((units * text.axes[:6]).sum(axis=1)) > 0.98).all()  # sums with random signs are near, not exact
    np.testing.assert_allclose(units @ units.T, np.eye(6), atol=1e-5)
    covariance = text.covariance()
    std = np.sqrt(covariance.diagonal()).mean()
    np.testing.assert_allclose(lengths, np.sqrt(np.einsum("nd,de,ne->n", units, covariance, units)) / std, rtol=1e-5)
    assert all(one[np.abs(one).argmax()] > 0 for one in found)
    assert len(principal_directions(text, "{}", 99)) == WIDTH  # type: ignore[arg-type]


@pytest.mark.parametrize("template", ["a picture of {}", "{}"])
def test_along_them_the_embedded_models_states_change_most(template: str) -> None:
    text = open_model("pocket", "none").load_text()
    found = principal_directions(text, template, 32)
    word = torch.from_numpy(text.initial_embedding("person", 1)[None])
    ids = text.tokenize([template.format("<x>")], {"<x>": 1})
    jacobian = torch.autograd.functional.jacobian(lambda w: text.condition(ids, w).hidden, word)
    rows = jacobian.reshape(-1, text.width).double().numpy()
    units = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float64)
    reached, best = np.square(rows @ units.T).sum(), np.square(np.linalg.svd(rows)[1][:32]).sum()
    assert 0.9 * best < reached < best * (1 + 1e-6)
    others = np.linalg.qr(np.random.default_rng(0).standard_normal((text.width, 32)))[0]
    assert np.square(rows @ others).sum() < 0.5 * best
