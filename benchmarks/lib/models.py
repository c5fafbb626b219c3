"""What the memory and speed benchmarks are run on: one float model, its integer checkpoints, a device."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.memory import require_cuda

WORK = Path("benchmarks/work")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    from edge_sdk.config import DEVICES

    checkpoints = [WORK / "sd15-int8", WORK / "sd15-int4"]
    parser.add_argument("--model", default=WORK / "sd15", type=Path, help="a float folder, random or not")
    parser.add_argument("--checkpoints", nargs="*", type=Path, default=checkpoints, help="its integer checkpoints")
    parser.add_argument("--cases", nargs="+", help="words; only cases that have one of them in their name")
    parser.add_argument("--device", choices=DEVICES, default="cpu")


def integer_checkpoints(args: argparse.Namespace) -> dict[str, Path]:
    """The checkpoints by their weights, "int8" or "int4"; the float model is checked too.

    Raises:
        EdgeSdkError: a folder is missing or not what it must be, or there is no GPU.
    """
    from edge_sdk.diffusion.folder import check

    for folder in (args.model, *args.checkpoints):
        if not folder.is_dir():
            command = "edge-sdk quantize" if folder in args.checkpoints else "python -m benchmarks.lib.architectures"
            raise EdgeSdkError(f"there is no folder {folder}; make it with {command} (both have --help)")
    if stored := check(args.model):
        raise EdgeSdkError(f"{args.model} holds {stored} weights; --model takes a float folder")
    found = {check(path): path for path in args.checkpoints}
    if None in found:
        raise EdgeSdkError(f"{found[None]} holds float weights; --checkpoints takes what edge-sdk quantize makes")
    if args.device == "cuda":
        require_cuda()
    return {str(weights): path for weights, path in found.items()}


def chosen(cases: dict[str, Any], words: list[str] | None) -> dict[str, Any]:
    """The cases that have one of the words in their name, all without words; a whole name means that case alone.

    Raises:
        EdgeSdkError: there is none.
    """
    kept = {
        name: case
        for name, case in cases.items()
        if not words or any(word == name or (word not in cases and word in name) for word in words)
    }
    if not kept:
        raise EdgeSdkError(f"--cases {' '.join(words or [])} names no case; cases are {', '.join(cases)}")
    return kept


def residencies(device: str) -> tuple[str, ...]:
    """Where integer weights may lie; a GPU takes resident ones only."""
    from edge_sdk.config import RESIDENCIES

    return RESIDENCIES if device == "cpu" else ("resident",)


def finish(device: str) -> None:
    """Wait until a GPU has done what it was given."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def timed(work: Callable[[], object], device: str) -> dict[str, float]:
    """Wall and processor seconds of a call; processor time is that of all threads."""
    import time

    finish(device)
    wall, processor = time.perf_counter(), time.process_time()
    work()
    finish(device)
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - processor}


def default_heap() -> None:
    """Undo `bound_heap`: the thresholds up to which glibc's own rule rises."""
    from edge_sdk.system.memory import set_heap_thresholds

    set_heap_thresholds(32 << 20, 64 << 20)


def hide(*packages: str) -> None:
    """Let optional companions look as if they were not installed: importing diffusers would load them unasked."""
    import sys

    for package in packages:
        sys.modules.setdefault(package, None)  # type: ignore[arg-type]
