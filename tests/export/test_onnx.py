"""The graphs of a bundle: what they compute, and what a session makes of their weights."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest

from edge_sdk.export.cases import value_of
from edge_sdk.export.onnx.writer import RUNTIME, OnnxOps, session
from edge_sdk.export.verify import golden_cases
from edge_sdk.export.verify import onnxruntime as onnxruntime_of
from edge_sdk.export.weight_file import PAGE, WeightFile
from edge_sdk.export.weights import Layer
from edge_sdk.runtime.onnx.bundle import Bundle

KINDS = [
    ("pocket", "none"),
    ("pocket", "int8"),
    ("pocket", "int4"),
    ("sd1", "int8"),
    ("sd2", "int4"),
    ("sdxl", "int8"),
    ("sdxl", "int4"),
    ("flow", "none"),
    ("bk-sdm-tiny", "int8"),
    ("ssd-1b", "int4"),
    ("lists", "none"),
]
Bundles = Callable[[str, str], Path]


def nodes(path: Path) -> list[onnx.NodeProto]:
    return list(onnx.load(str(path), load_external_data=False).graph.node)


@pytest.mark.parametrize(("family", "weights"), KINDS, ids=lambda value: value)
def test_every_graph_computes_what_pytorch_does(family: str, weights: str, bundle_of: Bundles) -> None:
    bundle = bundle_of(family, weights)
    graphs = {case["graph"] for case in json.loads((bundle / "golden.json").read_text())["cases"]}
    assert graphs == {path.stem for path in bundle.glob("*.onnx")} and len(graphs) == 5
    opened = Bundle.open(bundle)
    outcome = onnxruntime_of(opened, golden_cases(opened))
    assert outcome.runtime.startswith("onnxruntime ") and outcome.good, str(outcome)


@pytest.mark.parametrize(
    ("family", "weights", "kind"),
    [("sd1", "int8", "epsilon"), ("sd2", "int4", "v_prediction"), ("flow", "none", "flow")],
)
def test_the_loss_is_of_what_the_model_predicts(family: str, weights: str, kind: str, bundle_of: Bundles) -> None:
    bundle = bundle_of(family, weights)
    assert json.loads((bundle / "manifest.json").read_text())["prediction_type"] == kind
    zo_loss, unet = session(bundle / "zo_loss.onnx"), session(bundle / "unet.onnx")
    text = session(bundle / "text_encoder.onnx")
    case = next(c for c in json.loads((bundle / "golden.json").read_text())["cases"] if c["graph"] == "zo_loss")
    inputs = {name: value_of(tensor) for name, tensor in case["inputs"].items()}
    scheduler = json.loads((bundle / "manifest.json").read_text())["scheduler"]
    (t,), x0, noise = inputs["timestep"], inputs["latents"], inputs["noise"]
    a, b = np.float32(scheduler["a"][t]), np.float32(scheduler["b"][t])
    (hidden,) = text.run(None, {name: inputs[name] for name in ("input_ids", "learned")})
    (predicted,) = unet.run(None, {"sample": a * x0 + b * noise, "timestep": inputs["timestep"], "hidden": hidden})
    wanted = {"epsilon": noise, "v_prediction": a * noise - b * x0, "flow": noise - x0}[kind]
    loss, residual = zo_loss.run(None, inputs)
    assert loss == pytest.approx(np.mean((predicted - wanted) ** 2), rel=1e-5)
    np.testing.assert_allclose(residual, predicted - wanted, atol=1e-5 * np.abs(predicted - wanted).max())


def test_a_row_of_the_batch_depends_on_nothing_but_itself(bundle_of: Bundles) -> None:
    bundle = bundle_of("sdxl", "int8")
    cases = [c for c in json.loads((bundle / "golden.json").read_text())["cases"] if c["graph"] == "zo_loss"]
    rows = [{name: value_of(tensor) for name, tensor in case["inputs"].items()} for case in cases]
    together = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    together["learned"] = rows[0]["learned"]
    opened = session(bundle / "zo_loss.onnx")
    alone = [np.concatenate(parts) for parts in zip(*(opened.run(None, row) for row in rows), strict=True)]
    for found, wanted in zip(opened.run(None, together), alone, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=2e-6 * np.abs(wanted).max())


def test_several_vectors_a_token_each_matter(bundle_of: Bundles) -> None:
    bundle = bundle_of("sd1", "int8")
    opened, manifest = session(bundle / "text_encoder.onnx"), json.loads((bundle / "manifest.json").read_text())
    (tokens,), (table,) = manifest["tokens"], manifest["embedding"]
    first = table["vocab_size"]
    ids = np.array([[tokens["bos"], 5, first, first + 1, first + 2, 7, *[tokens["eos"]] * (tokens["length"] - 6)]])
    learned = np.random.default_rng(0).standard_normal((3, 32)).astype(np.float32)
    (base,) = opened.run(None, {"input_ids": ids, "learned": learned})
    for vector in range(3):
        other = learned.copy()
        other[vector] += 1
        (moved,) = opened.run(None, {"input_ids": ids, "learned": other})
        changed = np.abs(moved - base).max(axis=(0, 2)) > 0
        assert changed[2 + vector :].all() and not changed[: 2 + vector].any()  # causal: nothing before it


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_attention_is_one_operator_and_the_table_is_only_looked_up(weights: str, bundle_of: Bundles) -> None:
    graph = onnx.load(str(bundle_of("sdxl", weights) / "zo_loss.onnx"), load_external_data=False).graph
    kinds = [node.op_type for node in graph.node]
    assert "Softmax" not in kinds and kinds.count("MultiHeadAttention") > 4
    for table in [name for name in (i.name for i in graph.initializer) if name.endswith("token_embedding.weight")]:
        assert {node.op_type for node in graph.node if table in node.input} == {"Gather"}


def test_weights_are_in_one_file_on_pages_of_their_own_and_shared(bundle_of: Bundles) -> None:
    bundle = bundle_of("pocket", "int8")
    places: dict[str, set[int]] = {}
    for path in bundle.glob("*.onnx"):
        for tensor in onnx.load(str(path), load_external_data=False).graph.initializer:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            if entries:
                assert entries["location"] == "weights.bin" and int(entries["offset"]) % PAGE == 0
                places.setdefault(tensor.name, set()).add(int(entries["offset"]))
    assert all(len(offsets) == 1 for offsets in places.values())
    assert len({min(offsets) for offsets in places.values()}) == len(places)


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_no_optimizer_makes_floats_of_the_weights(weights: str, bundle_of: Bundles, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    for key, value in RUNTIME["onnxruntime"]["session"].items():
        options.add_session_config_entry(key, value)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(bundle_of("pocket", weights) / "zo_loss.onnx"), options)
    sizes: dict[int, int] = {}
    for tensor in onnx.load(str(tmp_path / "optimized.onnx"), load_external_data=False).graph.initializer:
        if len(tensor.dims) > 1 and ".scales" not in tensor.name:
            sizes[tensor.data_type] = sizes.get(tensor.data_type, 0) + int(np.prod(tensor.dims))
    integers = sizes[onnx.TensorProto.UINT8] + sizes.get(onnx.TensorProto.INT8, 0)
    assert sizes.get(onnx.TensorProto.FLOAT, 0) < 0.05 * integers  # timestep features, positions


def test_weights_are_unpacked_late_and_no_buffer_waits(bundle_of: Bundles) -> None:
    """Of two inputs the runtime computes the one that is written later first, which must not be the weights."""
    folder = bundle_of("sd1", "int8")
    kinds = [node.op_type for node in onnx.load(folder / "zo_loss.onnx", load_external_data=False).graph.node]
    count = kinds.count("DequantizeLinear")
    assert count > 10 and kinds[: 2 * count] == ["DequantizeLinear", "Reshape"] * count
    options = session(folder / "zo_loss.onnx").get_session_options()
    assert not options.enable_mem_reuse and not options.enable_cpu_mem_arena


@pytest.mark.parametrize("weights", ["int8", "int4", "none"])
def test_no_two_buffers_are_known_to_be_alike(weights: str, bundle_of: Bundles) -> None:
    """A runtime that lets tensors take over buffers, as in Java, Swift and JavaScript, finds none to take over."""
    for path in bundle_of("sd1", weights).glob("*.onnx"):
        graph = onnx.load(path, load_external_data=False).graph
        sizes = [size for value in (*graph.input, *graph.output) for size in value.type.tensor_type.shape.dim]
        assert not any(size.HasField("dim_param") for size in sizes)
        assert all(not value.type.tensor_type.shape.dim[0].HasField("dim_value") for value in graph.input)
        shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        unpacked = [shapes[node.input[0]] for node in graph.node if node.op_type == "DequantizeLinear"]
        assert len(unpacked) == len(set(unpacked))


REUSE = """
import sys, threading
import numpy as np, onnxruntime
from edge_sdk.system.memory import bound_heap, status_mb
from edge_sdk.export.onnx.writer import RUNTIME
bound_heap()
options = onnxruntime.SessionOptions()
options.enable_cpu_mem_arena, options.enable_mem_pattern, options.enable_mem_reuse = False, False, True
for key, value in RUNTIME["onnxruntime"]["session"].items():
    options.add_session_config_entry(key, value)
