"""A graph that measures likeness is tried before it is used."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_sdk.errors import EdgeSdkError
from edge_sdk.unlearning.similarity import Similarity, shared_notice


def graph(path: Path, shape: Sequence[int | str], kind: int = TensorProto.FLOAT, op: str = "mean") -> str:
    """A graph of pictures to the means of their channels, or to one vector for all pictures together."""
    axes = [2, 3] if op == "mean" else [0, 2, 3]
    nodes = [helper.make_node("ReduceMean", ["pictures", "axes"], ["vectors"], keepdims=int(op != "mean"))]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("pictures", kind, shape)],
        [helper.make_tensor_value_info("vectors", kind, None)],
        [helper.make_tensor("axes", TensorProto.INT64, [len(axes)], axes)],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return str(path)


PICTURES = np.random.default_rng(0).uniform(-1, 1, (3, 3, 16, 16)).astype(np.float32)


@pytest.mark.parametrize("shape", [("n", 3, 16, 16), ("n", 3, 8, 8), ("n", 3, "h", "w"), ("a", "b", "c", "d")])
def test_a_graph_of_pictures_to_vectors_is_taken_at_its_own_side_or_at_any(
    tmp_path: Path, shape: tuple[int | str, ...]
) -> None:
    similarity = Similarity(graph(tmp_path / "g.onnx", shape))
    features = similarity.features(PICTURES)
    assert features.shape == (3, 3) and np.allclose(np.linalg.norm(features, axis=1), 1)
    assert np.allclose(np.diag(similarity(PICTURES, PICTURES)), 1)


@pytest.mark.parametrize(
    ("shape", "kind", "op"),
    [
        (("n", 112, 112, 3), TensorProto.FLOAT, "mean"),
        (("n", "h", "w", 3), TensorProto.FLOAT, "mean"),
        ((1, 3, 16, 16), TensorProto.FLOAT, "mean"),
        (("n", 3, 16, 16), TensorProto.FLOAT16, "mean"),
        (("n", 3, "h", "w"), TensorProto.FLOAT16, "mean"),
        (("n", 3, 16, 16), TensorProto.FLOAT, "mean of all"),
        (("n", 3), TensorProto.FLOAT, "mean"),
    ],
    ids=[
        "channels last",
        "channels last of any side",
        "one at a time",
        "float16",
        "float16 of any side",
        "one vector",
        "no picture",
    ],
)
def test_a_graph_that_takes_no_pair_of_pictures_is_refused_at_once(
    tmp_path: Path, shape: tuple[int | str, ...], kind: int, op: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = graph(tmp_path / "g.onnx", shape, kind, op)
    with pytest.raises(EdgeSdkError, match=r"^similarity [^\n]*g\.onnx cannot be used \([^\n]+\); give 'pixels' or"):
        Similarity(path)
    assert capfd.readouterr().err == ""


def test_a_graph_that_fails_later_is_one_line_too(tmp_path: Path) -> None:
    similarity = Similarity(graph(tmp_path / "g.onnx", ("n", 3, "h", "w")))
    with pytest.raises(EdgeSdkError, match="cannot be used"):
        similarity.features(PICTURES[:, :, 0])


def test_a_graph_that_finds_all_pictures_alike_is_noticed(tmp_path: Path) -> None:
    similarity = Similarity(graph(tmp_path / "g.onnx", ("n", 3, 16, 16)))
    colours = np.random.default_rng(0).uniform(-1, 1, (40, 3, 1, 1)).astype(np.float32)
    spread = np.broadcast_to(colours, (40, 3, 16, 16))
    assert shared_notice(similarity, spread) == []
    (notice,) = shared_notice(similarity, spread / 8 + 0.7)
    assert "g.onnx finds retained pictures 0.9" in notice and "subtracts the mean" in notice
    assert shared_notice(Similarity(), spread / 8 + 0.7) == []
    assert shared_notice(similarity, spread[:1]) == []
