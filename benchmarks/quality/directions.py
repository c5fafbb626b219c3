"""Which directions should Gauss-Newton search where they are a small part of the space?

    python -m benchmarks.quality.directions                    # 20 people, one seed: hours on a busy core
    python -m benchmarks.quality.directions --subjects 6 --cases 11
    python -m benchmarks.quality.directions --model benchmarks/work/distilled --output FILE

On the embedded model, int8 weights, 1,320 forward passes a run: 11 (8 %), 22 (17 %) and 44 (34 %) of its 128
directions, and 64 or 128 of 768 where its words are rotated beside numbers that the first layer ignores
(`benchmarks.quality.tables`). Another model, of 768 numbers a token, is searched in 64 directions, for 40 and 80 steps.
The people are `benchmarks.quality.people.fresh_people`: nothing was chosen on them. Random directions are others in
each seed.
Stopping loses one configuration; the same command goes on.
"""

import argparse
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.intervals import interval, interval_cell, on_common_runs
from benchmarks.lib.models import chosen
from benchmarks.lib.report import markdown, pyplot, save_figure, say
from benchmarks.quality import bases, tables
from benchmarks.quality.configurations import BUDGET, Config, fast_with
from benchmarks.quality.learn import Bench, Subjects
from benchmarks.quality.people import COUNT, fresh_people
from benchmarks.quality.runs import Record, measured
from edge_sdk.errors import EdgeSdkError

BASES: dict[str, bases.Basis] = {
    "principal": bases.principal,
    "principal, of words that are no names": bases.other_words,
    "readable": bases.readable,
    "expressive": bases.expressive,
    "random": bases.random,
}
TABLES: dict[str, tables.Filling] = {"white": tables.white, "shuffled": tables.shuffled}
START, CEILING = "initializer", "backpropagation"
EMBEDDED = "pocket"


@dataclass(frozen=True)
class Case:
    """One choice of directions.

    Attributes:
        searched, a_step: directions in all, and in one step.
        table: one of `TABLES`, or the model's own.
    """

    basis: str
    searched: int
    a_step: int
    table: str = ""
    forwards: int = BUDGET

    @property
    def config(self) -> Config:
        steps = self.forwards // (self.a_step + 1)
        zo = fast_with(zo_samples=self.a_step, zo_directions=self.searched, max_train_steps=steps)
        return Config("int8", zo=zo, basis=BASES[self.basis])


def cases(model: str) -> dict[str, Case]:
    """What is tried on a model; the first is what others are shares of."""
    if model != EMBEDDED:
        lengths = {"": BUDGET, "80 steps, ": 2 * BUDGET}
        return {
            f"64 of 768, 32 a step, {words}{basis}": Case(basis, 64, 32, forwards=forwards)
            for words, forwards in lengths.items()
            for basis in BASES
        }
    out = {"32 of 128, principal": Case("principal", 32, 32)}
    for searched, a_step in ((11, 11), (22, 22), (22, 11), (44, 11)):
        words = f"{searched} of 128" + (f", {a_step} a step" if a_step < searched else "")
        out |= {f"{words}, {basis}": Case(basis, searched, a_step) for basis in BASES}
    for table in TABLES:
        for searched in (64, 128):
            for basis in ("principal", "readable", "expressive", "random"):
                out[f"{searched} of 768, 32 a step, {table}, {basis}"] = Case(basis, searched, 32, table)
    return out


def run_all(record: Record, picked: dict[str, Case], args: argparse.Namespace) -> None:
    subjects = Subjects(fresh_people())
    runs = [(subject, seed) for seed in range(args.seeds) for subject in range(args.subjects)]
    integers: dict[str, Bench] = {}

    def bench(table: str) -> Bench:
        if "" not in integers:
            integers[""] = Bench.build(args.model, "int8", "integer", subjects)
        if table not in integers:
            integers[table] = tables.widened(integers[""], TABLES[table])
        return integers[table]

    def ends(name: str, config: Config, made: Callable[[], Bench]) -> None:
        if missing := record.missing(name, runs):
            record.add(name, measured(config, made(), missing))

    ends(START, Config("int8"), lambda: bench(""))
    for name, case in picked.items():
        if missing := record.missing(name, runs):
            of = bench(case.table)
            basis = BASES[case.basis](of, case.searched, 0)
            about = {
                "searched": case.searched,
                "a_step": case.a_step,
                "width": of.width,
                "forwards": case.config.forwards(of.std, of.width),
                "variance_share": bases.variance_share(of, basis),
            }
            record.add(name, measured(case.config, of, missing), **about)
            print(f"{name}: {np.mean([row['loss'] for row in record.results[name]['runs']]):.4f}", flush=True)
    if args.ceiling:
        from benchmarks.lib.baselines.backprop import BackpropConfig

        ends(CEILING, Config(backprop=BackpropConfig()), lambda: Bench.build(args.model, "none", "integer", subjects))


