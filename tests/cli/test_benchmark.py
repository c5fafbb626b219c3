"""`edge-sdk benchmark`: runs the checkout's own programs, and says so where there is no checkout."""

import json
import sys
from pathlib import Path

import pytest

from edge_sdk.quantize import quantize
from tests.cli.test_main import call, refused


def test_a_small_quality_benchmark_writes_its_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--subjects", 12, "--seeds", 1, "--configs", "initializer-int8-integer"]
    assert call("benchmark", "quality", *few, "--output", tmp_path / "quality.json") == 0
    record = json.loads((tmp_path / "quality.json").read_text())
    assert list(record["results"]) == ["initializer-int8-integer"] and (record["subjects"], record["seeds"]) == (12, 1)
    assert "initializer-int8-integer" in capsys.readouterr().out


def test_a_small_memory_benchmark_writes_its_record(sd1_folder: Path, tmp_path: Path) -> None:
    quantize(str(sd1_folder), tmp_path / "int8")
    few = ["--checkpoints", tmp_path / "int8", "--repeats", 1, "--cases", "streamed", "backprop float32 checkpointing"]
    assert call("benchmark", "memory", "--model", sd1_folder, *few, "--output", tmp_path / "memory.json") == 0
    results = json.loads((tmp_path / "memory.json").read_text())["results"]
    assert list(results) == ["ours int8 streamed", "backprop float32 checkpointing"]
    ours, stock = (result["summary"]["peaks_mb"] for result in results.values())
    assert 0 < ours["import"]["resident"]["median"] < stock["import"]["resident"]["median"]
    assert 0 < ours["step"]["anonymous"]["median"] < ours["step"]["resident"]["median"]
    assert (tmp_path / "memory.png").exists()


def test_the_options_of_the_benchmark_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("benchmark", "quality", "--help") == 0
    assert "--subjects" in capsys.readouterr().out


MISTAKES = {
    "no name": ([], "name"),
    "unknown name": (["beauty"], "beauty"),
    "unknown option": (["quality", "--beauty"], "--beauty"),
    "no number": (["quality", "--subjects", "many"], "--subjects"),
    "no subjects": (["quality", "--subjects", "0"], "subjects"),
    "unknown configuration": (["quality", "--configs", "magic"], "magic"),
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
