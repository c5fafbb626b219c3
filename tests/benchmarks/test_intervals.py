"""Intervals and tests of small samples, against values from tables."""

import pytest

from benchmarks.lib.intervals import interval_cell, on_common_runs, sign_test, t_interval, t_quantile


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.7062), (2, 4.30265), (3, 3.18245), (7, 2.36462), (8, 2.30600), (30, 2.04227)]
)
def test_quantile_is_that_of_the_table(degrees: int, quantile: float) -> None:
    assert t_quantile(0.975, degrees) == pytest.approx(quantile, abs=1e-5)


def test_interval_by_hand() -> None:
    found = t_interval([1.0, 2.0, 3.0, 4.0])  # standard deviation sqrt(5 / 3), half-width 3.18245 * sqrt(5 / 12)
    assert found["mean"] == 2.5
    assert (found["low"], found["high"]) == pytest.approx((2.5 - 2.05426, 2.5 + 2.05426), abs=1e-5)


@pytest.mark.parametrize(
    ("negative", "positive", "p"), [(8, 0, 2 / 256), (7, 1, 18 / 256), (4, 4, 1.0), (0, 3, 0.25)], ids=str
)
def test_sign_test_is_two_sided_and_exact(negative: int, positive: int, p: float) -> None:
    assert sign_test([-1.0] * negative + [0.5] * positive) == pytest.approx(p)


def test_only_runs_that_all_have_are_compared() -> None:
    def result(**losses: float) -> dict[str, list[dict[str, float]]]:
        return {"runs": [{"subject": int(run[1]), "seed": int(run[3]), "loss": loss} for run, loss in losses.items()]}

    one = result(p1s0=3.0, p1s1=5.0, p0s0=1.0, p0s1=100.0, p2s0=100.0)
    other = result(p0s0=2.0, p1s1=7.0, p1s0=6.0, p3s0=100.0)
    first, second = on_common_runs({"one": one, "other": other}, "one", "other")
    assert first.tolist() == [1.0, 4.0]  # person 0 by the seed that both have, person 1 by the mean of two
    assert second.tolist() == [2.0, 6.5]


def test_a_cell_shows_the_ends_that_there_are() -> None:
    assert interval_cell({"mean": 0.5, "low": -0.25, "high": 1.0}, 2, "+") == "+0.50 [-0.25, +1.00]"
    assert (interval_cell({"mean": 0.5}), interval_cell(None)) == ("0.500", "")


def test_equal_pairs_say_nothing() -> None:
    assert sign_test([0.0, -1.0, -2.0, 0.0]) == 0.5
