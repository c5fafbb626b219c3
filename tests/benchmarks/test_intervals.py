"""Intervals and tests of small samples, against values from tables."""

import pytest

from benchmarks.lib.intervals import sign_test, t_interval, t_quantile


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


def test_equal_pairs_say_nothing() -> None:
    assert sign_test([0.0, -1.0, -2.0, 0.0]) == 0.5
