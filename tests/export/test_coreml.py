"""Core ML programs as they are saved: what they compute against PyTorch, and that their weights stay compressed."""

import functools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.cli.main import main
from edge_sdk.errors import EdgeSdkError
from edge_sdk.export.bundle import export
from edge_sdk.export.coreml import writer as coreml
from edge_sdk.export.coreml.interpreter import Interpreter
from edge_sdk.export.coreml.package import Package, StoredWeight
from edge_sdk.export.golden import GraphObjective, Reference
from edge_sdk.export.graphs import Graph
from edge_sdk.export.verify import verify
from edge_sdk.export.weights import weights_of
from edge_sdk.runtime.onnx.bundle import Bundle
from edge_sdk.runtime.pytorch.model import Model, open_model
from edge_sdk.zo import MuFloor, ZoConfig, calibrate_mu, lengths_below, random_directions
from tests.export import bundles

# Every family, kind of weights and kind of prediction, but not all their combinations, for the sake of time.
KINDS = [
    ("pocket", "int8"),
    ("sd1", "int4"),
    ("sd2", "int8"),
    ("sd1", "none"),
    ("sdxl", "int4"),
    ("flow", "int8"),
    ("vega", "int4"),
    ("bk-sdm-small", "int8"),
    ("only-cross", "none"),
]
VECTORS = 2
LOSS = {"float32": 1e-5, "mixed": 2e-3}  # relative error of a loss; seen: 2e-7 and 2e-4
RESIDUAL = {"float32": 1e-5, "mixed": 5e-3}  # largest difference of a residual, of the largest; seen: 3e-7 and 7e-4


class Made:
    """A model, PyTorch's losses on it, and its programs in a folder."""

    def __init__(self, model: Model, folder: Path) -> None:
        self.model, self.folder = model, folder
        self.reference = Reference(model, model.resolution(), 0, VECTORS)

    @functools.cache  # noqa: B019, as long as the session
    def program(self, graph: str, precision: str) -> Path:
        folder = self.folder / precision / graph
        if not folder.exists():
            folder.mkdir(parents=True)
            graphs = {graph: self.reference.networks.all()[graph]}
            weights = functools.cache(lambda part: weights_of(self.model, part))
            coreml.write(graphs, self.model.text_encoders, weights, folder, precision, VECTORS)
        return folder / coreml.PACKAGE

    def objective(self, precision: str, rounding: bool = True) -> GraphObjective:
        program = Interpreter(self.program("zo_loss", precision), rounding=rounding)
        return GraphObjective(self.reference, program.run)

    def error(self, precision: str, of: str = "losses") -> float:
        """Largest difference from PyTorch's losses or residuals on three draws, as a share of the largest value."""
        token, drawn = self.reference.variable(2)[None], [self.reference.draws(t) for t in (50, 500, 950)]
        sides = self.pytorch, self.objective(precision)
        pairs = [[getattr(side, of)(token, one) for side in sides] for one in drawn]
        return max(float(np.abs(found - wanted).max() / np.abs(wanted).max()) for wanted, found in pairs)

    @functools.cached_property
    def pytorch(self) -> object:
        return self.reference.objective()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Made]:
    """By family and weights."""
    folder = tmp_path_factory.mktemp("coreml")

    @functools.cache
    def of(family: str, weights: str) -> Made:
        return Made(bundles.opened(folder, family, weights), folder / f"{family}-{weights}.programs")

    return of


Models = Callable[[str, str], Made]


def stored(package: Path) -> list[StoredWeight]:
    return list(Package(package).weights())


@pytest.mark.parametrize(("family", "weights"), KINDS, ids=lambda value: value)
def test_loss_and_residual_are_those_of_pytorch(family: str, weights: str, made: Models) -> None:
    model = made(family, weights)
    assert model.error("float32") < LOSS["float32"] and model.error("float32", "residuals") < RESIDUAL["float32"]


