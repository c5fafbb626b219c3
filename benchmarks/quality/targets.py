"""The whole method through the graphs of a target, simulated on this machine: what static scales cost.

    python -m benchmarks.quality.targets --seeds 3

The graphs of ``edge-sdk export --target qnn`` learn a token of each person; its loss is measured on the same int8 model
for all rows. Stopping loses at most the runs of one group of people: the same command goes on.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.intervals import interval, interval_cell, on_common_runs, people_and_seeds
from benchmarks.lib.lockstep import View
from benchmarks.lib.report import markdown, say
from benchmarks.quality.configurations import Config
from benchmarks.quality.learn import REFERENCES, TOKEN, Bench, Subjects, learn
from benchmarks.quality.measure import difference_errors, losses
from benchmarks.quality.people import fresh_people
from benchmarks.quality.runs import Record
from edge_sdk.diffusion.prompts import training_prompts
from edge_sdk.export.bundle import export
from edge_sdk.export.onnx.rounding import STANDARD, Recipe
from edge_sdk.runtime.onnx.model import BundleModel, open_bundle
from edge_sdk.runtime.onnx.objective import Latents, OnnxObjective
from edge_sdk.system.memory import keep_heap
from edge_sdk.zo import ZoConfig, fast, held_out_draws

BASE, START = "int8 integer", "initializer"
WORK = Path("benchmarks/work/targets")
GROUP = 1  # people whose runs are recorded together
SHARES = (1.0, 0.1, 0.01)  # of the preset's mu, at which differences are compared
TIMESTEPS = (200, 500, 800)


@dataclass(frozen=True)
class Variant:
    """One way through the graphs.

    Attributes:
        mu: the preset's, times this.
    """

    recipe: Recipe = STANDARD
    mu: float = 1.0


VARIANTS = {
    "qnn": Variant(),
    "qnn, ranges as seen": Variant(replace(STANDARD, room=1.0)),
    "qnn, ranges of 95 % of rows": Variant(replace(STANDARD, quantile=0.95, room=1.0)),
    "qnn, ranges of four times what was seen": Variant(replace(STANDARD, room=4.0)),
    "qnn, keys and values in 8 bits": Variant(replace(STANDARD, keys=8)),
    "qnn, norms in float16": Variant(replace(STANDARD, float16=frozenset({"norms"}))),
    "qnn, sums in float16": Variant(replace(STANDARD, float16=frozenset({"stream"}))),
    "qnn, text encoder in float16": Variant(replace(STANDARD, float16=frozenset({"text"}))),
    "qnn, twice the mu": Variant(mu=2.0),
    "qnn, a tenth of the mu": Variant(mu=0.1),
}


def through(bench: Bench, folder: Path) -> tuple[Bench, BundleModel]:
    """The bench with a bundle's loss in place of PyTorch's, on the same latents."""
    model = open_bundle(folder)
    text, latents = model.load_text(), bench.objective.latents
    ids = text.tokenize(training_prompts("pocket", TOKEN), {TOKEN: 1})
    pictures = Latents(latents.mean.numpy(), latents.std.numpy())
    objective = model.load_objective(text, pictures, ids, 1, np.zeros((len(pictures.mean), 6), np.float32))
    return replace(bench, objective=objective), model  # type: ignore[arg-type]


def bundle_of(model: str, name: str, recipe: Recipe) -> Path:
    """The bundle of a model for a recipe, exported once."""
    folder = WORK / f"{Path(model).name}-{''.join(c if c.isalnum() else '-' for c in name)}"
    if not (folder / "manifest.json").exists():
        export(model, folder, target="qnn", recipe=recipe)
    return folder


def noise_of_differences(bench: Bench, truth: Bench, zo: ZoConfig) -> list[dict[str, float]]:
    """How far the differences to row 0 are from those with float activations, along the directions of `fast`.

    Returns:
        For each timestep and length the median and the worst over directions, as shares of the difference's norm.
    """
    basis, out = bench.principal[: zo.searched, None], []
    views = [View(one.objective, 0, REFERENCES) for one in (bench, truth)]
    first = held_out_draws(views[0], 7, 1, (0, 1000))[0]
    for timestep in TIMESTEPS:
        for share in SHARES:
            tokens = np.concatenate([bench.initial[None], bench.initial + np.float32(zo.zo_mu * share) * basis])
            draws = [replace(first, timestep=timestep)] * len(tokens)
            errors = difference_errors(*(view.residuals(tokens, draws) for view in views))
            row = {"timestep": timestep, "mu_share": share, "median": np.median(errors), "worst": errors.max()}
            out.append({key: float(value) for key, value in row.items()})
    return out


def table(results: dict[str, dict[str, Any]]) -> str:
    """Loss decreases beside those of `BASE`, on the runs that both have; intervals over people."""
    lines = []
    for name, result in results.items():
        start, base, here = on_common_runs(results, START, BASE, name)
        if name == START or not (len(here) or "noise" in result):
            continue
        cells = ["", "", ""]
        if len(here):
            share, lost = interval(start - here, start - base), interval(here - base, start - base)
            seen = people_and_seeds(results, START, BASE, name)
            cells = [seen, interval_cell(share), interval_cell(lost, sign="+")]
        errors = [[row["median"] for row in result.get("noise", []) if row["mu_share"] == length] for length in SHARES]
        floor = f"{result['mu_min'] / result['mu']:.3f}" if result.get("mu_min") else ""
        lines.append([name, *cells, floor, *(f"{100 * np.median(each):.2f}" if each else "" for each in errors)])
    head = ["", "people x seeds", f"share of the decrease of {BASE}", "lost", "floor of mu / mu"]
    return markdown([*head, *(f"error of differences at {length:g} mu, %" for length in SHARES)], lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--subjects", type=int, default=20, help="people whose pictures are drawn")
    parser.add_argument("--first", type=int, default=20, help="people of these to learn")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--variants", nargs="*", default=["qnn"], choices=VARIANTS)
    parser.add_argument("--differences_only", action="store_true", help="learn no tokens")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/targets.json"))
    args = parser.parse_args(arguments)
    command = f"python -m benchmarks.quality.targets {shlex.join(sys.argv[1:] if arguments is None else arguments)}"
    people = fresh_people()[: args.subjects]
    subjects = Subjects(people)
    bench = Bench.build(args.model, "int8", "integer", subjects)
    record = Record(args.output, command.strip(), model=Path(args.model).name, people="fresh", measured_on=BASE)
    keep_heap()
    runs = [(subject, seed) for subject in range(min(args.first, len(people))) for seed in range(args.seeds)]
    truth, zo = None, fast(bench.std, bench.width)
    for name in (START, BASE, *args.variants):
        learner, config, about = bench, Config("int8", "integer"), {}
        if name in VARIANTS:
            variant = VARIANTS[name]
            learner, model = through(bench, bundle_of(args.model, name, variant.recipe))
            preset = model.preset("fast")
            zo = replace(preset, zo_mu=preset.zo_mu * variant.mu)
            own = model.load_text().search_directions
            config = replace(config, zo=lambda *_, zo=zo: zo, basis=lambda _, count, seed, own=own: own(count))
            about = {"mu": zo.zo_mu, "mu_min": model.bundle.manifest["mu_min"], "bundle": model.bundle.sha256}
        elif name == BASE:
            config = replace(config, zo=fast)
        if name != START and "noise" not in record.results.get(name, {}):
            truth = truth or Bench.build(args.model, "int8", "fused", subjects)
            about["noise"] = noise_of_differences(learner, truth, zo)
        if args.differences_only:
            record.add(name, [], **about)
            print(name, flush=True)
            continue
        for first in range(0, len(people), GROUP):
            group = [run for run in runs if first <= run[0] < first + GROUP]
            if missing := record.missing(name, group):
                tokens, _ = learn(config, learner, missing)
                record.add(name, losses(bench, tokens[-1], missing), **about)
                print(f"{name}: people {first} to {first + GROUP - 1}", flush=True)
        if isinstance(learner.objective, OnnxObjective):
            learner.objective.close()
    say(table(record.results), "; ".join(record.values["commands"]), args.output)


if __name__ == "__main__":
    main()
