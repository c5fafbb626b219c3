"""Learning beside busy processes: this version and an earlier one with the settings of OpenMP that a user might try.

    python -m benchmarks.speed.busy --before 8530049 --checkpoint benchmarks/work/sd15-int8

Every case is a process of its own; the variants take turns. Learning on the embedded model is timed over some of its 40
steps, all of which cost the same. The earlier version is taken from this repository's history.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.lib.report import machine, markdown, say, spread, spread_cell
from edge_sdk.system.files import write_json

ROOT = Path(__file__).parents[2]
LEARNING_STEPS = 40
STEPS = {0: 39, 1: 20, 4: 4}  # timed, by busy processes
BUNDLE_STEPS = {0: 10, 1: 8, 4: 4}
CALLS = {0: 3}  # at the true size
SETTINGS = ("GOMP_SPINCOUNT", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")
BEFORE: dict[str, dict[str, str]] = {
    "before": {},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "`GOMP_SPINCOUNT=10000`": {"GOMP_SPINCOUNT": "10000"},
    "`=1000`": {"GOMP_SPINCOUNT": "1000"},
    "`OMP_WAIT_POLICY=passive`": {"OMP_WAIT_POLICY": "passive"},
}
NOW = "now"


def unpack(commit: str, folder: Path) -> None:
    """Write the files of a commit into a folder."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")


def run_case(tree: Path, settings: dict[str, str], *case: object) -> dict[str, float]:
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    command = [sys.executable, str(Path(__file__).with_name("busy_case.py")), *map(str, case)]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=tree,
        env=environment | {"PYTHONPATH": str(tree)} | settings,
    )
    return json.loads(done.stdout.splitlines()[-1])


def table(results: dict[str, dict[str, list[dict[str, float]]]], key: str = "seconds") -> str:
    variants = list(dict.fromkeys(name for row in results.values() for name in row))
    rows = []
    for name, row in results.items():
        cells = [spread_cell(spread([found[key] for found in row[v]]), 2) if v in row else "" for v in variants]
        medians = {variant: spread([found[key] for found in row[variant]])["median"] for variant in row}
        best = min(value for variant, value in medians.items() if variant != NOW)
        rows.append([name, *cells, f"{medians[NOW] / best:.2f}"])
    return markdown(["", *variants, "now / best of the others"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", default="8530049", help="the earlier version, a commit")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--bundle", type=Path, help="the embedded model's bundle, for ONNX Runtime")
    parser.add_argument("--checkpoint", type=Path, help="an integer checkpoint of the true size, int8")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/busy.json"))
    args = parser.parse_args()
    command = f"python -m benchmarks.speed.busy --before {args.before} --repeats {args.repeats}"
    command += "".join(f" --{name} {getattr(args, name)}" for name in ("bundle", "checkpoint") if getattr(args, name))
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    record: dict[str, Any] = {"command": command, "date": date.today().isoformat(), "machine": machine()}
    record["results"] = results

    def measure(name: str, tree: Path, variant: str, times: int, *case: object) -> None:
        found = run_case(tree, BEFORE.get(variant, {}), *case)
        scaled = {key: found[key] * times for key in ("seconds", "processor")}
        results.setdefault(name, {}).setdefault(variant, []).append(scaled | {"load": found["load"]})
        write_json(args.output, record)

    with TemporaryDirectory() as folder:
        unpack(args.before, Path(folder))
        trees = {name: Path(folder) for name in BEFORE} | {NOW: ROOT}
        for _ in range(args.repeats):
            for count, steps in STEPS.items():
                for variant, tree in trees.items():
                    measure(f"learning, {count} busy", tree, variant, LEARNING_STEPS, "learn", count, steps)
            pair = {name: trees[name] for name in ("before", NOW)}
            for variant, tree in pair.items():
                if args.bundle:
                    for count, steps in BUNDLE_STEPS.items():
                        name = f"a step of the bundle, {count} busy"
                        measure(name, tree, variant, 1, "bundle", count, steps, args.bundle.resolve())
                if args.checkpoint:
                    for count, steps in CALLS.items():
                        name = f"two rows at the true size, {count} busy"
                        measure(name, tree, variant, 1, "size", count, steps, args.checkpoint.resolve())
    text = f"Seconds:\n\n{table(results)}\n\nProcessor seconds:\n\n{table(results, 'processor')}"
    say(text, command, args.output)


if __name__ == "__main__":
    main()
