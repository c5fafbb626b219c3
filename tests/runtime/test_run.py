"""The whole job on a bundle: the token of PyTorch, a complete run folder, resumed to the same bytes, without torch."""

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from edge_sdk import EdgeSdkError, Personalizer, generate, load_embedding, pocket
from edge_sdk.embedding import LearnedEmbedding
from edge_sdk.errors import Cancelled
from edge_sdk.preview import PREVIEW_STEPS
from edge_sdk.run_folder import run_personalization
from tests.cli.test_main import refused
from tests.runtime.conftest import Pairs
from tests.test_architecture import HEAVY, ROOT, WITHOUT

Bundles = Callable[[str, str], Path]
QUICK: dict[str, Any] = {
    "initializer_token": "dog",
    "max_train_steps": 8,
    "zo_samples": 2,
    "average_from": 0.5,
    "eval_draws": 2,
    "checkpointing_steps": 2,
    "preview": False,
}
LEARNED = "learned_embeds.safetensors"
TORCH = tuple(name for name in HEAVY if name != "onnxruntime")
# How far the tokens of both runtimes may be apart, as a share of the way that they went: seen 3e-4 and 3e-3, since a
# solved step answers more to the rounding of activations than a step of Adam.
WAY = {"paper": 1e-3, "fast": 1e-2}


