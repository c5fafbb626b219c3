"""How a bundle's graphs are opened: nothing spins, and a number of threads that the user chose is kept."""

from pathlib import Path
from typing import Any

import onnx
import pytest

from edge_sdk.export.onnx.writer import RUNTIME
from edge_sdk.runtime.onnx.session import load

SPINNING = "session.intra_op.allow_spinning"


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """The smallest graph there is."""
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    body = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "graph", [x], [y])
    path = tmp_path / "graph.onnx"
    onnx.save(onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10), path)
    return path


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, "0"), (RUNTIME["onnxruntime"], "0"), ({"session": {SPINNING: "1"}}, "1")],
    ids=["a bundle that does not say", "our bundles", "a bundle that asks for it"],
)
def test_threads_of_a_session_do_not_spin(graph: Path, settings: dict[str, Any], expected: str) -> None:
    assert load(graph, settings).get_session_options().get_session_config_entry(SPINNING) == expected


@pytest.mark.parametrize(
    ("chosen", "settings", "expected"),
    [("1", {}, 1), (None, {}, 0), ("1", {"intra_op_num_threads": 2}, 2), ("2,1", {}, 0), ("", {}, 0)],
    ids=["one", "none", "the bundle's own", "a list for nested loops", "empty"],
)
def test_a_session_has_the_threads_that_the_user_chose(
    graph: Path, chosen: str | None, settings: dict[str, Any], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if chosen is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", chosen)
    assert load(graph, settings).get_session_options().intra_op_num_threads == expected
