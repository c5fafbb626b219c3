"""Does `fast` learn through the float16 graph for the Neural Engine as it does on int8 weights?

    python -m benchmarks.quality.neural_engine --seeds 3                        # the embedded model: an hour on a core
    python -m benchmarks.quality.neural_engine --model benchmarks/work/wide --output benchmarks/results/ane_wide.json

The graph is that of `edge-sdk export --format coreml --target ane`, with more rows a call, run by the interpreter of
`edge_sdk.export.coreml`. Tokens are learned on the graph and measured on the int8 model. People are
`benchmarks.quality.people.fresh_people`: nothing was chosen on them. Stopping loses five of them; the same command
goes on.
"""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.intervals import common_runs, interval, interval_cell, on_common_runs
from benchmarks.lib.models import chosen
from benchmarks.lib.report import markdown, say
from benchmarks.quality.configurations import Config, Settings
from benchmarks.quality.graph import GraphObjective
from benchmarks.quality.learn import Bench, Subjects
from benchmarks.quality.measure import difference_errors
from benchmarks.quality.people import COUNT, fresh_people
from benchmarks.quality.runs import Record, measured
from edge_sdk import mu_floor
from edge_sdk.export.coreml import writer
from edge_sdk.export.coreml.interpreter import Interpreter
from edge_sdk.export.coreml.neural_engine import NeuralEngineOps
from edge_sdk.export.coreml.ops import MilOps
from edge_sdk.export.golden import Reference
from edge_sdk.export.weights import weights_of
from edge_sdk.integer_checkpoint import quantize
from edge_sdk.runtime.pytorch.model import Model, open_model
from edge_sdk.zo import directions, fast, held_out_draws

OPERATIONS = {"ane": NeuralEngineOps, "float16": partial(MilOps, precision="float16")}
ROWS = 33  # of a call here: those of a step, so that a person's rows are one call
SIZES = {"zo_loss": {"B": ROWS, "K": ROWS}}
TOGETHER = 5  # people who learn at a time
DRAWS = 8  # on which the error of differences is measured
START, INTEGER = "initializer", "int8 integer"


@dataclass(frozen=True)
class Case:
    """One arithmetic.

    Attributes:
        graph: one of `OPERATIONS`; "": the int8 model in PyTorch.
        narrow: sums, norms and softmax round to float16 inside, see `edge_sdk.export.coreml.narrow`.
        mu: as a share of the preset's.
    """

    graph: str = "ane"
    narrow: bool = False
    mu: float = 1.0

    @property
    def settings(self) -> Settings:
        def made(std: float, width: int) -> Any:
            preset = fast(std, width)
            return replace(preset, zo_mu=self.mu * preset.zo_mu)

        return made


CASES = {
    INTEGER: Case(""),
    "ane, as exported": Case(),
    "ane, sums in float16": Case(narrow=True),
    "ane, mu of a quarter": Case(mu=0.25),
    "ane, mu of a sixteenth": Case(mu=1 / 16),
    "ane, residual and loss in float16": Case("float16"),
}


def integer_checkpoint(model: str, folder: Path) -> Model:
    """The int8 weights of a model as files, from which graphs are written."""
    opened = open_model(model, "int8", "fused")
    if opened.stored_as_integers:
        return replace(opened, residency="streamed")
    quantize(model, output_dir=folder / "int8", weights="int8")
    return open_model(str(folder / "int8"), "int8", "fused", "streamed")


def programs(model: str, folder: Path) -> Callable[[str], Path]:
    """By a name of `OPERATIONS`, a package that holds the loss graph of `ROWS` rows."""
    source = cache(lambda: integer_checkpoint(model, folder))

    @cache
    def written(graph: str) -> Path:
        place, of = folder / graph, source()
        place.mkdir()
        graphs = {"zo_loss": Reference(of, of.resolution(), 0).networks.zo_loss()}
        weights = cache(lambda part: weights_of(of, part))
        writer.write_package(graphs, of.text_encoders, weights, place, OPERATIONS[graph], SIZES)
        return place / writer.PACKAGE

    return written


