"""Check device records, and make their table and bar chart beside the memory benchmark's rows."""

import argparse
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.device.record import read_record
from benchmarks.device.report import plot, summarize, table
from benchmarks.lib.report import say
from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.files import write_json
from edge_sdk.system.json import read_json

RESULTS = Path("benchmarks/results")
BESIDE = RESULTS / "memory_bundle.json"
CASES = ("ours int8 resident", "ours int4 resident", "bundle int8", "bundle int4")  # rows of it that are shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("records", nargs="+", type=Path, metavar="RESULT.json", help="written by measure on a device")
    parser.add_argument("--beside", type=Path, default=BESIDE, help="a record of the memory benchmark, for its rows")
    parser.add_argument("--cases", nargs="*", default=CASES, help="names of its rows that are shown")
    parser.add_argument("--output", type=Path, default=RESULTS / "device.json")


def run_benchmark(args: argparse.Namespace, command: str) -> None:
    """Check every record first; then write the merged record, its table and its chart.

    Raises:
        EdgeSdkError: a record cannot be read, is not one, or two rows have one name.
    """
    results: dict[str, Any] = {}
    for path in args.records:
        record = read_record(path)
        about = {key: record[key] for key in ("command", "date", "machine", "model")}
        for name, result in record["results"].items():
            row = f"{name}, {record['model']}"
            if row in results:
                raise EdgeSdkError(f"{path} has another row {row!r:.160}; give each row once")
            results[row] = result | about | {"summary": summarize(result["runs"], result["case"])}
    beside = _rows_beside(args.beside, args.cases) if args.cases else {}
    merged = {"command": [command], "date": date.today().isoformat(), "results": results}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.output, merged)
    say(table(results, beside), command, args.output)
    plot(results, beside, args.output.with_suffix(".png"))


def _rows_beside(path: Path, cases: list[str]) -> dict[str, Any]:
    """Rows of a memory benchmark's record by their names.

    Raises:
        EdgeSdkError: it cannot be read or has no such row.
    """
    hint = "give a record of edge-sdk benchmark memory, or --cases without names"
    record = read_json(path, hint)
    rows = record.get("results")
    if not isinstance(rows, dict) or not isinstance(record.get("model"), str):
        raise EdgeSdkError(f"{path} is no record of the memory benchmark; {hint}")
    for name in cases:
        summary = rows[name].get("summary") if isinstance(rows.get(name), dict) else None
        if not isinstance(summary, dict) or "peaks_mb" not in summary:
            raise EdgeSdkError(
                f"{path} has no measured row {name!r:.80}; it has {', '.join(sorted(rows)):.200}; {hint}"
            )
    return {name: rows[name] | {"model": Path(record["model"]).name} for name in cases}
