"""Limits of an audit: finite numbers that decide, of all forms of the weights and all targets the worst."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.cli.main import main
from edge_sdk.errors import EdgeSdkError
from edge_sdk.unlearning.audit.limits import Limits, checks

INTEGRITY = ("drift", "worst_drift", "neighbour_drift", "retain_loss_rise")


def figures(before: list[float], after: dict[str, list[float]]) -> dict[str, Any]:
    """Of an audit in which only the targets' similarities are not 0."""
    return {
        "forgetting": {
            form: {
                "before": {"by_target": before},
                "after": {"by_target": found},
                "change": dict.fromkeys(("by_target", "beyond_others"), np.subtract(found, before).tolist()),
            }
            for form, found in after.items()
        },
        "samples_like_targets": {form: {"before": [], "after": [{"upper_95": 0.0, "rise": 0.0}]} for form in after},
        "integrity": {form: dict.fromkeys(INTEGRITY, 0.0) for form in after},
        **dict.fromkeys(("unaudited", "unrecorded", "other_prompts"), 0),
    }


def missed_by(found: dict[str, Any]) -> set[str]:
    return {check["name"] for check in checks(found, Limits()) if not check["passed"]}


def test_integers_that_have_forgotten_nothing_miss_a_limit() -> None:
    """Also where another target's opposite change would hide it in the mean."""
    after = {"float": [0.5, 0.3], "int8": [0.5, 0.3], "int4": [0.5, 0.3]}
    assert missed_by(figures([0.6, 0.6], after)) == set()
    after["int4"] = [0.7, 0.1]
    assert missed_by(figures([0.6, 0.6], after)) == {"target_change", "beyond_others", "int4_change"}


def test_what_is_not_finite_keeps_no_limit() -> None:
    found = figures([0.6], {"float": [0.5], "int8": [0.5], "int4": [0.5]})
    found["integrity"]["int8"]["drift"] = float("nan")
    assert missed_by(found) == {"drift"}


@pytest.mark.parametrize("worst", ["float", "int8", "int4"])
def test_the_worst_form_of_the_weights_decides(worst: str) -> None:
    even = {form: 2.0 if form == worst else 1.0 for form in ("float", "int8", "int4")}
    found = figures([0.5, 4.0], {form: [0.0, value] for form, value in even.items()})
    for form, value in even.items():
        found["samples_like_targets"][form]["after"] = [{"upper_95": value, "rise": value - 1}]
        found["integrity"][form] = dict.fromkeys(INTEGRITY, value)
    measured = {check["name"]: check["measured"] for check in checks(found, Limits())}
    assert {name: measured[name] for name in ("target_similarity", "hit_rate", *INTEGRITY)} == dict.fromkeys(
        ("target_similarity", "hit_rate", *INTEGRITY), 2.0
    )
    assert measured["hit_rise"] == 1
    assert measured["beyond_others"] == measured["target_change"] == -0.5  # of the target that changed least
    assert measured["int4_change"] == (0.0 if worst == "int8" else 1.0)


BAD = {
    "not JSON": "{",
    "a list": "[1]",
    "a name that is unknown": '{"drifts": 1}',
    "a text": '{"drift": "0.1"}',
    "true": '{"drift": true}',
    "null": '{"drift": null}',
    "a list of one": '{"drift": [0.1]}',
    "NaN": '{"drift": NaN}',
    "infinity": '{"drift": Infinity}',
    "infinity in a text": '{"drift": "inf"}',
    "1e999": '{"drift": 1e999}',
    "minus 1e999": '{"drift": -1e999}',
    "400 digits": f'{{"drift": {10**400}}}',
    "twice": '{"drift": 1, "drift": 2}',
    "depth": "[" * 100_000,
    "a byte": "\x00",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_limits_that_are_not_finite_numbers_by_known_names_are_one_line(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "limits.json").write_text(text)
    assert (
        main(
            [
                "audit",
                "--after",
                "pocket",
                "--forget_data_dir",
                "f",
                "--retain_data_dir",
                "r",
                "--output_dir",
                str(tmp_path / "a"),
                "--limits",
                str(tmp_path / "limits.json"),
            ]
        )
        == 2
    )
    error = capsys.readouterr().err
    assert f"{tmp_path}/limits.json" in error and "a JSON object of finite numbers named beyond_others, drift" in error
    assert error.count("\n") == 1 and not (tmp_path / "a").exists()


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 10**400, True, "0.1", None], ids=repr)
def test_limits_in_python_are_finite_numbers_too(value: object) -> None:
    with pytest.raises(EdgeSdkError, match=r"the limit drift is .* it must be a finite number"):
        Limits(drift=value)  # type: ignore[arg-type]
