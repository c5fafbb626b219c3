"""`edge-sdk benchmark`: runs the checkout's own programs, and says so where there is no checkout."""

import json
import sys
from pathlib import Path

import pytest

from tests.cli.test_main import call, refused


def test_a_small_quality_benchmark_writes_its_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--subjects", 12, "--seeds", 1, "--configs", "initializer-int8-integer"]
    assert call("benchmark", "quality", *few, "--output", tmp_path / "quality.json") == 0
    record = json.loads((tmp_path / "quality.json").read_text())
    assert list(record["results"]) == ["initializer-int8-integer"] and (record["subjects"], record["seeds"]) == (12, 1)
    assert "initializer-int8-integer" in capsys.readouterr().out


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
