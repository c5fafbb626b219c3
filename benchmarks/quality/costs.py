"""What a forward pass of each method costs in seconds and in memory, each in a process of its own.

    python -m benchmarks.quality.costs [--model benchmarks/work/distilled]
    python -m benchmarks.quality.costs --directions --model benchmarks/work/sd15-int8 --output FILE

Processor seconds of one thread, and the peak of anonymous memory while tokens are learned, loading left out. A draw of
backpropagation counts as three forward passes, as in `benchmarks.quality.equal_care`, which reads what this writes.
With ``--directions``: what finding readable directions takes beside a forward pass of an integer checkpoint's denoiser.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.lib.report import machine, markdown, say, spread, spread_cell
from edge_sdk.system.files import write_json

METHODS = ("backpropagation", "fast", "paper", "evolution strategy")
ROWS = 16  # of a call, as the product has for small latents
REPEATS = 5


def measure(method: str, model: str) -> dict[str, Any]:
    """Seconds of a forward pass, one figure per repeat, and the peak in MB."""
    from benchmarks.lib.baselines import backprop, evolution
    from benchmarks.lib.lockstep import View
    from benchmarks.memory.case import Phases
    from benchmarks.quality.configurations import Config
    from benchmarks.quality.equal_care import BACKWARD
    from benchmarks.quality.learn import REFERENCES, Bench, Subjects, start
    from benchmarks.quality.people import fresh_people
    from edge_sdk.system.memory import bound_heap
    from edge_sdk.zo import PAPER, fast, run

    bound_heap()
    phases = Phases("cpu")
    weights = "none" if method == "backpropagation" else "int8"
    bench = Bench.build(model, weights, "integer", Subjects(fresh_people()[:1]))
    view, seconds = View(bench.objective, 0, REFERENCES), []
    phases.end("loading")
    for repeat in range(REPEATS):
        begun = time.process_time()
        if method == "backpropagation":
            config = backprop.BackpropConfig(max_train_steps=4)
            backprop.train(bench.objective, [view], bench.initial, [repeat], config)
            forwards = BACKWARD * config.max_train_steps * config.train_batch_size
        elif method == "evolution strategy":
            of = evolution.EvolutionConfig(forwards=98)
            evolution.train(view, bench.initial, bench.principal, bench.std, repeat, of, [of.generations])
            forwards = of.generations * of.population
        else:
            zo = PAPER if method == "paper" else fast(bench.std, bench.width)
            zo = replace(zo, max_train_steps=99 // zo.forwards_per_step)
            state = start(Config(weights, zo=lambda std, width: zo), bench, repeat, zo)  # noqa: B023
            for _ in run(view, state, bench.norms, max_batch=ROWS):
                pass
            forwards = zo.max_train_steps * zo.forwards_per_step
        seconds.append((time.process_time() - begun) / forwards)
    phases.end("learning")
    return {"seconds": seconds, "peak_anonymous_mb": phases.peaks["learning"]["anonymous"]}


def of_directions(model: str) -> dict[str, float]:
    """Processor seconds: the Jacobian at one word, the decomposition, a forward pass of one row."""
    import torch

    from edge_sdk.runtime.pytorch.directions import WORDS, jacobian_gram, readable_directions
    from edge_sdk.runtime.pytorch.model import open_model

    opened = open_model(model)
    text, unet = opened.load_text(), opened.load("unet")
    std, word, seconds = text.vocabulary_std(), text.words_of_table()[:1], dict[str, float]()
    sample = torch.zeros(1, unet.config.in_channels, *[opened.resolution() // 8] * 2)
    states = torch.zeros(1, text.length, text.width)
    with torch.inference_mode():
        unet(sample, torch.tensor([500.0]), states)
        begun = time.process_time()
        unet(sample, torch.tensor([500.0]), states)
        seconds["forward pass"] = time.process_time() - begun
    begun = time.process_time()
    gram = jacobian_gram(text.states, word, std)
    seconds["one word"] = time.process_time() - begun
    begun = time.process_time()
    readable_directions(text.rows_of_table(), gram, 64)
    seconds["decomposition"] = time.process_time() - begun
    found = WORDS * seconds["one word"] + seconds["decomposition"]
    return seconds | {"forward passes in all": found / seconds["forward pass"]}


def table(results: dict[str, Any]) -> str:
    rows = [
        [
            name,
            spread_cell(spread([1e3 * each for each in result["seconds"]]), 1),
            f"{result['peak_anonymous_mb']:.0f}",
        ]
        for name, result in results.items()
    ]
    return markdown(["method", "ms a forward pass", "anonymous MB"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.costs", description=__doc__)
    parser.add_argument("--model", default="pocket", help="pocket, or a folder that one of the scripts has made")
    parser.add_argument("--method", choices=METHODS, help="measure one here, and print it as JSON")
    parser.add_argument("--directions", action="store_true", help="measure what finding readable directions takes")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/equal_care_costs.json"))
    args = parser.parse_args()
    command_line = shlex.join(["python", "-m", "benchmarks.quality.costs", *sys.argv[1:]])
    about = {"command": command_line, "model": args.model, "date": date.today().isoformat(), "machine": machine()}
    if args.directions:
        write_json(args.output, about | {"results": of_directions(args.model)})
        return
    if args.method:
        print(json.dumps(measure(args.method, args.model)))
        return
    results = {}
    for method in METHODS:
        command = [sys.executable, "-m", "benchmarks.quality.costs", "--model", args.model, "--method", method]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        results[method] = json.loads(done.stdout.splitlines()[-1])
    write_json(args.output, {**about, "results": results})
    say(table(results), command_line, args.output)


if __name__ == "__main__":
    main()
