"""What a run takes: `fast` beside backpropagation on the embedded model, and its steps at the true size.

    python -m benchmarks.speed.pace --checkpoint benchmarks/work/sd15-int8

Every case is a process of its own, in turn. On the embedded model: seconds of a whole run, how right the time was that
the first step foretold, and how much memory training takes above what lies loaded. At the true size, with random
weights: seconds of a step of `fast` (33 forward passes), by where the weights are and by rows a call, and what the
text encoder takes of them.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.lib.report import machine, markdown, say, spread, spread_cell
from benchmarks.memory.case import integer_objective, reset_peak
from edge_sdk.system.files import write_json
from edge_sdk.system.memory import bound_heap, leave_out_tracing, peak_rss_mb, release, rss_mb

SIZED = {
    f"step, {residency}, {rows} rows a call": {"residency": residency, "rows": rows}
    for residency, choices in (("resident", (2,)), ("streamed", (1, 2)))
    for rows in choices
}


def observed(work: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What the work reports, and the peak of memory above what was held before it."""
    release()
    before = rss_mb()
    reset_peak()
    found = work()
    return found | {"loaded_mb": before, "above_mb": peak_rss_mb() - before}


def forward_only(seed: int) -> dict[str, float]:
    """A run of `fast` on int8 weights, on the photos of `edge-sdk demo`."""
    leave_out_tracing()
    from edge_sdk import Personalizer, pocket

    personalizer = Personalizer.from_pretrained("pocket")
    steps = personalizer.fit(pocket.PHOTOS, seed=seed)

    def work() -> dict[str, float]:
        begun, foretold = time.monotonic(), 0.0
        for step in steps:
            if step.step == 1:
                foretold, begun = step.eta_s, time.monotonic()
        return {"seconds": step.seconds, "foretold": foretold / (time.monotonic() - begun)}

    return observed(work)


def backpropagation(seed: int) -> dict[str, float]:
    """The run that the quality benchmark tuned, on float weights."""
    from benchmarks.lib.baselines.backprop import train
    from benchmarks.lib.lockstep import View
    from benchmarks.pocket.people import held_out_people
    from benchmarks.quality.configurations import MAIN
    from benchmarks.quality.learn import REFERENCES, Bench, Subjects

    bench = Bench.build("pocket", "none", "integer", Subjects(held_out_people()[:1]))
    config, view = MAIN["backprop-float"].backprop, View(bench.objective, 0, REFERENCES)
    assert config is not None

    def work() -> dict[str, float]:
        begun = time.monotonic()
        train(bench.objective, [view], bench.initial, [seed], config)
        return {"seconds": time.monotonic() - begun}

    return observed(work)


def at_true_size(checkpoint: str, residency: str, rows: int) -> dict[str, float]:
    """A step of `fast` on an integer checkpoint."""
    leave_out_tracing()
    from dataclasses import replace

    import numpy as np
    import torch

    from edge_sdk.quantization import native
    from edge_sdk.zo import State, directions, fast, run

    native.library()
    objective = integer_objective(checkpoint, "int8", residency)
    text = objective.text
    zo = replace(fast(text.vocabulary_std(), text.width), max_train_steps=1)
    basis = directions(text.search_directions(zo.zo_directions), zo.zo_samples, 1)
    state = State.start(zo, 0, text.initial_embedding("a", 1) / text.scale, basis=basis)

    def work() -> dict[str, float]:
        for _ in run(objective, state, max_batch=rows):
            pass
        return {"seconds": state.seconds}

    found = observed(work)
    tokens = torch.from_numpy(np.repeat(state.embedding[None], rows, axis=0))
    begun = time.monotonic()
    with torch.inference_mode():
        text.condition(objective.ids[:1].expand(rows, -1), tokens * torch.as_tensor(text.scale))
    calls = -(-zo.forwards_per_step // rows)
    return found | {"text_share": calls * (time.monotonic() - begun) / found["seconds"]}


def run_case(case: dict[str, Any]) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.speed.pace", "--case", json.dumps(case)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])


def table(results: dict[str, list[dict[str, float]]]) -> str:
    head = ["", "seconds", "above what is loaded, MB", "time foretold / taken", "text encoder's share"]
    rows = []
    for name, runs in results.items():
        cells = [
            spread_cell(spread([found[key] for found in runs]), digits) if key in runs[0] else ""
            for key, digits in (("seconds", 1), ("above_mb", 0), ("foretold", 2), ("text_share", 3))
        ]
        rows.append([name, *cells])
    return markdown(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="an integer checkpoint of the true size, int8")
    parser.add_argument("--repeats", type=int, default=5, help="of the embedded model's runs")
    parser.add_argument("--case", type=json.loads, help="run this one and print its record")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/pace.json"))
    args = parser.parse_args()
    if args.case:
        bound_heap()
        kinds: dict[str, Callable[..., dict[str, float]]] = {
            "fast": forward_only,
            "backprop": backpropagation,
            "size": at_true_size,
        }
        print(json.dumps(kinds[args.case.pop("kind")](**args.case)))
        return
    command = f"python -m benchmarks.speed.pace --repeats {args.repeats}"
    results: dict[str, list[dict[str, float]]] = {"`fast`, int8": [], "backpropagation, float": []}
    record = {"command": command, "date": date.today().isoformat(), "machine": machine(), "results": results}
    for seed in range(args.repeats):
        for runs, kind in zip(list(results.values())[:2], ("fast", "backprop"), strict=True):
            runs.append(run_case({"kind": kind, "seed": seed}))
            write_json(args.output, record)
    if args.checkpoint:
        record["command"] = command = f"{command} --checkpoint {args.checkpoint}"
        for name, case in SIZED.items():
            results[name] = [run_case({"kind": "size", "checkpoint": str(args.checkpoint), **case})]
            write_json(args.output, record)
    say(table(results), command, args.output)


if __name__ == "__main__":
    main()
