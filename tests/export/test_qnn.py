"""Graphs for Qualcomm's processor: what the provider takes, which integers they compute, and rows of a fixed number."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_sdk.cli.main import main
from edge_sdk.errors import EdgeSdkError
from edge_sdk.export.bundle import export
from edge_sdk.export.graphs import default_rows
from edge_sdk.export.onnx import qdq, qnn
from edge_sdk.export.onnx.qnn import OPERATORS, check
from edge_sdk.export.onnx.rounding import LEVELS, step_of
from edge_sdk.export.verify import golden_cases
from edge_sdk.export.verify import onnxruntime as onnxruntime_of
from edge_sdk.export.weight_file import WeightFile
from edge_sdk.runtime.onnx.bundle import Bundle
from edge_sdk.runtime.onnx.model import open_bundle
from edge_sdk.runtime.onnx.objective import Latents, OnnxObjective
from edge_sdk.runtime.onnx.session import load
from edge_sdk.zo import Draw
from tests.export import bundles as models_of

ROWS = 4
FAMILIES = ("sd1", "sd2", "flow")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Bundles of small random models, made once each."""
    place, made = tmp_path_factory.mktemp("qnn"), dict[str, Path]()

    def bundle(family: str) -> Path:
        if family not in made:
            made[family] = place / f"{family}-bundle"
            export(models_of.source(place, family), made[family], target="qnn", rows=ROWS)
        return made[family]

    return bundle


def models(folder: Path) -> dict[str, onnx.ModelProto]:
    return {path.stem: onnx.load(str(path), load_external_data=False) for path in sorted(folder.glob("*.onnx"))}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_graph_is_what_the_provider_takes(family: str, bundles: Callable[[str], Path]) -> None:
    for name, model in models(bundles(family)).items():
        assert {node.op_type for node in model.graph.node} <= OPERATORS
        assert all(not node.domain for node in model.graph.node)
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
        made = {each for node in inferred.node for each in node.output}
        known = {value.name: value for value in (*inferred.value_info, *inferred.output)}
        assert made <= set(known), name
        for value in known.values():
            assert all(size.HasField("dim_value") for size in value.type.tensor_type.shape.dim), (name, value.name)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_product_has_16_bit_activations_and_8_bit_weights(family: str, bundles: Callable[[str], Path]) -> None:
    for model in models(bundles(family)).values():
        kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        maker = {each: node for node in model.graph.node for each in node.output}
        for node in model.graph.node:
            if node.op_type not in ("Conv", "MatMul"):
                continue
            unpacked = [maker[each] for each in node.input]
            assert {each.op_type for each in unpacked} == {"DequantizeLinear"}
            zeros = [kinds[each.input[2]] for each in unpacked if len(each.input) > 2]
            assert set(zeros) == {TensorProto.UINT16}
            if node.op_type == "Conv":
                assert kinds[unpacked[1].input[0]] == TensorProto.INT8
                assert [each.name for each in unpacked[1].attribute] == ["axis"]  # a scale for each output channel
            (user,) = {other.op_type for other in model.graph.node if node.output[0] in other.input}
            assert user in ("QuantizeLinear", "Where")  # scores are masked before they are rounded


@pytest.mark.parametrize("family", FAMILIES)
def test_every_graph_computes_about_what_pytorch_does(family: str, bundles: Callable[[str], Path]) -> None:
    opened = Bundle.open(bundles(family))
    outcome = onnxruntime_of(opened, golden_cases(opened))
    assert outcome.good and outcome.worst > 1e-6, str(outcome)  # so small that nothing was rounded


