"""What device records say: medians, how pace and temperature changed, a table and a chart."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.report import OTHER, OURS, markdown, pyplot, save_figure, spread

FORWARDS_BESIDE = 2  # a step of the memory benchmark is a central difference
UNKNOWN = "not told"


def summarize(runs: list[dict[str, Any]], case: dict[str, Any]) -> dict[str, Any]:
    """Medians over the runs, in MB and seconds; of a run's steps the first, the median and the last.

    An entry that no run knows is None.
    """
    per_step = case["forwards"] / case["steps"]
    first, last = ([run["seconds"][i] for run in runs] for i in (0, -1))
    return {
        "peak_mb": spread([max(peaks["resident"] for peaks in run["phases"].values()) for run in runs]),
        "anonymous_mb": {
            name: _known([_most(run["phases"], phases) for run in runs])
            for name, phases in {"load": ("import", "load"), "learning": ("step", "run")}.items()
        },
        "peak_pss_mb": _known([run["peak_pss_mb"] for run in runs]),
        "native_heap_mb": _known([run["native_heap_mb"] for run in runs]),
        "step_seconds": {
            "first": spread(first),
            "median": spread([float(np.median(run["seconds"])) for run in runs]),
            "last": spread(last),
        },
        "forward_seconds": spread([float(np.median(run["seconds"])) / per_step for run in runs]),
        "forward_cpu_seconds": spread([float(np.median(run["cpu_seconds"])) / per_step for run in runs]),
        "load_seconds": spread([run["load_seconds"] for run in runs]),
        "loss_initial": spread([run["loss_initial"] for run in runs]),
        "loss_final": spread([run["loss_final"] for run in runs]),
    }


def _most(phases: dict[str, dict[str, Any]], names: Sequence[str]) -> float | None:
    """Anonymous memory of the larger of two phases."""
    return max((phases[name]["anonymous"] for name in names if phases[name]["anonymous"] is not None), default=None)


def _known(values: list[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    return spread(known) if known else None


def table(results: dict[str, Any], beside: dict[str, Any]) -> str:
    """Markdown: one row a device record, then rows of the memory benchmark."""
    head = ["row, model", "peak resident, MB", "anonymous: loading", "learning", "PSS", "native heap", "steps"]
    head += ["s a step: first, median, last", "s a forward pass", "processor s"]
    head += ["battery temperature, C", "battery, %", "held-out loss"]
    rows = [_device_row(name, result) for name, result in results.items()]
    rows += [_row_beside(name, result) for name, result in beside.items()]
    return markdown(head, rows)


def _device_row(name: str, result: dict[str, Any]) -> list[str]:
    summary, case, run = result["summary"], result["case"], result["runs"][-1]
    steps = f"{case['steps']}" + ("" if case["steps"] == case["steps_of_preset"] else f" of {case['steps_of_preset']}")
    pace = (summary["step_seconds"][key]["median"] for key in ("first", "median", "last"))
    return [
        name,
        _cell(summary["peak_mb"], 0),
        _cell(summary["anonymous_mb"]["load"], 0),
        _cell(summary["anonymous_mb"]["learning"], 0),
        _cell(summary["peak_pss_mb"], 0),
        _cell(summary["native_heap_mb"], 0),
        steps,
        ", ".join(f"{seconds:.2f}" for seconds in pace),
        _cell(summary["forward_seconds"], 3),
        _cell(summary["forward_cpu_seconds"], 3),
        _ends(run["temperature_c"]),
        _ends(run["battery"]),
        f"{summary['loss_initial']['median']:.4f} -> {summary['loss_final']['median']:.4f}",
    ]


def _row_beside(name: str, result: dict[str, Any]) -> list[str]:
    summary = result["summary"]
    peaks = [summary["peaks_mb"][phase]["anonymous"]["median"] for phase in ("load", "step")]
    seconds, cpu_seconds = (summary[key]["median"] for key in ("step_seconds", "step_cpu_seconds"))
    cells = [
        f"{name}, Python, {result['model']}",
        f"{summary['peak_mb']['median']:.0f}",
        *(f"{mb:.0f}" for mb in peaks),
    ]
    cells += ["", "", "", f"{seconds:.2f} ({FORWARDS_BESIDE} forward passes)"]
    return [*cells, f"{seconds / FORWARDS_BESIDE:.3f}", f"{cpu_seconds / FORWARDS_BESIDE:.3f}", "", "", ""]


def _cell(value: dict[str, float] | None, digits: int) -> str:
    if value is None:
        return UNKNOWN
    middle = f"{value['median']:.{digits}f}"
    return middle if value["n"] == 1 else f"{middle} ({value['low']:.{digits}f}-{value['high']:.{digits}f})"


def _ends(value: dict[str, float | None]) -> str:
    ends = [value["start"], value["end"]]
    return UNKNOWN if None in ends else f"{ends[0]:.0f} -> {ends[1]:.0f}"


def plot(results: dict[str, Any], beside: dict[str, Any], path: Path) -> None:
    """A panel a model, a bar a row: resident memory at its peak, and darker its anonymous part."""
    rows = [
        (result["model"], name.removesuffix(f", {result['model']}"), _bar(result["summary"]), OURS)
        for name, result in results.items()
    ]
    for name, result in beside.items():
        peaks = result["summary"]["peaks_mb"]["step"]
        measured = (result["summary"]["peak_mb"]["median"], peaks["anonymous"]["median"])
        rows.append((result["model"], f"{name}, Python", measured, OTHER))
    models = list(dict.fromkeys(row[0] for row in rows))
    counts = [sum(row[0] == model for row in rows) for model in models]
    plt = pyplot()
    size = (9, 0.4 * len(rows) + 0.8 * len(models) + 0.6)
    figure, axes = plt.subplots(len(models), figsize=size, height_ratios=counts, squeeze=False)
    for model, axis in zip(models, axes[:, 0], strict=True):
        shown = [row for row in rows if row[0] == model][::-1]
        for y, (_, _, (resident, anonymous), color) in enumerate(shown):
            axis.barh(y, resident, color=color, alpha=0.35, height=0.7)
            axis.barh(y, anonymous or 0, color=color, height=0.7)
            said = f"{resident:.0f}" + ("" if anonymous is None else f", anonymous {anonymous:.0f}")
            axis.text(resident, y, f" {said}", va="center", fontsize=8)
        axis.set_yticks(range(len(shown)), [row[1] for row in shown], fontsize=8)
        axis.set_title(model, fontsize=9, loc="left")
        axis.margins(x=0.35, y=0.05)
        axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("peak memory of the process, MB; darker: anonymous while it learns", fontsize=9)
    save_figure(figure, path, 120)


def _bar(summary: dict[str, Any]) -> tuple[float, float | None]:
    anonymous = summary["anonymous_mb"]["learning"]
    return summary["peak_mb"]["median"], anonymous["median"] if anonymous else None
