"""What benchmark results have in common: the machine they were made on, intervals, tables and plots."""

import os
import platform
from collections.abc import Collection, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.files import write_bytes

Row = dict[str, float]  # one run: subject, seed and what was measured
PACKAGES = ("torch", "diffusers", "transformers", "optimum-quanto", "peft", "torchao", "numpy")
ENVIRONMENT = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "EDGE_SDK_NATIVE")
OURS, OTHER = "#d62728", "#4c6a92"
RESAMPLES = 2000
COLUMNS = {
    "share_of_backprop_decrease": "share of backprop's loss decrease",
    "attributes": "attributes right",
    "picked_of_12": "picked of 12",
    "background": "background right",
}


def machine() -> dict[str, str]:
    """Processor, versions, and the settings of the environment that change times."""
    cpus = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "cpu": f"{len(cpus)} x {cpus[0]}",
        "python": platform.python_version(),
        **{found.name: found.version for found in distributions() if found.name in PACKAGES},
        **{name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most over the repeats."""
    return {"median": float(np.median(values)), "low": min(values), "high": max(values), "n": len(values)}


def spread_cell(value: dict[str, float], digits: int) -> str:
    return f"{value['median']:.{digits}f} ({value['low']:.{digits}f}-{value['high']:.{digits}f})"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def say(text: str, command: str, output: Path) -> None:
    """Print what a benchmark found, and write it beside its record as Markdown."""
    print(text)
    write_bytes(output.with_suffix(".md"), f"`{command}`\n\n{text}\n".encode())


def pyplot() -> Any:
    """matplotlib's, drawing into files."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def save_figure(figure: Any, path: Path, dpi: int = 110) -> None:
    """Write a figure as a picture and free it."""
    figure.tight_layout()
    figure.savefig(path, dpi=dpi)
    pyplot().close(figure)


def by_subject(rows: Sequence[Row], key: str) -> np.ndarray:
    """Mean over the seeds of every subject, (subjects,), in the order of subjects."""
    subjects = sorted({row["subject"] for row in rows})
    return np.array([np.mean([row[key] for row in rows if row["subject"] == s]) for s in subjects])


def interval(values: np.ndarray, divide_by: np.ndarray | None = None) -> dict[str, float]:
    """Mean and 95 % bootstrap interval over subjects; with ``divide_by`` of the ratio of two paired sums."""
    picks = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    below = np.ones_like(values) if divide_by is None else divide_by
    low, high = np.quantile(values[picks].sum(1) / below[picks].sum(1), [0.025, 0.975])
    return {"mean": float(values.sum() / below.sum()), "low": float(low), "high": float(high)}


def summarize(results: dict[str, dict[str, Any]]) -> None:
    """Add intervals to every configuration, paired by subject where two configurations are compared.

    The loss decrease of a configuration is that from the initializer word on the same weights.
    """
    best = results.get("backprop-float")
    for name, result in results.items():
        rows = result["runs"]
        summary = {k: interval(by_subject(rows, k)) for k in ("loss", "attributes", "picked_of_12", "background")}
        start = results.get("initializer-" + name.split("-", 1)[1])
        if start is not None:
            decrease = by_subject(start["runs"], "loss") - by_subject(rows, "loss")
            summary["decrease"] = interval(decrease)
            if best is not None:
                full = by_subject(results["initializer-float"]["runs"], "loss") - by_subject(best["runs"], "loss")
                summary["share_of_backprop_decrease"] = interval(decrease, full)
        result["summary"] = summary


def table(results: dict[str, dict[str, Any]]) -> str:
    """A Markdown table: mean [95 % interval]."""
    head = ["configuration", "forwards", "seconds", "loss, unseen", *COLUMNS.values()]
    rows = []
    for name, result in results.items():
        clock = spread_cell(spread(result["seconds"]), 0) if result["seconds"] else ""
        cells = [_cell(result["summary"].get("loss"), 4)]
        cells += [_cell(result["summary"].get(key), 3) for key in COLUMNS]
        rows.append([name, str(result["forwards"]), clock, *cells])
    return markdown(head, rows)


def _cell(value: Row | None, digits: int) -> str:
    if value is None:
        return ""
    return f"{value['mean']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def plot(results: dict[str, dict[str, Any]], chance: Row, path: Path) -> None:
    """A panel a measure, a line a configuration: mean, 95 % interval, and chance as a dashed line."""
    plt = pyplot()
    names = list(results)[::-1]
    figure, panels = plt.subplots(1, len(COLUMNS), figsize=(13, 1.2 + 0.32 * len(names)), sharey=True)
    colors = {"initializer": "#9a9a9a", "backprop": "#222222", "fast": "#d8262c", "paper": "#2b5fd9"}
    for panel, (key, title) in zip(panels, COLUMNS.items(), strict=True):
        for y, name in enumerate(names):
            value = results[name]["summary"].get(key)
            if value is None:
                continue
            panel.plot([value["low"], value["high"]], [y, y], color=colors[name.split("-")[0]], lw=2)
            panel.plot(value["mean"], y, "o", color=colors[name.split("-")[0]])
        if key in chance:
            panel.axvline(chance[key], color="#bbbbbb", ls="--", lw=1)
        panel.set_title(title, fontsize=10)
        panel.grid(axis="x", color="#eeeeee")
        panel.set_xlim(-0.05, 1.15 if key == "share_of_backprop_decrease" else 1.05)
    panels[0].set_yticks(range(len(names)), names, fontsize=9)
    save_figure(figure, path, 90)


def bars(
    values: dict[str, float], path: Path, label: str, digits: int = 0, longer: dict[str, float] | None = None,
    hatched: Collection[str] = (),
) -> None:  # fmt: skip
    """Horizontal bars with their values written beside them; ours have their own colour.

    Args:
        longer: a second, paler bar behind each, where it is longer; its value is written then.
        hatched: the bars that were not measured.
    """
    plt = pyplot()
    names = list(values)[::-1]
    figure, axis = plt.subplots(figsize=(9, 0.36 * len(names) + 1.1))
    for y, name in enumerate(names):
        color = OURS if name.startswith("ours") else OTHER
        end = max(values[name], (longer or values)[name])
        axis.barh(y, end, color=color, alpha=0.35, height=0.7)
        drawn = axis.barh(y, values[name], color=color, height=0.7)
        if name in hatched:
            drawn[0].set(facecolor="white", edgecolor=color, hatch="///")
        written = f"{values[name]:.{digits}f}"
        if end > 1.005 * values[name]:
            written += f", loading {end:.{digits}f}"
        axis.text(end, y, f" {written}", va="center", fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=9)
    figure.supxlabel(label, fontsize=9)  # across the figure: names take a third of it
    axis.margins(x=0.2, y=0.02)
    axis.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path, 120)
