"""Tables and plot of `like_with_like`: rules at one drift, what the rule gives and what the optimizer gives."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.intervals import interval_cell, sign_test, t_interval
from benchmarks.lib.report import markdown, pyplot, save_figure, say

Row = dict[str, Any]
OURS, RETRAINED = "ours", "retrained without them"
OTHERS = Path("benchmarks/results/unlearning.json")  # of eight other people, three seeds
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

# Not of a model trained anew: its samples are others, and the kept pictures show other targets that it has not seen.
OF_OTHERS = ("drift", "kept_rise")
FORGOTTEN = ("target_similarity", "person_in_unseen")
CHANGES = (*FORGOTTEN, "kept_rise")
NAMES = {
    "naive deletion": "naive deletion",
    "NegGrad with retention": "NegGrad",
    "SISS": "SISS",
    "EraseDiff": "EraseDiff",
    "SalUn, ported": "SalUn",
    "ReTrack": "ReTrack",
    "ours": OURS,
}  # of rules in `benchmark`'s records


def figures(row: Row) -> dict[str, float]:
    """A row's numbers by name, noise levels apart."""
    levels = {f"from_{level}": value for level, value in zip(LEVELS, row["by_timestep"], strict=True)}
    return {key: {**row, **levels}[key] for key in FIGURES.values() if key in row or key in levels}


