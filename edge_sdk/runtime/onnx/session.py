"""Graphs of a bundle in ONNX Runtime, with the settings that keep weights integer and in their file."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edge_sdk.errors import EdgeSdkError, one_line
from edge_sdk.runtime.onnx.bundle import Bundle
from edge_sdk.runtime.rows import in_calls
from edge_sdk.system.memory import release
from edge_sdk.system.schema import Maybe, Whole, check

onnxruntime.set_default_logger_severity(4)  # what it would log is in the exception that it raises

_LEVELS = {
    "disable_all": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
# Threads that spin for one another take the time of other programs, and the battery's.
_PATIENT = {"session.intra_op.allow_spinning": "0", "session.inter_op.allow_spinning": "0"}


# Of a manifest's settings for this runtime; all may be missing.
_SETTINGS = {
    "enable_cpu_mem_arena": Maybe(bool),
    "enable_mem_reuse": Maybe(bool),
    "intra_op_num_threads": Maybe(Whole(0, 256)),
    "graph_optimization_level": Maybe(tuple(_LEVELS)),
    "session": Maybe({str: str}),
}


class Session:
    """One loaded graph: inputs by name in, outputs in the manifest's order out. Closing it gives its memory back.

    Raises:
        EdgeSdkError: see `open_session`.
    """

    def __init__(self, bundle: Bundle, name: str) -> None:
        self.name = name
        self._session: Any = open_session(bundle, name)
        graph = bundle.manifest["graphs"][name]
        self._outputs = list(graph["outputs"])
        self._shapes = {key: entry["shape"] for key, entry in graph["inputs"].items()} if bundle.target else None

    def __call__(self, **inputs: np.ndarray) -> list[np.ndarray]:
        """Raises EdgeSdkError if the graph does not take these inputs."""
        return self._run(inputs) if self._shapes is None else in_calls(self._run, inputs, self._shapes)

    def _run(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        try:
            return self._session.run(self._outputs, inputs)
        except Exception as error:
            raise EdgeSdkError(f"the bundle's graph {self.name} cannot be run: {one_line(error, 300)}") from error

    @property
    def closed(self) -> bool:
        return self._session is None

    def close(self) -> None:
        self._session = None
        release()

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_session(bundle: Bundle, name: str) -> onnxruntime.InferenceSession:
    """A graph as the manifest says that this runtime is to load it.

    Raises:
        EdgeSdkError: the bundle has no such graph, or see `load`.
    """
    weights = [path for path, entry in bundle.manifest["files"].items() if entry["role"] == "weights"]
    return load(bundle.graph(name), bundle.manifest["runtime"].get("onnxruntime", {}), weights)


def by_name(session: onnxruntime.InferenceSession) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """A loaded graph as a function of inputs by name that gives outputs by name."""
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(None, inputs), strict=True))


def load(graph: Path, settings: dict[str, Any], weights: Sequence[str] = ()) -> onnxruntime.InferenceSession:
    """A graph with a manifest's settings for this runtime; threads do not spin unless they say so, and what else they
    do not say is the runtime's default.

    Args:
        weights: files with the graph's weights, beside it. The runtime opens them by name, but follows a link only into
            the graph's own folder or that of the file which the graph is a link to.

    Raises:
        EdgeSdkError: a setting is not known or of the wrong type, or the runtime cannot load the graph.
    """
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        check(settings, _SETTINGS)
        options.enable_cpu_mem_arena = settings.get("enable_cpu_mem_arena", False)
        options.enable_mem_reuse = settings.get("enable_mem_reuse", True)
        options.intra_op_num_threads = settings.get("intra_op_num_threads", 0) or _threads_of_user()
        options.graph_optimization_level = _LEVELS[settings.get("graph_optimization_level", "all")]
        for key, value in (_PATIENT | settings.get("session", {})).items():
            options.add_session_config_entry(key, value)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise EdgeSdkError(
            f"{graph.parent}/manifest.json has settings for onnxruntime that cannot be used ({one_line(error, 300)}); "
            "make the bundle again with edge-sdk export"
        ) from error
    try:
        if all(_is_reachable(graph, graph.parent / name) for name in weights):
            return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        mapped = [np.memmap(graph.parent / name, np.uint8, "r") for name in weights]
        options.add_external_initializers_from_files_in_memory(list(weights), mapped, [len(each) for each in mapped])
        session = onnxruntime.InferenceSession(graph.read_bytes(), options, providers=["CPUExecutionProvider"])
        session.mapped = mapped  # it may refer to them as long as it lives
        return session
    except Exception as error:  # the runtime's own classes have no common base
        raise EdgeSdkError(
            f"{graph} cannot be loaded by onnxruntime {onnxruntime.__version__}: {one_line(error, 300)}; make the "
            "bundle again with edge-sdk export, or install a newer onnxruntime"
        ) from error


def _is_reachable(graph: Path, weights: Path) -> bool:
    """Whether the runtime opens a graph's file of weights by its name."""
    return weights.resolve().is_relative_to(graph.parent.resolve()) or weights.resolve().is_relative_to(
        graph.resolve().parent
    )


def _threads_of_user() -> int:
    """The number of threads that the user chose for OpenMP programs, which this runtime does not read; 0 if none."""
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    return int(chosen) if chosen.isdecimal() else 0
