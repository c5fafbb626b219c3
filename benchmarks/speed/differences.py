"""A step of `fast` at the true size with rows as differences, beside 16-bit activations and an earlier version.

    git worktree add ../earlier a4543ee
    python -m benchmarks.speed.differences --earlier ../earlier --checkpoint benchmarks/work/sd15-int8

Each case is a call of the objective on a token and rows beside it, in processes of one thread that take turns; a step
is as many calls as 32 rows beside the token need. Memory is that of one more process a case: resident memory after
loading, and the peak of a call. Only times need a quiet machine: `--no_memory`, and later `--memory_only`.
"""

import argparse
import json
import math
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.lib.report import machine, markdown, say, spread, spread_cell
from benchmarks.speed.versions import HERE, Worker, commits
from edge_sdk.system.files import write_json

CASE = Path(__file__).with_name("differences_case.py")
BESIDE = 32  # rows beside the token, of a step


def cases(rows: list[int]) -> dict[str, dict[str, Any]]:
    """Name -> activations and rows of a call, the token's own included."""
    out: dict[str, dict[str, Any]] = {"16 bits, 2 rows a call": {"activations": "16", "rows": 2}}
    return out | {f"difference, {k} rows a call": {"activations": "difference", "rows": k} for k in rows}


def step_seconds(case: dict[str, Any], call: float) -> float:
    """Processor seconds of a step from those of a call."""
    if case["activations"] == "16":
        return call * (BESIDE + 1) / case["rows"]
    return call * BESIDE / (case["rows"] - 1)


def times(args: argparse.Namespace, chosen: dict[str, dict[str, Any]], checkpoint: str) -> dict[str, Any]:
    """Processor seconds of a call of every case, in turns, written after every round."""
    trees = {"before": (args.earlier.resolve(), chosen["16 bits, 2 rows a call"])} | {
        name: (HERE, case) for name, case in chosen.items()
    }
    command = (
        "python -m benchmarks.speed.differences --earlier ../earlier "
        f"--checkpoint benchmarks/work/{args.checkpoint.name}"
        f" --rows {' '.join(map(str, args.rows))} --rounds {args.rounds}"
    )
    record: dict[str, Any] = {
        "command": command,
        "date": date.today().isoformat(),
        "machine": machine(),
        "commits": commits({"before": args.earlier.resolve(), "now": HERE}),
        "results": {},
    }
    workers = {
        name: Worker(tree, case | {"checkpoint": checkpoint, "residency": "resident"}, CASE)
        for name, (tree, case) in trees.items()
    }
    calls: dict[str, list[float]] = {name: [] for name in workers}
    for number in range(args.rounds):
        for name in list(workers)[:: -1 if number % 2 else 1]:
            calls[name].append(workers[name].ask("time")["seconds"])
        for name, (_, case) in trees.items():
            steps = [step_seconds(case, call) for call in calls[name]]
            if all(math.isfinite(step) for step in steps):
                first = [step_seconds(trees["before"][1], call) for call in calls["before"]]
                ratio = [step / one for step, one in zip(steps, first, strict=True)]
                record["results"][name] = {"case": case, "call": calls[name], "step": steps, "ratio": ratio}
        write_json(args.output, record)
    for worker in workers.values():
        worker.close()
    return record


def memory(case: dict[str, Any], checkpoint: str, residency: str) -> dict[str, float]:
    command = [sys.executable, str(CASE), json.dumps(case | {"checkpoint": checkpoint, "residency": residency})]
    done = subprocess.run(command, input="time\nmemory\n", capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def table(record: dict[str, Any]) -> str:
    head = ["case", "processor s of a step", "of the version before", "loaded, MB", "peak, MB", "peak streamed, MB"]
    rows = []
    for name, result in record["results"].items():
        found = [result.get("memory", {}).get(residency) for residency in ("resident", "streamed")]
        cells = [
            f"{found[0]['loaded']:.0f}" if found[0] else "",
            *(f"{one['peak']:.0f}" if one else "" for one in found),
        ]
        rows.append([name, spread_cell(spread(result["step"]), 1), spread_cell(spread(result["ratio"]), 2), *cells])
    return markdown(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--earlier", type=Path, required=True, help="a checkout of the earlier version")
    parser.add_argument("--checkpoint", type=Path, required=True, help="an integer checkpoint of the true size")
    parser.add_argument("--rows", type=int, nargs="+", default=[5, 9], help="of a call, the token's own included")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no_memory", action="store_true", help="measure times only")
    parser.add_argument("--memory_only", action="store_true", help="add memory to the times of the output file")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/step_differences.json"))
    args = parser.parse_args()
    checkpoint = str(args.checkpoint.resolve())
    chosen = cases(args.rows)
    record = json.loads(args.output.read_text()) if args.memory_only else times(args, chosen, checkpoint)
    for name, case in {} if args.no_memory else chosen.items():
        kinds = ("resident", "streamed")
        record["results"][name]["memory"] = {kind: memory(case, checkpoint, kind) for kind in kinds}
        write_json(args.output, record)
    say(table(record), record["command"], args.output)


if __name__ == "__main__":
    main()
