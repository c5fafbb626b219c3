"""What the runs say: scores with intervals over subjects, memory and time; a chart; a sheet of pictures."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.dreambooth.subjects import Subject
from benchmarks.lib.intervals import by_subject, interval
from benchmarks.lib.report import OTHER, OURS, markdown, pyplot, save_figure
from edge_sdk.images import contact_sheet, save_png

SCORES = {"clip_t": "CLIP-T", "clip_i": "CLIP-I", "dino": "DINO"}
COLUMNS, SIDE = 5, 128  # pictures a row of the sheet, pixels of each


def summarize(runs: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """method -> score -> mean and 95 % interval over subjects; seeds are averaged first."""
    methods = dict.fromkeys(run["method"] for run in runs)
    return {
        method: {key: interval(by_subject([r for r in runs if r["method"] == method], key)) for key in SCORES}
        for method in methods
    }


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: a row a method."""
    head = ["method", "subjects", *SCORES.values(), "forward passes", "minutes", "peak memory, MB"]
    rows = []
    for method, values in summarize(runs).items():
        own = [run for run in runs if run["method"] == method]
        cells = [f"{value['mean']:.3f} ({value['low']:.3f}-{value['high']:.3f})" for value in values.values()]
        memory = "peak_cuda_mb" if all("peak_cuda_mb" in run for run in own) else "peak_rss_mb"
        peaks = [_most(run[memory]) for run in own]
        rows.append(
            [
                method,
                str(len({run["subject"] for run in own})),
                *cells,
                f"{np.median([run['unet_forwards'] for run in own]):.0f}",
                f"{np.median([run['seconds'] for run in own]) / 60:.1f}",
                f"{np.median(peaks):.0f}",
            ]
        )
    return markdown(head, rows)


def _most(value: Any) -> float:
    return max(value.values()) if isinstance(value, dict) else float(value)


def chart(runs: list[dict[str, Any]], path: Path) -> None:
    """A panel a score, a point a method with its interval."""
    summary = summarize(runs)
    plt = pyplot()
    figure, axes = plt.subplots(1, len(SCORES), figsize=(9, 0.5 * len(summary) + 1.4), sharey=True)
    for axis, (key, title) in zip(axes, SCORES.items(), strict=True):
        for y, (method, values) in enumerate(summary.items()):
            value, color = values[key], OTHER if method == "backprop" else OURS
            axis.plot([value["low"], value["high"]], [y, y], color=color)
            axis.plot(value["mean"], y, "o", color=color)
        axis.set_yticks(range(len(summary)), list(summary))
        axis.set_title(title, fontsize=9)
        axis.margins(y=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path, 120)


def sheet(subject: Subject, folders: dict[str, Path], path: Path) -> None:
    """Photos of a subject, and below them each method's pictures of the first prompts. Holds the photos: not shared."""
    rows = [("photos", [_small(photo) for photo in subject.photos[:COLUMNS]])]
    rows += [
        (method, [_small(picture) for picture in sorted(folder.glob("*-0.png"))[:COLUMNS]])
        for method, folder in folders.items()
    ]
    save_png(contact_sheet(rows), path)


def _small(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB").resize((SIDE, SIDE))
