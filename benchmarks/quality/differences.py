"""Rows as differences to the token's own: how well directions are resolved, and what `fast` learns so.

    python -m benchmarks.quality.differences

Errors: the 32 differences of residuals that `fast` measures, beside those of the same integer weights with float
activations (`fused`), a draw a timestep, at mu of the preset, a tenth and a hundredth of it. Learning: whole runs of
`fast` on people on whom nothing was chosen, every person beside the same person with 16-bit activations.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.intervals import interval, interval_cell, on_common_runs
from benchmarks.lib.report import markdown, say
from benchmarks.quality.configurations import CONFIGURATIONS
from benchmarks.quality.learn import REFERENCES, Bench, Subjects
from benchmarks.quality.measure import difference_errors
from benchmarks.quality.people import fresh_people
from benchmarks.quality.runs import Record, measured
from edge_sdk.quantization.layers import integer_layers
from edge_sdk.zo import directions, draw, fast, near

SHARES, TIMESTEPS = (1.0, 0.1, 0.01), (200, 500, 800)
WEIGHTS = ("int8", "int4")
ACTIVATIONS = ("16", "8", "difference")
CONFIGS = ("initializer-int8-integer", "fast-int8-integer", "fast-int8-difference", "backprop-float")


def errors(model: str, weights: str) -> dict[str, dict[str, list[float]]]:
    """Relative errors of 32 differences, in percent, by mu and timestep and by how activations are rounded."""
    subjects = Subjects(fresh_people()[:1])
    bench, exact = (Bench.build(model, weights, how, subjects) for how in ("integer", "fused"))
    basis = directions(bench.principal[:32], 32, 1)
    mu, token = np.float32(fast(bench.std, bench.width).zo_mu), bench.initial
    out: dict[str, dict[str, list[float]]] = {}
    for share in SHARES:
        for timestep in TIMESTEPS:
            drawn = draw(bench.objective, 0, 0, 1, (timestep, timestep + 1))[0]
            rows = np.concatenate([token[None], token + np.float32(share) * mu * basis])
            truth = exact.objective.residuals(rows, [drawn] * len(rows))
            cell = out[f"{share:g}, {timestep}"] = {}
            for activations in ACTIVATIONS:
                for module in (bench.objective.unet, *bench.objective.text.models):
                    for layer in integer_layers(module).values():
                        layer.activation_bits = 8 if activations == "8" else 16
                bench.objective.activations = activations
                found = near(bench.objective, token).residuals(rows, [drawn] * len(rows))
                cell[activations] = (100 * difference_errors(found, truth)).tolist()
    return out


def error_table(results: dict[str, Any]) -> str:
    head = ["weights", "mu, of the preset's; timestep", *(f"activations {name}" for name in ACTIVATIONS)]
    rows = []
    for weights, cells in results.items():
        for where, found in cells.items():
            shown = [f"{np.median(found[name]):.2g} % ({max(found[name]):.2g})" for name in ACTIVATIONS]
            rows.append([weights, where, *shown])
    return markdown(head, rows)


def learning_table(results: dict[str, Any]) -> str:
    """Loss, and the decrease as a share of what the same people get with 16-bit activations."""
    rows = []
    for name in results if set(CONFIGS[:2]) <= set(results) else ():
        start, reference, own = on_common_runs(results, *CONFIGS[:2], name)
        if len(own):
            cells = [interval_cell(value) for value in (interval(own), interval(start - own, start - reference))]
            rows.append([name, str(len(own)), *cells])
    return markdown(["configuration", "people", "loss", "decrease, of 16 bits'"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket", help="pocket, or the folder that benchmarks.quality.wide makes")
    parser.add_argument("--subjects", type=int, default=8, help="of the 20 people on whom nothing was chosen")
    parser.add_argument("--configs", nargs="+", choices=CONFIGURATIONS, default=list(CONFIGS))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/differences.json"))
    args = parser.parse_args()
    name = "pocket" if args.model == "pocket" else Path(args.model).name
    command = f"python -m benchmarks.quality.differences --model {args.model} --subjects {args.subjects}"
    record = Record(args.output, command, model=name, references=REFERENCES)
    known = record.values.setdefault("errors", {})
    for weights in WEIGHTS:
        if weights not in known:
            known[weights] = errors(args.model, weights)
            record.save()
    print(error_table(known), flush=True)
    people = fresh_people()[: args.subjects]
    runs = [(subject, 0) for subject in range(len(people))]
    for subject in runs:
        for config_name in args.configs:
            if record.missing(config_name, [subject]):
                config = CONFIGURATIONS[config_name]
                bench = Bench.build(args.model, config.weights, config.execution, Subjects(people))
                record.add(config_name, measured(config, bench, [subject]))
                print(config_name, subject, record.results[config_name]["runs"][-1]["loss"], flush=True)
    record.save()
    text = error_table(known) + "\n\n" + learning_table(record.results)
    say(text, "; ".join(record.values["commands"]), args.output)


if __name__ == "__main__":
    main()
