"""Tables and plot of `like_with_like`: rules at one drift, what the rule gives and what the optimizer gives."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.intervals import sign_test, t_interval
from benchmarks.lib.report import markdown, pyplot, save_figure, say

Row = dict[str, Any]
OURS = "ours"
PUBLISHED, SHARED = "as published", "our optimizer"
DRIFT = 0.02  # at which rules are compared; chosen on another person, before any target was run
LEVELS = (10, 25, 50, 75)  # percent of all timesteps
FIGURES = {
    "target similarity": "target_similarity",
    **{f"from {level} %": f"from_{level}" for level in LEVELS},
    "person in unseen views": "person_in_unseen",
    "person in samples": "person_in_samples",
    "drift": "drift",
    "rise of held-out loss": "kept_rise",
}
WHOLE = [key for key in FIGURES.values() if key not in ("person_in_unseen", "kept_rise")]  # of unscaled runs


def figures(row: Row) -> dict[str, float]:
    """A row's numbers by name, noise levels apart."""
    levels = {f"from_{level}": value for level, value in zip(LEVELS, row["by_timestep"], strict=True)}
    return {key: {**row, **levels}[key] for key in FIGURES.values() if key in row or key in levels}


class Runs:
    """What was measured, by rule, column and person; seeds are averaged."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.rows: list[Row] = record["rows"]
        self.base = {int(person): {**figures(row), "drift": 0.0} for person, row in record["base"].items()}
        self.rules = [rule for rule in dict.fromkeys(r["rule"] for r in self.rows) if rule != OURS] + [OURS]
        self.columns = [column for column in (SHARED, PUBLISHED) if any(r["column"] == column for r in self.rows)]

    def curves(self, rule: str, column: str) -> dict[tuple[int, int], list[dict[str, float]]]:
        """Points from the base to the whole run, in the order of drift, by person and seed."""
        out: dict[tuple[int, int], list[dict[str, float]]] = {}
        for row in self.rows:
            if (row["rule"], row["column"]) == (rule, column):
                place = row["person"], row["seed"]
                out.setdefault(place, [self.base[row["person"]]]).append(figures(row))
        return {place: sorted(points, key=lambda p: p["drift"]) for place, points in sorted(out.items())}

    def at(self, rule: str, column: str, key: str, drift: float = DRIFT) -> dict[int, float]:
        """A figure by person, where the run's scaled change drifts so far; of one that never does, its largest."""
        values: dict[int, list[float]] = {}
        for (person, _), points in self.curves(rule, column).items():
            x, y = ([p[name] for p in points if key in p] for name in ("drift", key))
            values.setdefault(person, []).append(float(np.interp(drift, x, y)))
        return {person: float(np.mean(own)) for person, own in values.items()}

    def whole(self, rule: str, column: str, key: str) -> dict[int, float]:
        """A figure of unscaled runs by person."""
        own = [r for r in self.whole_runs(rule, column) if key in figures(r)]
        people = sorted({r["person"] for r in own})
        return {one: float(np.mean([figures(r)[key] for r in own if r["person"] == one])) for one in people}

    def whole_runs(self, rule: str, column: str) -> list[Row]:
        """Of each person and seed the unscaled row."""
        return [r for r in self.rows if (r["rule"], r["column"], r["scale"]) == (rule, column, 1.0)]

    def reached(self, rule: str, column: str, drift: float = DRIFT) -> float:
        """Share of runs that drift so far at all."""
        return float(np.mean([points[-1]["drift"] >= drift for points in self.curves(rule, column).values()]))


def difference(first: dict[int, float], second: dict[int, float]) -> dict[str, float]:
    """Of paired values by person: t interval of first - second, how many are negative, of how many, sign test."""
    gaps = [first[person] - second[person] for person in sorted(first) if person in second]
    return {**t_interval(gaps), "lower": sum(g < 0 for g in gaps), "n": len(gaps), "p": sign_test(gaps)}


def summary(record: dict[str, Any]) -> dict[str, Any]:
    """Everything that the tables show, for the JSON."""
    runs, out = Runs(record), {}
    for rule in runs.rules:
        own: dict[str, Any] = {}
        for column in runs.columns:
            if not runs.curves(rule, column):
                continue
            own[column] = {
                "at_drift": {key: _interval(runs.at(rule, column, key)) for key in FIGURES.values()},
                "whole_run": {key: _interval(runs.whole(rule, column, key)) for key in WHOLE},
                "reached": runs.reached(rule, column),
            }
            if rule != OURS and runs.curves(OURS, column):
                own[column]["ours_beside_it"] = {
                    key: difference(runs.at(OURS, column, key), runs.at(rule, column, key))
                    for key in ("target_similarity", "person_in_unseen", "kept_rise")
                }
        if len(own) == 2:
            own["optimizer_gives"] = {
                key: difference(runs.at(rule, SHARED, key), runs.at(rule, PUBLISHED, key))
                for key in ("target_similarity", "person_in_unseen")
            }
        out[rule] = own
    before = {key: _interval({p: row[key] for p, row in runs.base.items()}) for key in FIGURES.values()}
    return {"drift": DRIFT, "before": before, "rules": out}


