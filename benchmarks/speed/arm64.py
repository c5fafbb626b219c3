"""Whether another instruction set computes the same: the integer products, then the whole loop on an emulated Arm64.

The products are compared bit for bit. The loop runs in an Arm64 Python with Arm64 PyTorch, which `--prepare` puts
together; its losses and token are compared with those of this processor, whose float operations round differently.
Emulation says nothing about speed, so nothing is timed.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.report import machine
from benchmarks.speed.instruction_sets import ARM, INSTRUCTION_SETS, cases, differing
from edge_sdk.errors import EdgeSdkError
from edge_sdk.quantization.native import SOURCES
from edge_sdk.system.files import write_json

STEPS = 3
PYTHON = "3.11"
# Debian's Arm64 packages of that Python and of what PyTorch and it are linked with.
DEBIAN = (
    f"python{PYTHON}-minimal libpython{PYTHON}-minimal libpython{PYTHON}-stdlib libc6 libgcc-s1 libstdc++6 libgomp1 "
    "zlib1g libexpat1 libffi8 libssl3 libbz2-1.0 liblzma5 libsqlite3-0 libuuid1"
).split()
TORCH = "2.10.0"  # the last one whose Arm64 wheel on PyPI is not built for CUDA
AS_HERE = "numpy tokenizers safetensors pillow optimum-quanto".split()
BESIDES = "typing_extensions filelock sympy mpmath networkx jinja2 markupsafe fsspec".split()


def prepare(folder: Path) -> None:
    """Download an Arm64 Python and its packages: ``root`` and ``site`` in a folder, about 0.7 GB.

    Raises:
        EdgeSdkError: a download fails.
    """
    packages = folder / "debian"
    packages.mkdir(parents=True, exist_ok=True)
    wheels = [f"torch=={TORCH}", *(f"{name}=={version(name)}" for name in AS_HERE), *BESIDES]
    platforms = [f"--platform=manylinux{tag}_aarch64" for tag in ("_2_28", "_2_27", "_2_17", "2014")]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--upgrade"]
    pip += ["--only-binary=:all:", f"--python-version={PYTHON}", *platforms, f"--target={(folder / 'site').resolve()}"]
    try:
        subprocess.run(["apt-get", "download", "-qq", *(f"{name}:arm64" for name in DEBIAN)], cwd=packages, check=True)
        for package in packages.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package.name, "../root"], cwd=packages, check=True)
        subprocess.run([*pip, *wheels], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EdgeSdkError(
            f"the Arm64 Python cannot be put together ({error}); on Debian 12 with network access first run: "
            "dpkg --add-architecture arm64 && apt-get update"
        ) from error


def compare_products(folder: Path) -> dict[str, Any]:
    """Every instruction set that can be had here on the same cases."""
    chosen, record = cases(), {}
    for kind in INSTRUCTION_SETS:
        if why := kind.missing():
            record[kind.name] = {"not_run": why}
        else:
            wrong = differing(kind.build(folder), chosen)
            record[kind.name] = {"emulated": not kind.is_native, "differing_outputs": sum(wrong.values())}
        print(f"{kind.name}: {record[kind.name]}", flush=True)
    outputs = sum(case.expected.size for case in chosen)
    return {"cases": len(chosen), "outputs": outputs, "instruction_sets": record}


def run_case(command: list[str], checkpoint: Path, library: Path | None, **environment: str) -> dict[str, Any]:
    """One run of `benchmarks.speed.arm64_case` in a Python."""
    arguments = ["-m", "benchmarks.speed.arm64_case", str(checkpoint), str(library or ""), str(STEPS)]
    given = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"} | environment
    done = subprocess.run([*command, *arguments], env=given, capture_output=True, text=True)
    if done.returncode:
        raise EdgeSdkError(f"the loop fails on {command[-1]}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare_loops(arm: Path, folder: Path) -> dict[str, Any]:
    """The loop here, here with PyTorch's plainest float kernels, and on the emulated processor."""
    from edge_sdk.integer_checkpoint import quantize

    checkpoint, library, emulator = folder / "int8", folder / "integer.so", ARM.emulator
    quantize("pocket", checkpoint)
    ARM.compile(SOURCES, library, "-shared", "-fPIC")
    paths = os.pathsep.join([str(Path(__file__).parents[2]), str((arm / "site").resolve())])
    python = [str(emulator), "-L", str(arm / "root"), str(arm / f"root/usr/bin/python{PYTHON}")]
    here = run_case([sys.executable], checkpoint, None)
    plain = run_case([sys.executable], checkpoint, None, ATEN_CPU_CAPABILITY="default")
    there = run_case(python, checkpoint, library, PYTHONPATH=paths, XDG_CACHE_HOME=str(folder / "cache"))
    return {
        "steps": STEPS,
        "versions": {"here": here["versions"], "Arm64": there["versions"]},
        "losses": {"here": curve(here), "here, plain float kernels": curve(plain), "Arm64": curve(there)},
        "here, plain float kernels": agreement(here, plain),
        "Arm64": agreement(here, there),
    }


def curve(run: dict[str, Any]) -> list[float]:
    """The held-out loss before, the loss of every step, the held-out loss after."""
    return [run["loss_before"], *run["losses"], run["loss_after"]]


def agreement(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """How far two runs are from each other."""
    first, second, start = (np.array(vector) for vector in (a["token"], b["token"], a["start"]))
    return {
        "compiled_products": b["compiled"],
        "layers": len(a["layers"]),
        "layers_with_identical_bits": sum(a["layers"][name] == b["layers"].get(name) for name in a["layers"]),
        "loss_before": abs(b["loss_before"] / a["loss_before"] - 1),
        "largest_of_losses": float(np.abs(np.array(curve(b)) / np.array(curve(a)) - 1).max()),
        "token": float(np.linalg.norm(second - first) / np.linalg.norm(first - start)),  # of the way it has gone
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prepare", action="store_true", help="first download the Arm64 Python that runs the loop")
    parser.add_argument("--arm64", default="benchmarks/work/arm64", type=Path, metavar="DIR", help="where it is")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/arm64.json"))


def run_benchmark(args: argparse.Namespace, command: str) -> None:
    """The products, then the loop where the emulated Python is there.

    Raises:
        EdgeSdkError: Arm64 can be neither compiled for nor emulated, naming the packages; or a download or run fails.
    """
    if why := ARM.missing():
        raise EdgeSdkError(why)
    if args.prepare:
        prepare(args.arm64)
    record: dict[str, Any] = {"command": command, "date": date.today().isoformat(), "machine": machine()}
    with tempfile.TemporaryDirectory() as folder:
        record["products"] = compare_products(Path(folder))
        if (args.arm64 / "root").is_dir() and not ARM.is_native:
            record["loop"] = compare_loops(args.arm64, Path(folder))
        else:
            record["loop"] = {"not_run": f"there is no Arm64 Python in {args.arm64}; --prepare puts one there"}
    print("loop:", {name: value for name, value in record["loop"].items() if name not in ("losses", "versions")})
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.output, record)


if __name__ == "__main__":
    own = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.arm64", description=(__doc__ or "").partition("\n")[0]
    )
    add_arguments(own)
    try:
        run_benchmark(own.parse_args(), shlex.join(["python", "-m", "benchmarks.speed.arm64", *sys.argv[1:]]))
    except EdgeSdkError as error:
        own.exit(2, f"error: {error}\n")
