"""Peak memory and time of one training step at the true size of Stable Diffusion, ours beside the usual ways.

Cases run one after the other, each in a process of its own, the whole list again for every repeat, all with the
allocator settings of the package. Every run is on the disk as soon as it has ended, so that ``--resume`` goes on where
a benchmark was cut off. The weights may be random: `python -m benchmarks.lib.architectures` makes them.
"""

import argparse
import json
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.lib.models import add_model_arguments, chosen, integer_checkpoints, residencies
from benchmarks.lib.report import machine, say
from benchmarks.memory.limits import memory_limit
from benchmarks.memory.report import FINETUNE, bundle_table, plot, ratios, summarize, table
from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.files import write_json


def cases(folder: Path, checkpoints: dict[str, Path], device: str) -> dict[str, dict[str, Any]]:
    """Name -> the arguments of `benchmarks.memory.case`."""
    out: dict[str, dict[str, Any]] = {
        f"ours {weights} {residency}": {
            "kind": "ours",
            "checkpoint": str(path),
            "weights": weights,
            "residency": residency,
            "device": device,
        }
        for weights, path in checkpoints.items()
        for residency in residencies(device)
    }
    stock = {"kind": "stock", "folder": str(folder), "dtype": "float32", "device": device}
    for dtype in ("float32", "bfloat16"):
        backprop = stock | {"dtype": dtype, "method": "backprop"}
        out[f"forward only {dtype}"] = stock | {"dtype": dtype, "method": "forward"}
        out[f"backprop {dtype}"] = backprop
        out[f"backprop {dtype} checkpointing"] = backprop | {"checkpointing": True}
    out["LoRA rank 2 float32"] = stock | {"method": "lora"}
    out[FINETUNE] = stock | {"method": "finetune"}
    for quantizer in ("quanto int8", "quanto int4", "torchao int8"):
        out[f"{quantizer} as it comes"] = stock | {"method": "forward", "quantizer": quantizer}
    return out


# What settings of onnxruntime cost: buffers that wait for later nodes, an arena that keeps what was once allocated, and
# weights prepacked into memory.
REUSE = {"enable_mem_reuse": True}
ARENA = REUSE | {"enable_cpu_mem_arena": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    ", buffers reused": REUSE,
    ", buffers reused, arena": ARENA,
    ", buffers reused, arena, prepacked": ARENA | {"session": {"session.disable_qdq_constant_folding": "1"}},
}


def bundle_cases(folders: list[Path]) -> dict[str, dict[str, Any]]:
    """Cases of exported bundles, by their weights.

    Raises:
        EdgeSdkError: a folder is not a whole bundle.
    """
    from edge_sdk.runtime.onnx.bundle import Bundle

    out = {}
    for folder in folders:
        manifest = Bundle.open(folder).manifest
        size = sum(entry["bytes"] for entry in manifest["files"].values()) / 1e6
        for suffix, settings in VARIANTS.items():
            name = "bundle float32" if manifest["weights"] == "none" else f"bundle {manifest['weights']}"
            out[name + suffix] = {
                "kind": "bundle",
                "folder": str(folder),
                "settings": settings,
                "device": "cpu",
                "file_mb": size,
            }
    return out


def run_case(arguments: dict[str, Any], limit_mb: int | None = None) -> dict[str, Any]:
    """One process; a case that is killed or fails says so in its record."""
    command = [sys.executable, "-m", "benchmarks.memory.case", json.dumps(arguments)]
    with memory_limit(limit_mb) as enter:
        done = subprocess.run(command, capture_output=True, text=True, preexec_fn=enter)
    if done.returncode == -signal.SIGKILL:
        return {"failed": "killed for memory"}
    if done.returncode:
        return {"failed": f"status {done.returncode}: {' '.join(done.stderr.split())[-300:]}"}
    return json.loads(done.stdout.splitlines()[-1])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    parser.add_argument("--repeats", type=int, choices=range(1, 21), metavar="{1..20}", default=5)
    steps = "of each run; the first is left out of the time where there are more"
    parser.add_argument("--steps", type=int, choices=range(1, 21), metavar="{1..20}", default=3, help=steps)
    parser.add_argument("--limit_mb", type=int, help="run each case inside this hard limit, page cache included")
    parser.add_argument("--resume", action="store_true", help="go on with what --output holds")
    parser.add_argument("--bundle", nargs="+", type=Path, metavar="DIR", help="measure these bundles beside ours only")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/memory.json"))


def begun(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The record of a benchmark that was cut off, with the cases that have runs; empty if there is none.

    Raises:
        EdgeSdkError: it cannot be read or was made with other settings.
    """
    if not path.exists():
        return {"command": [], "results": {}}
    try:
        record = json.loads(path.read_text())
        before, commands = {key: record[key] for key in settings}, [*record["command"]]
        results = {name: result for name, result in record["results"].items() if result["runs"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EdgeSdkError(f"{path} holds no memory benchmark; leave out --resume to write it anew") from error
    if other := [key for key in settings if before[key] != settings[key]]:
        raise EdgeSdkError(f"{path} was begun with another {other[0]}; leave out --resume to write it anew")
    return {"command": commands, "results": results}


def run_benchmark(args: argparse.Namespace, command: str) -> None:
    """Run every case, repeat by repeat; the record grows on disk."""
    every = cases(args.model, integer_checkpoints(args), args.device)
    if args.bundle:
        every = {name: case for name, case in every.items() if case["kind"] == "ours"} | bundle_cases(args.bundle)
    if args.limit_mb:
        del every[FINETUNE]  # what is computed cannot be killed
    wanted = chosen(every, args.cases)
    settings = {
        "machine": machine(),
        "device": args.device,
        "model": str(args.model),
        "checkpoints": [str(path) for path in args.checkpoints],
        "limit_mb": args.limit_mb,
    }
    before = begun(args.output, settings) if args.resume else {"command": [], "results": {}}
    results = {
        name: before["results"].get(name, {"case": case, "runs": []})
        for name, case in every.items()
        if name in before["results"] or name in wanted
    }
    commands = [*before["command"], command]
    record: dict[str, Any] = {"command": commands, "date": date.today().isoformat(), **settings, "results": results}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    for repeat in range(args.repeats):
        for name, case in wanted.items():
            result = results[name]
            if len(result["runs"]) > repeat:
                continue
            result["runs"].append(run_case(case | {"steps": args.steps}, args.limit_mb))
            result["summary"] = summarize(result["runs"])
            record["ratios"] = ratios({n: r for n, r in results.items() if r["runs"]})
            write_json(args.output, record)
            print(f"{repeat + 1}/{args.repeats} {name}: {result['runs'][-1]}", flush=True)
    unet = json.loads((args.model / "unet" / "config.json").read_text())
    text = (
        bundle_table(results)
        if args.bundle
        else table(results, with_aims=(unet["sample_size"], unet["cross_attention_dim"]) == (64, 768))
    )
    say(text, "; ".join(commands), args.output)
    plot(results, args.output.with_suffix(".png"))