opened = onnxruntime.InferenceSession(sys.argv[1], options)
x = {"x": np.zeros((1, 256, 4, 4), np.float32)}
peaks, done = [status_mb("RssAnon")], threading.Event()
def watch():
    while not done.wait(0.001):
        peaks.append(status_mb("RssAnon"))
watching = threading.Thread(target=watch)
watching.start()
for _ in range(20):
    opened.run(None, x)
done.set()
watching.join()
print(max(peaks) - peaks[0])
"""


def test_unpacked_kernels_are_not_kept_where_buffers_are_reused(tmp_path: Path) -> None:
    """Kernels of four sizes, each twice, the largest of 21 MB as floats; all four at once are 47 MB."""
    widths = [(256, 512), (512, 768), (768, 768), (768, 256)]
    layers = {
        f"{i}": Layer(8, np.ones((n, 9 * k), np.int8), None, (3, 3), np.ones(n, np.float32))
        for i, (k, n) in enumerate(widths * 2)
    }
    weights = SimpleNamespace(layer=layers.__getitem__)
    picture = (("B", 256, 4, 4), "float32")
    with WeightFile(tmp_path / "weights.bin") as file:
        ops = OnnxOps(lambda part: weights, file)  # type: ignore[arg-type, return-value]
        value = "x"
        for name in layers:
            value = ops.conv(value, name, (4, 4))
        ops.name(value, "y")
        (tmp_path / "convolutions.onnx").write_bytes(ops.model("convolutions", {"x": picture}, {"y": picture}))
    arguments = [sys.executable, "-c", REUSE, str(tmp_path / "convolutions.onnx")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
    assert float(done.stdout) < 35, done.stdout


def test_int4_convolutions_are_four_bits_wide(bundle_of: Bundles) -> None:
    graph = onnx.load(str(bundle_of("sd2", "int4") / "unet.onnx"), load_external_data=False).graph
    conv = {node.op_type for node in graph.node if "resnets.0.conv1" in " ".join(node.input)}
    assert conv == {"MatMulNBits"}
    bits = [a.i for node in graph.node if "conv1.8" in " ".join(node.input) for a in node.attribute if a.name == "bits"]
    assert bits and set(bits) == {4}


MEMORY = """
import sys
from pathlib import Path
from edge_sdk.system.memory import status_mb
import onnxruntime
from edge_sdk.export.onnx.writer import session
small, large = (Path(path) for path in sys.argv[1:])
session(small)  # what the library itself takes
before = status_mb("RssAnon")
opened = session(large)
print(status_mb("RssAnon") - before)
"""


def test_a_loaded_session_holds_no_copy_of_the_weights(bundle_of: Bundles) -> None:
    bundle = bundle_of("pocket", "int8")
    files = str(bundle / "text_encoder.onnx"), str(bundle / "zo_loss.onnx")
    done = subprocess.run([sys.executable, "-c", MEMORY, *files], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.5 * (bundle / "weights.bin").stat().st_size / 1e6
