"""Peak memory and time of one training step at the true size of Stable Diffusion, ours beside the usual ways.

Cases run one after the other, each in a process of its own, the whole list again for every repeat. The weights are
random: `python -m benchmarks.architectures` makes them.
"""

import argparse
import json
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.limits import memory_limit
from benchmarks.report import machine

PHASES = ("import", "load", "step")
OURS, FLOAT = "#d62728", "#4c6a92"


def cases(folder: Path, checkpoints: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Name -> the arguments of `benchmarks.memory_case`."""
    out: dict[str, dict[str, Any]] = {
        f"ours {weights} {residency}": {
            "kind": "ours", "checkpoint": str(path), "weights": weights, "residency": residency,
        }
        for weights, path in checkpoints.items()
        for residency in ("resident", "mapped", "streamed")
    }  # fmt: skip
    stock = {"kind": "stock", "folder": str(folder)}
    for dtype in ("float32", "bfloat16"):
        out[f"forward only {dtype}"] = stock | {"dtype": dtype, "method": "forward"}
        out[f"backprop {dtype}"] = stock | {"dtype": dtype, "method": "backprop"}
        out[f"backprop {dtype} checkpointing"] = stock | {"dtype": dtype, "method": "backprop", "checkpointing": True}
    for weights in ("int8", "int4"):
        out[f"quanto {weights} as it comes"] = (
            stock | {"dtype": "float32", "method": "forward", "quantize": weights}
        )  # fmt: skip
    return out


def run_case(arguments: dict[str, Any], limit_mb: int | None = None) -> dict[str, Any]:
    """One process; a case that is killed or fails says so in its record."""
    command = [sys.executable, "-m", "benchmarks.memory_case", json.dumps(arguments)]
    with memory_limit(limit_mb) as enter:
        done = subprocess.run(command, capture_output=True, text=True, preexec_fn=enter)
    if done.returncode == -signal.SIGKILL:
        return {"failed": "killed for memory"}
    if done.returncode:
        return {"failed": f"status {done.returncode}: {done.stderr.strip()[-200:]}"}
    return json.loads(done.stdout.splitlines()[-1])


def summarize(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Median, least and most over the repeats."""
    good = [run for run in runs if "failed" not in run]
    if not good:
        return {"failed": runs[0]["failed"]}

    def spread(values: list[float]) -> dict[str, float]:
        return {"median": float(np.median(values)), "low": min(values), "high": max(values), "n": len(values)}

    peaks = {p: {k: spread([run["phases"][p][k] for run in good]) for k in ("resident", "anonymous", "file")}
             for p in PHASES}  # fmt: skip
    return {"peaks_mb": peaks, "step_seconds": spread([s for run in good for s in run["seconds"]])}


def table(results: dict[str, Any]) -> str:
    """Markdown: peaks in MB and seconds a step, median (least-most)."""
    lines = ["| case | import | load | step | of it anonymous | seconds a step |", "| --- " * 6 + "|"]
    for name, result in results.items():
        if "failed" in result["summary"]:
            lines.append(f"| {name} | {result['summary']['failed']} | | | | |")
            continue
        peaks, seconds = result["summary"]["peaks_mb"], result["summary"]["step_seconds"]
        cells = [_cell(peaks[p]["resident"], 0) for p in PHASES] + [_cell(peaks["step"]["anonymous"], 0)]
        lines.append(f"| {name} | " + " | ".join([*cells, _cell(seconds, 1)]) + " |")
    return "\n".join(lines)


def _cell(value: dict[str, float], digits: int) -> str:
    return f"{value['median']:.{digits}f} ({value['low']:.{digits}f}-{value['high']:.{digits}f})"


def plot(results: dict[str, Any], path: Path) -> None:
    """A bar a case: the peak of the step."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = {
        name: r["summary"]["peaks_mb"]["step"]["resident"] for name, r in results.items() if "peaks_mb" in r["summary"]
    }
    figure, axis = plt.subplots(figsize=(9, 0.34 * len(shown) + 1.2))
    names = list(shown)[::-1]
    axis.barh(
        names, [shown[n]["median"] for n in names], color=[OURS if n.startswith("ours") else FLOAT for n in names]
    )
    for y, name in enumerate(names):
        axis.text(shown[name]["median"], y, f" {shown[name]['median']:.0f}", va="center", fontsize=8)
    axis.set_xlabel("peak resident memory of a training step, whole process, MB")
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="benchmarks/work/sd15", type=Path, help="a float folder, random or not")
    parser.add_argument("--checkpoints", nargs="+", type=Path, default=[], help="integer checkpoints of that model")
    parser.add_argument("--repeats", type=int, choices=range(1, 21), metavar="{1..20}", default=5)
    parser.add_argument("--cases", nargs="+", help="words; only cases that have one of them in their name")
    parser.add_argument("--limit_mb", type=int, help="run each case inside this hard limit, page cache included")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/memory.json"))


def run_benchmark(args: argparse.Namespace, command: str) -> None:
    """Run every case, repeat by repeat; the record grows on disk."""
    from edge_sdk.model_files import check

    checkpoints = {str(check(path)): path for path in args.checkpoints}
    check(args.model)
    chosen = {name: case for name, case in cases(args.model, checkpoints).items()
              if not args.cases or any(word in name for word in args.cases)}  # fmt: skip
    results: dict[str, Any] = {name: {"case": case, "runs": []} for name, case in chosen.items()}
    record = {
        "command": command,
        "date": date.today().isoformat(),
        "machine": machine(),
        "limit_mb": args.limit_mb,
        "results": results,
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    for repeat in range(args.repeats):
        for name, case in chosen.items():
            results[name]["runs"].append(run_case(case, args.limit_mb))
            results[name]["summary"] = summarize(results[name]["runs"])
            print(f"{repeat + 1}/{args.repeats} {name}: {results[name]['runs'][-1]}", flush=True)
        args.output.write_text(json.dumps(record, indent=1) + "\n")
    print(table(results))
    plot(results, args.output.with_suffix(".png"))
