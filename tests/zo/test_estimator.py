"""The gradient estimate on quadratics, where the truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from edge_sdk.zo import ZoConfig, draw, estimate, held_out_draws
from edge_sdk.zo.estimator import directions
from tests.zo.objectives import Quadratic

THETA = np.linspace(-1, 1, 6, dtype=np.float32).reshape(1, 6)
PLANS = [(d, p) for d in ("forward", "central") for p in ("shared", "per_direction")]
IDS = [f"{d}-{p}" for d, p in PLANS]


def config(difference: str = "central", plan: str = "shared", **changes: object) -> ZoConfig:
    return replace(ZoConfig(zo_difference=difference, zo_draws=plan, zo_samples=4, zo_mu=1e-2), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("difference", "plan"), PLANS, ids=IDS)
def test_the_mean_of_many_estimates_is_the_gradient(difference: str, plan: str) -> None:
    objective = Quadratic(tilt=0.2)
    settings = config(difference, plan, zo_mu=1e-3)
    samples = np.stack([estimate(objective, THETA, settings, 0, step).gradient for step in range(4000)])
    error = np.abs(samples.mean(0) - objective.gradient(THETA))
    standard_error = samples.std(0) / np.sqrt(len(samples))
    # The forward difference has a bias of order mu; four standard errors are passed by chance once in 2,600 tries.
    assert (error < 4 * standard_error + 5e-3).all()


def test_variance_falls_as_one_over_n() -> None:
    objective = Quadratic()

    def variance(n: int) -> float:
        samples = [estimate(objective, THETA, config(zo_samples=n), 1, step).gradient for step in range(1500)]
        return float(np.stack(samples).var(0).sum())

    assert variance(2) / variance(8) == pytest.approx(4, rel=0.15)


def test_a_central_difference_is_exact_on_a_quadratic() -> None:
    objective = Quadratic()
    settings = config(zo_samples=3, zo_mu=0.25)
    e = directions(settings, 3, 9, (1, 6)).astype(np.float64)
    slopes = (e * objective.gradient(THETA)).sum(axis=(1, 2))
    expected = (slopes[:, None, None] * e).mean(0)
    np.testing.assert_allclose(estimate(objective, THETA, settings, 3, 9).gradient, expected, rtol=1e-4)


@pytest.mark.parametrize(("difference", "plan"), PLANS, ids=IDS)
def test_both_sides_of_a_difference_see_the_same_draws(difference: str, plan: str) -> None:
    objective = Quadratic()
    settings = config(difference, plan, zo_samples=3, train_batch_size=2)
    estimate(objective, THETA, settings, 0, 0, max_batch=1000)
    ((embeddings, draws),) = objective.calls
    plus, rest = draws[:6], draws[6:]
    if len(rest) < 6:  # one shared base for all directions
        rest = rest * 3
    for a, b in zip(plus, rest, strict=True):
        assert (a.image, a.prompt, a.timestep) == (b.image, b.prompt, b.timestep)
        assert (a.noise == b.noise).all() and (a.latent_noise == b.latent_noise).all()
    distinct = len({d.noise.tobytes() for d in plus})
    assert distinct == (2 if plan == "shared" else 6)
    if difference == "central":
        np.testing.assert_allclose(embeddings[:6] + embeddings[6:], np.repeat(2 * THETA[None], 6, 0), atol=1e-6)


@pytest.mark.parametrize(
    ("difference", "plan", "rows"),
    [
        ("forward", "shared", 8),
        ("central", "shared", 12),
        ("forward", "per_direction", 12),
        ("central", "per_direction", 12),
    ],
    ids=IDS,
)
def test_forwards_are_counted_row_by_row(difference: str, plan: str, rows: int) -> None:
    objective = Quadratic()
    settings = config(difference, plan, zo_samples=3, train_batch_size=2)
    measured = estimate(objective, THETA, settings, 0, 0)
    assert measured.forwards == settings.forwards_per_step == rows == sum(len(d) for _, d in objective.calls)


@pytest.mark.parametrize("max_batch", [1, 3, 7], ids=lambda n: f"by{n}")
def test_cutting_a_step_into_chunks_changes_nothing(max_batch: int) -> None:
    whole = estimate(Quadratic(), THETA, config(), 5, 6, max_batch=1000)
    parts = estimate(Quadratic(), THETA, config(), 5, 6, max_batch=max_batch)
    assert (whole.gradient == parts.gradient).all() and whole.loss == parts.loss


def test_normalization_divides_by_the_expected_gain_in_length() -> None:
    plain = estimate(Quadratic(), THETA, config(), 0, 0).gradient
    scaled = estimate(Quadratic(), THETA, config(zo_normalize=True), 0, 0, removed=2).gradient
    np.testing.assert_allclose(plain / scaled, np.sqrt((6 - 2 + 4 - 1) / 4))


def test_theta_itself_is_never_touched() -> None:
    theta = THETA.copy()
    estimate(Quadratic(), theta, config(), 0, 0)
    assert (theta == THETA).all()


def test_timesteps_stay_in_their_range() -> None:
    drawn = [d.timestep for step in range(200) for d in draw(Quadratic(), 0, step, 4, (500, 520))]
    assert set(drawn) == set(range(500, 520))


def test_held_out_draws_are_not_those_of_training() -> None:
    held_out = held_out_draws(Quadratic(), 0, 10, (0, 1000))
    trained = {d.noise.tobytes() for step in range(50) for d in draw(Quadratic(), 0, step, 4, (0, 1000))}
    assert not trained & {d.noise.tobytes() for d in held_out}
    assert [d.timestep for d in held_out] == list(range(50, 1000, 100))
    assert [d.image for d in held_out] == [0, 1, 2, 3, 4] * 2