@pytest.mark.parametrize(("family", "weights"), KINDS[::2], ids=lambda value: value)
def test_with_float16_products_they_are_nearly_those_of_pytorch(family: str, weights: str, made: Models) -> None:
    model = made(family, weights)
    assert 1e-7 < model.error("mixed") < LOSS["mixed"]
    assert 1e-7 < model.error("mixed", "residuals") < RESIDUAL["mixed"]


@pytest.mark.parametrize(("family", "weights"), [("sd2", "int8"), ("sdxl", "int4")], ids=lambda value: value)
@pytest.mark.parametrize("precision", ["mixed", "float32"])
def test_weights_stay_compressed(family: str, weights: str, precision: str, made: Models) -> None:
    model = made(family, weights)
    package = model.program("zo_loss", precision)
    held, wide = stored(package), {"mixed": "float16", "float32": "float32"}[precision]
    data = [w for w in held if w.role == "data"]
    expected, layers = {"int8": ("int8", 1), "int4": ("uint4", 2)}[weights], data
    if weights == "int4":  # int4 groups below 16 are stored as int8
        layers = [w for w in data if w.dtype == "uint4"]
        assert sum(w.bytes for w in layers) > 0.3 * sum(w.bytes for w in data)
    assert all(w.dtype == expected[0] and w.bytes == int(np.prod(w.shape)) // expected[1] for w in layers)
    assert any(len(w.shape) == 4 and w.shape[2:] == (3, 3) for w in layers) and any(len(w.shape) == 2 for w in layers)
    floats = [w for w in held if w.dtype in ("float16", "float32") and w.role == "val"]
    tables = [w for w in floats if w.dtype == "float16" and len(w.shape) == 2 and w.shape[1] in (32, 48)]
    positions = [w for w in floats if w.shape[-1] == model.reference.networks.times.shape[1]]
    rest = sum(w.bytes for w in floats) - sum(w.bytes for w in [*tables, *positions])
    assert rest < 0.15 * sum(w.bytes for w in data)  # norms, biases, schedule
    products = [op for op in Package(package).block.operations if op.type in ("linear", "conv")]
    assert {op.inputs["weight"].arguments[0].name for op in products} == {w.name for w in data}
    assert wide in {w.dtype for w in held if w.role == "scale"} <= {wide, "float32"}  # the last convolution's


def test_a_row_of_weights_is_unpacked_to_the_source_s_values(made: Models) -> None:
    model = made("sd1", "int4")
    layer = weights_of(model.model, "unet").layer("conv_in")
    package = Package(model.program("zo_loss", "float32"))
    conv = next(op for op in package.block.operations if op.type == "conv")
    name = conv.inputs["weight"].arguments[0].name
    op = next(op for op in package.block.operations if op.outputs and op.outputs[0].name == name)
    data = package.value(op.inputs["data"].arguments[0].value).numpy()
    np.testing.assert_array_equal(data, layer.as_picture(layer.matrix))


def test_the_table_is_only_looked_up_and_attention_is_one_operation(made: Models) -> None:
    package = Package(made("sdxl", "int4").program("zo_loss", "mixed"))
    tables = {w.name for w in package.weights() if w.dtype == "float16" and w.role == "val" and len(w.shape) == 2}
    users = [op for op in package.block.operations for a in op.inputs.values() for b in a.arguments if b.name in tables]
    assert len(tables) == 2 and {op.type for op in users} == {"gather"}
    kinds = [op.type for op in package.block.operations]
    assert kinds.count("scaled_dot_product_attention") > 4 and "softmax" not in kinds


def test_losses_and_inputs_are_float32_and_only_products_are_float16(made: Models) -> None:
    package = Package(made("sd2", "int8").program("zo_loss", "mixed"))
    assert package.outputs == {"loss": ((1,), "float32"), "residual": ((1, 4, 8, 8), "float32")}
    assert next(iter(package.outputs)) == "loss"
    half = {op.type for op in package.block.operations if Package.kind(op.outputs[0].type)[1] == "float16"}
    assert half == {
        "const",
        "constexpr_blockwise_shift_scale",
        "cast",
        "linear",
        "conv",
        "gather",
        "scaled_dot_product_attention",
        "reshape",
        "transpose",
    }
    last = [op for op in package.block.operations if op.type == "conv"][-1]
    assert Package.kind(last.outputs[0].type)[1] == "float32"


def test_rounding_is_what_makes_mu_longer_and_mixed_precision_needs_less_of_it(made: Models) -> None:
    model = made("sd2", "int8")
    config = ZoConfig(zo_mu=0.01, zo_difference="central", zo_draws="per_direction")

    def floor(precision: str, rounding: bool = True) -> MuFloor:
        objective, token = model.objective(precision, rounding), model.reference.variable(2)
        directions = random_directions(0, 4, token.shape)
        return calibrate_mu(objective, token, config, lengths_below(0.01), 0, directions, 1)

    exact, mixed, half = floor("mixed", False), floor("mixed"), floor("float16")
    assert exact.noise < mixed.noise / 10
    assert mixed.slope > 0 and (mixed.noise < half.noise / 3 or half.slope == 0)  # 0: every difference is rounded away


@pytest.mark.parametrize(
    ("ids", "position"), [([5, 7, 9, 7], 1), ([7, 7, 7, 7], 0), ([1, 2, 3, 7], 3), ([1, 2, 3, 4], 0)]
)
def test_the_first_of_several_ends_is_taken(ids: list[int], position: int, tmp_path: Path) -> None:
    states = np.random.default_rng(0).standard_normal((1, 4, 3)).astype(np.float32)

    def build(ops: coreml.MilOps, x: dict[str, object]) -> tuple[object, ...]:
        return (ops.first_of(x["ids"], 7, x["states"]),)

    inputs = {"ids": ((1, 4), "int32"), "states": ((1, 4, 3), "float32")}
    graph = Graph(inputs, {"taken": ((1, 3), "float32")}, build)
    ops = coreml.MilOps(weights_of, coreml.Scratch(tmp_path), "float32")
    coreml.save({"main": ops.function(graph)}, tmp_path / "e.mlpackage")
    found = Interpreter(tmp_path / "e.mlpackage").run({"ids": np.array([ids]), "states": states})
    np.testing.assert_array_equal(found["taken"], states[:, position])


def test_pictures_of_an_odd_size_are_those_of_pytorch(tmp_path: Path) -> None:
    model = open_model(str(bundles.build(tmp_path / "model", "sd1")), "none")
    program = Made(model, tmp_path / "programs")
    program.reference = Reference(model, 18, 0, VECTORS)  # latents of 9 x 9, so 5 x 5 below
    assert program.error("float32") < LOSS["float32"]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    export(str(bundles.build(folder / "sdxl", "sdxl")), folder / "out", "coreml", "int4", num_vectors=VECTORS)
    return folder / "out"


def test_a_bundle_is_whole_and_every_graph_computes_what_pytorch_does(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    there = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()}
    assert set(manifest["files"]) == there - {"manifest.json"}
    assert manifest["format"] == "coreml" and manifest["precision"] == "mixed" and len(manifest["graphs"]) == 5
    assert 0 < manifest["principal_directions"].pop("variance_share") < 1
    assert manifest["principal_directions"] == {"file": "principal_directions.f32", "count": 32, "width": 80}
    assert manifest["files"]["principal_directions.f32"]["bytes"] == 4 * 32 * 80 and manifest["mu_min"] > 0
    assert manifest["graphs"]["zo_loss"]["inputs"]["learned"] == {"shape": [VECTORS, 80], "dtype": "float32"}
    roles = {path: entry["role"] for path, entry in manifest["files"].items()}
    assert {(one["file"], one["function"]) for one in manifest["graphs"].values()} == {
        ("graphs.mlpackage", name) for name in manifest["graphs"]
    }
    assert roles["graphs.mlpackage/Manifest.json"] == "graph"
    assert roles["graphs.mlpackage/Data/com.apple.CoreML/weights/weight.bin"] == roles["tables.bin"] == "weights"
    assert [one["table"]["dtype"] for one in manifest["embedding"]] == ["float16", "float16"]
    interpreter, coreml_itself = verify(bundle)
    assert interpreter.missing is None and interpreter.good, str(interpreter)
    assert coreml_itself.missing is not None  # and says so


def test_every_weight_is_in_the_file_once(bundle: Path) -> None:
    names = json.loads((bundle / "manifest.json").read_text())["graphs"]
    held = {name: {w.place: w for w in Package(bundle / "graphs.mlpackage", name).weights()} for name in names}
    for graph in ("unet", "text_encoder"):  # but for zeros that an operation without a bias makes of its own
        own = [w.bytes for place, w in held[graph].items() if place not in held["zo_loss"]]
        assert sum(own) < 0.01 * sum(w.bytes for w in held[graph].values()) and max(own, default=0) <= 256
    once = {place: w.bytes for places in held.values() for place, w in places.items()}
    file = (bundle / "graphs.mlpackage/Data/com.apple.CoreML/weights/weight.bin").stat().st_size
    assert sum(once.values()) <= file <= sum(once.values()) + 128 * (len(once) + 1)  # a header each, and its alignment
    twice = sum(w.bytes for places in held.values() for w in places.values())
    assert twice > 1.6 * sum(once.values())  # what a package each would hold


def edit(bundle: Path, copy: Path, graph: str, **entries: object) -> Path:
    """A copy of a bundle, whose manifest has other entries of a graph."""
    shutil.copytree(bundle, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["graphs"][graph] |= entries
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


@pytest.mark.parametrize(
    ("function", "line"),
    [
        ("", "graphs.unet.function must be a name, and is for the format coreml only"),
        ("../unet", "graphs.unet.function must be a name, and is for the format coreml only"),
        ("u" * 65, "graphs.unet.function must be a name, and is for the format coreml only"),
        (1, "graphs.unet.function"),
        (None, "graphs.unet.function"),
        ("zo_loss", "graphs of the format coreml must be functions that differ"),
    ],
    ids=["empty", "a path", "too long", "a number", "null", "another graph's"],
)
def test_a_function_that_cannot_be_is_refused(function: object, line: str, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeSdkError, match=rf"^[^\n]*{re.escape(line)}[^\n]*export$"):
        Bundle.open(edit(bundle, tmp_path / "copy", "unet", function=function))


def test_a_function_that_the_package_lacks_is_one_line(bundle: Path, tmp_path: Path) -> None:
    line = r"^[^\n]*has no function denoiser; it has text_encoder, unet, vae_decoder, vae_encoder, zo_loss$"
    with pytest.raises(EdgeSdkError, match=line):
        verify(edit(bundle, tmp_path / "copy", "unet", function="denoiser"))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--format", "coreml", "--num_vectors", "0"), "num_vectors is 0; it must be from 1 to 64"),
        (("--precision", "float32"), "precision is for format coreml only; leave it out for onnx"),
        (("--num_vectors", "2"), "num_vectors is for format coreml only; leave it out for onnx"),
    ],
    ids=["no vectors", "precision of onnx", "vectors of onnx"],
)
def test_what_cannot_be_is_one_line(
    arguments: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["export", "--output_dir", str(tmp_path / "out"), *arguments]) == 2
    assert capsys.readouterr().err == f"edge-sdk: error: {line}\n" and not (tmp_path / "out").exists()


def test_an_unknown_precision_is_one_line() -> None:
    with pytest.raises(EdgeSdkError, match=r"^precision is 'half'; it must be one of mixed, float32, float16$"):
        coreml.MilOps(weights_of, coreml.Scratch(Path.cwd()), "half")


QUIET = """
import sys
from pathlib import Path
from edge_sdk.export.coreml import writer as coreml
from edge_sdk.export.coreml.ops import TARGET, Function, mb
with Function({"x": mb.placeholder((1,), name="x")}, opset_version=TARGET) as function:
    function.set_outputs([mb.sin(x=function.inputs["x"], name="y")])
coreml.save({"main": function}, Path(sys.argv[1]))
"""


def test_coremltools_says_nothing_on_the_terminal(tmp_path: Path) -> None:
    arguments = [sys.executable, "-W", "ignore", "-c", QUIET, str(tmp_path / "sin.mlpackage")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout == "" and done.stderr == ""
