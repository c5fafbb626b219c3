"""Graphs for the Neural Engine: what they compute, in which layouts and types, and bundles of the target."""

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from edge_sdk.cli.main import main
from edge_sdk.errors import EdgeSdkError
from edge_sdk.export.bundle import export
from edge_sdk.export.coreml import ane
from edge_sdk.export.coreml.interpreter import Interpreter
from edge_sdk.export.coreml.neural_engine import CHUNK, NeuralEngineOps, Sequences
from edge_sdk.export.coreml.package import Package
from edge_sdk.export.coreml.scratch import Scratch
from edge_sdk.export.coreml.writer import PACKAGE, save
from edge_sdk.export.golden import GraphObjective, Reference
from edge_sdk.export.graphs import Graph
from edge_sdk.export.verify import verify
from edge_sdk.export.weights import weights_of
from edge_sdk.runtime.onnx.bundle import Bundle
from edge_sdk.runtime.pytorch.model import Model
from edge_sdk.zo import ZoConfig, calibrate_mu, lengths_below, random_directions
from tests.export import bundles

KINDS = [("pocket", "int8"), ("sd1", "int4"), ("sd2", "int8"), ("sdxl", "int4"), ("flow", "int8"), ("vega", "none")]
VECTORS, ROWS = 2, 3
EXACT, ROUNDED = 2e-3, 1e-2  # of residuals, without rounding of values (weights are float16) and with; seen: 4e-4, 4e-3


class Engine:
    """A model, and its loss graph as a program of several rows."""

    def __init__(self, model: Model, folder: Path) -> None:
        self.model = model
        self.reference = Reference(model, model.resolution(), 0, VECTORS)
        self.reference.rows = ROWS
        folder.mkdir(parents=True)
        graphs = {"zo_loss": self.reference.networks.zo_loss()}
        weights = functools.cache(lambda part: weights_of(model, part))
        ane.write(graphs, model.text_encoders, weights, folder, vectors=VECTORS, rows=ROWS)
        self.program = folder / PACKAGE

    def objective(self, **how: bool) -> GraphObjective:
        return GraphObjective(self.reference, Interpreter(self.program, **how).run)

    def error(self, **how: bool) -> float:
        """Largest difference from PyTorch's residuals, every row with a token and a draw of its own."""
        tokens = self.reference.variables(2, ROWS)
        drawn = [replace(one, image=0, timestep=50 + 400 * i) for i, one in enumerate(self.reference.draws(0))]
        wanted, found = (one.residuals(tokens, drawn) for one in (self.reference.objective(), self.objective(**how)))
        return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Engine]:
    """By family and weights."""
    folder = tmp_path_factory.mktemp("engine")

    @functools.cache
    def of(family: str, weights: str) -> Engine:
        return Engine(bundles.opened(folder, family, weights), folder / f"{family}-{weights}.program")

    return of


Engines = Callable[[str, str], Engine]


@pytest.mark.parametrize(("family", "weights"), KINDS, ids=lambda value: value)
def test_every_row_computes_what_pytorch_does(family: str, weights: str, engine: Engines) -> None:
    model = engine(family, weights)
    assert model.error(rounding=False) < EXACT
    assert 1e-6 < model.error() < ROUNDED


@pytest.mark.parametrize(("family", "weights"), [("sd2", "int8"), ("sdxl", "int4")], ids=lambda value: value)
def test_what_is_between_the_noised_latents_and_the_residual_is_float16(
    family: str, weights: str, engine: Engines
) -> None:
    package = Package(engine(family, weights).program)
    kinds = {o.name: Package.kind(o.type) for op in package.block.operations for o in op.outputs}
    wide = {
        op.type
        for op in package.block.operations
        if op.type not in ("const", "constexpr_blockwise_shift_scale") and kinds[op.outputs[0].name][1] == "float32"
    }
    known = {"gather", "mul", "add", "sub", "cast", "reduce_mean", "identity"}  # a x0 + b noise, residual, loss
    # For SDXL sizes in pixels, up to thousands, and a vector's two parts.
    of_sizes = {"reshape", "cos", "sin", "concat", "split"} if family == "sdxl" else set()
    assert wide == known | of_sizes
    products = [op for op in package.block.operations if op.type in ("conv", "einsum", "softmax", "layer_norm")]
    assert {kinds[op.outputs[0].name][1] for op in products} == {"float16"}
    assert package.outputs == {"loss": ((ROWS,), "float32"), "residual": ((ROWS, 4, 8, 8), "float32")}


