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

from benchmarks.lib.report import interval, markdown, say
from benchmarks.quality.configurations import CONFIGURATIONS
from benchmarks.quality.learn import REFERENCES, Bench, Subjects
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
            truth = _changes(exact.objective, rows, drawn)
            cell = out[f"{share:g}, {timestep}"] = {}
            for activations in ACTIVATIONS:
                for module in (bench.objective.unet, *bench.objective.text.models):
                    for layer in integer_layers(module).values():
                        layer.activation_bits = 8 if activations == "8" else 16
                bench.objective.activations = activations
                found = _changes(near(bench.objective, token), rows, drawn)
                error = np.linalg.norm(found - truth, axis=1) / np.linalg.norm(truth, axis=1)
                cell[activations] = (100 * error).tolist()
    return out


def _changes(objective: Any, rows: np.ndarray, drawn: Any) -> np.ndarray:
    residuals = objective.residuals(rows, [drawn] * len(rows)).astype(np.float64)
    return residuals[1:] - residuals[0]


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
    losses = {
        name: {(row["subject"], row["seed"]): row["loss"] for row in result["runs"]} for name, result in results.items()
    }
    rows = []
    for name, found in losses.items():
        both = sorted(set(found) & set(losses[CONFIGS[0]]) & set(losses.get(CONFIGS[1], {})))
        if not both:
            continue
        start, reference, own = (np.array([losses_of[run] for run in both]) for losses_of in _three(losses, name))
        share = interval(start - own, start - reference)
        loss = interval(own)
        cells = [f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]" for value in (loss, share)]
        rows.append([name, str(len(both)), *cells])
    return markdown(["configuration", "people", "loss", "decrease, of 16 bits'"], rows)


def _three(losses: dict[str, Any], name: str) -> tuple[Any, Any, Any]:
    return losses[CONFIGS[0]], losses[CONFIGS[1]], losses[name]


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
