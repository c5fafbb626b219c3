"""This version beside an earlier one, in processor seconds of one thread.

    git worktree add ../earlier a4543ee
    python -m benchmarks.speed.versions --earlier ../earlier --checkpoint benchmarks/work/sd15-int8

Every version and case is a process of its own; they take turns, forwards and backwards. Processor seconds hold on a
machine that has other work too, and ratios are those of the same round.
"""

import argparse
import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.lib.report import machine, markdown, say, spread, spread_cell
from edge_sdk.system.files import write_json

CASE = Path(__file__).with_name("versions_case.py")
HERE = Path(__file__).resolve().parents[2]
CASES: dict[str, dict[str, Any]] = {
    "forward pass, 16-bit activations": {"kind": "forward", "bits": 16},
    "forward pass, 8-bit activations": {"kind": "forward", "bits": 8},
    "step of `fast`, embedded model": {"kind": "fast"},
}


class Worker:
    """A case in a version of the package."""

    def __init__(self, tree: Path, case: dict[str, Any], script: Path = CASE) -> None:
        command = [sys.executable, str(script), json.dumps(case)]
        environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tree, env=environment
        )
        self._reply()

    def ask(self, what: str) -> dict[str, float]:
        assert self.process.stdin is not None
        print(what, file=self.process.stdin, flush=True)
        return self._reply()

    def _reply(self) -> dict[str, float]:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def commits(trees: dict[str, Path]) -> dict[str, str]:
    """The short commit that is checked out in every tree."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return {name: subprocess.check_output(command, cwd=tree, text=True).strip() for name, tree in trees.items()}


def measure(trees: dict[str, Path], case: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Processor seconds of every version, their ratio to the first one, and for a forward pass the noise."""
    workers = {name: Worker(tree, case) for name, tree in trees.items()}
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    for number in range(rounds):
        for name in list(workers)[:: -1 if number % 2 else 1]:
            seconds[name].append(workers[name].ask("time")["seconds"])
    first, last = seconds.values()
    found: dict[str, Any] = {
        "seconds": seconds,
        "ratio": spread([now / before for before, now in zip(first, last, strict=True)]),
    }
    if case["kind"] == "forward":
        found["differences"] = {name: worker.ask("noise") for name, worker in workers.items()}
    for worker in workers.values():
        worker.close()
    return found


def table(results: dict[str, Any]) -> str:
    rows = []
    for name, found in results.items():
        noise = [f"{100 * one['noise']:.3f} %" for one in found.get("differences", {}).values()] or ["", ""]
        times = [spread_cell(spread(values), 3) for values in found["seconds"].values()]
        rows.append([name, *times, spread_cell(found["ratio"], 2), *noise])
    return markdown(["processor seconds", "before", "now", "ratio", "noise before", "noise now"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--earlier", type=Path, required=True, help="a checkout of the earlier version")
    parser.add_argument("--checkpoint", type=Path, required=True, help="an int8 integer checkpoint of the true size")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/versions.json"))
    args = parser.parse_args()
    trees = {"before": args.earlier.resolve(), "now": HERE}
    command = (
        f"python -m benchmarks.speed.versions --earlier ../earlier --checkpoint benchmarks/work/{args.checkpoint.name}"
    )
    record: dict[str, Any] = {
        "command": f"{command} --rounds {args.rounds}",
        "date": date.today().isoformat(),
        "machine": machine(),
        "commits": commits(trees),
        "results": {},
    }
    for name, case in CASES.items():
        given = case | ({"checkpoint": str(args.checkpoint.resolve())} if case["kind"] == "forward" else {})
        record["results"][name] = measure(trees, given, args.rounds)
        write_json(args.output, record)
    say(table(record["results"]), record["command"], args.output)


if __name__ == "__main__":
    main()
