"""Time of a forward pass of the denoiser at the true size of Stable Diffusion, ours beside the usual ways.

All cases are in one process, each with weights of its own, and take turns; the first round is left out. The stock ones
run with glibc's default allocator settings, ours with those that the package sets; on a GPU all have the precision of
float32 products that the package sets. A second table compares single layers, the ones that the model spends most on,
with their float form on the inputs that they have in the model.
"""

import argparse
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.lib.baselines.stock import denoiser
from benchmarks.lib.models import (
    add_model_arguments,
    chosen,
    default_heap,
    integer_checkpoints,
    residencies,
    timed,
)
from benchmarks.lib.report import bars, machine, markdown, say, spread, spread_cell
from benchmarks.speed import layers as speed_layers
from edge_sdk.quantization.layers import integer_layers
from edge_sdk.runtime.pytorch.model import open_model
from edge_sdk.system.files import write_json
from edge_sdk.system.memory import bound_heap, peak_rss_mb, release

FLOAT, QUANTO, OURS = "diffusers float32", "quanto int8 as it comes", "ours int8"
FAST = "ours int8, 8-bit activations"
# What is wanted of us: this case, at most so many times the time of that one.
WANTED = [
    (OURS, FLOAT, 0.7),
    (OURS, QUANTO, 0.5),
    (FAST, FLOAT, 0.5),
    ("ours int4", FLOAT, 1.0),
    ("ours int8 streamed", OURS, 1.3),
]
WORDS = 77  # of a prompt
DIGITS = {"cpu": 2, "cuda": 4}  # of seconds


def cases(folder: Path, checkpoints: dict[str, Path], device: str) -> dict[str, Callable[[], nn.Module]]:
    """Name -> what loads the denoiser."""

    def ours(weights: str, execution: str = "integer", residency: str = "resident", bits: int = 16) -> Any:
        def load() -> nn.Module:
            unet = open_model(str(checkpoints[weights]), weights, execution, residency, device).load("unet")
            for layer in integer_layers(unet).values():
                layer.activation_bits = bits
            return unet

        return load

    out: dict[str, Callable[[], nn.Module]] = {
        FLOAT: lambda: denoiser(str(folder)).to(device),
        QUANTO: lambda: denoiser(str(folder), quantizer="quanto int8").to(device),
    }
    if "int8" in checkpoints:
        out |= {
            OURS: ours("int8"),
            FAST: ours("int8", bits=8),
            "ours int8 fused": ours("int8", "fused"),
            **{f"{OURS} {place}": ours("int8", residency=place) for place in residencies(device)[1:]},
        }
    return out | ({"ours int4": ours("int4")} if "int4" in checkpoints else {})


def predict(name: str, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """A forward pass; diffusers wraps what it predicts."""
    out = module(*inputs)
    return out if name.startswith("ours") else out.sample


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
                outputs[name] = predict(name, models[name], inputs)

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
    record["ratios"] = ratios(record["results"])
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


def tensors(folder: Path, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents, timestep and text states of one row."""
    import json

    config = json.loads((folder / "unet" / "config.json").read_text())
    generator = torch.Generator().manual_seed(0)
    side, width = config["sample_size"], config["cross_attention_dim"]
    latents = torch.randn(1, 4, side, side, generator=generator)
    text = torch.randn(1, WORDS, width, generator=generator)
    return latents.to(device), torch.tensor([500], device=device), text.to(device)


def ratios(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The ratios that are wanted, of wall times of the same round."""

    def wall(name: str) -> list[float]:
        return [run["wall"] for run in results[name]["runs"]]

    return [
        {
            "case": case,
            "over": other,
            "wanted": wanted,
            "measured": spread([a / b for a, b in zip(wall(case), wall(other), strict=True)]),
        }
        for case, other, wanted in WANTED
        if case in results and other in results
    ]


def table(record: dict[str, Any]) -> str:
    """Markdown: seconds of a forward pass, the ratios that are wanted, and the layers."""
    rows, digits = [], DIGITS[record["device"]]
    for name, result in record["results"].items():
        summary = result["summary"]
        error = f"{100 * summary['relative_error']:.2g} %" if "relative_error" in summary else ""
        rows.append([name, *(spread_cell(summary[f"{key}_seconds"], digits) for key in ("wall", "cpu")), error])
    parts = [markdown(["forward pass", "seconds", "processor seconds", "relative error"], rows)]
    if record["ratios"]:
        rows = [
            [f"{r['case']} / {r['over']}", spread_cell(r["measured"], 2), f"{r['wanted']:g}"] for r in record["ratios"]
        ]
        parts.append(markdown(["ratio of seconds", "measured", "wanted at most"], rows))
    if record.get("layers"):
        parts.append(speed_layers.table(record["layers"]))
    return "\n\n".join(parts)
