"""``python -m tests.mutations``: counts of refusals, work done and faults over mutated inputs."""

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import date
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

from benchmarks.report import machine
from edge_sdk.files import write_json
from tests.mutations import children
from tests.mutations.mutate import mutated
from tests.mutations.targets import Target, build, link_copy, write_mutated

OUTPUT = Path(__file__).parents[2] / "benchmarks" / "results" / "mutations.json"
TARGETS: list[Target] = []  # filled before workers are forked, which inherit them
FAULTS = ("traceback", "hang", "memory", "signal", "lines", "output")


def preload() -> None:
    """Load in this process what every child would load again."""
    import diffusers  # noqa: F401
    import onnxruntime  # noqa: F401
    import transformers  # noqa: F401

    from edge_sdk.unlearning import audit as audit
    from edge_sdk.unlearning import metric, unlearn

    metric.DRAWS = 8
    unlearn.check_reproducible = lambda *_: None  # random models reproduce nothing


def outcome(target: Target, rng: random.Random, scratch: Path) -> tuple[children.Ending, str | None, Path]:
    """Run one mutated input: its ending, its fault if there is one, and the file that was mutated."""
    copy, out = scratch / f"{target.base.name}.copy", scratch / "out"
    link_copy(target.base, copy)
    path = rng.choice(target.paths())
    write_mutated(target, copy, path, mutated(target.base / path, rng))
    ending = children.run(target.command(copy, out), scratch)
    fault = ending.fault()
    if fault is None and ending.status and not target.may_write:
        left = [
            entry for entry in (*scratch.glob("out*"), *scratch.glob("out/*")) if entry.name not in ("out", ".lock")
        ]
        fault = "output" if left else None
    if fault is None and any(".tmp" in entry.name for entry in scratch.rglob("*")):
        fault = "output"
    return ending, fault, path


def check_whole(targets: list[Target], work: Path) -> None:
    """Raises RuntimeError if a whole input does not end as it should, so that its mutations would test nothing."""
    for target in targets:
        scratch = work / "case"
        scratch.mkdir()
        link_copy(target.base, scratch / f"{target.base.name}.copy")
        ending = children.run(target.command(scratch / f"{target.base.name}.copy", scratch / "out"), scratch)
        if ending.fault() or ending.status != target.status:
            raise RuntimeError(f"{target.name} ends in {ending}")
        shutil.rmtree(scratch)


@dataclass(frozen=True)
class Case:
    """What became of one mutated input."""

    target: str
    kind: str  # a fault, or "refused", "failed check", "done"
    memory: int
    seconds: float
    message: str


def case(number: int, seed: int, work: Path, keep: Path | None) -> Case:
    """Run one input of a seed, in a folder of its own."""
    target, rng, scratch = TARGETS[number % len(TARGETS)], random.Random(f"{seed}:{number}"), work / f"case{number}"
    scratch.mkdir()
    ending, fault, path = outcome(target, rng, scratch)
    last = "".join((ending.err.strip() or ending.out.strip()).splitlines()[-1:])[:300]
    if fault and keep:
        shutil.copytree(scratch, keep / f"{seed}-{number}-{fault}", dirs_exist_ok=True)
    shutil.rmtree(scratch)
    kind = fault or ("done", "failed check", "refused")[ending.status]
    message = f"input {number} of seed {seed}, {target.name}, {path}: {last}"
    return Case(target.name, kind, ending.memory, ending.seconds, message)


def run(inputs: int, seed: int, jobs: int, work: Path, keep: Path | None) -> dict[str, Any]:
    """Totals over mutated inputs, the same for the same seed."""
    totals: Counter[str] = Counter()
    by_target: dict[str, Counter[str]] = {target.name: Counter() for target in TARGETS}
    most, longest = 0, 0.0
    with get_context("fork").Pool(jobs) as pool:
        for one in pool.imap_unordered(partial(case, seed=seed, work=work, keep=keep), range(inputs)):
            totals[one.kind] += 1
            by_target[one.target][one.kind] += 1
            most, longest = max(most, one.memory), max(longest, one.seconds)
            if one.kind in FAULTS:
                print(f"{one.kind}: {one.message}", flush=True)
            if totals.total() % 100 == 0:
                print(f"{totals.total()} inputs: {dict(totals)}", flush=True)
    return {
        "seed": seed,
        "inputs": inputs,
        **{name: totals[name] for name in ("refused", "failed check", "done", *FAULTS)},
        "most_memory_mb": round(most / 2**20),
        "longest_seconds": round(longest, 1),
        "by_input": {name: dict(counts) for name, counts in by_target.items()},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=2000, help="of every seed")
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--jobs", type=int, default=2, help="inputs at the same time")
    parser.add_argument("--only", default="", help="kinds of inputs whose names hold this")
    parser.add_argument("--keep", type=Path, help="a folder for what a fault leaves")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edge-sdk-mutations-") as folder:
        preload()
        TARGETS.extend(target for target in build(Path(folder)) if args.only in target.name)
        check_whole(TARGETS, Path(folder))
        runs = [run(args.inputs, seed, args.jobs, Path(folder), args.keep) for seed in args.seed]
    command = f"python -m tests.mutations --inputs {args.inputs} --seed {' '.join(map(str, args.seed))}"
    limits = {"processor_seconds": children.SECONDS, "memory_mb": children.MEMORY >> 20}
    record = {
        "command": command,
        "date": date.today().isoformat(),
        "machine": machine(),
        "limits": limits,
        "runs": runs,
    }
    if not args.only:
        write_json(args.output, record | {"runs": runs})
    for one in runs:
        print({name: value for name, value in one.items() if name != "by_input"})
    return int(any(one[name] for one in runs for name in FAULTS))


if __name__ == "__main__":
    sys.exit(main())
