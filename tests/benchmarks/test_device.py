"""Device records: checked whole before anything is written, and summed up as they say."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.device import benchmark
from benchmarks.device.record import read_record
from benchmarks.device.report import summarize, table
from edge_sdk.cli.main import main
from edge_sdk.errors import EdgeSdkError

PEAKS = {"resident": 300.0, "anonymous": 120.0, "file": 180.0}


def run(**changes: Any) -> dict[str, Any]:
    return {
        "phases": {
            "import": {"resident": 90.0, "anonymous": 30.0, "file": 60.0},
            "load": PEAKS,
            "step": PEAKS | {"anonymous": 140.0},
            "run": PEAKS | {"resident": 310.0},
        },
        "loaded": {"resident": 200.0, "anonymous": 60.0},
        "load_seconds": 1.5,
        "seconds": [1.0, 1.0, 4.0],
        "cpu_seconds": [2.0, 2.0, 8.0],
        "computed": {},
        "peak_pss_mb": 290.0,
        "native_heap_mb": None,
        "temperature_c": {"start": 25.0, "end": 41.5},
        "battery": {"start": 80, "end": 78},
        "loss_initial": 0.2,
        "loss_final": 0.1,
        **changes,
    }


def record(name: str = "int8 kotlin, Pixel", **changes: Any) -> dict[str, Any]:
    case = {"kind": "device", "client": "kotlin", "weights": "int8", "preset": "fast", "threads": 2, "max_batch": 1}
    case |= {"steps": 3, "steps_of_preset": 40, "forwards": 99, "file_mb": 11.8}
    return {
        "schema_version": 1,
        "command": ["edge-personalize-jvm measure"],
        "date": "2026-11-28",
        "machine": {"name": "Pixel", "system": "Android 16 (API 36)", "client": "edge-sdk 0.1.0 (Kotlin)"},
        "device": "cpu",
        "model": "pocket",
        "checkpoints": ["bundle"],
        "limit_mb": None,
        "results": {name: {"case": case, "runs": [run(**changes)]}},
    }


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_the_pace_is_that_of_the_first_the_median_and_the_last_step() -> None:
    result = record()["results"]["int8 kotlin, Pixel"]
    summary = summarize([*result["runs"], run(seconds=[3.0, 2.0, 6.0])], result["case"])
    assert {key: value["median"] for key, value in summary["step_seconds"].items()} == {
        "first": 2.0,
        "median": 2.0,
        "last": 5.0,
    }
    assert summary["forward_seconds"]["low"] == 1.0 / 33
    anonymous = {name: value["median"] for name, value in summary["anonymous_mb"].items()}
    assert summary["peak_mb"]["median"] == 310.0 and anonymous == {"load": 120.0, "learning": 140.0}


def test_what_a_device_does_not_tell_stays_unknown() -> None:
    unknown = {"temperature_c": {"start": None, "end": None}, "native_heap_mb": None, "peak_pss_mb": None}
    result = record(**unknown)["results"]["int8 kotlin, Pixel"]
    summary = summarize(result["runs"], result["case"])
    assert summary["native_heap_mb"] is None
    text = table({"row": result | {"summary": summary, "model": "pocket"}}, {})
    assert len({line.count("|") for line in text.splitlines()}) == 1  # as many cells as the head
    assert text.count("not told") == 3 and "80 -> 78" in text and "3 of 40" in text


def test_records_become_a_table_and_a_chart_beside_other_rows(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.json", record()), write(tmp_path / "b.json", record("int4 kotlin, Pixel"))
    output = tmp_path / "device.json"
    assert main(["benchmark", "device", str(first), str(second), "--output", str(output)]) == 0
    merged = json.loads(output.read_text())["results"]
    assert set(merged) == {"int8 kotlin, Pixel, pocket", "int4 kotlin, Pixel, pocket"}
    assert merged["int8 kotlin, Pixel, pocket"]["machine"]["name"] == "Pixel"
    text = output.with_suffix(".md").read_text()
    assert all(f"| {name}" in text for name in (*merged, *benchmark.CASES))
    assert output.with_suffix(".png").read_bytes()[1:4] == b"PNG"


FAULTS: dict[str, Any] = {
    "a list": [],
    "another version": record() | {"schema_version": 2},
    "no results": record() | {"results": {}},
    "a case of the memory benchmark": record() | {"results": {"a": {"case": {"kind": "ours"}, "runs": []}}},
    "fewer seconds than steps": record(seconds=[1.0]),
    "a negative time": record(seconds=[1.0, -1.0, 1.0]),
    "resident memory of nothing": record(phases={**run()["phases"], "step": PEAKS | {"resident": 0.0}}),
    "more anonymous than resident": record(phases={**run()["phases"], "step": PEAKS | {"anonymous": 400.0}}),
    "memory in words": record(peak_pss_mb="290 MB"),
    "no losses": record(loss_final=None),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_faulty_record_is_refused_in_one_line_and_nothing_is_written(
    fault: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = write(tmp_path / "a.json", fault), tmp_path / "device.json"
    good = write(tmp_path / "good.json", record("good"))
    assert main(["benchmark", "device", str(good), str(path), "--output", str(output)]) == 2
    error = capsys.readouterr().err
    assert str(path) in error and error.count("\n") == 1
    assert not output.exists()


def test_a_row_is_given_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", record())
    assert main(["benchmark", "device", str(path), str(path), "--output", str(tmp_path / "out.json")]) == 2


def test_a_file_that_is_cut_or_missing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text(json.dumps(record())[:100])
    for name in ("cut.json", "none.json"):
        with pytest.raises(EdgeSdkError, match=name):
            read_record(tmp_path / name)
