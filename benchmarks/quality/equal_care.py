"""Every method tuned with equal care on some people, and what it takes to reach a loss on others.

    python -m benchmarks.quality.equal_care            # hours on a busy core; stopping loses one configuration
    python -m benchmarks.quality.equal_care --tuning_subjects 4 --subjects 6

The settings of `benchmarks.quality.scans` are tried on people of `held_out_people`. The best of each method is reported
on `fresh_people`, beside published and preset settings. The figure is the number of forward passes to reach a share of
the loss decrease of backpropagation's 150 steps. A draw of backpropagation counts as three forward passes. Seconds and
memory are those of `python -m benchmarks.quality.costs`, where its record lies beside the output.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.intervals import (
    RESAMPLES,
    by_subject,
    common_runs,
    interval,
    interval_cell,
    on_common_runs,
    people_and_seeds,
)
from benchmarks.lib.report import markdown, pyplot, save_figure, say
from benchmarks.pocket.people import held_out_people
from benchmarks.quality.configurations import Config
from benchmarks.quality.learn import Bench, Run, Subjects
from benchmarks.quality.people import COUNT, TUNED_ON, fresh_people
from benchmarks.quality.runs import Record, measured
from benchmarks.quality.scans import PRESET, SCANS, Settings, described, reported
from benchmarks.quality.stopping import stopped_runs

SHARES = (0.9, 0.95, 0.98)
START, PLATEAU = "initializer", f"backpropagation, {PRESET} steps"
STOPPED = "backpropagation, stopped after DVAR"
BACKWARD = 3  # forward passes that a draw of backpropagation counts as: one, and a backward pass of twice that
Results = dict[str, dict[str, Any]]


class Benches:
    """Float weights for backpropagation, int8 for what is forward-only; opened when asked for."""

    def __init__(self, model: str, subjects: Subjects) -> None:
        self.model, self.subjects, self.opened = model, subjects, dict[str, Bench]()

    def of(self, config: Config) -> Bench:
        if config.weights not in self.opened:
            self.opened[config.weights] = Bench.build(self.model, config.weights, config.execution, self.subjects)
        return self.opened[config.weights]


def tune(record: Record, benches: Benches, runs: list[Run]) -> dict[str, Settings]:
    """The best settings of each scan on some people."""
    best: dict[str, Settings] = {}
    for method, scan in SCANS.items():
        best[method] = scan.first
        for stage in scan.stages:
            tried = [best[method], *(best[method] | changes for changes in stage)]
            values = []
            for settings in tried:
                name, config = f"{method}: {described(settings)}", scan.config(settings)
                if missing := record.missing(name, runs):
                    record.add(name, measured(config, benches.of(config), missing), settings=settings)
                values.append(float(by_subject(record.results[name]["runs"], "loss").mean()))
                print(f"{name}: {values[-1]:.4f}", flush=True)
            best[method] = tried[int(np.argmin(values))]
    return best


def report(record: Record, benches: Benches, runs: list[Run], best: dict[str, Settings]) -> None:
    """Measure what is reported, with its curve."""
    for name, config in {START: Config("int8"), **reported(best)}.items():
        settings = next((best[method] for method in best if name.startswith(f"{method}, tuned")), {})
        record.keep_only(name, settings)  # a wider scan may have found others
        if not (missing := record.missing(name, runs)):
            continue
        rows, cost = measured(config, benches.of(config), missing, curve=True), BACKWARD if config.backprop else 1
        for row in rows:
            row["curve"]["forwards"] = [cost * count for count in row["curve"]["forwards"]]
        record.add(name, rows, settings=settings)
        print(f"{name}: {np.mean([row['loss'] for row in rows]):.4f}", flush=True)


def report_stopping(record: Record, benches: Benches, runs: list[Run]) -> None:
    if missing := record.missing(STOPPED, runs):
        record.add(STOPPED, stopped_runs(benches.of(Config()), missing, BACKWARD))


def reached(curves: np.ndarray, forwards: np.ndarray, target: float) -> float:
    """Forward passes at which the mean of curves (people, points) first meets a loss; infinite where it never does."""
    lowest = np.minimum.accumulate(curves.mean(axis=0))
    return float(np.interp(-target, -lowest, forwards)) if lowest[-1] <= target else float("inf")


def summarize(results: Results) -> None:
    """Add to each method its share of the decrease, and the forward passes to each of `SHARES`, with intervals.

    Each is compared with backpropagation on the people and seeds that both have.
    """
    for name, result in results.items():
        start, plateau, ends = on_common_runs(results, START, PLATEAU, name)
        result["summary"] = {"share": interval(start - ends, start - plateau)}
        if name == START:
            continue
        if name == STOPPED:
            result["summary"]["forwards"] = interval(by_subject(result["runs"], "forwards"))
            continue
        forwards = np.array([0, *result["runs"][0]["curve"]["forwards"]], float)
        curves = np.column_stack([start, curves_by_subject(result["runs"], common_runs(results, START, PLATEAU, name))])
        picks = np.random.default_rng(0).integers(len(start), size=(RESAMPLES, len(start)))
        for share in SHARES:
            targets = start - share * (start - plateau)
            each = [reached(curves[pick], forwards, float(targets[pick].mean())) for pick in picks]
            low, high = np.quantile(each, [0.025, 0.975], method="nearest")
            found = {"mean": reached(curves, forwards, float(targets.mean())), "low": float(low), "high": float(high)}
            result["summary"][str(share)] = {key: v if np.isfinite(v) else None for key, v in found.items()}


def curves_by_subject(rows: list[dict[str, Any]], runs: set[Run]) -> np.ndarray:
    """Mean curve of each subject over its seeds of some runs, (subjects, points)."""
    points = [row | {"points": row["curve"]["loss"]} for row in rows if (row["subject"], row["seed"]) in runs]
    return by_subject(points, "points")


def costs_of(output: Path) -> dict[str, Any]:
    """What a forward pass costs by method, see `benchmarks.quality.costs`; empty where it was not measured."""
    path = output.with_name(f"{output.stem}_costs.json")
    return json.loads(path.read_text())["results"] if path.exists() else {}


def table(results: Results, costs: dict[str, Any]) -> str:
    def count(value: float | None) -> str:
        return "never" if value is None else f"{value:.0f}"

    def seconds(value: float | None, of: dict[str, Any] | None) -> str:
        return f", {value * float(np.median(of['seconds'])):.1f} s" if value is not None and of else ""

    head = ["method", "settings", "people x seeds", "forwards", "share", *(f"to {share}" for share in SHARES), "MB"]
    rows = []
    for name, result in results.items():
        summary, first = result["summary"], result["runs"][0]
        total = f"{summary['forwards']['mean']:.0f}" if "forwards" in summary else str(first["curve"]["forwards"][-1])
        of = next((cost for method, cost in costs.items() if name.startswith(method)), None)
        cells = [
            f"{count(value['mean'])} [{count(value['low'])}, {count(value['high'])}]{seconds(value['mean'], of)}"
            if value
            else ""
            for value in (summary.get(str(one)) for one in SHARES)
        ]
        settings = described(result["settings"]) if result.get("settings") else ""
        memory = f"{of['peak_anonymous_mb']:.0f}" if of else ""
        seen = people_and_seeds(results, START, PLATEAU, name)
        rows.append([name, settings, seen, total, interval_cell(summary["share"]), *cells, memory])
    return markdown(head, rows)


def plot(results: Results, path: Path) -> None:
    """Mean loss over people against forward passes, a line a method."""
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(8, 4.6))
    start = by_subject(results[START]["runs"], "loss").mean()
    for i, (name, result) in enumerate(results.items()):
        if name in (START, STOPPED):
            continue
        losses = np.mean([row["curve"]["loss"] for row in result["runs"]], axis=0)
        forwards = result["runs"][0]["curve"]["forwards"]
        style = {"marker": "o", "ms": 3, "color": plt.colormaps["tab10"](i), "label": name}
        axis.plot([forwards[0] / 2, *forwards], [start, *losses], **style)
    axis.set_xscale("log")
    axis.set_xlabel("forward passes (a draw of backpropagation is three)", fontsize=9)
    axis.set_ylabel("loss on unseen pictures and draws", fontsize=9)
    axis.legend(fontsize=7)
    axis.grid(color="#eeeeee")
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.equal_care", description=__doc__)
    parser.add_argument("--model", default="pocket", help="pocket, or a folder that one of the scripts has made")
    parser.add_argument("--tuning_subjects", type=int, choices=range(2, TUNED_ON + 1), metavar="{2..12}", default=12)
    parser.add_argument("--subjects", type=int, choices=range(2, COUNT + 1), metavar="{2..20}", default=COUNT)
    parser.add_argument("--seeds", type=int, choices=range(1, 11), metavar="{1..10}", default=1)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/equal_care.json"))
    args = parser.parse_args()
    command = shlex.join(["python", "-m", "benchmarks.quality.equal_care", *sys.argv[1:]])
    tuning = Record(args.output.with_name(f"{args.output.stem}_tuning.json"), command)
    people = Benches(args.model, Subjects(held_out_people()[:TUNED_ON]))
    best = tune(tuning, people, [(subject, 0) for subject in range(args.tuning_subjects)])
    on = {"tuned_on": f"{args.tuning_subjects} of held_out_people", "reported_on": "fresh_people"}
    record = Record(args.output, command, **on)
    runs = [(subject, seed) for seed in range(args.seeds) for subject in range(args.subjects)]
    fresh = Benches(args.model, Subjects(fresh_people()))
    report(record, fresh, runs, best)
    report_stopping(record, fresh, runs)
    summarize(record.results)
    record.save()
    say(table(record.results, costs_of(args.output)), "; ".join(record.values["commands"]), args.output)
    plot(record.results, args.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