def test_the_manifest_says_what_a_client_must_know(bundles: Callable[[str], Path]) -> None:
    manifest = json.loads((bundles("sd1") / "manifest.json").read_text())
    assert manifest["target"] == {"name": "qnn", "rows": ROWS, "vectors": 1}
    floor, mu = manifest["mu_min"], manifest["presets"]["fast"]["zo_mu"]
    assert floor > 0 and (floor <= mu or mu == manifest["vocabulary_std"])  # random weights hardly answer
    assert list(manifest["graphs"]["zo_loss"]["outputs"]) == ["residual"]
    assert manifest["runtime"]["onnxruntime-qnn"]["provider"]["backend_type"] == "htp"
    assert [entry["role"] for entry in manifest["files"].values()].count("weights") == 1


def draws_of(bundle: Bundle, count: int) -> list[Draw]:
    noise = np.random.default_rng(0).standard_normal((count, 2, *bundle.latents_shape), dtype=np.float32)
    return [Draw(0, 0, 37 * row % bundle.num_train_timesteps, *each) for row, each in enumerate(noise)]


def objective_of(folder: Path) -> OnnxObjective:
    model = open_bundle(folder)
    text = model.load_text()
    mean = np.random.default_rng(1).standard_normal((1, *model.bundle.latents_shape), dtype=np.float32)
    ids = text.tokenize(["a photo of <mug>"], {"<mug>": 1})
    return model.load_objective(text, Latents(mean, mean * 0), ids, 1, np.zeros((1, 6), np.float32))


@pytest.mark.parametrize("count", [1, ROWS, ROWS + 1, 2 * ROWS + 3])
def test_a_row_depends_on_nothing_but_itself(count: int, bundles: Callable[[str], Path]) -> None:
    objective = objective_of(bundles("sd1"))
    draws = draws_of(objective.bundle, count)
    tokens = np.random.default_rng(2).standard_normal((count, *objective.embedding_shape), dtype=np.float32) * 0.02
    together = objective.residuals(tokens, draws)
    alone = np.concatenate([objective.residuals(tokens[[i]], [draws[i]]) for i in range(count)])
    assert together.shape == alone.shape and np.abs(together - alone).max() < 1e-3 * np.abs(alone).max()
    assert len(np.unique(together.round(3), axis=0)) == count
    losses = objective.losses(tokens, draws)
    assert losses == pytest.approx((together.astype(np.float64) ** 2).mean(axis=1))


def test_a_token_of_another_number_of_vectors_is_refused(bundles: Callable[[str], Path]) -> None:
    model = open_bundle(bundles("sd1"))
    mean = np.zeros((1, *model.bundle.latents_shape), np.float32)
    with pytest.raises(EdgeSdkError, match=r"num_vectors is 2; the graphs of .* are for 1; give that, or"):
        model.load_objective(model.load_text(), Latents(mean, mean), np.zeros((1, 77), np.int64), 2, mean)