@pytest.fixture
def learn(bundle_of: Bundles, photos: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(folder: Path = tmp_path / "run", family: str = "sd1", **options: Any) -> dict[str, Any]:
        return run_personalization(photos, folder, bundle=bundle_of(family, "int8"), **{**QUICK, **options})

    return run


def test_a_preset_is_the_manifests(copy_of: Path, photos: Path) -> None:
    manifest = json.loads((copy_of / "manifest.json").read_text())
    manifest["presets"]["fast"] |= {"max_train_steps": 3, "trust_radius": 0.01, "damping": 0.5}
    (copy_of / "manifest.json").write_text(json.dumps(manifest))
    personalizer = Personalizer.from_bundle(copy_of)
    assert len(list(personalizer.fit(photos, initializer_token="dog", damping=0.25))) == 3
    zo = personalizer.fitted().zo
    assert (zo.trust_radius, zo.damping, zo.zo_samples) == (0.01, 0.25, 32)


@pytest.mark.parametrize(
    ("family", "weights"), [("pocket", "int8"), ("sd2", "int4"), ("sdxl", "int8")], ids=lambda value: value
)
@pytest.mark.parametrize("preset", WAY)
def test_the_token_is_that_of_pytorch(preset: str, family: str, weights: str, pair_of: Pairs, photos: Path) -> None:
    own, wanted = pair_of(family, weights)
    source = pocket.PHOTOS if family == "pocket" else photos
    steps = {"paper": 20, "fast": 6}[preset]
    options: dict[str, Any] = {"max_train_steps": steps, "initializer_token": "person"}
    options |= {"preset": preset, "zo_mu": 0.01} if preset == "paper" else {}  # fast is the default
    for personalizer in (own, wanted):
        assert len(list(personalizer.fit(source, **options))) == steps
        assert personalizer.embedding.metadata["preset"] == preset
    way = np.linalg.norm(wanted.embedding.vectors - wanted.fitted().initial)
    assert way > 0
    assert np.linalg.norm(own.embedding.vectors - wanted.embedding.vectors) < WAY[preset] * way
    assert own.held_out_loss() == pytest.approx(wanted.held_out_loss(), rel=1e-4)
    assert own.embedding.metadata["model_sha256"] == wanted.embedding.metadata["model_sha256"]
    assert own.embedding.metadata["execution"] == "dequantized"


@pytest.mark.parametrize("family", ["pocket", "sdxl"])
def test_a_run_knows_what_its_directions_hold(family: str, pair_of: Pairs, photos: Path) -> None:
    for personalizer in pair_of(family, "int8"):
        source = pocket.PHOTOS if family == "pocket" else photos
        few = {"max_train_steps": 1, "initializer_token": "person"}
        personalizer.fit(source, zo_samples=8, zo_directions=8, **few)
        text = personalizer.model.load_text()
        share = text.variance_share(text.search_directions(8))
        assert personalizer.fitted().variance_share == share and 0.1 < share < 0.4
        personalizer.fit(source, preset="paper", zo_mu=0.01, **few)
        assert personalizer.fitted().variance_share is None


def test_the_searched_directions_can_be_chosen(pair_of: Pairs) -> None:
    _, personalizer = pair_of("pocket", "int8")
    bases = {}
    for basis in (None, "principal", "readable"):
        personalizer.fit(pocket.PHOTOS, max_train_steps=1, search_basis=basis)
        bases[basis] = personalizer.fitted().basis
        assert personalizer.config.to_dict()["search_basis"] == basis
    assert np.array_equal(bases[None], bases["principal"]) and not np.array_equal(bases[None], bases["readable"])
    assert np.array_equal(bases["readable"][:, 0], personalizer.model.load_text().search_directions(32, "readable"))


def test_a_short_run_lowers_the_held_out_loss(bundle_of: Bundles) -> None:
    personalizer = Personalizer.from_bundle(bundle_of("pocket", "int8"))
    steps = personalizer.fit(pocket.PHOTOS, max_train_steps=8)
    before = personalizer.held_out_loss()
    assert len(list(steps)) == 8 and personalizer.held_out_loss() < 0.75 * before


def test_a_run_leaves_the_files_of_the_contract(learn: Callable[..., Any], bundle_of: Bundles, tmp_path: Path) -> None:
    record = learn(preview=True)
    names = {path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    states = {"checkpoint-6/state.safetensors", "checkpoint-8/state.safetensors"}
    assert names == {".lock", LEARNED, "run.json", "preview.png", *states}
    assert json.loads((tmp_path / "run/run.json").read_text()) == record
    assert record["model"] == "sd1" and record["weights"] == "int8" and record["execution"] == "dequantized"
    assert record["variance_share"] == pytest.approx(1)  # its tokens have 32 numbers, and all are searched
    assert record["residency"] == "mapped" and record["device"] == "cpu" and record["steps"] == 8
    assert set(record["versions"]) == {"edge-sdk", "python", "onnxruntime", "tokenizers", "numpy"}
    assert not {"weights", "execution", "residency", "device"} & set(record["config"])
    assert (record["mu_source"], record["mu_forwards"]) == ("manifest", 0)
    assert record["loss_final"] != record["loss_initial"]
    assert load_embedding(tmp_path / "run" / LEARNED).vectors.shape == (1, 32)
    with Image.open(tmp_path / "run/preview.png") as sheet:
        assert sheet.height > 3 * 128


def test_a_preview_shows_what_generate_draws(learn: Callable[..., Any], bundle_of: Bundles, tmp_path: Path) -> None:
    learn(preview=True)
    learned = load_embedding(tmp_path / "run" / LEARNED)
    (picture,) = generate(
        "a photo of a <subject>",
        embeddings=[learned],
        bundle=bundle_of("sd1", "int8"),
        num_inference_steps=PREVIEW_STEPS,
    )
    with Image.open(tmp_path / "run/preview.png") as sheet:
        after = sheet.crop((8, sheet.height - 136, 136, sheet.height - 8)).resize((16, 16), Image.Resampling.NEAREST)
        assert (np.asarray(after) == np.asarray(picture)).all()


def test_a_stopped_run_resumes_to_the_same_bytes(learn: Callable[..., Any], tmp_path: Path) -> None:
    whole, calls = learn(tmp_path / "whole"), count(1)
    with pytest.raises(Cancelled, match="stopped after step 5, saved"):
        learn(tmp_path / "cut", stop=lambda: next(calls) == 5)
    resumed = learn(tmp_path / "cut", resume_from_checkpoint="latest")
    assert resumed["resumed"] == 5 and resumed["mu_min"] == whole["mu_min"] and resumed["mu_forwards"] == 0
    assert (tmp_path / "cut" / LEARNED).read_bytes() == (tmp_path / "whole" / LEARNED).read_bytes()


@pytest.mark.parametrize("other", ["int4", "pytorch"])
def test_a_run_is_not_resumed_on_anything_else(
    other: str, learn: Callable[..., Any], bundle_of: Bundles, photos: Path, tmp_path: Path
) -> None:
    learn()
    on = (
        {"bundle": bundle_of("sd1", "int4")}
        if other == "int4"
        else {"model": str(bundle_of("sd1", "int8").parent / "sd1")}
    )
    said = "was made with another bundle" if other == "int4" else "was made with another weights"
    with pytest.raises(EdgeSdkError, match=said):
        run_personalization(photos, tmp_path / "run", resume_from_checkpoint="latest", **on, **QUICK)


def test_a_time_budget_ends_the_run_with_what_it_has(learn: Callable[..., Any]) -> None:
    assert learn(max_train_steps=100_000, time_budget_s=3, checkpointing_steps=1000)["steps"] < 100_000


def test_a_token_for_sdxl_is_two_tensors(learn: Callable[..., Any], tmp_path: Path) -> None:
    learn(family="sdxl", num_vectors=2, use_captions=True)
    tensors = load_file(tmp_path / "run" / LEARNED)
    assert {name: tensor.shape for name, tensor in tensors.items()} == {"clip_l": (2, 32), "clip_g": (2, 48)}


@pytest.mark.parametrize(("family", "weights"), [("sd1", "int8"), ("sd2", "int4"), ("sdxl", "int8"), ("flow", "none")])
@pytest.mark.parametrize("negative", ["", "a dog"], ids=["no negative prompt", "negative prompt"])
def test_pictures_are_those_of_pytorch(negative: str, family: str, weights: str, bundle_of: Bundles) -> None:
    bundle, width = bundle_of(family, weights), 80 if family == "sdxl" else 32
    vectors = np.random.default_rng(0).standard_normal((2, width)).astype(np.float32)
    embeddings = [LearnedEmbedding("<s>", vectors, widths=(32, 48) if family == "sdxl" else ())]
    options: dict[str, Any] = {"negative_prompt": negative, "num_images": 2, "num_inference_steps": 3, "seed": 5}
    own = generate("a photo of <s>", embeddings=embeddings, bundle=bundle, **options)
    model = {"model": str(bundle.parent / family), "weights": weights, "execution": "fused"}
    wanted = generate("a photo of <s>", embeddings=embeddings, **model, **options)
    for a, b in zip(own, wanted, strict=True):
        assert np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 1
    assert np.asarray(own[0]).tobytes() != np.asarray(own[1]).tobytes()


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "another size": ({"resolution": 24}, "resolution is 24; the graphs of .* are for 16; leave it out"),
    "a model as well": ({"model": "pocket"}, "pretrained_model_name_or_path is given beside a bundle"),
    "weights": ({"weights": "int8"}, "weights is given beside a bundle, which decides it"),
    "execution": ({"execution": "fused"}, "execution is given beside a bundle"),
    "residency": ({"residency": "streamed"}, "residency is given beside a bundle"),
    "device": ({"device": "cpu"}, "device is given beside a bundle"),
    "search basis": ({"search_basis": "readable"}, "search_basis is given beside a bundle, which decides it"),
    "memory budget": ({"memory_budget_mb": 500.0}, "memory_budget_mb is given beside a bundle"),
    "no initializer": ({"initializer_token": None}, "initializer_token is not given"),
    "initializer of several tokens": ({"initializer_token": "zebra"}, "initializer_token 'zebra' makes"),
    "placeholder a word": ({"placeholder_token": "mug"}, "'mug' is already a word"),
    "timesteps beyond the model": ({"timestep_range": (0, 1001)}, "timestep_range is 0 1001; .* below 1000"),
    "vectors that do not fit": ({"num_vectors": 30}, "<subject> would be cut off"),
}


@pytest.mark.parametrize(("options", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(options: dict[str, Any], said: str, learn: Callable[..., Any]) -> None:
    with pytest.raises(EdgeSdkError, match=said) as caught:
        learn(**options)
    assert "\n" not in str(caught.value)


def test_the_command_line_refuses_what_a_bundle_decides(
    bundle_of: Bundles, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = ["--bundle", bundle_of("sd1", "int8")]
    learn = ["personalize", *bundle, "--train_data_dir", photos, "--output_dir", tmp_path / "run"]
    draw = ["generate", *bundle, "--prompt", "a dog", "--output", tmp_path / "x.png"]
    for command in (learn, draw):
        assert "weights is given beside a bundle" in refused(capsys, *command, "--weights", "int8")
        assert "pretrained_model_name" in refused(capsys, *command, "--pretrained_model_name_or_path", "pocket")
    assert "memory_budget_mb" in refused(capsys, *learn, "--memory_budget_mb", 500)
    assert "resolution is 24" in refused(capsys, *draw, "--resolution", 24)
    wide = LearnedEmbedding("<s>", np.ones((1, 48), np.float32))
    with pytest.raises(EdgeSdkError, match="<s> is 48 wide and this model takes 32"):
        generate("a <s>", embeddings=[wide], bundle=bundle_of("sd1", "int8"))
    assert not list(tmp_path.glob("x*"))


@pytest.mark.parametrize("hidden", [(), TORCH], ids=["torch is there", "torch is not there"])
def test_a_fresh_interpreter_does_the_whole_job_without_torch(
    hidden: tuple[str, ...], bundle_of: Bundles, photos: Path, tmp_path: Path
) -> None:
    bundle, run = str(bundle_of("sd1", "int8")), str(tmp_path / "run")
    program = WITHOUT.replace("{hidden!r}", repr(set(hidden))).replace(
        "sys.exit(main(sys.argv[1:]))",
        "status = main(sys.argv[1:])\nprint('loaded', *sorted({name.partition('.')[0] for name in sys.modules}))\n"
        "sys.exit(status)",
    )
    learn = ["--train_data_dir", str(photos), "--output_dir", run, "--initializer_token", "dog"]
    learn += ["--max_train_steps", "4", "--eval_draws", "2", "--a1111"]
    draw = ["--embedding", f"{run}/{LEARNED}", "--prompt", "a <subject>", "--output", f"{run}/x.png"]
    for command in (["personalize", *learn], ["generate", *draw, "--num_inference_steps", "2"]):
        line = [sys.executable, "-c", program, *command, "--bundle", bundle]
        done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        loaded = set(done.stdout.splitlines()[-1].split())
        assert "onnxruntime" in loaded and not loaded & set(TORCH)
    assert {path.name for path in Path(run).iterdir()} >= {LEARNED, "preview.png", "run.json", "x.png"}
