"""A device record: what `measure` of the Android and iOS apps and of their command lines writes.

The schema is that of the memory benchmark's records, with what a phone has besides: temperature, battery, PSS and the
native heap. What a device does not tell is null.
"""

from pathlib import Path
from typing import Any

from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.json import read_json
from edge_sdk.system.schema import Either, Many, Maybe, Real, Whole, check

SCHEMA_VERSION = 1
CLIENTS = ("kotlin", "swift")
WEIGHTS = ("int8", "int4", "none")
AGAIN = "give a file that measure has written on a device, see benchmarks/device/README.md"
MOST_STEPS = 1_000_000
SLACK = 1.1  # of sampled peaks, which may miss the kernel's own by a little

_MB = Either(Real(0, 1e7), None)
_SECONDS = Many(Real(0, 1e6), 1, MOST_STEPS)
_PEAKS = {"resident": Real(0, 1e7), "anonymous": _MB, "file": _MB}
_ENDS = {"start": Either(Real(-50, 200), None), "end": Either(Real(-50, 200), None)}
_CASE = {
    "kind": ("device",),
    "client": CLIENTS,
    "weights": WEIGHTS,
    "preset": ("fast", "paper"),
    "threads": Whole(1, 1024),
    "max_batch": Whole(1, 65_536),
    "steps": Whole(1, MOST_STEPS),
    "steps_of_preset": Whole(1, MOST_STEPS),
    "forwards": Whole(1, 10**9),
    "file_mb": Real(0, 1e7),
}
_RUN = {
    "phases": {"import": _PEAKS, "load": _PEAKS, "step": _PEAKS, "run": _PEAKS},
    "loaded": {"resident": Real(0, 1e7), "anonymous": _MB},
    "load_seconds": Real(0, 1e6),
    "seconds": _SECONDS,
    "cpu_seconds": _SECONDS,
    "computed": dict,
    "peak_pss_mb": _MB,
    "native_heap_mb": _MB,
    "temperature_c": _ENDS,
    "battery": _ENDS,
    "loss_initial": Real(0),
    "loss_final": Real(0),
}
_RECORD = {
    "schema_version": (SCHEMA_VERSION,),
    "command": Many(str, 1, 100),
    "date": str,
    "machine": {"name": str, "system": str, "client": str, "cpu": Maybe(str)},
    "device": str,
    "model": str,
    "checkpoints": Many(str, 1, 100),
    "limit_mb": _MB,
    "results": {str: {"case": _CASE, "runs": Many(_RUN, 1, 1000)}},
}


def read_record(path: Path) -> dict[str, Any]:
    """Read and check one device record.

    Raises:
        EdgeSdkError: one line that names the file, the entry and what is accepted.
    """
    record = read_json(path, AGAIN)
    try:
        check(record, _RECORD)
        if not record["results"]:
            raise ValueError("results holds no case")
        for name, result in record["results"].items():
            for i, run in enumerate(result["runs"]):
                _check_run(run, result["case"], f"results.{name}.runs.{i}")
    except ValueError as error:
        raise EdgeSdkError(f"{path} is no device record: {error!s:.200}; {AGAIN}") from error
    return record


def _check_run(run: dict[str, Any], case: dict[str, Any], name: str) -> None:
    """Check what the table of entries cannot see: entries of a run that belong together.

    Raises:
        ValueError: one line.
    """
    for key in ("seconds", "cpu_seconds"):
        if len(run[key]) != case["steps"]:
            raise ValueError(f"{name}.{key} has {len(run[key])} entries for {case['steps']} steps")
    if case["forwards"] < case["steps"]:
        raise ValueError(f"{name}: {case['forwards']} forward passes cannot make {case['steps']} steps")
    for phase, peaks in run["phases"].items():
        if not peaks["resident"] > 0:
            raise ValueError(f"{name}.phases.{phase}.resident is 0, which no process has")
        if (peaks["anonymous"] or 0) > SLACK * peaks["resident"]:
            raise ValueError(f"{name}.phases.{phase}: more anonymous memory than resident memory")
