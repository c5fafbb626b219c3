"""The benchmark that learns through the graph for the Neural Engine: the graph on people, and its shares."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.quality.graph import GraphObjective
from benchmarks.quality.learn import Bench, Subjects
from benchmarks.quality.neural_engine import CASES, INTEGER, ROWS, START, programs, resolution, summarize, table
from benchmarks.quality.people import fresh_people
from edge_sdk.export.coreml.interpreter import Interpreter
from edge_sdk.zo import draw


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Two people on the int8 model, learned on the exported graph."""
    bench = Bench.build("pocket", "int8", "fused", Subjects(fresh_people()[:2]))
    program = Interpreter(programs("pocket", tmp_path_factory.mktemp("ane"))("ane"), "zo_loss", resident=True)
    return replace(bench, graph=GraphObjective(bench.objective, program.run, ROWS))


@pytest.mark.parametrize("count", [1, ROWS + 2], ids=["a call that is filled up", "two calls"])
def test_every_row_has_its_own_token_photo_and_prompt(count: int, bench: Bench) -> None:
    drawn = draw(bench.objective, 3, 0, count, (0, 1000))
    tokens = np.random.default_rng(0).standard_normal((count, 1, bench.width)).astype(np.float32) * bench.std
    wanted = bench.objective.residuals(tokens, drawn)
    np.testing.assert_allclose(bench.observed.residuals(tokens, drawn), wanted, atol=1e-2 * np.abs(wanted).max())
    np.testing.assert_allclose(bench.observed.losses(tokens, drawn), (wanted**2).mean(axis=1), rtol=1e-2)


def test_what_the_graph_resolves_is_beside_float_activations(bench: Bench) -> None:
    seen = resolution(bench, bench, replace(bench, graph=None))
    assert 0 < seen["mu_min"] < seen["preset_mu"] and 0 < seen["error"] < 0.1
    itself = resolution(bench, replace(bench, graph=None), replace(bench, graph=None))
    assert itself["error"] == 0


def test_shares_are_of_the_people_that_all_have() -> None:
    def runs(*losses: float) -> dict[str, object]:
        return {"runs": [{"subject": i, "seed": 0, "loss": loss} for i, loss in enumerate(losses)]}

    results = {START: runs(1.0, 2.0, 9.0), INTEGER: runs(0.5, 1.0, 0.0), "ane": runs(0.5, 1.25)}
    summarize(results)
    assert results["ane"]["summary"]["people"] == 2
    assert results["ane"]["summary"]["share"]["mean"] == pytest.approx((0.5 + 0.75) / (0.5 + 1.0))
    assert results[INTEGER]["summary"]["share"]["mean"] == 1.0
    assert "| ane |  |  | 2 | 1 |" in table(results)


def test_a_case_changes_mu_alone() -> None:
    settings = CASES["ane, mu of a quarter"].settings(0.02, 128)
    assert settings == replace(CASES[INTEGER].settings(0.02, 128), zo_mu=settings.zo_mu) and settings.zo_mu == 0.002
