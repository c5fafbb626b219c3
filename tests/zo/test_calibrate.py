"""The floor of mu on functions whose slope, curvature and noise are known."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from edge_sdk.zo import PAPER, Draw, calibrate_mu, lengths_below, random_directions
from tests.zo.objectives import Quadratic

CENTRAL = replace(PAPER, zo_difference="central")
SHAPE = (1, 40)
SOME = random_directions(0, 16, SHAPE)


class Rounded(Quadratic):
    """A tilted quadratic plus white noise that is a function of the token's bytes, as rounding is."""

    def __init__(self, sigma: float, cubic: float = 0.0) -> None:
        super().__init__(SHAPE)
        self.sigma, self.cubic = sigma, cubic

    def losses(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        out = super().losses(embeddings, draws)
        seeds = [zlib.crc32(row.tobytes()) for row in embeddings]
        noise = np.array([np.random.default_rng(seed).standard_normal() for seed in seeds])
        return out + self.sigma * noise + self.cubic * (embeddings.astype(np.float64) ** 3).sum(axis=(1, 2))


def theta() -> np.ndarray:
    return np.zeros(SHAPE, np.float32)


@pytest.mark.parametrize("difference", ["forward", "central"])
@pytest.mark.parametrize("sigma", [1e-5, 1e-3])
def test_the_floor_is_where_rounding_is_a_tenth_of_the_slope(sigma: float, difference: str) -> None:
    objective, config = Rounded(sigma), replace(PAPER, zo_difference=difference)
    floor = calibrate_mu(objective, theta(), config, lengths_below(0.1), 0, random_directions(0, 128, SHAPE))
    slope = float(np.linalg.norm(objective.gradient(theta())))  # of a standard normal direction, root mean square
    assert floor.noise == pytest.approx(sigma, rel=0.25) and floor.slope == pytest.approx(slope, rel=0.25)
    rounding = {"forward": math.sqrt(2) * sigma, "central": sigma / math.sqrt(2)}[difference]
    assert floor.mu_min == pytest.approx(rounding / (0.1 * slope), rel=0.5)


def test_the_errors_are_those_of_the_central_differences() -> None:
    objective = Rounded(1e-4, cubic=40.0)
    floor = calibrate_mu(objective, theta(), CENTRAL, lengths_below(0.1), 1, random_directions(1, 64, SHAPE))
    curved, plateau, rounded = floor.errors
    assert curved > 0.7 and plateau == 0
    assert rounded == pytest.approx(1e-4 / math.sqrt(2) / floor.lengths[2] / floor.slope, rel=0.4)


def test_curvature_never_lowers_the_floor() -> None:
    floors = [
        calibrate_mu(Rounded(1e-5, cubic), theta(), CENTRAL, lengths_below(0.1), 0, SOME) for cubic in (0.0, 50.0)
    ]
    assert floors[1].mu_min >= floors[0].mu_min


def test_without_rounding_the_floor_is_that_of_float32_tokens() -> None:
    assert calibrate_mu(Rounded(0.0), theta(), CENTRAL, lengths_below(0.1), 0, SOME).mu_min < 1e-6


def test_it_takes_two_forwards_a_direction_and_length_and_no_step_of_training_sees_its_draws() -> None:
    objective = Rounded(1e-4)
    floor = calibrate_mu(
        objective, theta(), PAPER, (0.1, 0.05, 0.02, 0.01), 0, random_directions(0, 3, SHAPE), max_batch=5
    )
    assert floor.forwards == 24 == sum(len(draws) for _, draws in objective.calls)
    assert max(len(draws) for _, draws in objective.calls) == 5
    rows, draws = np.concatenate([r for r, _ in objective.calls]), [d for _, some in objective.calls for d in some]
    for i in range(0, 24, 2):  # both sides of a difference see one draw
        assert (rows[i] == -rows[i + 1]).all() and draws[i] is draws[i + 1]
    assert all(500 <= d.timestep < 900 for d in draws)


def test_the_result_depends_on_the_seed_alone() -> None:
    one, same, other = (
        calibrate_mu(
            Rounded(1e-4), theta(), PAPER, lengths_below(0.1), seed, random_directions(seed, 16, SHAPE), max_batch=batch
        )
        for seed, batch in ((3, 4), (3, 64), (4, 4))
    )
    assert one == same != other


@pytest.mark.parametrize(("loss", "expected"), [(math.nan, math.nan), (1.0, math.nan)], ids=["not finite", "constant"])
def test_a_loss_that_says_nothing_has_no_floor(loss: float, expected: float) -> None:
    class Flat(Quadratic):
        def losses(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
            return np.full(len(draws), loss)

    assert math.isnan(calibrate_mu(Flat(SHAPE), theta(), PAPER, lengths_below(0.1), 0, SOME).mu_min)


def test_noise_alone_has_an_infinite_floor() -> None:
    class Noise(Rounded):
        def losses(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
            return super().losses(embeddings, draws) - Quadratic.losses(self, embeddings, draws)

    floors = [
        calibrate_mu(Noise(1.0), theta(), PAPER, lengths_below(0.1), seed, random_directions(seed, 16, SHAPE)).mu_min
        for seed in range(8)
    ]
    assert max(floors) == math.inf and min(floors) > 0.1


def test_the_floor_has_two_digits_and_is_rounded_up() -> None:
    for seed in range(4):
        floor = calibrate_mu(
            Rounded(1e-4), theta(), CENTRAL, lengths_below(0.1), seed, random_directions(seed, 16, SHAPE)
        )
        exact = math.sqrt(0.5) * floor.noise / (0.1 * floor.slope)
        assert floor.mu_min == float(f"{floor.mu_min:.1e}") and exact <= floor.mu_min < 1.1 * exact
