"""Which runs a comparison of unlearning methods makes, and what its tables say of them."""

import argparse
from pathlib import Path
from typing import Any

import pytest

from benchmarks import unlearning
from benchmarks.unlearning.benchmark import ADMITTED, _tasks, refuse_other_runs, settings_of
from benchmarks.unlearning.compare import Rows, comparison, frontier, show
from edge_sdk.errors import EdgeSdkError
from edge_sdk.unlearning.config import UnlearnConfig


def asked(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    unlearning.add_arguments(parser)
    return parser.parse_args(["--seeds", "1", "--targets", "3", "--methods", "ReTrack", "ours", *arguments])


def row(method: str, drift: float, similarity: float, person: int = 0, seed: int = 0) -> dict[str, Any]:
    return {
        "method": method,
        "person": person,
        "seed": seed,
        "strength": 1.0,
        "learning_rate": drift,
        "drift": drift,
        "target_similarity": similarity,
    }


def test_only_what_is_not_measured_yet_is_run() -> None:
    first, second = _tasks(asked(), [])
    assert (first.runs, second.runs) == (unlearning.RUNS["ReTrack"], unlearning.RUNS["ours"])
    rows = [{"method": "ReTrack", "person": 3, "seed": 0, "strength": 0.01, "learning_rate": 9e-5}]
    first, _ = _tasks(asked(), rows)
    assert (0.01, 9e-5) not in first.runs and len(first.runs) == len(unlearning.RUNS["ReTrack"]) - 1
    (only,) = _tasks(asked("--rates", "3e-5"), rows)
    assert only.method == "ReTrack" and {rate for _, rate in only.runs} == {3e-5}
    assert first.pictured and not only.pictured  # whose run is not the strongest
    (one, other) = _tasks(asked("--strengths", "2", "--set", "learning_rate=1e-3", "retain_batch=8"), rows)
    assert one.runs == other.runs == ((2.0, 1e-3),)
    assert (one.config(1e-3).retain_batch, other.config(1e-3).learning_rate) == (8, 1e-3)


def test_settings_are_those_that_a_method_runs_with() -> None:
    theirs, ours = (settings_of(task) for task in _tasks(asked(), []))
    assert (theirs["layers"], theirs["surgery"], theirs["retain_batch"]) == ("all", "none", 32)
    assert (ours["layers"], ours["surgery"], ours["retain_batch"]) == ("branches", "one_sided", 96)
    assert "seed" not in ours


def test_the_strongest_run_of_ours_is_what_the_command_line_does() -> None:
    task = _tasks(asked(), [])[-1]
    strength, rate = task.runs[-1]
    ran, default = (one.to_dict() for one in (task.config(rate), UnlearnConfig()))
    assert strength == default["unlearn_weight"]
    assert {name for name in default if ran[name] != default[name]} == {"prompt", *ADMITTED}


def test_runs_of_another_model_or_with_other_settings_are_not_gone_on_with() -> None:
    record: dict[str, Any] = {}
    refuse_other_runs(record, Path("x.json"), "a", {"ours": {"steps": 40}})
    refuse_other_runs(record, Path("x.json"), "a", {"ours": {"steps": 40}, "SISS": {"steps": 40}})
    assert record == {"model_sha256": "a", "settings": {"ours": {"steps": 40}, "SISS": {"steps": 40}}}
    for sha256, settings, said in (
        ("b", {}, "another model"),
        ("a", {"ours": {"steps": 50}}, "ours with another steps"),
    ):
        with pytest.raises(EdgeSdkError, match=said):
            refuse_other_runs(record, Path("x.json"), sha256, settings)


def test_runs_that_left_no_pictures_are_no_error(tmp_path: Path) -> None:
    show({"rows": [row("a", 0.1, 0.6)], "base": {}}, tmp_path, tmp_path / "pictures.png")
    assert not (tmp_path / "pictures.png").exists()


def test_what_is_no_setting_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (("--set", "retain_batch"), ("--seeds", "0")):
        with pytest.raises(SystemExit):
            asked(*wrong)
    assert "'retain_batch' is not NAME=VALUE" in capsys.readouterr().err
    assert asked("--set", "timestep_window=[100,600]", "layers=all").set == [
        ("timestep_window", (100, 600)),
        ("layers", "all"),
    ]


def test_similarity_at_a_drift_is_read_off_the_lower_edge_of_a_methods_runs() -> None:
    points = [row("a", 0.0, 0.8), row("a", 0.1, 0.6), row("a", 0.2, 0.7), row("a", 0.3, 0.4)]
    assert frontier(points, 0.05) == pytest.approx(0.7)
    assert frontier(points, 0.2) == pytest.approx(0.6)  # a worse run at more drift takes nothing back
    assert frontier(points, 1.0) == pytest.approx(0.4)


def test_a_comparison_says_where_a_method_has_no_run_of_that_drift() -> None:
    rows = [row("ours", 0.02, 0.5, person, seed) for person in (0, 1) for seed in (0, 1)]
    rows += [row("theirs", 0.05 if person else 0.2, 0.7, person, seed) for person in (0, 1) for seed in (0, 1)]
    record = {"rows": rows, "base": {str(person): {"target_similarity": 0.8} for person in (0, 1)}}
    assert Rows(record).measured("theirs", 0.06) == 0.5
    said = comparison(record, "ours")
    assert "| 50% | -0.235 [-0.680, +0.210], 2 of 2, p = 0.500 |" in said  # -0.200 and -0.270; 12.7062 * 0.035
    rows[0]["target_similarity"] = 0.9  # one seed of one person that ours does not win
    assert "1 of 2, p" in comparison(record, "ours")
