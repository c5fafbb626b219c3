"""The demo that forgets a face, at a small size: the true model, few faces, few steps."""

import json
from pathlib import Path

import pytest

from edge_sdk.cli import forget
from edge_sdk.cli.main import main
from edge_sdk.unlearning import sampling
from edge_sdk.unlearning.audit import audit, measure, recovery


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_the_embedded_model_forgets_a_face_and_a_page_says_so_even_where_the_audit_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("KEPT", 6), ("HELD_OUT", 24), ("SAMPLES", 4)):
        monkeypatch.setattr(forget, name, value)
    monkeypatch.setattr(forget, "SETTINGS", forget.SETTINGS | {"max_train_steps": 2, "num_surrogates": 1})
    monkeypatch.setattr(sampling, "STEPS", 3)
    monkeypatch.setattr(measure, "NOISES", 4)  # as many as the page shows
    monkeypatch.setattr(measure, "NOISED", 32)
    monkeypatch.setattr(recovery, "RELEARNING", (1,))
    command = ["demo", "--unlearn", "--output_dir", str(tmp_path / "out"), "--quiet"]
    with monkeypatch.context() as broken_off:
        broken_off.setattr(audit, "collect", interrupted)
        assert main(command) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("edge-sdk: the audit is interrupted; ") and said.endswith("--resume_from_checkpoint latest")
    with monkeypatch.context() as finished:  # nothing is drawn or trained again
        finished.setattr(forget, "train", interrupted)
        assert main([*command, "--resume_from_checkpoint", "latest"]) == 1  # four samples prove little
    counts = {name: len(list((tmp_path / "out" / name).glob("*.png"))) for name in ("forget", "keep", "held_out")}
    assert counts == {"forget": 1, "keep": 6, "held_out": 24}
    record = json.loads((tmp_path / "out" / "audit" / "audit.json").read_text())
    missed = {check["name"] for check in record["checks"] if not check["passed"]}
    assert "hit_rate" in missed and "drift" not in missed
    assert record["forgetting"]["float"]["before"]["by_timestep"][0] > 0.9  # the model knows its own face
    assert "<img" in (tmp_path / "out" / "audit" / "audit.html").read_text()


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(*_: object) -> None:
        pytest.fail("faces are drawn")

    monkeypatch.setattr(forget, "draw", draw)


@pytest.mark.parametrize("taken", ["out", "out/keep"])
def test_a_place_that_cannot_be_written_is_said_before_anything_is_drawn(
    taken: str, no_drawing: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / taken).parent.mkdir(exist_ok=True)
    (tmp_path / taken).touch()
    assert main(["demo", "--unlearn", "--output_dir", str(tmp_path / "out"), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert "cannot be written" in error and error.count("\n") == 1


def test_only_the_latest_state_can_be_resumed(
    no_drawing: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    resume = ["--resume_from_checkpoint", str(tmp_path / "elsewhere")]
    assert main(["demo", "--unlearn", "--output_dir", str(tmp_path / "out"), *resume]) == 2
    error = capsys.readouterr().err
    assert "elsewhere; it takes latest here" in error and error.count("\n") == 1 and not any(tmp_path.iterdir())


def test_a_page_and_forgetting_exclude_each_other(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["demo", "--unlearn", "--web", "--output_dir", str(tmp_path)]) == 2
    assert "give one of them" in capsys.readouterr().err
