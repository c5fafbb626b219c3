"""The web runtimes, and what the page's modules share with Python: checked in Node and in a headless Chromium."""

import dataclasses
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk import EdgeSdkError
from edge_sdk.diffusion.schedule import Schedule
from edge_sdk.embedding import LearnedEmbedding, load_embedding, save_embedding
from edge_sdk.pocket import MODEL
from edge_sdk.runtime.bundle import Bundle
from edge_sdk.tokenizer import load_tokenizer
from edge_sdk.zo import ZoConfig, fast
from edge_sdk.zo.subspace import low_variance_directions
from export import web_runtimes, web_server
from export.chromium import executable
from export.web_server import WEB, missing, serving

GOLDEN = Path(__file__).parents[1] / "golden"
Bundles = Callable[[str, str], Path]

needs_runtime = pytest.mark.skipif(missing() is not None, reason=str(missing()))
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
needs_chromium = pytest.mark.skipif(executable() is None, reason="chromium is not installed")


def javascript(program: str, given: Any = None) -> Any:
    """What a module's ``answer`` is, for a program in which ``given`` is known."""
    source = f"""import {{ readFileSync }} from 'node:fs';
    const given = JSON.parse(readFileSync(0, 'utf8'));
    {program}
    console.log(JSON.stringify(answer));"""
    command = ["node", "--input-type=module", "-e", source]
    done = subprocess.run(command, cwd=WEB, input=json.dumps(given), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_node
def test_the_optimizer_in_javascript_has_the_shared_golden_vectors() -> None:
    """Bits exactly; a normal may be its float32 neighbour, as logarithm and sine may differ in their last bit."""
    command = ["node", "check_golden.mjs", str(GOLDEN)]
    done = subprocess.run(command, cwd=WEB, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["vectors"] == 69
    assert found["philox"] == found["integers"] == 0
    assert found["normals_worst_steps"] <= 1
    assert found["trajectory_worst"] < 1e-6 and found["newton_worst"] < 1e-6


@needs_node
def test_the_presets_are_pythons() -> None:
    program = """
    import { PAPER, fast } from './zo/config.js';
    const answer = [PAPER, ...given.map((width) => fast(0.02, width))];
    """
    widths = [8, 600, 768]
    wanted = [ZoConfig(), *(fast(0.02, width) for width in widths)]
    assert javascript(program, widths) == [json.loads(json.dumps(dataclasses.asdict(config))) for config in wanted]


@needs_node
def test_a_central_run_with_draws_per_direction_is_pythons() -> None:
    from edge_sdk.zo import State, run
    from tests.zo.objectives import Quadratic

    config = ZoConfig(
        max_train_steps=6, zo_samples=2, train_batch_size=2, zo_difference="central", zo_draws="per_direction",
        zo_normalize=True, lr_schedule="cosine", average_from=0.5, zo_mu=0.01, learning_rate=0.1, subspace_buffer=0,
    )  # fmt: skip
    objective = Quadratic((1, 6), tilt=0.1)
    state = State.start(config, 3, np.ones((1, 6), np.float32))
    losses = [step.loss for step in run(objective, state, (0.5, 2.0), max_batch=3)]
    program = """
    import { State, run } from './zo/loop.js';
    const objective = {
      numImages: 5, numPrompts: 3, latentsShape: [2, 2, 2], embeddingShape: [1, 6],
      losses: async (rows, draws) => rows.map((theta, b) => theta.reduce(
        (sum, x, i) => sum + 0.5 * given.curvature[i] * (x - given.target[i]) ** 2 + 0.1 * draws[b].noise[0] * x,
        draws[b].noise.reduce((sum, x) => sum + x, 0) / 8)),
    };
    const state = new State(given.config, 3, Array(6).fill(1)), losses = [];
    const how = { normRange: [[0.5], [2]], parts: [6], maxBatch: 3 };
    for await (const step of run(objective, state, how)) losses.push(step.loss);
    const answer = { losses, result: Array.from(state.result) };
    """
    curvature, target = objective.curvature[0].tolist(), objective.target[0].tolist()
    found = javascript(program, {"config": config.to_dict(), "curvature": curvature, "target": target})
    np.testing.assert_allclose(found["losses"], losses, rtol=1e-6)
    np.testing.assert_allclose(found["result"], state.result[0], atol=1e-6)


@needs_node
def test_a_run_without_enough_directions_does_not_start() -> None:
    program = """
    import { fast } from './zo/config.js';
    import { directions } from './zo/gauss_newton.js';
    import { State } from './zo/loop.js';
    const answer = [], principal = Array.from({ length: 3 }, () => new Float32Array(4));
    for (const start of [() => directions(principal, 7, 2), () => new State(fast(0.02, 4), 0, new Float32Array(4))]) {
      try { answer.push(start()); } catch (error) { answer.push(error.message); }
    }
    """
    assert javascript(program) == [
        "zo_samples is 7; there are 6 directions to choose from", "gauss_newton needs 32 directions or more; it has 0",
    ]  # fmt: skip


@needs_node
@pytest.mark.parametrize("damage", ["none", "cut", "not named"])
def test_directions_of_a_bundle_are_pythons(damage: str, copy_of: Path) -> None:
    path, manifest = copy_of / "principal_directions.f32", copy_of / "manifest.json"
    wanted = Bundle.open(copy_of).principal_directions(32)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-4])
        said(copy_of, path.name)
    if damage == "not named":
        entries = json.loads(manifest.read_text())
        del entries["principal_directions"]
        manifest.write_text(json.dumps(entries))
    program = """
    import { openBundle } from './bundle.js';
    const bundle = await openBundle(async (path) => new Uint8Array(readFileSync(`${given}/${path}`)), null);
    const answer = await bundle.principalDirections().then(
      (rows) => rows.map((row) => Array.from(row)), (error) => error.message);
    """
    found = javascript(program, str(copy_of))
    if damage == "none":
        assert wanted.shape == (32, 32) and np.array_equal(found, wanted)
    else:
        assert (
            found
            == {
                "cut": "principal_directions.f32 does not hold 32 directions of 32 numbers; make the bundle again",
                "not named": "manifest.json names no principal directions; make the bundle again",
            }[damage]
        )


