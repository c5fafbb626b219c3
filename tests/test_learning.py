"""`Learning`: a length, losses that can be compared, and a picture of itself that shows no photo."""

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from edge_sdk import EdgeSdkError, Personalizer, pocket
from edge_sdk.learning import Learning
from edge_sdk.zo import Step


def learning(losses: list[float], taken: int = 0) -> tuple[Learning, list[int]]:
    """Steps of given losses, and how often the held-out loss was measured."""
    measured: list[int] = []

    def measure() -> float:
        measured.append(1)
        return 1.0 / len(measured)

    total = taken + len(losses)
    steps = (Step(taken + i + 1, total, loss, embedding=None) for i, loss in enumerate(losses))  # type: ignore[arg-type]
    return Learning(steps, taken, total, measure, "<a&b> on a model"), measured


def test_its_length_is_what_is_still_to_come() -> None:
    resumed, _ = learning([0.3, 0.2, 0.1], taken=5)
    assert len(resumed) == 3 and bool(resumed)
    assert next(resumed).step == 6 and len(resumed) == 2 and resumed.losses == {6: 0.3}
    assert [step.step for step in resumed] == [7, 8] and len(resumed) == 0 and bool(resumed)


def test_a_loop_that_is_left_can_be_taken_up_again_unless_it_is_closed() -> None:
    steps, _ = learning([0.3, 0.2, 0.1])
    for _step in steps:
        break
    assert next(steps).step == 2
    steps.close()
    assert list(steps) == [] and steps.step == 2


def test_the_held_out_loss_is_measured_once_a_step() -> None:
    steps, measured = learning([0.3, 0.2])
    assert steps.held_out_loss() == steps.held_out_loss() == 1.0
    next(steps)
    assert steps.held_out_loss() == 0.5 and len(measured) == 2 and steps.held_out_losses == {0: 1.0, 1: 0.5}


@pytest.mark.parametrize("losses", [[], [0.5], [float("nan"), 0.2], [0.0, 0.0]], ids=str)
def test_a_notebook_shows_a_curve_of_finite_losses(losses: list[float]) -> None:
    steps, _ = learning(losses)
    assert len(list(steps)) == len(losses)
    tree = ElementTree.fromstring(steps._repr_html_())  # well-formed, so the title is escaped
    points = [one for one in tree.iter("circle") if one.get("r") == "2"]
    assert len(points) == sum(loss == loss for loss in losses)
    assert all(0 < float(one.get(axis, "")) < limit for one in points for axis, limit in (("cx", 480), ("cy", 160)))
    assert "nan" not in re.sub(r"loss nan", "", steps._repr_html_())


def test_fit_gives_one_with_the_loss_of_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    personalizer = Personalizer.from_pretrained("pocket")
    steps = personalizer.fit(pocket.PHOTOS, max_train_steps=3, eval_draws=8)
    assert len(steps) == 3 and "<subject>" in repr(steps) and "pocket" in repr(steps)
    before = steps.held_out_loss()
    assert before == personalizer.held_out_loss(personalizer.fitted().initial)
    taken = list(steps)
    assert [step.loss for step in taken] == list(steps.losses.values())
    assert steps.held_out_loss() == personalizer.held_out_loss() < before
    assert "at step 3" in repr(personalizer)
    assert "data:image" not in steps._repr_html_() and capsys.readouterr().out == ""


def test_without_a_fit_there_is_nothing_to_go_on_from() -> None:
    with pytest.raises(EdgeSdkError, match="call fit first"):
        Personalizer.from_pretrained("pocket").held_out_loss()


def test_a_memory_budget_chooses_residency_and_rows(
    checkpoint_of: Callable[[str, str], Path], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, options = checkpoint_of("sd1", "int8"), {"initializer_token": "dog", "max_train_steps": 1, "eval_draws": 2}
    told: list[str] = []
    for budget, residency, rows in ((10_000, "resident", 16), (None, "streamed", None)):
        personalizer = Personalizer.from_pretrained(
            folder, residency=None if budget else "streamed", memory_budget_mb=budget
        )
        personalizer.notify = told.append
        assert len(list(personalizer.fit(photos, **options))) == 1  # type: ignore[arg-type]
        assert (personalizer.model.residency, personalizer.config.max_batch) == (residency, rows)
    assert told[0].startswith("memory budget 10000 MB: weights resident, 16 rows a call")
    with pytest.raises(EdgeSdkError, match="memory_budget_mb is 1; the leanest way here"):
        Personalizer.from_pretrained(folder, memory_budget_mb=1).fit(photos, **options)  # type: ignore[arg-type]