def run_all(record: Record, cases: dict[str, Case], args: argparse.Namespace, folder: Path) -> None:
    subjects = Subjects(fresh_people())
    bench, exact = (Bench.build(args.model, "int8", execution, subjects) for execution in ("integer", "fused"))
    package = programs(args.model, folder)

    @cache
    def learned_on(case: Case) -> Bench:
        if not case.graph:
            return bench
        program = Interpreter(package(case.graph), "zo_loss", narrow=case.narrow, resident=True)
        return replace(bench, graph=GraphObjective(bench.objective, program.run, ROWS))

    for seed in range(args.seeds):
        runs = [] if args.no_learning else [(subject, seed) for subject in range(args.subjects)]
        if missing := record.missing(START, runs):
            record.add(START, measured(Config("int8"), bench, missing))
        for name, case in cases.items():
            if "resolution" not in record.results.get(name, {}):
                record.add(name, [], resolution=resolution(bench, learned_on(case), exact))
            while missing := record.missing(name, runs)[:TOGETHER]:
                rows = measured(Config("int8", zo=case.settings), learned_on(case), missing)
                record.add(name, rows, zo=case.settings(bench.std, bench.width).to_dict())
                print(f"{name}, {missing}: {np.mean([row['loss'] for row in rows]):.4f}", flush=True)


def resolution(bench: Bench, learned_on: Bench, exact: Bench) -> dict[str, float]:
    """The floor of mu at the initializer, and the error of a step's differences at the preset's mu.

    The error is the median over directions and draws of the difference from float activations on the same weights.
    """
    zo = fast(bench.std, bench.width)
    basis = directions(bench.principal[: zo.searched], zo.zo_samples, 1)
    objective = learned_on.observed
    floor = mu_floor.measure(objective, bench.initial, zo, bench.std, max_batch=ROWS, basis=basis)
    rows = np.concatenate([bench.initial[None], bench.initial + np.float32(zo.zo_mu) * basis[: zo.zo_samples]])
    errors = []
    for drawn in held_out_draws(objective, 0, DRAWS, zo.timestep_range):
        residuals = (one.residuals(rows, [drawn] * len(rows)) for one in (objective, exact.objective))
        errors.append(difference_errors(*residuals))
    return {"mu_min": floor.mu_min, "preset_mu": zo.zo_mu, "noise": floor.noise, "error": float(np.median(errors))}


def summarize(results: dict[str, dict[str, Any]]) -> None:
    """Add to each result its share of the loss decrease on int8 `integer`, over the people and seeds of both."""
    for name, result in results.items():
        if not result["runs"]:
            result["summary"] = {"people": 0, "seeds": 0}
            continue
        start, reference, own = on_common_runs(results, START, INTEGER, name)
        result["summary"] = {
            "people": len(own),
            "seeds": len({seed for _, seed in common_runs(results, START, INTEGER, name)}),
            "loss": interval(own),
            "share": interval(start - own, start - reference),
        }


def table(results: dict[str, dict[str, Any]]) -> str:
    head = ["learned on", "mu_min", "error", "people", "seeds", "loss, unseen", "share of int8 `integer`'s decrease"]
    rows = []
    for name, result in results.items():
        of = result["summary"]
        cells = [interval_cell(of.get(key), digits) for key, digits in COLUMNS]
        seen = result.get("resolution")
        first = [f"{seen['mu_min']:.2g}", f"{100 * seen['error']:.1f} %"] if seen else ["", ""]
        rows.append([name, *first, str(of["people"]), str(of["seeds"]), *cells])
    return markdown(head, rows)


COLUMNS = (("loss", 4), ("share", 3))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.neural_engine", description=__doc__)
    parser.add_argument("--model", default="pocket", help="pocket, or a folder such as benchmarks.quality.wide makes")
    parser.add_argument("--subjects", type=int, choices=range(2, COUNT + 1), metavar="{2..20}", default=COUNT)
    parser.add_argument("--seeds", type=int, choices=range(1, 11), metavar="{1..10}", default=1)
    parser.add_argument("--no_learning", action="store_true", help="measure only what each graph resolves")
    parser.add_argument("--cases", nargs="+", help="words; only cases that have one of them in their name")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/ane.json"))
    args = parser.parse_args()
    command = shlex.join(["python", "-m", "benchmarks.quality.neural_engine", *sys.argv[1:]])
    record = Record(args.output, command, people="fresh_people", model=Path(args.model).name, rows=ROWS)
    cases = {INTEGER: CASES[INTEGER]} | chosen(CASES, args.cases)
    with tempfile.TemporaryDirectory() as folder:
        run_all(record, cases, args, Path(folder))
    summarize(record.results)
    record.save()
    say(table(record.results), "; ".join(record.values["commands"]), args.output)


if __name__ == "__main__":
    main()