class Runs:
    """What was measured, by rule, column and person; seeds are averaged."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.rows: list[Row] = record["rows"]
        self.base = {int(person): {**figures(row), "drift": 0.0} for person, row in record["base"].items()}
        self.retrained = {int(person): figures(row) for person, row in record.get("retrained", {}).items()}
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

    def before(self, key: str) -> dict[int, float]:
        return {person: row[key] for person, row in self.base.items()}

    def without(self, key: str) -> dict[int, float]:
        """A figure by person, of the model that was trained without all of them."""
        return {person: row[key] for person, row in self.retrained.items()}

    def whole(self, rule: str, column: str, key: str) -> dict[int, float]:
        """A figure of unscaled runs by person."""
        own = [r for r in self.whole_runs(rule, column) if key in figures(r)]
        people = sorted({r["person"] for r in own})
        return {one: float(np.mean([figures(r)[key] for r in own if r["person"] == one])) for one in people}

    def whole_runs(self, rule: str, column: str) -> list[Row]:
        """Of each person and seed the unscaled row."""
        return [r for r in self.rows if (r["rule"], r["column"], r["scale"]) == (rule, column, 1.0)]

    def reached(self, rule: str, column: str, drift: float = DRIFT) -> float:
        """Share of runs that drift so far at all, or nearly."""
        return float(np.mean([points[-1]["drift"] >= 0.9 * drift for points in self.curves(rule, column).values()]))


def difference(first: dict[int, float], second: dict[int, float]) -> dict[str, float]:
    """Of paired values by person: t interval of first - second, how many are negative, of how many, sign test."""
    gaps = [first[person] - second[person] for person in sorted(first) if person in second]
    return {**_interval(gaps), "lower": sum(g < 0 for g in gaps), "n": len(gaps), "p": sign_test(gaps)}


def summary(record: dict[str, Any]) -> dict[str, Any]:
    """Everything that the tables show, for the JSON."""
    runs, out = Runs(record), {}
    for rule in runs.rules:
        own: dict[str, Any] = {}
        for column in runs.columns:
            if not runs.curves(rule, column):
                continue
            own[column] = {
                "targets": len(runs.at(rule, column, "drift")),
                "at_drift": {key: _interval([*runs.at(rule, column, key).values()]) for key in FIGURES.values()},
                "change": {key: difference(runs.at(rule, column, key), runs.before(key)) for key in CHANGES},
                "whole_run": {key: _interval([*runs.whole(rule, column, key).values()]) for key in WHOLE},
                "reached": runs.reached(rule, column),
            }
            if runs.retrained:
                own[column]["beside_retrained"] = {
                    key: difference(runs.at(rule, column, key), runs.without(key)) for key in FORGOTTEN
                }
            if rule != OURS and runs.curves(OURS, column):
                own[column]["ours_beside_it"] = {
                    key: difference(runs.at(OURS, column, key), runs.at(rule, column, key)) for key in CHANGES
                }
        if len(own) == 2:
            own["optimizer_gives"] = {
                key: difference(runs.at(rule, SHARED, key), runs.at(rule, PUBLISHED, key)) for key in FORGOTTEN
            }
        out[rule] = own
    before = {key: _interval([*runs.before(key).values()]) for key in FIGURES.values()}
    floor = dict(record.get("floor", {}))
    if runs.retrained:
        floor[RETRAINED] = {
            key: _interval([*runs.without(key).values()]) for key in FIGURES.values() if key not in OF_OTHERS
        }
    return {"drift": DRIFT, "before": before, "rules": out, "floor": floor}


def elsewhere(record: dict[str, Any]) -> dict[str, Any]:
    """By rule: the change from before, at the drift of the comparison, in a record of the other benchmark.

    Its rules are as published, but for ours, and its people are other ones.
    """
    rows = [
        {**row, "rule": NAMES[row["method"]], "column": PUBLISHED, "scale": 1.0}
        for row in record["rows"]
        if row["method"] in NAMES
    ]
    runs, out = Runs({"rows": rows, "base": record["base"]}), {}
    for rule in runs.rules:
        out[rule] = {
            key: _interval([value - runs.base[person][key] for person, value in runs.at(rule, PUBLISHED, key).items()])
            for key in CHANGES
        }
    return out


def _interval(values: Sequence[float]) -> dict[str, float]:
    """Of a single value there is no interval."""
    return t_interval(values) if len(values) > 1 else {"mean": values[0]}


def report(record: dict[str, Any], output: Path) -> None:
    """Write the tables beside the record, and the plot."""
    found = record["summary"] = summary(record)
    found["elsewhere"] = elsewhere(json.loads(OTHERS.read_text()))
    parts = [
        f"Change of target similarity from before, where everyone else's samples drift by {DRIFT:g}; mean [95 % t "
        f"interval] over targets. As published, where that was not measured on these targets: of "
        f"[eight other people]({OTHERS.stem}.md).",
        overview(found),
        *in_both_columns(found),
        *distances(found),
        f"All figures at a drift of {DRIFT:g}:",
        details(found, "at_drift"),
        "Whole runs, unscaled:",
        details(found, "whole_run"),
    ]
    say("\n\n".join(parts), "; ".join(record["commands"]), output)
    plot(record, output.with_suffix(".png"))


def levels(found: dict[str, Any]) -> str:
    """Markdown, for the page: means by noise level at the drift of the comparison, from the base to the floor."""
    names = {title: key for title, key in FIGURES.items() if key not in ("drift", "kept_rise")}
    rows = {"before": found["before"]}
    rows |= {rule: own[SHARED]["at_drift"] for rule, own in found["rules"].items() if SHARED in own}
    lines = [
        [name, *(f"{values[key]['mean']:.3f}" if key in values else "" for key in names.values())]
        for name, values in (rows | found["floor"]).items()
    ]
    return markdown(["through our optimizer", *names], lines)


def in_both_columns(found: dict[str, Any]) -> list[str]:
    """`comparison` with its heading, if there are runs of rules as published."""
    if not any(PUBLISHED in own for own in found["rules"].values()):
        return []
    return ["What the optimizer and what the rule gives, on these targets:", comparison(found)]


def distances(found: dict[str, Any]) -> list[str]:
    """Each rule beside the model that was trained without the targets, with a heading, if there is one."""
    own = {rule: columns.get(SHARED, {}).get("beside_retrained") for rule, columns in found["rules"].items()}
    if not any(own.values()):
        return []
    titles = {key: title for title, key in FIGURES.items()}
    rows = [[rule, *(_gap(gaps[key]) for key in FORGOTTEN)] for rule, gaps in own.items() if gaps]
    heading = "Through our optimizer, beside a model that was trained without the targets:"
    return [heading, markdown(["rule", *(titles[key] for key in FORGOTTEN)], rows)]


def comparison(found: dict[str, Any]) -> str:
    """Markdown: the two columns, and what of the difference is the optimizer's and what the rule's."""
    lines = []
    for rule, own in found["rules"].items():
        if PUBLISHED not in own:
            continue
        columns = [own.get(column, {}) for column in (PUBLISHED, SHARED)]
        beside = [_gap(column.get("ours_beside_it", {}).get("target_similarity")) for column in columns]
        gives = _gap(own.get("optimizer_gives", {}).get("target_similarity"))
        ends = [interval_cell(column.get("at_drift", {}).get("target_similarity")) for column in columns]
        lines.append([rule, *ends, gives, beside[1], beside[0]])
    head = ["rule", PUBLISHED, SHARED, "the optimizer gives", "our rule gives, same optimizer", "our rule gives, Adam"]
    return markdown(head, lines)


def overview(found: dict[str, Any]) -> str:
    """Markdown, for the page: what a rule does as published and through our optimizer, and ours beside it there."""
    lines = []
    for rule in dict.fromkeys([*found["elsewhere"], *found["rules"]]):
        own = found["rules"].get(rule, {})
        columns = [own.get(column, {}) for column in (PUBLISHED, SHARED)]
        own_changes = [column.get("change", {}).get("target_similarity") for column in columns]
        published = own_changes[0] or found["elsewhere"].get(rule, {}).get("target_similarity")
        if rule == OURS and own_changes[0] is None:
            published = None  # elsewhere it went through its own optimizer
        beside, at = columns[1].get("ours_beside_it", {}).get("target_similarity"), columns[1].get("at_drift", {})
        cells = [interval_cell(published, sign="+"), interval_cell(own_changes[1], sign="+"), _gap(beside)]
        cells += [f"{at[key]['mean']:.{digits}f}" if at else "" for key, digits in (("person_in_unseen", 2),)]
        cells += [f"{at['kept_rise']['mean']:.1%}" if at else "", str(columns[1].get("targets", ""))]
        lines.append([rule, *cells])
    head = ["rule", "change, as published", "change, our optimizer", "ours beside it, same optimizer"]
    return markdown([*head, "person in unseen views", "rise of held-out loss", "targets"], lines)


def details(found: dict[str, Any], part: str) -> str:
    """Markdown: every figure of every rule in each column, from the base to the floor."""
    names = {title: key for title, key in FIGURES.items() if (key in WHOLE if part == "whole_run" else key != "drift")}
    lines = [["before", "", *(interval_cell(found["before"][key]) for key in names.values()), ""]]
    for column in (SHARED, PUBLISHED):
        for rule, own in found["rules"].items():
            if column in own:
                cells = [interval_cell(own[column][part][key]) for key in names.values()]
                lines.append([rule, column, *cells, f"{own[column]['reached']:.0%} of {own[column]['targets']}"])
    for name, values in found["floor"].items():
        lines.append([name, "", *(interval_cell(values.get(key)) for key in names.values()), ""])
    return markdown(["rule", "optimizer", *names, f"runs that drift by {DRIFT:g}"], lines)


def _gap(value: dict[str, float] | None) -> str:
    if value is None:
        return ""
    return f"{interval_cell(value, sign='+')}, lower on {value['lower']:.0f} of {value['n']:.0f}, p = {value['p']:.3f}"


def plot(record: dict[str, Any], path: Path) -> None:
    """Means over targets against drift: each rule through our optimizer, and as it is published (dashed)."""
    plt, runs = pyplot(), Runs(record)
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharex=True)
    drifts = np.linspace(0, 0.06, 61)
    for axis, key in zip(axes, ("target_similarity", "person_in_unseen"), strict=True):
        for i, rule in enumerate(runs.rules):
            for column in runs.columns:
                if len(curves := runs.curves(rule, column)) > 1:
                    ends = [max(p["drift"] for p in points if key in p) for points in curves.values()]
                    most = float(np.median(ends))
                    own = drifts[drifts <= max(most, DRIFT)]
                    values = [np.mean(list(runs.at(rule, column, key, drift).values())) for drift in own]
                    style = {"ls": "-" if column == SHARED else "--", "lw": 2 if rule == OURS else 1}
                    axis.plot(own, values, color=f"C{i}", label=rule if column == SHARED else None, **style)
        for name, value in record["summary"]["floor"].items():
            if key in value and "outlier" not in name:
                axis.axhline(value[key]["mean"], color="#999", lw=1, ls="-" if name == RETRAINED else "-.")
        axis.axvline(DRIFT, color="#ddd", lw=1)
        axis.set(xlabel="drift of everyone else's samples", ylabel=_title(key))
    axes[1].legend(fontsize=8, title="solid: our optimizer; dashed: as published", title_fontsize=8)
    save_figure(figure, path)


def _title(key: str) -> str:
    names: Sequence[str] = [title for title, own in FIGURES.items() if own == key]
    return names[0]
