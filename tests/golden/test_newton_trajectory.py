"""The golden runs of Gauss-Newton that all twins share are those of this program."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.golden import make_golden
from tests.golden.make_golden import NEWTON_CASES, newton_trajectory

GOLDEN = json.loads((Path(make_golden.__file__).parent / "trajectory.json").read_text())["gauss_newton"]["runs"]


@pytest.mark.parametrize(
    "number", range(len(NEWTON_CASES)), ids=["one vector", "two vectors in bounds", "some directions a step"]
)
def test_the_golden_run_is_reproduced(number: int) -> None:
    found, golden = newton_trajectory(NEWTON_CASES[number]), GOLDEN[number]
    assert found["config"] == golden["config"] and found["clamped"] == golden["clamped"]
    for name in ("tokens", "result"):
        np.testing.assert_allclose(found[name], golden[name], atol=1e-5)
    np.testing.assert_allclose(found["losses"], golden["losses"], rtol=1e-5)


def test_the_runs_show_all_that_a_twin_can_get_wrong() -> None:
    one, two, three = GOLDEN
    assert len(one["tokens"]) == len(two["tokens"]) == 12
    assert not any(one["clamped"]) and 0 < sum(two["clamped"]) < 12  # models are carried back, and are not
    assert np.shape(one["tokens"][0]) == (1, 6) and np.shape(two["tokens"][0]) == (2, 3)
    assert two["config"]["zo_samples"] < 2 * len(two["principal"]) and two["config"]["train_batch_size"] > 1
    assert np.abs(np.subtract(two["result"], two["tokens"][-1])).max() > 1e-3  # the tail is averaged
    principal = np.array(one["principal"])
    moves = np.diff([np.zeros((1, 6)), *one["tokens"]], axis=0)[:, 0] @ principal.T / (principal**2).sum(axis=1)
    lengths = np.linalg.norm(moves, axis=1)
    assert lengths[0] == pytest.approx(one["config"]["trust_radius"]) and lengths[-1] < 0.5 * lengths[0]
    changed = [tuple(np.flatnonzero(move)) for move in np.diff([np.zeros((1, 6)), *three["tokens"]], axis=0)[:, 0]]
    assert changed[:2] == [(0, 1, 2), (3, 4, 5)] and len(set(changed[2:])) > 2  # in turn, then by what they promise
