"""The loop: it descends, can be cut anywhere, and survives bad losses."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.system.checkpoints import latest_checkpoint, save_checkpoint
from edge_sdk.zo import PAPER, Adam, NonFiniteLossError, State, ZoConfig, directions, fast, run
from edge_sdk.zo.loop import clamp_norms
from edge_sdk.zo.optimizer import learning_rate
from tests.zo.objectives import LeastSquares, Quadratic

CONFIG = ZoConfig(
    max_train_steps=30,
    learning_rate=0.05,
    zo_samples=3,
    zo_mu=1e-2,
    subspace_buffer=8,
    subspace_threshold=0.05,
    lr_schedule="cosine",
    average_from=0.5,
)
START = np.full((2, 3), 2.0, np.float32)


def trajectory(state: State, objective: Quadratic | LeastSquares | None = None) -> list[bytes]:
    return [step.embedding.tobytes() for step in run(objective or Quadratic((2, 3), tilt=0.3), state)]


@pytest.mark.parametrize(
    ("settings", "objective"),
    [
        (replace(PAPER, max_train_steps=600, learning_rate=0.02), Quadratic((1, 8))),
        (replace(fast(0.3, 8), zo_samples=8), LeastSquares((1, 8))),
    ],
    ids=["paper", "fast"],
)
def test_a_preset_descends(settings: ZoConfig, objective: Quadratic | LeastSquares) -> None:
    basis = directions(np.eye(8, dtype=np.float32), 8, 1)
    state = State.start(settings, 0, np.zeros((1, 8), np.float32), basis=basis)
    first = np.linalg.norm(objective.gradient(state.embedding))
    list(run(objective, state))
    assert np.linalg.norm(objective.gradient(state.result)) < 0.3 * first


def test_a_resumed_gauss_newton_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    def start() -> State:
        config = replace(fast(0.3, 3), zo_samples=6, max_train_steps=9)
        return State.start(config, 5, START, basis=directions(np.eye(3, dtype=np.float32), 6, 2))

    objective = LeastSquares((2, 3), noise=0.5)
    whole = trajectory(start(), objective)
    state = start()
    steps = run(objective, state)
    first = [next(steps).embedding.tobytes() for _ in range(4)]
    save_checkpoint(tmp_path, state, {})
    resumed, _, _ = latest_checkpoint(tmp_path, {})
    assert first + trajectory(resumed, objective) == whole


@pytest.mark.parametrize("cut", [1, 7, 8, 9, 14, 15, 16, 29], ids=lambda n: f"after{n}")
def test_resumed_run_equals_uninterrupted_run(cut: int, tmp_path: Path) -> None:
    whole = trajectory(State.start(CONFIG, 5, START))
    state = State.start(CONFIG, 5, START)
    steps = run(Quadratic((2, 3), tilt=0.3), state)
    first = [next(steps).embedding.tobytes() for _ in range(cut)]
    steps.close()
    save_checkpoint(tmp_path, state, {"model": "m"})
    resumed, _, problems = latest_checkpoint(tmp_path, {"model": "m"})
    assert not problems and resumed.step == cut
    assert first + trajectory(resumed) == whole


def test_the_seed_decides_everything() -> None:
    assert trajectory(State.start(CONFIG, 5, START)) == trajectory(State.start(CONFIG, 5, START))
    assert trajectory(State.start(CONFIG, 5, START)) != trajectory(State.start(CONFIG, 6, START))


class Failing(Quadratic):
    """Not finite, or raising, on chosen steps (one call a step)."""

    def __init__(self, bad: set[int], error: type[BaseException] | None = None) -> None:
        super().__init__((2, 3))
        self.bad, self.error = bad, error

    def losses(self, embeddings, draws):  # type: ignore[no-untyped-def]
        out = super().losses(embeddings, draws)
        if len(self.calls) - 1 in self.bad:
            if self.error:
                raise self.error
            out[1] = np.nan
        return out


def test_a_loss_that_is_not_finite_skips_the_step() -> None:
    state = State.start(replace(CONFIG, average_from=1.0), 0, START)
    steps = list(run(Failing({3}), state))
    assert [s.step for s in steps if s.skipped] == [4] and np.isnan(steps[3].loss)
    assert (steps[3].embedding == steps[2].embedding).all() and np.isfinite(steps[-1].embedding).all()


def test_it_gives_up_after_many_bad_losses_and_keeps_the_last_good_token() -> None:
    state = State.start(replace(CONFIG, max_bad_steps=3, average_from=1.0), 0, START)
    good = []
    with pytest.raises(NonFiniteLossError, match="3 steps in a row, up to step 8"):
        for step in run(Failing(set(range(5, 100))), state):
            good.append(step.embedding)
    assert (state.embedding == good[4]).all()


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt], ids=lambda e: e.__name__)
def test_an_exception_in_the_model_leaves_the_last_whole_step(error: type[BaseException]) -> None:
    state = State.start(CONFIG, 0, START)
    with pytest.raises(error):
        for _ in run(Failing({6}, error), state):
            pass
    assert state.step == 6
    other = State.start(CONFIG, 0, START)
    steps = run(Quadratic((2, 3)), other)
    for _ in range(6):
        next(steps)
    assert (state.embedding == other.embedding).all() and state.forwards == other.forwards


def test_norms_are_kept_in_range_and_it_is_said() -> None:
    state = State.start(replace(CONFIG, average_from=1.0), 0, START)
    steps = list(run(Quadratic((2, 3)), state, norm_range=(3.0, 3.2)))
    assert any(s.clamped for s in steps)
    norms = np.linalg.norm([s.embedding for s in steps], axis=2)
    assert norms.min() > 3 - 1e-5 and norms.max() < 3.2 + 1e-5
    token, acted = clamp_norms(START, (0.0, np.inf))
    assert token is START and not acted


def test_parts_of_a_vector_have_norms_of_their_own() -> None:
    token = np.array([[3, 4, 0.3, 0.4, 0], [0.6, 0.8, 30, 40, 0]], np.float32)
    kept, acted = clamp_norms(token, ((2.0, 0.1), (10.0, 5.0)), (2, 3))
    np.testing.assert_allclose(kept, [[3, 4, 0.3, 0.4, 0], [1.2, 1.6, 3, 4, 0]], rtol=1e-6)
    assert acted and (kept[0] == token[0]).all() and kept.dtype == np.float32
    same, acted = clamp_norms(token, ((0.0, 0.1), (10.0, 50.0)), (2, 3))
    assert same is token and not acted
    state = State.start(replace(CONFIG, average_from=1.0), 0, START)
    tokens = np.stack([s.embedding for s in run(Quadratic((2, 3)), state, ((1.0, 0.5), (1.1, 0.6)), parts=(1, 2))])
    for part, low, high in ((tokens[..., :1], 1.0, 1.1), (tokens[..., 1:], 0.5, 0.6)):
        norms = np.linalg.norm(part, axis=2)
        assert norms.min() > low - 1e-5 and norms.max() < high + 1e-5


def test_the_result_is_the_mean_over_the_tail() -> None:
    state = State.start(replace(CONFIG, average_from=0.9), 0, START)
    tokens = []
    for _ in run(Quadratic((2, 3)), state):
        tokens.append(state.embedding)
    np.testing.assert_allclose(state.result, np.mean(tokens[27:], axis=0), atol=1e-6)
    assert state.average_count == 3


def test_steps_report_progress() -> None:
    ticks = iter(range(1000))
    steps = list(run(Quadratic((2, 3)), State.start(CONFIG, 0, START), clock=lambda: float(next(ticks))))
    assert [s.step for s in steps] == list(range(1, 31))
    assert steps[-1].forwards == 30 * CONFIG.forwards_per_step and steps[-1].seconds == 30
    assert steps[9].eta_s == 20 and steps[8].removed > 0 and steps[7].removed == 0


def test_adam_is_the_published_formula() -> None:
    settings = ZoConfig(learning_rate=0.1)
    adam, theta = Adam(settings, (1, 2)), np.zeros((1, 2), np.float32)
    m = v = np.zeros((1, 2))
    for k, g in enumerate(np.random.default_rng(0).standard_normal((5, 1, 2)), start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        expected = theta - 0.1 * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.999**k)) + 1e-3)
        theta = adam.update(theta, g, k - 1)
        np.testing.assert_allclose(theta, expected, rtol=1e-6)


def test_the_cosine_schedule_ends_at_a_tenth() -> None:
    rates = [learning_rate(replace(CONFIG, learning_rate=1.0), step) for step in range(31)]
    assert rates[0] == 1 and rates[15] == pytest.approx(0.55) and rates[30] == pytest.approx(0.1)
    assert all(a > b for a, b in pairwise(rates))