def test_too_many_words_for_a_graph_are_refused(bundles: Callable[[str], Path]) -> None:
    model = open_bundle(bundles("sd1"))
    with model.text_stage() as stage, pytest.raises(EdgeSdkError, match="5 vectors, and the bundle's graphs hold 4"):
        stage.session(
            input_ids=np.zeros((1, 77), np.int64), learned=np.zeros((5, sum(model.bundle.widths)), np.float32)
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "coreml", "target": "qnn"}, "target qnn is for format onnx, and format is coreml; leave out one"),
        ({"target": "tpu"}, "target is 'tpu'; it must be one of qnn"),
        ({"target": "qnn", "weights": "int4"}, "weights is 'int4'; the target qnn takes int8"),
        ({"target": "qnn", "weights": "none"}, "weights is 'none'; the target qnn takes int8"),
        ({"target": "qnn", "rows": 0}, "rows is 0; it must be from 1 to 256"),
        ({"target": "qnn", "num_vectors": 0}, "num_vectors is 0; it must be from 1 to 64"),
        ({"target": "qnn", "precision": "mixed"}, "precision is for format coreml only"),
        ({"rows": 4}, "rows is for a target only"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings_that_do_not_fit_are_one_line(options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(EdgeSdkError, match=message):
        export("pocket", tmp_path / "bundle", **options)
    assert list(tmp_path.iterdir()) == []


def test_sdxl_is_refused_before_it_is_quantized_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = models_of.source(tmp_path, "sdxl")
    monkeypatch.setattr("edge_sdk.export.bundle.quantize", lambda *_, **__: pytest.fail("it is quantized"))
    arguments = ["--pretrained_model_name_or_path", source, "--output_dir", str(tmp_path / "bundle")]
    assert main(["export", "--target", "qnn", "--quiet", *arguments]) == 2
    assert "for models with one text encoder" in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["sdxl"]


def graph_of(kind: str, domain: str = "", size: int | None = 2) -> onnx.ModelProto:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [size]) for name in ("x", "y")]
    node = helper.make_node(kind, ["x"], ["y"], domain=domain)
    return helper.make_model(helper.make_graph([node], "graph", value[:1], value[1:]))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (graph_of("Selu"), "operator Selu, which the QNN provider does not list"),
        (graph_of("QuickGelu", "com.microsoft"), "operator QuickGelu"),
        (graph_of("Relu", "com.microsoft"), "operator Relu"),
        (graph_of("Relu", size=None), "x has a size that is free"),
    ],
    ids=["another operator", "one of Microsoft", "a known name of another domain", "a free size"],
)
def test_a_graph_that_the_provider_would_leave_to_the_cpu_is_refused(model: onnx.ModelProto, message: str) -> None:
    with pytest.raises(EdgeSdkError, match=message):
        check("zo_loss", model)


def test_a_graph_of_listed_operators_passes() -> None:
    check("zo_loss", graph_of("Relu"))


@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (0.5, 3.0), (-4.0, -1.0), (-1e-9, 1e-9), (-0.3, 70.0)])
def test_a_range_is_covered_to_half_a_step_and_holds_zero(bounds: tuple[float, float]) -> None:
    scale, zero = step_of(bounds)
    values = np.linspace(*bounds, 1001)
    rounded = (np.clip(np.rint(values / scale) + zero, 0, LEVELS) - zero) * scale
    assert np.abs(rounded - values).max() <= 1.01 * scale and 0 <= zero <= LEVELS
    assert float(scale) <= max(bounds[1] - min(bounds[0], 0), 0 - bounds[0], 1e-4) / LEVELS * 1.001


@pytest.mark.parametrize(("rows", "side"), [(33, 8), (33, 16), (11, 32), (3, 64), (1, 96)])
def test_rows_of_a_call_follow_the_size_of_latents(rows: int, side: int) -> None:
    assert default_rows((4, side, side)) == rows


