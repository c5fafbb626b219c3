"""The figures of the memory benchmark are made of its runs as they say."""

from pathlib import Path
from typing import Any

from benchmarks.memory.report import FINETUNE, plot, ratios, summarize, table


def run(load: float, step: float, seconds: float = 1.0, computed_mb: float = 0.0, gpu: bool = False) -> dict[str, Any]:
    on_gpu = {"allocated": 7.0, "reserved": 9.0} if gpu else {}
    phases = {
        name: {"resident": peak, "anonymous": peak - 100.0, "file": 100.0, **on_gpu}
        for name, peak in (("import", 300.0), ("load", load), ("step", step))
    }
    computed = {"mb": computed_mb, "how": "added"} if computed_mb else {}
    loaded = {"resident": 350.0, "anonymous": 220.0, "allocated": 5.0}
    return {
        "phases": phases,
        "loaded": loaded,
        "seconds": [seconds, 2 * seconds],
        "cpu_seconds": [3.0],
        "computed": computed,
    }


def result(*runs: dict[str, Any]) -> dict[str, Any]:
    return {"runs": list(runs), "summary": summarize(list(runs))}


def test_medians_are_over_the_repeats_and_the_whole_process_is_the_largest_phase() -> None:
    summary = summarize([run(900, 500), run(800, 1000, seconds=4), run(850, 400), {"failed": "killed for memory"}])
    assert summary["peak_mb"] == {"median": 900, "low": 850, "high": 1000, "n": 3}
    assert summary["peaks_mb"]["step"]["resident"] == {"median": 500, "low": 400, "high": 1000, "n": 3}
    assert summary["training_mb"]["median"] == 500 - 100 - 220  # anonymous, above what was loaded
    assert summary["step_seconds"]["n"] == 6 and summary["step_seconds"]["high"] == 8
    assert summarize([{"failed": "killed for memory"}]) == {"failed": "killed for memory"}


def test_what_is_computed_is_added_to_the_step_only_and_said() -> None:
    summary = summarize([run(900, 1000, computed_mb=5000)])
    assert summary["computed"] and summary["how"] == "added" and "step_seconds" not in summary
    assert (summary["peak_mb"]["median"], summary["training_mb"]["median"]) == (6000, 1000 - 100 - 220 + 5000)
    step = summary["peaks_mb"]["step"]
    assert (step["resident"]["median"], step["anonymous"]["median"], step["file"]["median"]) == (6000, 5900, 100)
    assert summary["peaks_mb"]["load"]["resident"]["median"] == 900


def test_on_a_gpu_its_memory_counts() -> None:
    summary = summarize([run(900, 1000, gpu=True)])
    assert (summary["peak_mb"]["median"], summary["training_mb"]["median"]) == (9, 2)


def test_ratios_and_what_is_wanted_stand_in_the_table(tmp_path: Path) -> None:
    results = {
        "ours int8 streamed": result(run(400, 500)),
        "backprop float32": result(run(7000, 6000)),  # loading does not count for it
        FINETUNE: result(run(4000, 7000, computed_mb=10000)),
        "quanto int8 as it comes": result({"failed": "killed for memory"}),
    }
    assert ratios(results) == {"ours int8 streamed": {"backprop float32": 12.0, FINETUNE: 34.0}}
    text = table(results)
    assert "| backprop float32 | 12.0x (wanted 12x) |" in text
    assert f"| {FINETUNE} (computed) | 34.0x (wanted 30x) |" in text
    assert "| ours int8 streamed | 500 | 450 |" in text
    assert "| quanto int8 as it comes | killed for memory |" in text
    assert "wanted" not in table(results, with_aims=False) and "| 12.0x |" in table(results, with_aims=False)
    plot(results, tmp_path / "memory.png")
    assert (tmp_path / "memory.png").stat().st_size > 1000
