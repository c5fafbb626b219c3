"""A bundle against its own golden vectors, on every runtime that is here."""

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_sdk.errors import EdgeSdkError
from edge_sdk.export import web_runtimes
from edge_sdk.export.cases import value_of, worst_difference
from edge_sdk.export.web_runtimes import WebRun
from edge_sdk.runtime.onnx.bundle import Bundle

GOLDEN_SCHEMA = 1
Run = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]  # a graph: inputs to outputs, by name


@dataclass(frozen=True)
class Outcome:
    """What one runtime made of a bundle's golden vectors."""

    runtime: str  # with its version
    worst: float = 0.0  # largest relative difference, of the graph that came closest to its bound
    graph: str = ""
    bound: float = 0.0
    missing: str | None = None  # why the runtime is not here

    @property
    def good(self) -> bool:
        return self.missing is not None or self.worst <= self.bound

    def __str__(self) -> str:
        if self.missing is not None:
            return f"{self.runtime}: not here ({self.missing})"
        said = "ok" if self.good else "FAILED"
        return (
            f"{self.runtime}: {said}, worst relative difference {self.worst:.1e} ({self.graph}, bound {self.bound:g})"
        )


def verify(folder: str | Path) -> list[Outcome]:
    """Check a bundle's files, then run its golden vectors on every runtime of its format.

    Raises:
        EdgeSdkError: the bundle or its golden vectors cannot be read, or a file is not what the manifest says.
    """
    bundle = Bundle.open(folder)
    cases = golden_cases(bundle)
    return [run(bundle, cases) for run in RUNTIMES[bundle.manifest["format"]]]


def golden_cases(bundle: Bundle) -> list[dict]:
    """The cases of ``golden.json``; raises EdgeSdkError if they cannot be read."""
    path = bundle.folder / "golden.json"
    try:
        golden = json.loads(path.read_text())
        if golden["schema_version"] != GOLDEN_SCHEMA or not golden["cases"]:
            raise ValueError(f"schema version {golden['schema_version']}")
        if unknown := {case["graph"] for case in golden["cases"]} - set(bundle.manifest["graphs"]):
            raise ValueError(f"no graph {min(unknown)}")
        return golden["cases"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EdgeSdkError(f"{path} cannot be used ({error}); export the bundle again") from error


def onnxruntime(bundle: Bundle, cases: list[dict]) -> Outcome:
    """The Python package, one graph after the other."""
    import onnxruntime as runtime

    from edge_sdk.runtime.onnx.session import Session

    def opened(graph: str) -> Run:
        session, names = Session(bundle, graph), list(bundle.manifest["graphs"][graph]["outputs"])
        return lambda inputs: dict(zip(names, session(**inputs), strict=True))

    return judged(f"onnxruntime {runtime.__version__}", "onnxruntime", cases, opened)


def interpreter(bundle: Bundle, cases: list[dict]) -> Outcome:
    """Our own reading of the saved programs: what they compute, not that Core ML takes them."""
    title = "interpreter of the Core ML programs"
    if not is_here("coremltools"):
        return Outcome(title, missing="needs coremltools, which the extra coreml brings")
    from edge_sdk.export.coreml.interpreter import Interpreter

    return judged(title, "interpreter", cases, lambda graph: Interpreter(bundle.graph(graph)).run)


def coreml(bundle: Bundle, cases: list[dict]) -> Outcome:
    """Core ML itself is on Apple devices only."""
    return Outcome("Core ML", missing="runs on Apple devices only")


def web(run: Callable[[Path], WebRun]) -> Callable[[Bundle, list[dict]], Outcome]:
    """One of the web runtimes, which reads the bundle itself."""

    def outcome(bundle: Bundle, cases: list[dict]) -> Outcome:
        made = run(bundle.folder)
        if made.missing is not None:
            return Outcome(made.runtime, missing=made.missing)
        if left_out := {case["graph"] for case in cases} - set(made.differences):
            raise EdgeSdkError(f"{made.runtime} left out the graph {min(left_out)}")
        worst = max(made.differences, key=lambda graph: made.differences[graph] / made.bounds[graph])
        return Outcome(made.runtime, made.differences[worst], worst, made.bounds[worst])

    return outcome


def judged(title: str, runtime: str, cases: list[dict], opened: Callable[[str], Run]) -> Outcome:
    """Run all cases, one graph after the other; the one that came closest to its bound counts.

    Args:
        runtime: its name in the cases' bounds.
        opened: gives a graph by its name.
    """
    rows = []
    for graph in dict.fromkeys(case["graph"] for case in cases):
        run = opened(graph)
        for case in (case for case in cases if case["graph"] == graph):
            found = run({name: value_of(tensor) for name, tensor in case["inputs"].items()})
            rows.append((worst_difference(case, found), graph, case["bounds"][runtime]))
        del run  # before the next one is opened
    worst, graph, bound = max(rows, key=lambda row: row[0] / row[2])
    return Outcome(title, worst, graph, bound)


def is_here(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


RUNTIMES: dict[str, tuple[Callable[[Bundle, list[dict]], Outcome], ...]] = {
    "onnx": (onnxruntime, web(web_runtimes.node), web(web_runtimes.chromium)),
    "coreml": (interpreter, coreml),
}
