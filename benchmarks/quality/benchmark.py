"""Runs every configuration on every subject and seed, and writes what they found."""

import argparse
import json
import time
from dataclasses import asdict
from datetime import date
from typing import Any

import numpy as np
import torch

from benchmarks.lib.report import machine, say
from benchmarks.pocket.classifier import load_classifier
from benchmarks.pocket.people import BACKGROUNDS, held_out_people
from benchmarks.pocket.prompts import grid
from benchmarks.quality.configurations import CONFIGURATIONS, Config
from benchmarks.quality.learn import VIEWS, Bench, Subjects, learn, seconds_alone
from benchmarks.quality.measure import OTHERS, chance, losses, pictures
from benchmarks.quality.report import curves, plot, summarize, table
from edge_sdk.system.files import write_json

PICTURED = 12  # subjects on the sheet of pictures


def run_all(args: argparse.Namespace, command: str) -> None:
    """The record grows on disk with each configuration."""
    classifier, subjects = load_classifier(), Subjects(held_out_people()[: args.subjects])
    runs = [(subject, seed) for subject in range(args.subjects) for seed in range(args.seeds)]
    record: dict[str, Any] = {"commands": [], "results": {}}
    if args.resume and args.output.exists():
        record = json.loads(args.output.read_text())
    record |= {
        "model": args.model,
        "date": date.today().isoformat(),
        "machine": machine(),
        "subjects": args.subjects,
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
        bench = Bench.build(args.model, config.weights, config.execution, subjects)
        if known:
            known["seconds"] = seconds_alone(config, bench)
            continue
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
            "seconds": seconds_alone(config, bench),
            "curve": {"forwards": forwards, "loss": np.mean(reached, axis=1).tolist()},
            "config": _settings(config, bench),
            "runs": rows,
        }
        summarize(record["results"])
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


def _settings(config: Config, bench: Bench) -> dict[str, Any]:
    if config.zo is not None:
        return config.zo(bench.std, bench.width).to_dict()
    return asdict(config.backprop) if config.backprop else {}