def test_layouts_are_those_of_apple_s_work(engine: Engines) -> None:
    package = Package(engine("sd1", "int4").program)
    operations = [op for op in package.block.operations if op.type != "const"]
    kinds = {o.name: Package.kind(o.type) for op in operations for o in op.outputs}
    types = [op.type for op in operations]
    assert not {"linear", "matmul", "scaled_dot_product_attention"} & set(types)
    assert {len(kinds[op.outputs[0].name][0]) for op in operations if op.type in ("conv", "einsum", "softmax")} == {4}
    data = {w.name for w in package.weights() if w.role == "data"}
    assert {op.inputs["weight"].arguments[0].name for op in operations if op.type == "conv"} == data
    config = engine("sd1", "int4").reference.networks
    heads = sum(config.text[0].num_attention_heads for _ in range(config.text[0].num_hidden_layers))
    assert types.count("softmax") >= heads + 4  # one head at a time
    assert types.count("einsum") == 2 * types.count("softmax")
    moved = [op for op in operations if op.type == "transpose"]
    assert len(moved) <= 1 + types.count("layer_norm")  # keys, and the words looked up; no picture is moved


def test_rows_do_not_see_each_other(engine: Engines) -> None:
    model = engine("sd1", "int4")
    tokens = model.reference.variables(2, ROWS)
    drawn = [replace(one, image=0) for one in model.reference.draws(500)]
    together = model.objective().residuals(tokens, drawn)
    alone = np.concatenate([model.objective().residuals(tokens[[b]], [drawn[b]]) for b in range(ROWS)])
    np.testing.assert_allclose(together, alone, atol=5e-3 * np.abs(alone).max())  # float16, in another order
    assert np.abs(together - together[[1, 2, 0]]).max() > 0.1 * np.abs(together).max()


def attended(length: int, causal: bool, folder: Path) -> dict[str, np.ndarray]:
    """Attention of one head and of two, on tokens of some length."""
    tokens = {name: ((2, length, 8), "float32") for name in "qkv"}

    def build(ops: NeuralEngineOps, x: dict[str, object]) -> tuple[object, ...]:
        q, k, v = (Sequences(ops._laid(x[name])) for name in "qkv")
        return tuple(ops.attention(q, k, v, heads, causal) for heads in (1, 2))

    graph = Graph(tokens, {f"of_{heads}": ((2, length, 8), "float32") for heads in (1, 2)}, build)
    save({"main": NeuralEngineOps(weights_of, Scratch(folder)).function(graph)}, folder / "a.mlpackage")
    rng = np.random.default_rng(0)
    inputs = {name: rng.standard_normal(shape).astype(np.float32) for name, (shape, _) in tokens.items()}
    return inputs | Interpreter(folder / "a.mlpackage").run(inputs)


@pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
@pytest.mark.parametrize("length", [7, CHUNK + 3], ids=["one chunk", "two chunks"])
def test_attention_head_by_head_is_attention(length: int, causal: bool, tmp_path: Path) -> None:
    values = {name: torch.from_numpy(value) for name, value in attended(length, causal, tmp_path).items()}
    for heads in (1, 2):
        q, k, v = (values[name].reshape(2, length, heads, -1).transpose(1, 2) for name in "qkv")
        wanted = F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).reshape(2, length, 8)
        torch.testing.assert_close(values[f"of_{heads}"], wanted, atol=4e-3, rtol=4e-3)