def summarize(results: dict[str, dict[str, Any]], reference: str) -> None:
    """Add to each result its share of the loss decrease of one of them, over the people of both.

    Beside it is the difference from the share of as many principal directions, paired by person.
    """
    for name, result in results.items():
        principal = f"{name.rpartition(', ')[0].removesuffix(', principal')}, principal"
        others = [principal] if principal in results and principal != name else []
        start, whole, own, *beside = on_common_runs(results, START, reference, name, *others)
        result["summary"] = {
            "people": len(own),
            "loss": interval(own),
            "share": interval(start - own, start - whole),
        }
        for one in beside:
            result["summary"]["beside_principal"] = interval(one - own, start - whole)


def table(results: dict[str, dict[str, Any]], reference: str) -> str:
    head = ["directions", "share of the words' variance", "people", f"share of the decrease of {reference}"]
    head.append("more than as many principal ones")
    rows = []
    for name, result in results.items():
        summary, variance = result["summary"], result.get("variance_share")
        more = interval_cell(summary.get("beside_principal"), sign="+")
        held = "" if variance is None else f"{variance:.2f}"
        rows.append([name, held, str(summary["people"]), interval_cell(summary["share"]), more])
    return markdown(head, rows)


def plot(results: dict[str, dict[str, Any]], reference: str, path: Path) -> None:
    shown = {name: r["summary"]["share"] for name, r in results.items() if "variance_share" in r}
    figure, axis = pyplot().subplots(figsize=(9, 1 + 0.3 * len(shown)))
    colors = dict(zip(BASES, ("#d8262c", "#d88a2c", "#2b5fd9", "#2f9e44", "#9a9a9a"), strict=True))
    for y, (name, share) in enumerate(reversed(shown.items())):
        color = colors[max((basis for basis in BASES if name.endswith(basis)), key=len)]
        axis.plot([share["low"], share["high"]], [y, y], color=color, lw=2)
        axis.plot(share["mean"], y, "o", color=color)
    axis.set_yticks(range(len(shown)), list(shown)[::-1], fontsize=8)
    axis.set_xlabel(f"share of the loss decrease of {reference}, 95 % interval over people", fontsize=8)
    axis.grid(axis="x", color="#eeeeee")
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.directions", description=__doc__)
    parser.add_argument("--model", default=EMBEDDED, help="pocket, or a folder that one of the scripts has made")
    parser.add_argument("--subjects", type=int, choices=range(2, COUNT + 1), metavar=f"{{2..{COUNT}}}", default=COUNT)
    parser.add_argument("--seeds", type=int, choices=range(1, 11), metavar="{1..10}", default=1)
    parser.add_argument("--cases", nargs="+", help="words; only cases that have one of them in their name")
    parser.add_argument("--ceiling", action="store_true", help="backpropagation on float weights too")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/directions.json"))
    args = parser.parse_args()
    every = cases(args.model)
    reference = next(iter(every))
    try:
        picked = {reference: every[reference]} | chosen(every, args.cases)
    except EdgeSdkError as error:
        parser.error(str(error))
    command = shlex.join(["python", "-m", "benchmarks.quality.directions", *sys.argv[1:]])
    record = Record(args.output, command, tuned_on="nobody: the settings are those of fast, chosen on twelve others")
    run_all(record, picked, args)
    summarize(record.results, reference)
    record.save()
    say(table(record.results, reference), "; ".join(record.values["commands"]), args.output)
    plot(record.results, reference, args.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
