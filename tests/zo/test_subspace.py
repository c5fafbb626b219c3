"""The subspace gradient against an independent principal component analysis."""

import numpy as np
import pytest

from edge_sdk.zo import Subspace, low_variance_directions

RNG = np.random.default_rng(3)
HISTORY = (RNG.standard_normal((16, 40)) @ np.diag(np.geomspace(1, 0.01, 40)) @ RNG.standard_normal((40, 40))).astype(
    np.float32
)


def test_directions_are_orthonormal() -> None:
    p = low_variance_directions(HISTORY, 0.05).astype(np.float64)
    assert len(p) > 2
    np.testing.assert_allclose(p @ p.T, np.eye(len(p)), atol=1e-5)


@pytest.mark.parametrize("threshold", [1e-3, 0.05, 0.5], ids=str)
def test_directions_are_those_of_an_independent_pca(threshold: float) -> None:
    z = HISTORY.astype(np.float64)
    z = (z - z.mean(0)) / z.std(0)
    values, vectors = np.linalg.eigh(z.T @ z)
    values, vectors = values[::-1], vectors[:, ::-1]
    share = np.cumsum(values) / values.sum()
    kept = int(np.argmax(share > 1 - threshold)) + 1
    rank = int((values > values[0] * 1e-12).sum())
    expected = vectors[:, kept:rank].T
    ours = low_variance_directions(HISTORY, threshold).astype(np.float64)
    assert len(ours) == len(expected) > 0
    np.testing.assert_allclose(ours.T @ ours, expected.T @ expected, atol=1e-4)


def test_a_threshold_of_zero_removes_nothing() -> None:
    assert low_variance_directions(HISTORY, 0.0).shape == (0, 40)


def test_at_most_tau_minus_two_directions_are_removed() -> None:
    assert len(low_variance_directions(HISTORY, 0.99)) <= len(HISTORY) - 2


@pytest.mark.parametrize("constant", ["one feature", "everything"])
def test_features_that_never_moved_do_no_harm(constant: str) -> None:
    history = HISTORY.copy()
    if constant == "everything":
        history[:] = 1.0
        assert low_variance_directions(history, 0.1).shape == (0, 40)
    else:
        history[:, 7] = 2.0
        p = low_variance_directions(history, 0.1)
        assert np.isfinite(p).all() and np.abs(p[:, 7]).max() < 1e-6


def test_projection_removes_exactly_the_directions() -> None:
    subspace = Subspace(40, 16, 0.05)
    gradient = RNG.standard_normal((2, 20))
    for row in HISTORY:
        assert (subspace.project(gradient) == gradient).all()  # P is empty for the first tau steps
        subspace.push(row.reshape(2, 20))
    projected = subspace.project(gradient)
    assert projected.shape == (2, 20) and len(subspace.removed) > 2 and not len(subspace.history)
    np.testing.assert_allclose(subspace.removed @ projected.reshape(-1), 0, atol=1e-6)
    np.testing.assert_allclose(subspace.project(projected), projected, atol=1e-6)
    kept = gradient.reshape(-1) - subspace.removed.T @ (subspace.removed @ gradient.reshape(-1))
    np.testing.assert_allclose(projected.reshape(-1), kept, atol=1e-6)


def test_directions_are_renewed_every_tau_pushes() -> None:
    subspace = Subspace(40, 4, 0.2)
    renewed = []
    before = subspace.removed
    for i, row in enumerate(HISTORY):
        subspace.push(row)
        if subspace.removed is not before:
            renewed.append(i + 1)
            before = subspace.removed
    assert renewed == [4, 8, 12, 16]


def test_a_buffer_of_zero_switches_the_projection_off() -> None:
    subspace = Subspace(40, 0, 0.1)
    for row in HISTORY:
        subspace.push(row)
    assert not len(subspace.history) and not len(subspace.removed)
