"""Forward-mode derivatives beside finite differences: seconds and memory for the slopes of one Gauss-Newton step.

    python -m benchmarks.quality.forward_mode

Both give J e_i for 32 directions on one draw, on the embedded model's float weights: forward-mode differentiation
exactly, in one pass of 32 rows that carry a tangent each (attention by its formula, for which PyTorch has one), finite
differences to an error, in one pass of 33 rows. Each way runs in a process of its own, in turn.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.autograd.forward_ad as forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.lib.report import machine, markdown, say, spread, spread_cell
from benchmarks.pocket.people import held_out_people
from benchmarks.quality.learn import Bench, Subjects
from edge_sdk.system.files import write_json
from edge_sdk.system.memory import peak_rss_mb, rss_mb
from edge_sdk.zo import directions, draw, fast

WAYS = ("finite differences", "forward mode")  # of `ways`


@contextlib.contextmanager
def plain_group_norm() -> Iterator[None]:
    """Within, group norm takes its input in the usual order: with channels last, PyTorch cannot differentiate it."""
    before = torch.nn.functional.group_norm
    torch.nn.functional.group_norm = lambda x, *more: before(x.contiguous(), *more)
    try:
        yield
    finally:
        torch.nn.functional.group_norm = before


def ways() -> dict[str, Callable[[], np.ndarray]]:
    """By name, functions that find J e_i, (n, M)."""
    bench = Bench.build("pocket", "none", "integer", Subjects(held_out_people()[:1]))
    zo, objective, token = fast(bench.std, bench.width), bench.objective, bench.initial
    basis = directions(bench.principal[: zo.zo_samples], zo.zo_samples, 1)
    one = draw(objective, 0, 0, 1, (500, 501))[0]

    def finite() -> np.ndarray:
        mu = np.float32(zo.zo_mu)
        found = objective.residuals(np.concatenate([token[None], token + mu * basis]), [one] * (len(basis) + 1))
        return (found[1:] - found[0]) / mu

    def dual() -> np.ndarray:
        primal = torch.from_numpy(np.repeat(token[None], len(basis), axis=0))
        with torch.no_grad(), plain_group_norm(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
            made = forward_ad.make_dual(primal, torch.from_numpy(basis))
            return forward_ad.unpack_dual(objective.errors(made, [one] * len(basis))).tangent.flatten(1).numpy()

    return {"finite differences": finite, "forward mode": dual}


def measure(way: str, repeats: int) -> dict[str, Any]:
    every = ways()
    before, seconds = rss_mb(), []
    found = every[way]()  # the first call is left out of the time
    for _ in range(repeats):
        begun = time.perf_counter()
        every[way]()
        seconds.append(time.perf_counter() - begun)
    peak = peak_rss_mb()  # before the reference, which is forward mode's
    exact = every["forward mode"]()
    error = float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
    return {"seconds": seconds, "error": error, "peak_mb": peak, "before_mb": before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5, help="a round")
    parser.add_argument("--way", choices=WAYS, help="measure this one and print its record")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/forward_mode.json"))
    args = parser.parse_args()
    if args.way:
        print(json.dumps(measure(args.way, args.repeats)))
        return
    rounds: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(args.rounds):
        for way in WAYS:
            command = [
                sys.executable,
                "-m",
                "benchmarks.quality.forward_mode",
                "--way",
                way,
                "--repeats",
                str(args.repeats),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rounds[way].append(json.loads(done.stdout.splitlines()[-1]))
    record = {
        "command": "python -m benchmarks.quality.forward_mode",
        "date": date.today().isoformat(),
        "machine": machine(),
        "rounds": rounds,
    }
    write_json(args.output, record)
    rows = []
    for way, found in rounds.items():
        seconds = [1e3 * float(np.median(r["seconds"])) for r in found]
        rows.append(
            [
                way,
                spread_cell(spread(seconds), 0),
                spread_cell(spread([r["peak_mb"] for r in found]), 0),
                f"{found[0]['error']:.1%}",
            ]
        )
    head = ["slopes along 32 directions by", "ms", "peak of the process, MB", "difference from forward mode"]
    say(markdown(head, rows), record["command"], args.output)


if __name__ == "__main__":
    main()
