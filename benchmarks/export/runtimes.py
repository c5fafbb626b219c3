"""One run from one seed on PyTorch, on ONNX Runtime and in the web page: `python -m benchmarks.export.runtimes`.

The photos and the length of `edge-sdk demo`, on the embedded model; losses are means over the same draws, which
training never uses. PyTorch has float activations (`fused`), as the other two have.
"""

import json
import re
import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.lib.models import WORK
from benchmarks.lib.report import machine, markdown, say
from edge_sdk.export import chromium
from edge_sdk.export.bundle import export
from edge_sdk.export.web_server import serving
from edge_sdk.pocket import PHOTOS
from edge_sdk.system.files import write_json

OUTPUT = Path("benchmarks/results/runtimes.json")
WEIGHTS = ("int8", "int4")
LONGEST_S = 3600.0


def by_command(folder: Path, *model: str) -> dict[str, float]:
    """`edge-sdk personalize` in a process of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "edge_sdk.cli.main", "personalize", *model, "--train_data_dir", str(PHOTOS)]
    flags = ("--no_preview", "--quiet", "--seed", "0")
    subprocess.run([*command, "--output_dir", str(folder), *flags], check=True)
    record = json.loads((folder / "run.json").read_text())
    return {name: record[name] for name in ("steps", "loss_initial", "loss_final", "seconds", "peak_rss_mb")}


def in_the_page(bundle: Path) -> dict[str, float]:
    """The static page in Chromium, with its own photos and number of steps."""
    with serving(bundle) as url, chromium.launched() as browser:
        page = browser.new_page()
        page.goto(url)
        page.click("#samples:not([disabled])", timeout=120_000)
        start = page.locator("#start:not([disabled])")
        start.wait_for(timeout=120_000)
        begun = time.perf_counter()
        start.click()
        page.locator("#finished").wait_for(timeout=LONGEST_S * 1000)
        summary = page.locator("#summary").text_content() or ""
    before, after = (float(number) for number in re.findall(r"(\d\.\d+) (?:before|after)", summary))
    return {"loss_initial": before, "loss_final": after, "seconds": time.perf_counter() - begun}


def main() -> None:
    results: dict[str, dict[str, Any]] = {}
    for weights in WEIGHTS:
        bundle = WORK / f"pocket-bundle-{weights}"
        shutil.rmtree(bundle, ignore_errors=True)
        export("pocket", bundle, weights=weights)
        run = WORK / "runtimes-run"
        results[weights] = {
            "PyTorch, fused": by_command(run, "--weights", weights, "--execution", "fused"),
            "ONNX Runtime": by_command(run, "--bundle", str(bundle)),
            "onnxruntime-web in Chromium": in_the_page(bundle),
        }
        print(f"{weights}: {results[weights]}", flush=True)
    command = "python -m benchmarks.export.runtimes"
    write_json(OUTPUT, {"command": command, "date": date.today().isoformat(), "machine": machine(), "results": results})
    rows = [
        [weights, name, f"{r['loss_initial']:.4f}", f"{r['loss_final']:.4f}", f"{r['seconds']:.0f}"]
        for weights, runs in results.items()
        for name, r in runs.items()
    ]
    say(markdown(["weights", "runtime", "loss before", "after", "seconds"], rows), command, OUTPUT)


if __name__ == "__main__":
    main()