@needs_node
def test_the_subspace_of_a_long_history_is_pythons() -> None:
    history = np.cumsum(np.random.default_rng(0).standard_normal((24, 40)), axis=0).astype(np.float32)
    history[:, 3] = 1.0
    program = """
    import { lowVarianceDirections } from './zo/subspace.js';
    const answer = lowVarianceDirections(given, 0.02).map((row) => Array.from(row));
    """
    found, wanted = np.array(javascript(program, history.tolist())), low_variance_directions(history, 0.02)
    assert len(wanted) > 3 and found.shape == wanted.shape
    np.testing.assert_allclose(found.T @ found, wanted.T @ wanted, atol=1e-6)


SENTENCES = (
    "a picture of a person", "A  Person\twith PINK curly hair, tan skin", "it's 12 people, aren't they?",
    "caf\u00e9 na\u00efve e\u0301", "\u96ea \U0001f642 !!", "", "<|endoftext|> dog <|startoftext|>", "don't'll ... #42",
)  # fmt: skip


@needs_node
@pytest.mark.parametrize("form", ["tokenizer.json", "vocab.json"])
def test_sentences_become_pythons_tokens(form: str, bundle_of: Bundles) -> None:
    folder = MODEL / "tokenizer" if form == "tokenizer.json" else bundle_of("sd1", "int8") / "tokenizer"
    assert (folder / form).exists()
    program = """
    import { Tokenizer } from './text.js';
    const path = (name) => name.replace('t', given.folder);
    const bundle = {
      has: (name) => given.form === 'vocab.json',
      json: async (name) => JSON.parse(readFileSync(path(name), 'utf8')),
      bytes: async (name) => readFileSync(path(name)),
    };
    const tokenizer = await Tokenizer.of(bundle, 't');
    const answer = given.sentences.map((text) => tokenizer.words(text));
    """
    found = javascript(program, {"folder": str(folder), "form": form, "sentences": SENTENCES})
    tokenizer = load_tokenizer(folder)
    assert found == [tokenizer.encode(text, add_special_tokens=False).ids for text in SENTENCES]


@needs_node
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_sampling_visits_pythons_timesteps(spacing: str) -> None:
    schedule = Schedule(timestep_spacing=spacing, steps_offset=1)
    program = """
    import { timesteps } from './pictures.js';
    const answer = given.counts.map((count) => timesteps(given.scheduler, count));
    """
    counts = [1, 2, 7, 25, 30, 999]
    found = javascript(program, {"counts": counts, "scheduler": dataclasses.asdict(schedule)})
    assert found == [schedule.timesteps(count) for count in counts]


