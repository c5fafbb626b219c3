"""Gauss-Newton from differences of residuals: what is measured, what a step does, and what draws add up to."""

from dataclasses import replace

import numpy as np
import pytest

from edge_sdk.zo import Adam, GaussNewton, State, Subspace, ZoConfig, directions, linearize, run
from tests.zo.objectives import LeastSquares

SHAPE = (1, 6)
START = np.zeros(SHAPE, np.float32)
CONFIG = ZoConfig(
    optimizer="gauss_newton",
    max_train_steps=12,
    zo_samples=6,
    zo_mu=1e-3,
    damping=1e-4,
    trust_radius=100.0,
    subspace_buffer=0,
    timestep_range=(0, 1000),
)
EVERY = directions(np.eye(6, dtype=np.float32), 6, 1)


def last(objective: LeastSquares, config: ZoConfig = CONFIG, basis: np.ndarray = EVERY, **options) -> np.ndarray:
    state = State.start(config, 0, START, basis=basis)
    for _ in run(objective, state, **options):
        pass
    return state.embedding


def test_slope_and_curvature_are_those_of_the_loss() -> None:
    objective = LeastSquares()
    found = linearize(objective, START, EVERY, replace(CONFIG, train_batch_size=3), 0, 0, max_batch=4)
    assert np.allclose(found.slope, objective.gradient(START).reshape(-1), rtol=1e-2, atol=1e-2)
    assert np.allclose(found.curvature, 2 / 8 * objective.matrix.T @ objective.matrix, rtol=1e-2, atol=1e-3)
    assert found.loss == pytest.approx(objective.losses(START[None], objective.calls[0][1][:1])[0])
    assert found.forwards == replace(CONFIG, train_batch_size=3).forwards_per_step == 21
    assert max(len(rows) for rows, _ in objective.calls) == 4


def test_every_row_of_a_difference_is_on_the_same_draw() -> None:
    objective = LeastSquares(noise=1.0)
    linearize(objective, START, EVERY, CONFIG, 0, 0, max_batch=64)
    (rows, draws), *_ = objective.calls
    assert len({(d.timestep, d.noise.tobytes()) for d in draws}) == 1
    assert np.array_equal(rows[0], START) and np.allclose(rows[1:] - rows[0], 1e-3 * EVERY)


def test_one_step_solves_a_linear_problem_that_gradient_steps_do_not() -> None:
    objective = LeastSquares()
    newton = last(objective, replace(CONFIG, max_train_steps=1, damping=1e-6, zo_mu=0.5))
    assert np.abs(newton - objective.target).max() < 1e-2
    adam = Adam(ZoConfig(learning_rate=0.1), SHAPE)
    token = START
    for step in range(7):  # as many forward passes
        token = adam.update(token, objective.gradient(token), step)
    assert np.abs(token - objective.target).max() > 0.5


def test_draws_are_averaged_as_in_least_squares() -> None:
    def error(steps: int, memory: float) -> float:
        config = replace(CONFIG, max_train_steps=steps, memory=memory, damping=1e-6, zo_mu=0.1)
        gaps = [
            LeastSquares(noise=1.0, seed=seed).matrix
            @ (last(LeastSquares(noise=1.0, seed=seed), config) - LeastSquares(seed=seed).target).reshape(-1)
            for seed in range(8)
        ]
        return float(np.sqrt(np.mean(np.square(gaps))))

    assert error(64, 0.0) == pytest.approx(error(4, 0.0) / 4, rel=0.4)  # noise falls with the root of the draws
    assert error(64, 0.0) < error(64, 20.0)  # which weighs the last few alone


def test_curved_problems_converge_too_the_sooner_the_less_is_remembered() -> None:
    objective = LeastSquares(bend=0.2)
    errors = [np.abs(last(objective, replace(CONFIG, memory=m)) - objective.target).max() for m in (0.0, 1.0, 8.0)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-2


def test_a_step_is_never_longer_than_the_trust_radius() -> None:
    state = State.start(replace(CONFIG, trust_radius=0.25), 0, START, basis=EVERY)
    before, lengths = START, []
    for _ in run(LeastSquares(), state):
        lengths.append(float(np.linalg.norm(state.embedding - before)))
        before = state.embedding
    assert lengths[0] == pytest.approx(0.25, rel=1e-5) and max(lengths) < 0.2501


def test_only_the_directions_are_searched() -> None:
    token = last(LeastSquares(), replace(CONFIG, zo_samples=2), EVERY[:2])
    assert (token[0, :2] != 0).all() and (token[0, 2:] == 0).all()


def test_a_clamped_norm_is_what_the_models_are_carried_to() -> None:
    objective, norms = LeastSquares(), (0.0, 0.5)
    token = last(objective, replace(CONFIG, max_train_steps=40), norm_range=norms)
    assert np.linalg.norm(token) == pytest.approx(0.5, rel=1e-5)
    newton = GaussNewton(CONFIG, EVERY)
    newton.update(START, linearize(objective, START, EVERY, CONFIG, 0, 0, 64))
    newton.carry(START, token)
    assert np.allclose(newton.slope, objective.gradient(token).reshape(-1), rtol=0.02, atol=0.02)


def test_a_token_without_effect_stays() -> None:
    class Deaf(LeastSquares):
        def residuals(self, embeddings, draws):
            return np.ones((len(draws), 8))

    assert np.array_equal(last(Deaf()), START)


def test_directions_take_turns_with_the_vectors_of_a_token() -> None:
    principal = np.diag([3.0, 2.0, 1.0]).astype(np.float32)
    found = directions(principal, 5, 2)
    assert found.shape == (6, 2, 3)
    assert [(*np.argwhere(d)[0], d.max()) for d in found] == [
        (0, 0, 3),
        (1, 0, 3),
        (0, 1, 2),
        (1, 1, 2),
        (0, 2, 1),
        (1, 2, 1),
    ]
    with pytest.raises(ValueError, match="zo_samples is 7; there are 6 directions"):
        directions(principal, 7, 2)


def test_with_more_directions_than_a_step_takes_all_get_their_turn_and_half_of_a_step_is_the_best() -> None:
    objective, config = LeastSquares(), replace(CONFIG, zo_samples=2, max_train_steps=60)
    state, taken = State.start(config, 0, START, basis=EVERY), []
    steps = run(objective, state)
    for _ in range(60):
        if (state.newton.seen > 0).all():
            model = state.newton
            gain = model.slope**2 / (model.curvature.diagonal() + 1e-4 * model.curvature.diagonal().mean())
            assert int(gain.argmax()) in model.choose()
        taken.append(tuple(state.newton.choose()))
        next(steps)
    assert taken[:3] == [(0, 1), (2, 3), (4, 5)]  # the longest first
    assert {i for pair in taken[3:12] for i in pair} == set(range(6))
    assert {len(rows) for rows, _ in objective.calls} == {3}
    tokens, draws = np.stack([START, state.embedding]), [objective.calls[0][1][0]] * 2
    first, final = objective.losses(tokens, draws)
    assert final < 1e-3 * first


def test_it_does_not_start_without_directions() -> None:
    with pytest.raises(ValueError, match="gauss_newton needs 6 directions"):
        State.start(CONFIG, 0, START)
    assert isinstance(State.start(ZoConfig(), 0, START).subspace, Subspace)
