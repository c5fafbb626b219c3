"""Who forgets more at the same drift: tables and the plot, from the rows of a benchmark."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.lib.intervals import interval_cell, sign_test, t_interval
from benchmarks.lib.report import markdown, pyplot, save_figure
from edge_sdk.images import save_png, to_pil

Row = dict[str, Any]
PICTURES = Path("benchmarks/work/unlearning_pictures")
DRIFTS = (0.04, 0.06, 0.08)


def frontier(rows: list[Row], drift: float) -> float:
    """The least target similarity of a method within a drift, straight lines between its runs' best points.

    Args:
        rows: of one method, target and seed, over strengths, with the base's.
    """
    points = sorted((r["drift"], r["target_similarity"]) for r in rows)
    x, best = np.array([p[0] for p in points]), np.minimum.accumulate([p[1] for p in points])
    return float(np.interp(drift, x, best))


def run_of(row: Row) -> tuple[float, float]:
    """Strength and learning rate of a row."""
    return row["strength"], row["learning_rate"]


def grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """Rows by a key, in the order in which keys come."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


class Rows:
    """What a benchmark measured, by method, target and seed."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.all: list[Row] = record["rows"]
        self.base = {int(person): row for person, row in record["base"].items()}
        self.methods = list(dict.fromkeys(r["method"] for r in self.all))
        self.people = sorted({r["person"] for r in self.all})

    def runs(self, method: str) -> dict[tuple[int, int], list[Row]]:
        """A method's rows by person and seed."""
        own = (row for row in self.all if row["method"] == method)
        return dict(sorted(grouped(own, lambda row: (row["person"], row["seed"])).items()))

    def at(self, method: str, drift: float) -> dict[tuple[int, int], float]:
        """Target similarity within a drift, by person and seed."""
        return {
            key: frontier([{**self.base[key[0]], "drift": 0.0}, *own], drift) for key, own in self.runs(method).items()
        }

    def measured(self, method: str, drift: float) -> float:
        """Of targets and seeds, the share for which a method has a run within a drift, not only the base."""
        return float(np.mean([min(row["drift"] for row in own) <= drift for own in self.runs(method).values()]))


def by_person(values: dict[tuple[int, int], float]) -> list[list[float]]:
    """All seeds' values of each person."""
    people = sorted({person for person, _ in values})
    return [[value for (person, _), value in values.items() if person == one] for one in people]


def spread_over(values: list[float], sign: str = "") -> str:
    """Mean and t interval over targets, of one target the value alone."""
    if len(values) < 2:
        return f"{values[0]:{sign}.3f}"
    return interval_cell(t_interval(values), sign=sign)


def comparison(record: dict[str, Any], ours: str) -> str:
    """Markdown: each method's target similarity at fixed drifts, and on how many targets ours is lower."""
    rows, lines = Rows(record), []
    for method in rows.methods:
        cells = [method]
        for drift in DRIFTS:
            cells.append(spread_over([float(np.mean(seeds)) for seeds in by_person(rows.at(method, drift))]))
        beside = ""
        if method != ours and ours in rows.methods:
            mine, other = rows.at(ours, DRIFTS[1]), rows.at(method, DRIFTS[1])
            gaps = by_person({key: mine[key] - other[key] for key in mine if key in other})
            means, wins = [float(np.mean(seeds)) for seeds in gaps], sum(max(seeds) < 0 for seeds in gaps)
            beside = f"{spread_over(means, '+')}, {wins} of {len(gaps)}, p = {sign_test(means):.3f}"
        lines.append([*cells, f"{rows.measured(method, DRIFTS[1]):.0%}", beside])
    head = [
        "method",
        *(f"target similarity at drift {d:g}" for d in DRIFTS),
        f"has a run within {DRIFTS[1]:g}",
        f"{ours} beside it at {DRIFTS[1]:g}; targets on which every seed is lower; sign test of the targets' means",
    ]
    start = np.mean([b["target_similarity"] for b in record["base"].values()])
    return (
        markdown(head, lines)
        + f"\n\nBefore unlearning: {start:.3f}. Mean [95 % t interval over targets]. Between two runs, and "
        "between the base and a first run, straight lines."
    )


COSTS = {
    "target similarity": "target_similarity",
    "drift": "drift",
    "its 95 % quantile": "worst_drift",
    "drift at int8": "drift_int8",
    "drift at int4": "drift_int4",
    "KID of samples, pixels": "kernel_distance",
    "samples most like the target, upper 95 %": "samples_like_target_at_most",
    "neighbours' drift": "neighbour_drift",
    "person in unseen views": "person_in_unseen",
    "rise of held-out loss": "kept_rise",
    "distance to the reference": "distance_to_reference",
    "steps without a rise of the retain loss": "without_rise",
}
ROUNDED = {"at int8": "target_similarity_int8", "at int4": "target_similarity_int4"}