def test_a_float32_residual_resolves_far_smaller_differences_than_rounding_leaves(engine: Engines) -> None:
    model = engine("sd2", "int8")
    config = ZoConfig(zo_mu=0.01, zo_difference="central", zo_draws="per_direction")

    def noise(**how: bool) -> float:
        token = model.reference.variable(2)
        directions = random_directions(0, 4, token.shape)
        return calibrate_mu(model.objective(**how), token, config, lengths_below(0.01), 0, directions, ROWS).noise

    exact, wide, narrow = noise(rounding=False), noise(), noise(narrow=True)
    assert 0 < exact < wide / 10 and wide < narrow  # rounding is seen, and more of it where sums round, too
    loss = model.objective().losses(model.reference.variables(2, 1), model.reference.draws(500)[:1])
    assert float(np.float16(loss[0])) != loss[0]  # it is not a float16 that was widened


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    source = str(bundles.build(folder / "sdxl", "sdxl"))
    export(source, folder / "out", target="ane", weights="int4", num_vectors=VECTORS, rows=ROWS)
    return folder / "out"


def test_a_bundle_of_the_target_is_read_and_verified(bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    assert manifest["format"] == "coreml" and manifest["precision"] == "float16"
    assert manifest["target"] == {"name": "ane", "rows": ROWS, "vectors": 2}
    assert manifest["runtime"]["coreml"]["compute_units"] == "cpuAndNeuralEngine"
    assert manifest["graphs"]["zo_loss"]["inputs"]["learned"] == {"shape": [2 * ROWS, 80], "dtype": "float32"}
    of_calls = {name: Bundle.open(bundle).rows(name) for name in manifest["graphs"]}
    assert of_calls == {"zo_loss": ROWS, "text_encoder": 2, "unet": 2, "vae_encoder": 1, "vae_decoder": 1}
    assert "mu_min" in manifest and set(manifest["presets"]) == {"fast", "paper"}  # no floor: random weights
    rows = {len(case["inputs"]["timestep"]["values"]) for case in golden(bundle) if case["graph"] == "zo_loss"}
    assert rows == {ROWS}
    interpreter, _ = verify(bundle)
    assert interpreter.good and interpreter.worst > 1e-5, str(interpreter)


def golden(bundle: Path) -> list[dict]:
    return json.loads((bundle / "golden.json").read_text())["cases"]


def test_weights_of_all_graphs_are_in_the_package_once(bundle: Path) -> None:
    names = json.loads((bundle / "manifest.json").read_text())["graphs"]
    held = {name: {w.place: w for w in Package(bundle / PACKAGE, name).weights()} for name in names}
    for graph in ("unet", "text_encoder"):
        own = [w.bytes for place, w in held[graph].items() if place not in held["zo_loss"]]
        assert sum(own) < 0.01 * sum(w.bytes for w in held[graph].values())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--format", "onnx"), "target ane is for format coreml, and format is onnx; leave out one"),
        (("--precision", "mixed"), "precision is float16 for target ane; leave it out"),
        (("--num_vectors", "0"), "num_vectors is 0; it must be from 1 to 64"),
        (("--rows", "0"), "rows is 0; it must be from 1 to 256"),
    ],
    ids=["another format", "a precision", "no vectors", "no rows"],
)
def test_what_a_target_does_not_take_is_one_line(
    arguments: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["export", "--target", "ane", "--output_dir", str(tmp_path / "out"), *arguments]) == 2
    assert capsys.readouterr().err == f"edge-sdk: error: {line}\n" and not (tmp_path / "out").exists()


def test_an_unknown_target_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(EdgeSdkError, match=r"^target is 'tpu'; it must be one of [^\n]*ane[^\n]*$"):
        export("pocket", tmp_path / "out", target="tpu")