def _interval(values: dict[int, float]) -> dict[str, float]:
    own = list(values.values())
    return t_interval(own) if len(own) > 1 else {"mean": own[0], "low": own[0], "high": own[0]}


def report(record: dict[str, Any], output: Path) -> None:
    """Write the tables beside the record, and the plot."""
    found = record["summary"] = summary(record)
    parts = [
        f"Target similarity where everyone else's samples drift by {DRIFT:g}; mean [95 % t interval] over targets.",
        comparison(found),
        f"All figures at a drift of {DRIFT:g}:",
        details(found, "at_drift", record.get("floor")),
        "Whole runs, unscaled:",
        details(found, "whole_run", record.get("floor")),
    ]
    say("\n\n".join(parts), "; ".join(record["commands"]), output)
    plot(record, output.with_suffix(".png"))


def comparison(found: dict[str, Any]) -> str:
    """Markdown: the two columns, and what of the difference is the optimizer's and what the rule's."""
    lines = []
    for rule, own in found["rules"].items():
        columns = [own.get(column, {}) for column in (PUBLISHED, SHARED)]
        beside = [_gap(column.get("ours_beside_it", {}).get("target_similarity")) for column in columns]
        gives = _gap(own.get("optimizer_gives", {}).get("target_similarity"))
        lines.append([rule, *(_cell(column.get("at_drift", {}).get("target_similarity")) for column in columns)])
        lines[-1] += [gives, beside[1], beside[0]]
    head = ["rule", PUBLISHED, SHARED, "the optimizer gives", "our rule gives, same optimizer", "our rule gives, Adam"]
    return markdown(head, lines)


def details(found: dict[str, Any], part: str, floor: dict[str, dict[str, float]] | None = None) -> str:
    """Markdown: every figure of every rule in each column, from the base to the floor."""
    names = {title: key for title, key in FIGURES.items() if (key in WHOLE if part == "whole_run" else key != "drift")}
    lines = [["before", "", *(_cell(found["before"][key]) for key in names.values()), ""]]
    for column in (SHARED, PUBLISHED):
        for rule, own in found["rules"].items():
            if column in own:
                cells = [_cell(own[column][part][key]) for key in names.values()]
                lines.append([rule, column, *cells, f"{own[column]['reached']:.0%}"])
    for name, values in (floor or {}).items():
        lines.append([name, "", *(_cell(values.get(key)) for key in names.values()), ""])
    return markdown(["rule", "optimizer", *names, f"runs that drift by {DRIFT:g}"], lines)


def _cell(value: dict[str, float] | None) -> str:
    if value is None:
        return ""
    return f"{value['mean']:.3f}" + (f" [{value['low']:.3f}, {value['high']:.3f}]" if "low" in value else "")


def _gap(value: dict[str, float] | None) -> str:
    if value is None:
        return ""
    return (
        f"{value['mean']:+.3f} [{value['low']:+.3f}, {value['high']:+.3f}], lower on {value['lower']:.0f} of "
        f"{value['n']:.0f}, p = {value['p']:.3f}"
    )


def plot(record: dict[str, Any], path: Path) -> None:
    """Means over targets against drift: each rule through our optimizer, and as it is published (dashed)."""
    plt, runs = pyplot(), Runs(record)
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharex=True)
    drifts = np.linspace(0, 0.06, 61)
    for axis, key in zip(axes, ("target_similarity", "person_in_unseen"), strict=True):
        for i, rule in enumerate(runs.rules):
            for column in runs.columns:
                if curves := runs.curves(rule, column):
                    most = float(np.median([points[-1]["drift"] for points in curves.values()]))
                    own = drifts[drifts <= max(most, DRIFT)]
                    values = [np.mean(list(runs.at(rule, column, key, drift).values())) for drift in own]
                    style = {"ls": "-" if column == SHARED else "--", "lw": 2 if rule == OURS else 1}
                    axis.plot(own, values, color=f"C{i}", label=rule if column == SHARED else None, **style)
        for name, value in record.get("floor", {}).items():
            axis.axhline(value[key]["mean"], color="#999", lw=1, ls=":" if "retrained" in name else "-.")
        axis.axvline(DRIFT, color="#ddd", lw=1)
        axis.set(xlabel="drift of everyone else's samples", ylabel=_title(key))
    axes[1].legend(fontsize=8, title="solid: our optimizer; dashed: as published", title_fontsize=8)
    save_figure(figure, path)


def _title(key: str) -> str:
    names: Sequence[str] = [title for title, own in FIGURES.items() if own == key]
    return names[0]
