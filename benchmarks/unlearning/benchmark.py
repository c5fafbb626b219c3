"""Runs every method on every target and seed, and says who forgets more at the same drift."""

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import interval, machine, markdown, pyplot, say
from edge_sdk.errors import EdgeSdkError
from edge_sdk.files import write_json

SURROGATES = 4
BASE = {"timestep_weight": "snr", "learning_rate": 1e-4, "retain_batch": 32, "forget_batch": 16}


def run_all(args: argparse.Namespace, command: str, scans: dict[str, tuple[float, ...]]) -> None:
    """Measure what is not measured yet, then compare."""
    from benchmarks.unlearning.harness import Ruler, make_case, run
    from edge_sdk.unlearning.config import UnlearnConfig
    from edge_sdk.unlearning.denoiser import load_denoiser
    from edge_sdk.unlearning.measure import Model

    if not args.model.is_dir():
        raise EdgeSdkError(f"there is no folder {args.model}; make it with python -m benchmarks.unlearning.ddpm")
    denoiser = load_denoiser(str(args.model))
    record: dict[str, Any] = {"commands": [], "rows": [], "base": {}}
    if args.resume and args.output.exists():
        record = json.loads(args.output.read_text())
    record |= {"date": date.today().isoformat(), "machine": machine(), "settings": BASE, "stops": args.stops}
    record["commands"] = [*record["commands"], command]
    done = {(r["method"], r["strength"], r["person"], r["seed"]) for r in record["rows"]}
    given = {name: json.loads(value) if value[:1] in "[0123456789" else value
             for name, value in (entry.split("=", 1) for entry in args.set)}  # fmt: skip
    base = Model(denoiser, denoiser.module, {})
    for person in range(args.targets):
        wanted = [
            (method, strength, seed)
            for seed in range(args.seeds)
            for method in args.methods
            for strength in scans[method]
            if (args.label if method == "ours" else method, strength, person, seed) not in done
        ]
        if not wanted:
            continue
        case = make_case(denoiser, person, SURROGATES)
        ruler = Ruler(base, case)
        record["base"].setdefault(str(person), ruler(base))
        for method, strength, seed in wanted:
            own = (
                {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()} if method == "ours" else {}
            )
            config = UnlearnConfig.from_options(**(BASE | own), seed=seed)
            rows = run(base, case, ruler, method, strength, config, tuple(args.stops))
            name = args.label if method == "ours" else method
            record["rows"] += [
                {"method": name, "strength": strength, "person": person, "seed": seed, **r} for r in rows
            ]
            write_json(args.output, record)
            found = [f"{r['steps']}: {r['target_similarity']:.3f} at drift {r['drift']:.3f}" for r in rows]
            print(f"{person} {name} {strength} seed {seed}: {'; '.join(found)}", flush=True)
    say(comparison(record, args.label), "; ".join(record["commands"]), args.output)
    plot(record, args.output.with_suffix(".png"))


def frontier(rows: list[dict[str, Any]], drift: float) -> float:
    """The least target similarity of a method within a drift, straight lines between its runs' best points.

    Args:
        rows: of one method, target and seed, over strengths and steps.
    """
    points = sorted((r["drift"], r["target_similarity"]) for r in rows)
    x, best = np.array([p[0] for p in points]), np.minimum.accumulate([p[1] for p in points])
    return float(np.interp(drift, x, best))


def comparison(record: dict[str, Any], ours: str, drifts: tuple[float, ...] = (0.02, 0.05, 0.1)) -> str:
    """Markdown: each method's target similarity at fixed drifts, and on how many targets ours is lower."""
    methods = list(dict.fromkeys(r["method"] for r in record["rows"]))
    people = sorted({r["person"] for r in record["rows"]})
    seeds = sorted({r["seed"] for r in record["rows"]})

    def at(method: str, person: int, seed: int, drift: float) -> float:
        rows = [r for r in record["rows"] if (r["method"], r["person"], r["seed"]) == (method, person, seed)]
        start = record["base"][str(person)]
        return frontier([{"drift": 0.0, "target_similarity": start["target_similarity"]}, *rows], drift)

    lines = []
    for method in methods:
        cells = [method]
        for drift in drifts:
            values = np.array([np.mean([at(method, p, s, drift) for s in seeds]) for p in people])
            found = interval(values)
            cells.append(f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]")
        if method == ours:
            lines.append([*cells, ""])
            continue
        gaps = np.array([[at(ours, p, s, drifts[1]) - at(method, p, s, drifts[1]) for s in seeds] for p in people])
        found = interval(gaps.mean(axis=1))
        wins = int((gaps.max(axis=1) < 0).sum())
        lines.append(
            [*cells, f"{found['mean']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}], {wins} of {len(people)}"]
        )
    head = ["method", *(f"target similarity at drift {d:g}" for d in drifts),
            f"{ours} beside it at {drifts[1]:g}; targets on which every seed is lower"]  # fmt: skip
    start = np.mean([b["target_similarity"] for b in record["base"].values()])
    return markdown(head, lines) + f"\n\nBefore unlearning: {start:.3f}. Mean [95 % interval over targets]."


def plot(record: dict[str, Any], path: Path) -> None:
    """Forgetting against drift: every run's points, and each method's lower edge in the mean over targets."""
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(8, 5))
    for method in dict.fromkeys(r["method"] for r in record["rows"]):
        rows = [r for r in record["rows"] if r["method"] == method]
        x, y = [r["drift"] for r in rows], [r["target_similarity"] for r in rows]
        drawn = axis.plot(x, y, "o", ms=3, alpha=0.4, label=method)
        groups = sorted({(r["strength"], r["steps"]) for r in rows})
        means = sorted(
            (np.mean([r["drift"] for r in chosen]), np.mean([r["target_similarity"] for r in chosen]))
            for chosen in ([r for r in rows if (r["strength"], r["steps"]) == group] for group in groups)
        )
        axis.plot([m[0] for m in means], np.minimum.accumulate([m[1] for m in means]), color=drawn[0].get_color())
    axis.set(xlabel="drift of free samples of everyone else", ylabel="similarity of reconstructions to the target")
    axis.set_xscale("symlog", linthresh=0.01)
    axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
