"""A bundle against its own golden vectors, on every runtime that is here."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_sdk.errors import EdgeSdkError
from edge_sdk.export import web_runtimes
from edge_sdk.export.cases import check_case, value_of, worst_difference
from edge_sdk.export.web_runtimes import WebRun
from edge_sdk.runtime.onnx.bundle import Bundle
from edge_sdk.runtime.onnx.manifest import AGAIN
from edge_sdk.system.json import read_json
from edge_sdk.system.schema import Either, Many, Maybe, check

GOLDEN_SCHEMA = 1
MOST_GOLDEN_BYTES = 64 << 20
MOST_NAMES = 10  # of files that are no part of a bundle
Run = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]  # a graph: inputs to outputs, by name


@dataclass(frozen=True)
class Outcome:
    """What one runtime made of a bundle's golden vectors."""

    runtime: str  # with its version
    worst: float = 0.0  # largest relative difference, of the graph that came closest to its bound
    graph: str = ""
    bound: float = 0.0
    missing: str | None = None  # why the runtime is not here
    error: str | None = None  # why a case could not be compared

    @property
    def good(self) -> bool:
        return self.missing is not None or (self.error is None and self.worst <= self.bound)

    def __str__(self) -> str:
        if self.missing is not None:
            return f"{self.runtime}: not here ({self.missing})"
        if self.error is not None:
            return f"{self.runtime}: FAILED, {self.error}"
        said = "ok" if self.good else "FAILED"
        return (
            f"{self.runtime}: {said}, worst relative difference {self.worst:.1e} ({self.graph}, bound {self.bound:g})"
        )


def verify(folder: str | Path, notify: Callable[[str], None] = lambda line: None) -> list[Outcome]:
    """Check a bundle's files and its golden vectors, then run those on every runtime of its format.

    Where golden vectors are damaged, nothing runs, and there is an outcome for each of those.

    Args:
        notify: is told of files in the folder that are no part of the bundle.

    Raises:
        EdgeSdkError: the bundle or its golden vectors cannot be read, or a file is not what the manifest says.
    """
    bundle = Bundle.open(folder)
    if bundle.leftovers:
        more = f" and {len(bundle.leftovers) - MOST_NAMES} more" if len(bundle.leftovers) > MOST_NAMES else ""
        notify(f"note: not part of the bundle and not opened: {', '.join(bundle.leftovers[:MOST_NAMES])}{more}")
    cases = golden_cases(bundle)
    graphs, broken = bundle.manifest["graphs"], []
    for i, case in enumerate(cases):
        try:
            check_case(case, graphs, bundle.side)
        except ValueError as error:
            broken.append(Outcome("golden.json", error=f"case {i}: {error}; export the bundle again"))
    if broken:
        return broken
    return [run(bundle, cases) for run in RUNTIMES[bundle.manifest["format"]]]


def golden_cases(bundle: Bundle) -> list[dict]:
    """The cases of ``golden.json``, not yet checked; raises EdgeSdkError if there are none or one compares nothing."""
    path = bundle.folder / "golden.json"
    golden = read_json(path, AGAIN, MOST_GOLDEN_BYTES)
    try:
        case = {"outputs": Maybe(Either(dict, list, str, int, float, None))}
        check(golden, {"schema_version": (GOLDEN_SCHEMA,), "cases": Many(case, 1, 10_000)})
        if empty := [i for i, case in enumerate(golden["cases"]) if not case.get("outputs")]:
            raise ValueError(f"case {empty[0]} has no outputs, so it compares nothing")
    except ValueError as error:
        raise EdgeSdkError(f"{path} cannot be used: {error}; {AGAIN}") from error
    return golden["cases"]


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

    def opened(graph: str) -> Run:
        program = Interpreter(bundle.graph(graph), bundle.function(graph))

        def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            try:
                return program.run(inputs)
            except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
                reason = " ".join(str(error).split())[:200]
                raise EdgeSdkError(f"the program {graph} cannot be run ({reason}); {AGAIN}") from error

        return run

    return judged(title, "interpreter", cases, opened)


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
    if (without := next((case for case in cases if runtime not in case["bounds"]), None)) is not None:
        return Outcome(title, error=f"a case of {without['graph']} has no bound for {runtime}; {AGAIN}")
    for graph in dict.fromkeys(case["graph"] for case in cases):
        run = opened(graph)
        for case in (case for case in cases if case["graph"] == graph):
            try:
                found = run({name: value_of(tensor) for name, tensor in case["inputs"].items()})
            except EdgeSdkError as error:
                return Outcome(title, error=str(error))
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
