"""Runs every configuration on every subject and seed, and writes what they found."""

import argparse
import json
import time
from dataclasses import asdict, replace
from datetime import date
from typing import Any

import numpy as np
import torch

from benchmarks.lib.report import machine, say
from benchmarks.pocket.classifier import load_classifier
from benchmarks.pocket.people import BACKGROUNDS, held_out_people
from benchmarks.pocket.prompts import grid
from benchmarks.quality.configurations import CONFIGURATIONS, MAIN, NOISY, Config
from benchmarks.quality.learn import VIEWS, Bench, Subjects, learn, seconds_alone
from benchmarks.quality.measure import OTHERS, chance, losses, pictures
from benchmarks.quality.people import fresh_people
from benchmarks.quality.report import curves, plot, summarize, table
from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.files import write_json
from edge_sdk.system.memory import keep_heap

PICTURED = 12  # subjects on the sheet of pictures


def run_all(args: argparse.Namespace, command: str) -> None:
    """Measure every condition that is asked for."""
    for variance in args.noise:
        if not 0 <= variance < 1e6:
            raise EdgeSdkError(f"--noise is {variance:g}; it must be a variance of 0 or more, below 1e6")
    conditions = [condition(args, variance) for variance in dict.fromkeys(args.noise)]
    for each in conditions:
        everyone(each)  # refuses before anything is measured
    for each in conditions:
        run_condition(each, command)


def condition(args: argparse.Namespace, variance: float) -> argparse.Namespace:
    """The arguments of one variance of the noise; beside others it has a record of its own."""
    own: dict[str, Any] = {"noise": variance, "people": args.people or ("fresh" if variance else "held_out")}
    own["configs"] = args.configs or list(NOISY if variance else MAIN)
    if variance:
        own |= {"no_pictures": True, "no_seconds": True}
        if len(set(args.noise)) > 1:
            suffix = "noise" if variance == 1 else f"noise_{variance:g}"
            own["output"] = args.output.with_name(f"{args.output.stem}_{suffix}.json")
    return argparse.Namespace(**vars(args) | own)


def run_condition(args: argparse.Namespace, command: str) -> None:
    """The record grows on disk with each configuration."""
    people = everyone(args)
    classifier, subjects = load_classifier(), Subjects(people)
    runs = [(subject, seed) for subject in range(len(people)) for seed in range(args.seeds)]
    record: dict[str, Any] = {"commands": [], "results": {}}
    if args.resume and args.output.exists():
        record = json.loads(args.output.read_text())
    if record["results"] and (record.get("people", "held_out"), record.get("noise", 0.0)) != (args.people, args.noise):
        raise EdgeSdkError(f"{args.output} is of other people or another noise; choose another --output")
    known_people = {row["subject"] for result in record["results"].values() for row in result["runs"]}
    if known_people and known_people != set(range(len(people))):
        raise EdgeSdkError(
            f"{args.output} is of {len(known_people)} people, not {len(people)}; give --subjects {len(known_people)}, "
            "or choose another --output"
        )
    record |= {
        "model": args.model,
        "people": args.people,
        "noise": args.noise,
        "date": date.today().isoformat(),
        "machine": machine(),
        "subjects": len(people),
        "chance": {
            "attributes": chance(subjects.people),
            "picked_of_12": 1 / OTHERS,
            "background": 1 / len(BACKGROUNDS),
        },
    }
    record["commands"] = [*record["commands"], command]
    columns = [("photos", torch.from_numpy(subjects.pixels[::VIEWS][:PICTURED]))]
    for name in args.configs:
        known = record["results"].get(name)
        if known and not args.seconds_only:
            continue
        config, started = CONFIGURATIONS[name], time.monotonic()
        bench = replace(Bench.build(args.model, config.weights, config.execution, subjects), variance=args.noise)
        if known:
            known["seconds"] = seconds_alone(config, bench)
            continue
        if args.no_seconds:
            keep_heap()
        tokens, forwards = learn(config, bench, runs)
        rows = losses(bench, tokens[-1], runs)
        if not args.no_pictures:
            read, shown = pictures(bench, tokens[-1], runs, subjects, classifier)
            rows = [{**row, **more} for row, more in zip(rows, read, strict=True)]
            columns.append((name, shown[:: args.seeds][:PICTURED]))
        firsts = [i for i, (_, seed) in enumerate(runs) if seed == 0]
        reached = [[row["loss"] for row in losses(bench, t[firsts], [runs[i] for i in firsts])] for t in tokens[:-1]]
        reached.append([rows[i]["loss"] for i in firsts])
        record["results"][name] = {
            "weights": bench.model.weights,
            "execution": bench.model.execution,
            "seeds": args.seeds,
            "forwards": config.forwards(bench.std, bench.width),
            "seconds": [] if args.no_seconds else seconds_alone(config, bench),
            "curve": {"forwards": forwards, "loss": np.mean(reached, axis=1).tolist()},
            "config": _settings(config, bench),
            "runs": rows,
        }
        summarize(record["results"], args.noise)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.output, record)
        loss = record["results"][name]["summary"]["loss"]
        print(f"{name}: loss {loss['mean']:.4f}, {time.monotonic() - started:.0f} s", flush=True)
    write_json(args.output, record)
    say(table(record["results"]), "; ".join(record["commands"]), args.output)
    plot(record["results"], record["chance"], args.output.with_suffix(".png"))
    curves(record["results"], args.output.with_name(f"{args.output.stem}_curves.png"))
    if len(columns) > 1:
        grid(columns, args.output.with_name(f"{args.output.stem}_pictures.png"))


def everyone(args: argparse.Namespace) -> np.ndarray:
    """The people of a run, (N, 6).

    Raises:
        EdgeSdkError: there are not as many, or too few to pick one of.
    """
    people = fresh_people() if args.people == "fresh" else held_out_people()
    count = args.subjects or len(people)
    least = 2 if args.no_pictures else OTHERS
    if not least <= count <= len(people):
        raise EdgeSdkError(f"--subjects is {count}; it must be from {least} to {len(people)}")
    return people[:count]


def _settings(config: Config, bench: Bench) -> dict[str, Any]:
    if config.zo is not None:
        return config.zo(bench.std, bench.width).to_dict()
    chosen = config.backprop or config.evolution
    return asdict(chosen) if chosen else {}
