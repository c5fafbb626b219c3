"""Time of a forward pass of the denoiser at the true size of Stable Diffusion, ours beside the usual ways.

All cases are in one process, each with weights of its own, and take turns; the first round is left out. The stock ones
run with glibc's default allocator settings, ours with those that the package sets; on a GPU all have the precision of
float32 products that the package sets. A second table compares single layers, the ones that the model spends most on,
with their float form on the inputs that they have in the model.
"""

import argparse
import json
import os
from datetime import date
from pathlib import Path
from typing import Any

import torch

from benchmarks.lib.models import (
    add_model_arguments,
    chosen,
    default_heap,
    integer_checkpoints,
    timed,
)
from benchmarks.lib.report import bars, machine, markdown, say, spread, spread_cell
from benchmarks.speed import layers as speed_layers
from benchmarks.speed.floor import direct_seconds, floor_seconds, peaks
from benchmarks.speed.forward import FAST, FLOAT, OURS, PEER_BF16, QUANTO, WORDS, cases, noise, predict, tensors
from benchmarks.speed.products import PIXELS, denoiser_counts
from edge_sdk.diffusion.networks.unet_config import UNetConfig
from edge_sdk.system.files import write_json
from edge_sdk.system.memory import bound_heap, peak_rss_mb, release

# What is wanted of us: this case, at most so many times the time of that one.
WANTED = [
    (OURS, FLOAT, 0.7),
    (OURS, QUANTO, 0.5),
    (FAST, FLOAT, 0.5),
    ("ours int4", FLOAT, 1.0),
    ("ours int8 streamed", OURS, 1.3),
    (OURS, PEER_BF16, 1.0),
]
DIGITS = {"cpu": 2, "cuda": 4}  # of seconds


def set_heap(name: str) -> None:
    """The allocator settings of a case; nothing that another one freed is kept for it."""
    (bound_heap if name.startswith("ours") else default_heap)()
    release()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    parser.add_argument("--rounds", type=int, choices=range(1, 51), metavar="{1..50}", default=5)
    parser.add_argument("--layers", type=int, default=12, help="how many shapes of layers to time apart; 0 for none")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/speed.json"))


@torch.no_grad()
def run_benchmark(args: argparse.Namespace, command: str) -> None:
    """Load every case, run the rounds, then the single layers; the record is written after each."""
    loaders = chosen(cases(args.model, integer_checkpoints(args), args.device), args.cases)
    models = {name: load() for name, load in loaders.items()}
    inputs = tensors(args.model, args.device)
    record: dict[str, Any] = {
        "command": command,
        "date": date.today().isoformat(),
        "machine": machine(),
        "device": args.device,
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "rounds": args.rounds,
        "results": {name: {"runs": []} for name in models},
    }
    outputs: dict[str, torch.Tensor] = {}
    for number in range(args.rounds + 1):
        for name in list(models)[:: -1 if number % 2 else 1]:  # no case always comes after the same one
            set_heap(name)

            def work(name: str = name) -> None:
                outputs[name] = predict(models[name], inputs)

            seconds = timed(work, args.device)
            if number:
                record["results"][name]["runs"].append(seconds)
            print(
                f"{number}/{args.rounds} {name}: {seconds['wall']:.3g} s, processor {seconds['cpu']:.3g} s", flush=True
            )
    for name, result in record["results"].items():
        result["summary"] = {f"{key}_seconds": spread([run[key] for run in result["runs"]]) for key in ("wall", "cpu")}
        if FLOAT in outputs:
            result["summary"]["relative_error"] = speed_layers.relative_error(outputs[name], outputs[FLOAT])
        set_heap(name)
        result["summary"] |= noise(models[name], inputs)
    record["ratios"] = ratios(record["results"])
    if args.device == "cpu":
        record["floor"] = floor(args.model)
    record["peak_mb"] = peak_rss_mb()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.output, record)
    ours = {name: models[name] for name in (OURS, FAST, "ours int8 fused", "ours int4") if name in models}
    if args.layers and FLOAT in models and ours:
        record["layers"] = speed_layers.measure(
            models[FLOAT], ours, inputs, args.layers, args.rounds, args.device, set_heap
        )
        write_json(args.output, record)
    say(table(record), command, args.output)
    seconds_of = {name: r["summary"]["wall_seconds"]["median"] for name, r in record["results"].items()}
    bars(
        seconds_of,
        args.output.with_suffix(".png"),
        "seconds of a forward pass of the denoiser, batch 1",
        digits=DIGITS[args.device],
    )


def ratios(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The ratios that are wanted, of seconds of the same round; of wall times they are judged."""

    def measured(case: str, other: str, clock: str) -> dict[str, float]:
        seconds = ([run[clock] for run in results[name]["runs"]] for name in (case, other))
        return spread([a / b for a, b in zip(*seconds, strict=True)])

    return [
        {
            "case": case,
            "over": other,
            "wanted": wanted,
            "measured": measured(case, other, "wall"),
            "processor": measured(case, other, "cpu"),
        }
        for case, other, wanted in WANTED
        if case in results and other in results
    ]


def floor(model: Path) -> dict[str, Any]:
    """The peak of one core and the processor seconds that a forward pass has to take at it, by bits of activations."""
    written = json.loads((model / "unet" / "config.json").read_text())
    config, side, peak = UNetConfig.from_dict(written), written["sample_size"] * PIXELS, peaks()
    counts = {bits: denoiser_counts(config, side, WORDS, bits) for bits in peak}
    return {
        "products_a_second": {str(bits): rate for bits, rate in peak.items()},
        "products": counts[16].total(),
        "seconds": {str(bits): floor_seconds(counts[bits], peak, bits) for bits in peak},
        "direct_seconds": {str(bits): direct_seconds(counts[bits], peak, bits) for bits in peak},
    }


def table(record: dict[str, Any]) -> str:
    """Markdown: seconds of a forward pass, the ratios that are wanted, and the layers."""
    rows, digits = [], DIGITS[record["device"]]
    for name, result in record["results"].items():
        summary = result["summary"]
        shares = [f"{100 * summary[key]:.2g} %" if key in summary else "" for key in ("relative_error", "noise")]
        rows.append([name, *(spread_cell(summary[f"{key}_seconds"], digits) for key in ("wall", "cpu")), *shares])
    parts = [markdown(["forward pass", "seconds", "processor seconds", "relative error", "noise"], rows)]
    if "floor" in record:
        parts.append(floor_lines(record["floor"]))
    if record["ratios"]:
        rows = [
            [
                f"{r['case']} / {r['over']}",
                *(spread_cell(r[key], 2) for key in ("measured", "processor")),
                f"{r['wanted']:g}",
            ]
            for r in record["ratios"]
        ]
        parts.append(markdown(["ratio of seconds", "measured", "of processor seconds", "wanted at most"], rows))
    if record.get("layers"):
        parts.append(speed_layers.table(record["layers"]))
    return "\n\n".join(parts)


def floor_lines(floor: dict[str, Any]) -> str:
    """What a forward pass has to take at the peak of one core, a line a width of activations."""
    return "\n".join(
        f"- Floor with {bits}-bit activations, at {rate / 1e9:.0f} x 10^9 products a second: "
        f"{floor['seconds'][bits]:.2f} processor seconds; of direct products {floor['direct_seconds'][bits]:.2f}."
        for bits, rate in floor["products_a_second"].items()
    )
