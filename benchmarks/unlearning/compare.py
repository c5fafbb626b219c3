"""Who forgets more at the same drift: tables and the plot, from the rows of a benchmark."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import interval, markdown, pyplot

Row = dict[str, Any]
DRIFTS = (0.02, 0.05, 0.1)


def frontier(rows: list[Row], drift: float, key: str = "target_similarity") -> float:
    """The least value of a method within a drift, straight lines between its runs' best points.

    Args:
        rows: of one method, target and seed, over strengths and steps, with the base's.
    """
    points = sorted((r["drift"], r[key]) for r in rows)
    x, best = np.array([p[0] for p in points]), np.minimum.accumulate([p[1] for p in points])
    return float(np.interp(drift, x, best))


class Rows:
    """What a benchmark measured, by method, target and seed."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.all: list[Row] = record["rows"]
        self.base = {int(person): row for person, row in record["base"].items()}
        self.methods = list(dict.fromkeys(r["method"] for r in self.all))
        self.people = sorted({r["person"] for r in self.all})

    def seeds(self, method: str, person: int) -> list[int]:
        return sorted({r["seed"] for r in self.all if (r["method"], r["person"]) == (method, person)})

    def at(self, method: str, drift: float) -> np.ndarray:
        """Target similarity within a drift, (people, seeds)."""
        out = []
        for person in self.people:
            own = [r for r in self.all if (r["method"], r["person"]) == (method, person)]
            start = {**self.base[person], "drift": 0.0}
            out.append([frontier([start, *(r for r in own if r["seed"] == seed)], drift)
                        for seed in self.seeds(method, person)])  # fmt: skip
        return np.array(out)


def comparison(record: dict[str, Any], ours: str) -> str:
    """Markdown: each method's target similarity at fixed drifts, and on how many targets ours is lower."""
    rows, lines = Rows(record), []
    for method in rows.methods:
        cells = [method]
        for drift in DRIFTS:
            found = interval(rows.at(method, drift).mean(axis=1))
            cells.append(f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]")
        beside = ""
        if method != ours and ours in rows.methods:
            mine, other = rows.at(ours, DRIFTS[1]), rows.at(method, DRIFTS[1])
            gaps = mine[:, : other.shape[1]] - other[:, : mine.shape[1]]
            found, wins = interval(gaps.mean(axis=1)), int((gaps.max(axis=1) < 0).sum())
            beside = f"{found['mean']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}], {wins} of {len(rows.people)}"
        lines.append([*cells, beside])
    head = ["method", *(f"target similarity at drift {d:g}" for d in DRIFTS),
            f"{ours} beside it at {DRIFTS[1]:g}; targets on which every seed is lower"]  # fmt: skip
    start = np.mean([b["target_similarity"] for b in record["base"].values()])
    return markdown(head, lines) + f"\n\nBefore unlearning: {start:.3f}. Mean [95 % interval over targets]."


def plot(record: dict[str, Any], path: Path) -> None:
    """Forgetting against drift: every run's points, and each method's lower edge in the mean over targets."""
    plt, rows = pyplot(), Rows(record)
    figure, axis = plt.subplots(figsize=(8, 5))
    drifts = np.geomspace(0.005, 0.5, 30)
    for method in rows.methods:
        own = [r for r in rows.all if r["method"] == method]
        drawn = axis.plot([r["drift"] for r in own], [r["target_similarity"] for r in own], "o", ms=2, alpha=0.3)
        mean = [rows.at(method, drift).mean() for drift in drifts]
        axis.plot(drifts, mean, color=drawn[0].get_color(), label=method)
    axis.set(xlabel="drift of free samples of everyone else", ylabel="similarity of reconstructions to the target")
    axis.set_xscale("log")
    axis.set_xlim(0.004, 0.6)
    axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
