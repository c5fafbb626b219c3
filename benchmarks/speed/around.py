"""What surrounds the steps of a run of `fast`, in forward passes: this version beside an earlier one.

    git worktree add ../earlier 13057b1
    python -m benchmarks.speed.around --earlier ../earlier --wide benchmarks/work/wide

Rows of the denoiser are counted in a first and in a second run on a model, each a process of its own; a folder of the
benchmark's is their cache. The wide model has tokens of 768 numbers, as Stable Diffusion 1.x; `benchmarks.quality.wide`
makes it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.lib.report import machine, markdown, say
from edge_sdk import pocket
from edge_sdk.export.bundle import export
from edge_sdk.quantization.build import cache_folder
from edge_sdk.system.files import write_json
from edge_sdk.zo import fast

HERE = Path(__file__).resolve().parents[2]
PARTS = ("floor of mu", "held-out losses", "preview")
STEPS = {"embedded": 128, "wide": 768}  # width of tokens, which decides the preset's steps


def cases(wide: Path, folder: Path) -> dict[str, dict[str, str]]:
    """Options of a run, by model and runtime; bundles are written into a folder."""
    export(str(wide), folder / "bundle")
    word = {"initializer_token": "person"}
    return {
        "embedded, PyTorch": {"model": "pocket"},
        "embedded, bundle": {"bundle": str(pocket.BUNDLE)},
        "wide, PyTorch": {"model": str(wide.resolve())} | word,
        "wide, bundle": {"bundle": str(folder / "bundle")} | word,
    }


def of_steps(case: str) -> int:
    """Forward passes of all steps of the preset."""
    preset = fast(1.0, STEPS[case.partition(",")[0]])
    return preset.max_train_steps * preset.forwards_per_step


def measure(tree: Path, options: dict[str, str], cache: Path) -> dict[str, Any]:
    """Rows and processor seconds of a run in a version of the package."""
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, str(Path(__file__).with_name("around_case.py")), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tree, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def new_cache(folder: Path) -> Path:
    """A cache that holds compiled kernels and nothing else."""
    place = folder / "edge-sdk"
    place.mkdir(parents=True, mode=0o700)
    for library in cache_folder().glob("*.so"):
        shutil.copy(library, place)
    return folder


def table(results: dict[str, Any]) -> str:
    rows = []
    for case, runs in results.items():
        for name, found in runs.items():
            counts = [found["rows"][part] for part in PARTS]
            share = sum(counts) / of_steps(case)
            rows.append([case, name, f"{of_steps(case):,}", *map(str, counts), str(sum(counts)), f"{share:.1%}"])
    return markdown(["model", "run", "steps", *PARTS, "around", "share of the steps"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--earlier", type=Path, required=True, help="a checkout of the earlier version")
    parser.add_argument("--wide", type=Path, required=True, help="a model whose tokens have 768 numbers")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/around.json"))
    args = parser.parse_args()
    trees = {"before": args.earlier.resolve(), "now": HERE}
    record: dict[str, Any] = {
        "command": "python -m benchmarks.speed.around --earlier ../earlier --wide benchmarks/work/wide",
        "date": date.today().isoformat(),
        "machine": machine(),
        "commits": {
            name: subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=tree, text=True).strip()
            for name, tree in trees.items()
        },
        "results": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for case, options in cases(args.wide, Path(folder)).items():
            runs = record["results"][case] = {}
            for version, tree in trees.items():
                cache = new_cache(Path(folder) / f"{version} {case}")
                for number in ("first", "second"):
                    runs[f"{version}, {number}"] = measure(tree, options, cache)
            write_json(args.output, record)
    say(table(record["results"]), record["command"], args.output)


if __name__ == "__main__":
    main()
