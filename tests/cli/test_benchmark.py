"""`edge-sdk benchmark`: runs the checkout's own programs, and says so where there is no checkout."""

import json
import sys
from pathlib import Path

import pytest

from edge_sdk.integer_checkpoint import quantize
from edge_sdk.pocket import MODEL as POCKET
from tests.cli.test_main import call, refused


def test_a_small_quality_benchmark_writes_its_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--subjects", 12, "--seeds", 1, "--configs", "initializer-int8-integer"]
    assert call("benchmark", "quality", *few, "--output", tmp_path / "quality.json") == 0
    record = json.loads((tmp_path / "quality.json").read_text())
    assert list(record["results"]) == ["initializer-int8-integer"] and record["subjects"] == 12
    assert "initializer-int8-integer" in capsys.readouterr().out


@pytest.fixture(scope="module")
def checkpoint(sd1_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "int8"
    quantize(str(sd1_folder), folder)
    return folder


def test_a_small_memory_benchmark_writes_its_record_and_goes_on(
    sd1_folder: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "memory.json"
    base = ["benchmark", "memory", "--model", sd1_folder, "--checkpoints", checkpoint, "--output", output]
    few = ["--repeats", 1, "--cases", "streamed", "backprop float32 checkpointing"]
    assert call(*base, *few) == 0
    before = json.loads(output.read_text())["results"]
    assert list(before) == ["ours int8 streamed", "backprop float32 checkpointing"]
    ours, stock = (result["summary"]["peaks_mb"] for result in before.values())
    assert 0 < ours["import"]["resident"]["median"] < stock["import"]["resident"]["median"]
    assert 0 < ours["step"]["anonymous"]["median"] < ours["step"]["resident"]["median"]
    assert len(before["ours int8 streamed"]["runs"][0]["cpu_seconds"]) == 2  # of three steps
    assert (tmp_path / "memory.png").exists() and "ours int8 streamed" in (tmp_path / "memory.md").read_text()

    assert call(*base, *few, "Adam", "--resume") == 0
    record = json.loads(output.read_text())
    assert len(record["command"]) == 2 and record["command"][1].endswith("Adam --resume")
    assert {name: record["results"].pop(name) for name in before} == before  # nothing was run again
    ((name, added),) = record["results"].items()
    assert name == "DreamBooth Adam float32" and added["summary"]["computed"]
    assert added["summary"]["training_mb"]["median"] > added["runs"][0]["computed"]["mb"] > 0
    assert set(record["ratios"]["ours int8 streamed"]) == {"backprop float32 checkpointing", name}

    assert "another checkpoints" in refused(capsys, *base, *few, "--resume", "--checkpoints", checkpoint, checkpoint)
    output.write_text("{}")
    assert "holds no memory benchmark" in refused(capsys, *base, *few, "--resume")


def test_a_small_speed_benchmark_writes_its_record(
    sd1_folder: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--checkpoints", checkpoint, "--rounds", 1, "--layers", 2, "--output", tmp_path / "speed.json"]
    assert call("benchmark", "speed", "--model", sd1_folder, *few) == 0
    record = json.loads((tmp_path / "speed.json").read_text())
    assert list(record["results"]) == [
        "diffusers float32",
        "quanto int8 as it comes",
        "ours int8",
        "ours int8, 8-bit activations",
        "ours int8 fused",
        "ours int8 mapped",
        "ours int8 streamed",
    ]
    error = {name: result["summary"]["relative_error"] for name, result in record["results"].items()}
    assert error["diffusers float32"] == 0 < error["ours int8"] < error["ours int8, 8-bit activations"] < 0.1
    assert error["ours int8"] == error["ours int8 mapped"] == error["ours int8 streamed"]
    assert all(len(result["runs"]) == 1 for result in record["results"].values())
    assert [ratio["wanted"] for ratio in record["ratios"]] == [0.7, 0.5, 0.5, 1.3]
    assert [set(row["cases"]) for row in record["layers"]] == [
        {"float32", "ours int8", "ours int8, 8-bit activations", "ours int8 fused"}
    ] * 2
    text = (tmp_path / "speed.md").read_text()
    assert text.count("\n| --- ") == 3 and text.partition("\n\n")[2] in capsys.readouterr().out
    assert record["threads"] >= 1 and (tmp_path / "speed.png").exists()


@pytest.mark.parametrize(("name", "option"), [("quality", "--subjects"), ("memory", "--resume"), ("speed", "--rounds")])
def test_the_options_of_the_benchmark_are_listed(name: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("benchmark", name, "--help") == 0
    assert option in capsys.readouterr().out


MISTAKES = {
    "no name": ([], "name"),
    "unknown name": (["beauty"], "beauty"),
    "unknown option": (["quality", "--beauty"], "--beauty"),
    "no number": (["quality", "--subjects", "many"], "--subjects"),
    "no subjects": (["quality", "--subjects", "0"], "subjects"),
    "unknown configuration": (["quality", "--configs", "magic"], "magic"),
    "no rounds": (["speed", "--rounds", "0"], "rounds"),
    "no model": (["speed", "--model", "nowhere"], "no folder nowhere"),
    "no checkpoint": (["memory", "--model", str(POCKET), "--checkpoints", "gone"], "edge-sdk quantize"),
    "float checkpoint": (["memory", "--model", str(POCKET), "--checkpoints", str(POCKET)], "float weights"),
    "unknown case": (["memory", "--model", str(POCKET), "--checkpoints", "--cases", "magic"], "magic"),
    "unknown device": (["memory", "--device", "tpu"], "tpu"),
}


@pytest.mark.parametrize(("argv", "named"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(
    argv: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert named in refused(capsys, "benchmark", *argv)


def test_outside_a_checkout_it_says_what_is_needed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "benchmarks.quality", None)
    assert "needs a source checkout" in refused(capsys, "benchmark", "quality")
