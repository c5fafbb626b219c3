"""When a run ends by itself."""

from dataclasses import replace
from pathlib import Path

import pytest

from edge_sdk import personalize
from edge_sdk.cli.personalize import options_of
from edge_sdk.config import PersonalizeConfig
from edge_sdk.pocket import PHOTOS
from edge_sdk.zo import PAPER, fast
from edge_sdk.zo import early_stopping as stopping
from edge_sdk.zo.early_stopping import Flat, steps_of

FAST = fast(0.03, 128)


def test_it_looks_now_and_then_and_stops_at_the_first_small_gain() -> None:
    losses = iter([0.5, 0.45, 0.4449, 0.1])
    flat = Flat(lambda: next(losses), initial=1.0, before=1.0, zo=FAST)
    every = 330 // 33
    assert [step for step in range(1, 4 * every) if flat(step)] == [3 * every]  # 0.0051 of 0.5551 is below 1 %


def test_a_loss_that_rises_is_flat_too() -> None:
    assert Flat(lambda: 1.1, initial=1.0, before=1.0, zo=FAST)(10)


def test_going_on_compares_with_the_token_at_hand() -> None:
    assert Flat(lambda: 0.5, initial=1.0, before=0.501, zo=FAST)(10)
    assert not Flat(lambda: 0.5, initial=1.0, before=0.6, zo=FAST)(10)


@pytest.mark.parametrize(("zo", "expected"), [(FAST, 4), (PAPER, 50), (replace(FAST, train_batch_size=64), 1)])
def test_checkpoints_come_after_as_many_forward_passes_whatever_a_step_takes(zo, expected: int) -> None:
    assert steps_of(150, zo) == expected


@pytest.mark.parametrize("preset", ["fast", "paper"])
def test_auto_is_a_longer_run_that_may_end_early(preset: str) -> None:
    config = PersonalizeConfig.from_options(max_train_steps="auto", preset=preset)
    usual = PersonalizeConfig(preset=preset)
    for width in (128, 768):
        assert config.zo(0.02, width).max_train_steps == 3 * usual.zo(0.02, width).max_train_steps
    assert config.stop_when_flat and not usual.stop_when_flat


def test_a_run_with_auto_ends_when_the_loss_is_flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "FLAT", 2.0)  # the first look finds no more than twice the whole decrease
    said: list[str] = []
    options = {"max_train_steps": "auto", "preview": False, "eval_draws": 4}
    record = personalize(PHOTOS, tmp_path / "run", notify=said.append, **options)
    assert record["steps"] == 10 and "flat; the run ends after step 10" in said[-1]
    assert (tmp_path / "run" / "learned_embeds.safetensors").exists()
    assert (tmp_path / "run" / "checkpoint-10").exists() and (tmp_path / "run" / "checkpoint-8").exists()


def test_the_command_line_takes_auto(capsys: pytest.CaptureFixture[str]) -> None:
    from edge_sdk.cli.main import build_parser

    base = ["personalize", "--train_data_dir", "a", "--output_dir", "b", "--max_train_steps"]
    assert options_of(build_parser().parse_args([*base, "auto"]))["max_train_steps"] == "auto"
    assert options_of(build_parser().parse_args([*base, "12"]))["max_train_steps"] == 12
    for wrong in ("many", "-3", "1.5"):
        with pytest.raises(SystemExit):
            build_parser().parse_args([*base, wrong])
        assert "neither a number of steps nor auto" in capsys.readouterr().err
