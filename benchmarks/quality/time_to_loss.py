"""Forward passes and seconds that a method takes to reach a share of backpropagation's loss decrease.

    python -m benchmarks.quality.time_to_loss

Computed from the curves of committed runs (`quality.json`, `quality_wide.json`): the mean loss of the first seed at
seven milestones, with straight lines between them. Seconds are the run's median, spread evenly over its forward passes.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.report import markdown
from edge_sdk.system.files import write_bytes, write_json

RESULTS = Path("benchmarks/results")
MODELS = {"embedded model": "quality.json", "second model, tokens of 768 numbers": "quality_wide.json"}
METHODS = ("backprop-float", "fast-int8-integer")
SHARES = (0.9, 0.95, 0.98)


def reached(result: dict[str, Any], start: float, target: float) -> dict[str, float] | None:
    """Forward passes and seconds at which a curve from ``start`` first meets a loss; None where it never does."""
    forwards = np.array([0, *result["curve"]["forwards"]], float)
    lowest = np.minimum.accumulate([start, *result["curve"]["loss"]])
    if lowest[-1] > target:
        return None
    count = float(np.interp(-target, -lowest, forwards))
    return {"forwards": count, "seconds": count / forwards[-1] * float(np.median(result["seconds"]))}


def times(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By method and share of backpropagation's whole decrease, see `reached`."""
    start = results["initializer-float"]["curve"]["loss"][0]
    best = results["backprop-float"]["curve"]["loss"][-1]
    targets = {str(share): start - share * (start - best) for share in SHARES}
    return {name: {share: reached(results[name], start, t) for share, t in targets.items()} for name in METHODS}


def table(record: dict[str, Any]) -> str:
    def cell(value: dict[str, float] | None) -> str:
        return "never" if value is None else f"{value['forwards']:.0f}, {value['seconds']:.1f} s"

    rows = [
        [model, share, *(cell(of_model[name][share]) for name in METHODS)]
        for model, of_model in record["models"].items()
        for share in map(str, SHARES)
    ]
    return markdown(["model", "share", "backpropagation: draws", "`fast`, int8: forward passes"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.time_to_loss", description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULTS / "time_to_loss.json")
    args = parser.parse_args()
    sources = {model: json.loads((RESULTS / file).read_text()) for model, file in MODELS.items()}
    record = {
        "command": "python -m benchmarks.quality.time_to_loss",
        "sources": {model: {"file": MODELS[model], "machine": of["machine"]} for model, of in sources.items()},
        "models": {model: times(of["results"]) for model, of in sources.items()},
    }
    write_json(args.output, record)
    text = f"{(__doc__ or '').strip()}\n\n{table(record)}\n"
    write_bytes(args.output.with_suffix(".md"), text.encode())
    print(table(record))


if __name__ == "__main__":
    main()