def integers_of(folder: Path, name: str, values: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Tensors inside of a graph, as ONNX Runtime computes them."""
    model = onnx.load(str(folder / f"{name}.onnx"), load_external_data=False)
    model.graph.output.extend(helper.make_tensor_value_info(each, TensorProto.UINT16, None) for each in values)
    (folder.parent / "inside.onnx").write_bytes(model.SerializeToString())
    path = folder / "inside.onnx"
    path.write_bytes((folder.parent / "inside.onnx").read_bytes())
    try:
        return load(path, qnn.RUNTIME["onnxruntime"]).run(values, inputs)
    finally:
        path.unlink()


def test_layers_are_those_of_integers_up_to_one_step(bundles: Callable[[str], Path]) -> None:
    """An independent count in int64, from the integers that ONNX Runtime has before a layer to those after it."""
    folder = bundles("sd1")
    bundle = Bundle.open(folder)
    model = onnx.load(str(folder / "unet.onnx"))
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    maker = {each: node for node in model.graph.node for each in node.output}
    layers = [n for n in model.graph.node if n.op_type == "Conv" and list(n.attribute[0].ints) == [1, 1]][:6]
    names = []
    for node in layers:
        after = next(one for one in model.graph.node if node.output[0] in one.input)
        names += [maker[node.input[0]].input[0], after.output[0]]
    random = np.random.default_rng(3)
    inputs = {
        name: np.full(entry["shape"], 500)
        if "int" in entry["dtype"]
        else random.standard_normal(entry["shape"], np.float32)
        for name, entry in bundle.manifest["graphs"]["unet"]["inputs"].items()
    }
    found = integers_of(folder, "unet", names, inputs)
    equal, total = 0, 0
    for node, x, y in zip(layers, found[::2], found[1::2], strict=True):
        before, weight = maker[node.input[0]], maker[node.input[1]]
        after = next(one for one in model.graph.node if node.output[0] in one.input)
        (x_scale, x_zero), (y_scale, y_zero) = ([stored[each] for each in one.input[1:]] for one in (before, after))
        w, w_scale = (stored[each] for each in weight.input)
        sums = np.einsum("nk,bkhw->bnhw", w[:, :, 0, 0].astype(np.int64), x.astype(np.int64) - int(x_zero))
        if len(node.input) > 2:
            sums += stored[maker[node.input[2]].input[0]].astype(np.int64)[:, None, None]
        scale = float(x_scale) * w_scale.astype(np.float64)[:, None, None] / float(y_scale)
        wanted = np.clip(np.rint(sums * scale) + int(y_zero), 0, LEVELS)
        assert np.abs(wanted - y).max() <= 1
        equal, total = equal + int((wanted == y).sum()), total + y.size
    assert equal > 0.99 * total and total > 1000


@pytest.mark.parametrize("most", [1 << 23, 1], ids=["all heads at once", "each head by itself"])
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_that_of_the_formula(
    most: int, heads: int, causal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qdq, "MOST_SCORES", most)
    shape = (2, 5, 8)
    with WeightFile(tmp_path / "weights.bin") as file:
        ops = qdq.QdqOps(lambda part: None, file, None)  # type: ignore[arg-type, return-value]
        ops.part("unet")
        q, k, v = (ops.input(name, shape, "float32") for name in "qkv")
        ops.name(ops.attention(q, k, v, heads, causal), "out")
        ops.rename()
        tensors = {name: (shape, "float32") for name in "qkv"}
        (tmp_path / "graph.onnx").write_bytes(ops.model("graph", tensors, {"out": (shape, "float32")}))
    q, k, v = np.random.default_rng(0).standard_normal((3, *shape), dtype=np.float32)
    (found,) = load(tmp_path / "graph.onnx", qnn.RUNTIME["onnxruntime"]).run(None, {"q": q, "k": k, "v": v})
    parts = [np.split(each, heads, axis=2) for each in (q, k, v)]
    for i, (a, b, c) in enumerate(zip(*parts, strict=True)):
        scores = a @ b.transpose(0, 2, 1) / np.sqrt(a.shape[2])
        scores = np.where(np.triu(np.ones((5, 5), bool), 1) & causal, -np.inf, scores)
        shares = np.exp(scores - scores.max(axis=2, keepdims=True))
        wanted = shares / shares.sum(axis=2, keepdims=True) @ c
        assert np.allclose(np.split(found, heads, axis=2)[i], wanted, atol=1e-5)


def test_a_wrong_scale_is_noticed(bundles: Callable[[str], Path], tmp_path: Path) -> None:
    """The check of golden vectors fails where an activation is rounded to the wrong range."""
    opened = Bundle.open(bundles("sd1"))
    cases = [case for case in golden_cases(opened) if case["graph"] == "zo_loss"]
    broken = [replace_outputs(case, 1.05) for case in cases]
    assert onnxruntime_of(opened, cases).good and not onnxruntime_of(opened, broken).good


def replace_outputs(case: dict, factor: float) -> dict:
    outputs = {
        name: {**tensor, "values": [factor * value for value in tensor["values"]]}
        for name, tensor in case["outputs"].items()
    }
    return {**case, "outputs": outputs}
