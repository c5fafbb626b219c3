"""What the quality benchmark says: intervals paired by subject, a table, plots."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.intervals import Row, by_subject, interval, interval_cell
from benchmarks.lib.report import markdown, pyplot, save_figure, spread, spread_cell

COLUMNS = {
    "share_of_loss_learned": "share of the loss, noise included, that the token takes away",
    "share_of_backprop_decrease": "share of backprop's loss decrease",
    "attributes": "attributes right",
    "share_of_backprop_attributes": "share of backprop's",
    "picked_of_12": "picked of 12",
    "background": "background right",
}


def summarize(results: dict[str, dict[str, Any]], noise: float = 0.0) -> None:
    """Add intervals to every configuration, paired by subject where two configurations are compared.

    The loss decrease of a configuration is that from the initializer word on the same weights.

    Args:
        noise: its variance while tokens are learned; the measured losses are without.
    """
    best = results.get("backprop-float")
    starts = {(r["weights"], r["execution"]): r for name, r in results.items() if name.startswith("initializer-")}
    for result in results.values():
        rows = result["runs"]
        measured = [k for k in ("loss", "attributes", "picked_of_12", "background") if k in rows[0]]
        summary = {k: interval(by_subject(rows, k)) for k in measured}
        start = starts.get((result["weights"], result["execution"]))
        if start is not None:
            decrease = by_subject(start["runs"], "loss") - by_subject(rows, "loss")
            summary["decrease"] = interval(decrease)
            summary["share_of_loss_learned"] = interval(decrease, by_subject(start["runs"], "loss") + noise)
            if best is not None:
                full = by_subject(results["initializer-float"]["runs"], "loss") - by_subject(best["runs"], "loss")
                summary["share_of_backprop_decrease"] = interval(decrease, full)
        if best is not None and "attributes" in summary and "attributes" in best["runs"][0]:
            shares = (by_subject(r["runs"], "attributes") for r in (result, best))
            summary["share_of_backprop_attributes"] = interval(*shares)
        result["summary"] = summary


def table(results: dict[str, dict[str, Any]]) -> str:
    """A Markdown table: mean [95 % interval]."""
    head = ["configuration", "forwards", "seconds", "loss, unseen", *COLUMNS.values()]
    rows = []
    for name, result in results.items():
        clock = spread_cell(spread(result["seconds"]), 0) if result["seconds"] else ""
        cells = [interval_cell(result["summary"].get("loss"), 4)]
        cells += [interval_cell(result["summary"].get(key)) for key in COLUMNS]
        rows.append([name, str(result["forwards"]), clock, *cells])
    return markdown(head, rows)


def plot(results: dict[str, dict[str, Any]], chance: Row, path: Path) -> None:
    """A panel a measure, a line a configuration: mean, 95 % interval, and chance as a dashed line."""
    plt = pyplot()
    names = list(results)[::-1]
    figure, panels = plt.subplots(1, len(COLUMNS), figsize=(13, 1.2 + 0.32 * len(names)), sharey=True)
    colors = {"initializer": "#9a9a9a", "backprop": "#222222", "fast": "#d8262c", "paper": "#2b5fd9", "adam": "#d88a2c"}
    colors["evolution"] = "#2f9e44"
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
        panel.set_xlim(-0.05, 1.15 if key.startswith("share") else 1.05)
    panels[0].set_yticks(range(len(names)), names, fontsize=9)
    save_figure(figure, path, 90)


def curves(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Loss on unseen draws against forward passes and against seconds, a line a configuration."""
    plt = pyplot()
    shown = {name: r for name, r in results.items() if len(r["curve"]["forwards"]) > 1}
    figure, panels = plt.subplots(1, 2, figsize=(12, 4.6), sharey=True)
    for i, (name, result) in enumerate(shown.items()):
        forwards, loss = (np.array(result["curve"][key]) for key in ("forwards", "loss"))
        style = {"color": plt.colormaps["tab20"](i % 20), "marker": "o", "ms": 3, "label": name}
        panels[0].plot(forwards, loss, **style)
        if result["seconds"]:
            panels[1].plot(forwards * np.median(result["seconds"]) / result["forwards"], loss, **style)
    for panel, label in zip(
        panels, ("forward passes (of backpropagation: each with a backward pass)", "seconds"), strict=True
    ):
        panel.set_xscale("log")
        panel.set_xlabel(label, fontsize=9)
        panel.grid(color="#eeeeee")
    panels[0].set_ylabel("loss on unseen draws", fontsize=9)
    if shown:
        panels[0].legend(fontsize=7)
    save_figure(figure, path, 100)
