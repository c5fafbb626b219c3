"""What the memory benchmark says: medians, ratios to the usual ways, a table and a plot."""

from pathlib import Path
from typing import Any

from benchmarks.lib.report import bars, markdown, spread, spread_cell

TIMES = {"step_seconds": "seconds", "step_cpu_seconds": "cpu_seconds"}  # of a summary: of its runs
PHASES = ("import", "load", "step")
FINETUNE, INVERSION, LEAN = "DreamBooth Adam float32", "backprop float32", "backprop bfloat16 checkpointing"
# What is wanted of us for Stable Diffusion 1.5 at 512 pixels: at most so many MB, so many times less than a baseline.
WANTED_MB = {
    "ours int8 resident": 1250,
    "ours int8 streamed": 450,
    "ours int4 resident": 900,
    "ours int4 streamed": 400,
}
WANTED_BUNDLE_MB = {"bundle int8": 1150, "bundle int4": 750}  # anonymous
WANTED = {
    "ours int8 resident": {INVERSION: 5.0, LEAN: 2.3, FINETUNE: 12.0},
    "ours int8 streamed": {INVERSION: 12.0, LEAN: 6.0, FINETUNE: 30.0},
}


def summarize(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the repeats; what is computed is added to the step.

    ``peak_mb`` is that of the whole process. ``training_mb`` is what the step needs above what was loaded, without
    what is backed by a file: a mapped weight that the step reads is no training memory. On a GPU both count the memory
    that is reserved and allocated there.
    """
    good = [_completed(run) for run in runs if "failed" not in run]
    if not good:
        return {"failed": runs[0]["failed"]}
    whole, live = _measures(good[0])
    out: dict[str, Any] = {
        **({"load_seconds": spread([run["load_seconds"] for run in good])} if "load_seconds" in good[0] else {}),
        "peak_mb": spread([max(run["phases"][phase][whole] for phase in PHASES) for run in good]),
        "training_mb": spread([run["phases"]["step"][live] - run["loaded"][live] for run in good]),
        "peaks_mb": {
            phase: {key: spread([run["phases"][phase][key] for run in good]) for key in good[0]["phases"][phase]}
            for phase in PHASES
        },
    }
    if computed := good[0]["computed"]:
        return out | {"computed": True, "how": computed["how"]}
    return out | {name: spread([s for run in good for s in run[key]]) for name, key in TIMES.items()}


def _measures(run: dict[str, Any]) -> tuple[str, str]:
    """What counts as the memory of the whole process, and what as live."""
    return ("reserved", "allocated") if "reserved" in run["phases"]["step"] else ("resident", "anonymous")


def _completed(run: dict[str, Any]) -> dict[str, Any]:
    added = run["computed"].get("mb", 0.0)
    step = run["phases"]["step"] | {key: run["phases"]["step"][key] + added for key in _measures(run)}
    return run | {"phases": run["phases"] | {"step": step}}


def ratios(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """ours -> other case -> how many times the peak of its step is the peak of our whole process; of the medians.

    What loading took does not count for the others: they could load with more care.
    """
    shown = {name: r["summary"] for name, r in results.items() if "peak_mb" in r["summary"]}
    steps = {name: summary["peaks_mb"]["step"][_whole(shown)]["median"] for name, summary in shown.items()}
    return {
        ours: {name: mb / summary["peak_mb"]["median"] for name, mb in steps.items() if not name.startswith("ours")}
        for ours, summary in shown.items()
        if ours.startswith("ours")
    }


def _whole(shown: dict[str, Any]) -> str:
    on_gpu = any("reserved" in summary["peaks_mb"]["step"] for summary in shown.values())
    return "reserved" if on_gpu else "resident"


def table(results: dict[str, Any], with_aims: bool = True) -> str:
    """Markdown: peaks in MB, and seconds a step; then how many times the other cases' peaks are ours.

    Args:
        with_aims: beside what is wanted for Stable Diffusion 1.5.
    """
    shown = {name: r["summary"] for name, r in results.items() if "peak_mb" in r["summary"]}
    on_gpu = _whole(shown) == "reserved"
    head = ["case", *PHASES, "whole process", "step, anonymous", "training", "seconds a step", "processor seconds"]
    head += ["allocated on the GPU", "reserved"] if on_gpu else []
    rows = []
    for name, result in results.items():
        summary = result["summary"]
        if "failed" in summary:
            rows.append([name, summary["failed"], *[""] * (len(head) - 2)])
            continue
        peaks = summary["peaks_mb"]
        cells = [
            spread_cell(value, 0)
            for value in (
                *(peaks[phase]["resident"] for phase in PHASES),
                summary["peak_mb"],
                peaks["step"]["anonymous"],
                summary["training_mb"],
            )
        ]
        cells += [spread_cell(summary[key], 3 if on_gpu else 1) if key in summary else "" for key in TIMES]
        cells += [spread_cell(peaks["step"][key], 0) for key in ("allocated", "reserved")] if on_gpu else []
        rows.append([_label(name, summary), *cells])
    ours = ratios(results)
    parts = [markdown(head, rows)]
    if wanted := [
        [name, f"{shown[name]['peak_mb']['median']:.0f}", str(mb)]
        for name, mb in WANTED_MB.items()
        if name in shown and not on_gpu and with_aims
    ]:
        parts.append(markdown(["peak of the whole process, MB", "measured", "wanted at most"], wanted))
    others = [name for name in shown if not name.startswith("ours")]
    aims = WANTED if with_aims else {}
    if ours and others:
        lines = [
            [_label(other, shown[other]), *(_ratio(ours[name], aims.get(name, {}), other) for name in ours)]
            for other in others
        ]
        parts.append(markdown(["peak of the step, times the whole process of", *ours], lines))
    return "\n\n".join(parts)


def bundle_table(results: dict[str, Any]) -> str:
    """Markdown: bundles in ONNX Runtime beside ours in PyTorch; a step is two losses."""
    head = ["case", "files, MB", "load, s", "step, resident", "step, anonymous", "seconds a step"]
    rows = []
    for name, result in results.items():
        summary, case = result["summary"], result["case"]
        if "failed" in summary:
            rows.append([name, summary["failed"], *[""] * (len(head) - 2)])
            continue
        peaks = summary["peaks_mb"]["step"]
        cells = [
            spread_cell(value, places)
            for value, places in (
                (summary["load_seconds"], 1),
                (peaks["resident"], 0),
                (peaks["anonymous"], 0),
                (summary["step_seconds"], 1),
            )
        ]
        rows.append([name, f"{case['file_mb']:.0f}" if "file_mb" in case else "", *cells])
    wanted = [
        [name, f"{results[name]['summary']['peaks_mb']['step']['anonymous']['median']:.0f}", str(mb)]
        for name, mb in WANTED_BUNDLE_MB.items()
        if "peaks_mb" in results.get(name, {"summary": {}})["summary"]
    ]
    text = markdown(head, rows)
    return text + "\n\n" + markdown(["anonymous memory of a step, MB", "measured", "wanted at most"], wanted)


def _ratio(measured: dict[str, float], wanted: dict[str, float], other: str) -> str:
    times = f"{measured[other]:.{2 if measured[other] < 10 else 1}f}x"
    return times + (f" (wanted {wanted[other]:g}x)" if other in wanted else "")


def _label(name: str, summary: dict[str, Any]) -> str:
    return f"{name} (computed)" if summary.get("computed") else name


def plot(results: dict[str, Any], path: Path) -> None:
    """A bar a case: the peak of the step, and paler what loading took beyond it; hatched what is computed."""
    shown = {_label(name, r["summary"]): r["summary"] for name, r in results.items() if "peak_mb" in r["summary"]}
    whole = _whole(shown)
    what = {"resident": "peak resident memory, whole process", "reserved": "peak memory reserved on the GPU"}[whole]
    bars(
        {name: s["peaks_mb"]["step"][whole]["median"] for name, s in shown.items()},
        path,
        f"{what}, MB: of a training step, and paler of loading where it takes more",
        longer={name: s["peak_mb"]["median"] for name, s in shown.items()},
        hatched={name for name, s in shown.items() if s.get("computed")},
    )