@needs_node
@pytest.mark.parametrize("widths", [(6,), (2, 4)], ids=["one encoder", "two"])
def test_the_learned_file_is_pythons_to_the_byte(widths: tuple[int, ...], tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    metadata = {"steps": "7", "preset": "fast", "placeholder_token": "<m\u00fcg>"}
    save_embedding(tmp_path / "python.safetensors", LearnedEmbedding("<m\u00fcg>", vectors, metadata, widths))
    program = """
    import { learnedEmbeds } from './safetensors.js';
    const vectors = Float32Array.from(given.vectors);
    const answer = Array.from(learnedEmbeds('<m\u00fcg>', vectors, given.widths, given.metadata));
    """
    found = javascript(program, {"vectors": vectors.reshape(-1).tolist(), "widths": widths, "metadata": metadata})
    (tmp_path / "javascript.safetensors").write_bytes(bytes(found))
    assert bytes(found) == (tmp_path / "python.safetensors").read_bytes()
    assert (load_embedding(tmp_path / "javascript.safetensors").vectors == vectors).all()


# the bundle


RUNS = [
    pytest.param(web_runtimes.node, marks=[needs_node, needs_runtime], id="node"),
    pytest.param(web_runtimes.chromium, marks=[needs_chromium, needs_runtime], id="chromium"),
]


@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize("run", RUNS)
def test_the_embedded_model_computes_what_pytorch_does(run: Callable, weights: str, bundle_of: Bundles) -> None:
    found = run(bundle_of("pocket", weights))
    assert found.missing is None and "onnxruntime-web 1." in found.runtime
    assert set(found.differences) == {"zo_loss", "zo_step", "text_encoder", "unet", "vae_encoder", "vae_decoder"}
    assert found.bounds["zo_loss"] == 1e-5
    wrong = {graph: x for graph, x in found.differences.items() if not x <= found.bounds[graph]}
    assert wrong == {}
    assert all(x > 0 for x in found.differences.values()) and all(x > 0 for x in found.milliseconds.values())


@needs_node
@needs_runtime
def test_graphs_of_two_text_encoders_run(bundle_of: Bundles) -> None:
    found = web_runtimes.node(bundle_of("sdxl", "int8"))
    assert {graph for graph, x in found.differences.items() if not x <= found.bounds[graph]} == set()


@needs_node
@needs_runtime
def test_a_wrong_golden_value_is_seen(copy_of: Path) -> None:
    golden = json.loads((copy_of / "golden.json").read_text())
    case = next(one for one in golden["cases"] if one["graph"] == "zo_loss")
    case["outputs"]["loss"]["values"][0] *= 1.01
    (copy_of / "golden.json").write_text(json.dumps(golden))
    said(copy_of, "golden.json")
    found = web_runtimes.node(copy_of)
    assert found.differences["zo_loss"] == pytest.approx(0.0099, rel=0.01) and found.differences["unet"] < 1e-5


def said(bundle: Path, name: str) -> None:
    """Put a file's new size and hash into the manifest."""
    import hashlib

    manifest = json.loads((bundle / "manifest.json").read_text())
    data = (bundle / name).read_bytes()
    manifest["files"][name] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def flipped(bundle: Path) -> None:
    data = bytearray((bundle / "weights.bin").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "weights.bin").write_bytes(data)


def cut(bundle: Path) -> None:
    (bundle / "zo_loss.onnx").write_bytes((bundle / "zo_loss.onnx").read_bytes()[:-1])


def newer(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text()) | {"schema_version": 3}
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def outside(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["../golden.json"] = manifest["files"]["golden.json"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def linked(bundle: Path) -> None:
    (bundle / "weights.bin").rename(bundle.parent / "weights.bin")
    (bundle / "weights.bin").symlink_to(bundle.parent / "weights.bin")


@needs_node
@needs_runtime
@pytest.mark.parametrize(
    ("broken", "named"),
    [(flipped, "sha256"), (cut, "bytes"), (newer, "schema version 3"), (outside, "../golden.json"), (linked, "link")],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_bad_bundle_is_refused_in_one_line(broken: Callable, named: str, copy_of: Path) -> None:
    broken(copy_of)
    with pytest.raises(EdgeSdkError, match=named) as caught:
        web_runtimes.node(copy_of)
    assert "\n" not in str(caught.value) and " at " not in str(caught.value)


@pytest.mark.parametrize("run", [web_runtimes.node, web_runtimes.chromium], ids=["node", "chromium"])
def test_a_runtime_that_is_not_here_is_never_said_to_agree(
    run: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = run(tmp_path)
    assert found.missing is not None and "not installed" in found.missing and found.differences == {}


def test_without_node_modules_the_reason_says_what_to_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(web_server, "WEB", tmp_path)
    assert "npm ci" in str(web_server.missing())
    with pytest.raises(EdgeSdkError, match="npm ci"), serving(tmp_path):
        pass