def costs(record: dict[str, Any]) -> str:
    """Markdown: means of everything over targets and seeds, by method and run; what rounding does, its largest."""
    rows = Rows(record)
    head = {title: key for title, key in COSTS.items() if any(key in r for r in rows.all)}
    known = {title: key for title, key in ROUNDED.items() if any(key in r for r in rows.all)}
    before, lines = list(rows.base.values()), []
    runs = grouped(rows.all, lambda row: (row["method"], *(f"{value:g}" for value in run_of(row))))
    groups = {("before", "", ""): before, **runs}
    for name, own in groups.items():
        cells = [*name, str(len(own))]
        cells += [f"{np.mean([r[key] for r in own]):.4f}" if key in own[0] else "" for key in head.values()]
        for key in known.values():
            changes = [r[key] - r["target_similarity"] for r in own if key in r]  # of ours only
            cells.append(f"{np.mean(changes):+.3f}, at most {max(map(abs, changes)):.3f}" if changes else "")
        lines.append(cells)
    spread = np.mean([b["neighbour_spread"] for b in before])
    low, high = np.mean([b["kept_loss_interval"] for b in before], axis=0)
    return (
        markdown(["method", "strength", "learning rate", "runs", *head, *known], lines)
        + f"\n\nThe base's own reconstructions of a neighbour differ by {spread:.3f} from noise to noise. "
        f"Its held-out loss has a 95 % interval of [{low:+.1%}, {high:+.1%}] over noised pictures."
    )


def plot(record: dict[str, Any], path: Path) -> None:
    """Forgetting against drift: every run's points, and each method's lower edge in the mean over targets."""
    plt, rows = pyplot(), Rows(record)
    figure, axis = plt.subplots(figsize=(8, 5))
    drifts = np.geomspace(0.005, 0.5, 30)
    for method in rows.methods:
        own = [r for r in rows.all if r["method"] == method]
        drawn = axis.plot([r["drift"] for r in own], [r["target_similarity"] for r in own], "o", ms=2, alpha=0.3)
        mean = [np.mean(list(rows.at(method, drift).values())) for drift in drifts]
        axis.plot(drifts, mean, color=drawn[0].get_color(), label=method)
    axis.set(xlabel="drift of free samples of everyone else", ylabel="similarity of reconstructions to the target")
    axis.set_xscale("log")
    axis.set_xlim(0.004, 0.6)
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    save_figure(figure, path)


def plot_losses(record: dict[str, Any], path: Path) -> None:
    """Denoising loss of held-out pictures by timestep, over the base's: means of the runs that forget most."""
    plt, rows = pyplot(), Rows(record)
    figure, axis = plt.subplots(figsize=(8, 4))
    for method in rows.methods:
        runs = grouped((row for row in rows.all if row["method"] == method), run_of)
        strongest = min(runs.values(), key=lambda own: float(np.mean([r["target_similarity"] for r in own])))
        own = [np.array(r["kept_by_bin"]) / rows.base[r["person"]]["kept_by_bin"] for r in strongest]
        axis.plot(np.linspace(0.05, 0.95, len(own[0])), np.mean(own, axis=0), "o-", ms=3, label=method)
    axis.axhline(1, color="#999", lw=1)
    axis.set(xlabel="timestep, as a share of all", ylabel="held-out loss over the base's")
    axis.set_yscale("log")
    axis.legend(fontsize=8)
    save_figure(figure, path)


def keep(model: Path, name: str, pictures: np.ndarray) -> None:
    """Put pictures (N, 3, H, W) in [-1, 1] of a model aside as one strip, for `show`."""
    folder = PICTURES / model.name
    folder.mkdir(parents=True, exist_ok=True)
    save_png(to_pil(np.concatenate(list(pictures), axis=2)), folder / f"{name}.png")


def show(record: dict[str, Any], folder: Path, path: Path, people: int = 4) -> None:
    """What became of some targets: a row each, first the target and the base's reconstructions; none without pictures,
    which only each method's strongest run leaves."""
    plt, rows = pyplot(), Rows(record)
    chosen = rows.people[:people]
    columns = [name for name in ("target", *rows.methods) if (folder / f"{chosen[0]} {name}.png").exists()]
    if not columns:
        return
    figure, axes = plt.subplots(len(chosen), len(columns), figsize=(2.2 * len(columns), 0.75 * len(chosen) + 0.3))
    for axis, (person, name) in zip(np.ravel(axes), [(p, n) for p in chosen for n in columns], strict=True):
        axis.set_axis_off()
        if (folder / f"{person} {name}.png").exists():
            axis.imshow(np.asarray(Image.open(folder / f"{person} {name}.png")), interpolation="nearest")
        if person == chosen[0]:
            axis.set_title("target, and before" if name == "target" else name, fontsize=8)
    save_figure(figure, path)
