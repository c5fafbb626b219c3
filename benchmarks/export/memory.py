"""Peak memory of exporting a bundle, stage by stage, at the true size of Stable Diffusion: `python -m
benchmarks.export.memory`.

One process a bundle. Writing, PyTorch's golden vectors and measuring mu have a peak each, the kernel's own; the bundles
stay, for `edge-sdk benchmark memory --bundle`.
"""

import argparse
import json
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.lib.models import WORK
from benchmarks.lib.report import machine, markdown, say
from benchmarks.memory.case import Phases
from edge_sdk.system.files import write_json
from edge_sdk.system.memory import bound_heap

CASES = {"int8": WORK / "sd15-int8", "int4": WORK / "sd15-int4", "none": WORK / "sd15"}
OUTPUT = Path("benchmarks/results/export_memory.json")
WANTED_MB = {"writing": 1200, "whole process": 2200}
STAGES = ("writing", "golden vectors", "measuring mu")


def one(weights: str, folder: Path) -> dict[str, Any]:
    """Export in this process; stages begin where the exporter says so."""
    from edge_sdk.export.bundle import export

    bound_heap()
    phases, begun = Phases("cpu"), iter(("opening", *STAGES))
    manifest = export(str(CASES[weights]), folder, weights=weights, notify=lambda _: phases.end(next(begun)))
    phases.end(next(begun))
    size = sum(file["bytes"] for file in manifest["files"].values()) / 1e6
    return {"phases": phases.peaks, "size_mb": size, "mu_min": manifest["mu_min"]}


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown: peaks in MB, resident and in brackets anonymous."""
    head = ["weights", "bundle, MB", *STAGES, "whole process"]
    rows = []
    for weights, result in results.items():
        peaks = [result["phases"][stage] for stage in STAGES]
        most = max(peak["resident"] for peak in result["phases"].values())
        cells = [f"{peak['resident']:.0f} ({peak['anonymous']:.0f})" for peak in peaks]
        rows.append([weights, f"{result['size_mb']:.0f}", *cells, f"{most:.0f}"])
    aims = ", ".join(f"{what} {mb}" for what, mb in WANTED_MB.items())
    return markdown(head, rows) + f"\n\nPeaks in MB, resident (anonymous). Wanted at most, for integers: {aims}."


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--weights", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--one", action="store_true", help="in this process, printing JSON")
    args = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    for weights in args.weights:
        folder = WORK / f"bundle-{weights}"
        if args.one:
            print(json.dumps(one(weights, folder)))
            continue
        shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, "-m", "benchmarks.export.memory", "--one", "--weights", weights]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        results[weights] = json.loads(done.stdout.splitlines()[-1])
        print(f"{weights}: {results[weights]}", flush=True)
    if not args.one:
        command = "python -m benchmarks.export.memory"
        write_json(
            OUTPUT, {"command": command, "date": date.today().isoformat(), "machine": machine(), "results": results}
        )
        say(table(results), command, OUTPUT)


if __name__ == "__main__":
    main()
