"""What benchmark results have in common: the machine they were made on, intervals, tables and plots."""

import os
import platform
import sys
from collections.abc import Collection, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.system.files import write_bytes

PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "optimum-quanto",
    "peft",
    "torchao",
    "openvino",
    "nncf",
    "numpy",
    "onnxruntime",
    "coremltools",
)
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")  # that change times
ENVIRONMENT = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "EDGE_SDK_NATIVE")
OURS, OTHER = "#d62728", "#4c6a92"


def machine() -> dict[str, str]:
    """Processor, versions, and the settings of the environment that change times."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpus = [line.split(":")[1].strip() for line in lines if "model name" in line]
    flags = next((line.split(":")[1].split() for line in lines if line.startswith(("flags", "Features"))), [])
    installed = reversed([*distributions()])  # of two of one name the first, which is the one that is imported
    return {
        "cpu": f"{len(cpus)} x {cpus[0]}",
        "instructions": " ".join(name for name in INSTRUCTIONS if name in flags),
        **_gpu(),
        "python": platform.python_version(),
        **{found.name: found.version for found in installed if found.name in PACKAGES},
        **{name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
    }


def _gpu() -> dict[str, str]:
    torch = sys.modules.get("torch")
    return {"gpu": torch.cuda.get_device_name()} if torch is not None and torch.cuda.is_available() else {}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most over the repeats."""
    return {"median": float(np.median(values)), "low": min(values), "high": max(values), "n": len(values)}


def spread_cell(value: dict[str, float], digits: int) -> str:
    return f"{value['median']:.{digits}f} ({value['low']:.{digits}f}-{value['high']:.{digits}f})"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def say(text: str, command: str, output: Path) -> None:
    """Print what a benchmark found, and write it beside its record as Markdown."""
    print(text)
    write_bytes(output.with_suffix(".md"), f"`{command}`\n\n{text}\n".encode())


def pyplot() -> Any:
    """matplotlib's, drawing into files."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def save_figure(figure: Any, path: Path, dpi: int = 110) -> None:
    """Write a figure as a picture and free it."""
    figure.tight_layout()
    figure.savefig(path, dpi=dpi)
    pyplot().close(figure)


def bars(
    values: dict[str, float],
    path: Path,
    label: str,
    digits: int = 0,
    longer: dict[str, float] | None = None,
    hatched: Collection[str] = (),
) -> None:
    """Horizontal bars with their values written beside them; ours have their own colour.

    Args:
        longer: a second, paler bar behind each, where it is longer; its value is written then.
        hatched: the bars that were not measured.
    """
    plt = pyplot()
    names = list(values)[::-1]
    figure, axis = plt.subplots(figsize=(9, 0.36 * len(names) + 1.1))
    for y, name in enumerate(names):
        color = OURS if name.startswith("ours") else OTHER
        end = max(values[name], (longer or values)[name])
        axis.barh(y, end, color=color, alpha=0.35, height=0.7)
        drawn = axis.barh(y, values[name], color=color, height=0.7)
        if name in hatched:
            drawn[0].set(facecolor="white", edgecolor=color, hatch="///")
        written = f"{values[name]:.{digits}f}"
        if end > 1.005 * values[name]:
            written += f", loading {end:.{digits}f}"
        axis.text(end, y, f" {written}", va="center", fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=9)
    figure.supxlabel(label, fontsize=9)  # across the figure: names take a third of it
    axis.margins(x=0.2, y=0.02)
    axis.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path, 120)
