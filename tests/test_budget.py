"""A memory budget: the estimate is above what a run takes and not far, the choice is the fastest that fits."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import EdgeSdkError
from edge_sdk.integer_checkpoint import quantize
from edge_sdk.runtime.pytorch.memory_budget import BATCHES, Estimator, choose
from edge_sdk.runtime.pytorch.model import Model
from edge_sdk.system.memory import peak_rss_mb
from tests.cli.test_main import call, refused, start

BASE = 250.0  # MB that a process holds before it loads a model
UNET = {"block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768, "attention_head_dim": 8}
VAE = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2}
TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
# Peaks measured on an integer checkpoint of this size: residency, rows a call -> MB, the process before it BASE.
MEASURED = {("streamed", 1): 277 + 7, ("streamed", 2): 305 + 7, ("resident", 1): 1192 + 7, ("resident", 2): 1225 + 7}
DECODED = 867 + 7  # a picture of 512 pixels, likewise, weights streamed
ENCODED = {"streamed": 314 + 7, "resident": 680 + 7}  # a photo of 512 pixels, no other part loaded


def described(folder: Path, stored: bool = True, weights: str = "int8") -> Model:
    """Stable Diffusion 1.5 as configs, without any weights: all that an estimate may look at."""
    for part, config in (("unet", UNET), ("vae", VAE), ("text_encoder", TEXT)):
        (folder / part).mkdir(exist_ok=True)
        (folder / part / "config.json").write_text(json.dumps({"sample_size": 64, **config}))
    return Model("sd15", folder, weights, "integer", stored)


@pytest.fixture
def stages(tmp_path: Path) -> Estimator:
    return Estimator(described(tmp_path), 512, BASE)


@pytest.mark.parametrize(("residency", "rows"), MEASURED, ids=lambda value: str(value))
def test_the_estimate_is_above_the_measured_peak_by_a_quarter_at_most(
    residency: str, rows: int, stages: Estimator
) -> None:
    measured = max(MEASURED[residency, rows], ENCODED[residency] + stages.weights["text"].held(residency))
    assert measured < stages.training(residency, rows) < 1.25 * measured


def test_the_estimate_of_a_preview_is_above_what_decoding_takes(stages: Estimator) -> None:
    assert DECODED < stages.preview("streamed", 1) < 1.25 * DECODED


def test_estimating_allocates_nothing_large(tmp_path: Path) -> None:
    Estimator(described(tmp_path), 512)  # imports
    before = peak_rss_mb()
    Estimator(described(tmp_path), 512)
    with pytest.raises(EdgeSdkError):
        choose(described(tmp_path), 512, 100)
    assert peak_rss_mb() < before + 20


def test_more_budget_is_never_slower(stages: Estimator) -> None:
    chosen = [choose(stages.model, 512, mb, preview_rows=1, estimator=stages) for mb in range(450, 2600, 50)]
    speed = [(c.residency == "resident", c.max_batch) for c in chosen]
    assert speed == sorted(speed) and len(set(speed)) > 5
    assert speed[0] == (False, 2) and speed[-1] == (True, BATCHES[0])  # a photo in the VAE takes more than two rows
    assert all(c.estimate_mb <= mb for c, mb in zip(chosen, range(450, 2600, 50), strict=True))
    assert [c.preview for c in chosen][::42] == [False, True]


def test_a_preview_is_only_what_is_left(stages: Estimator) -> None:
    for mb in (500, 1450, 5000):
        plain, drawing = (choose(stages.model, 512, mb, preview_rows=rows, estimator=stages) for rows in (0, 1))
        assert (plain.residency, plain.max_batch) == (drawing.residency, drawing.max_batch) and not plain.preview
        assert drawing.preview == (stages.preview(drawing.residency, 1) <= mb)


def test_what_the_user_named_is_kept_or_refused(stages: Estimator) -> None:
    kept = choose(stages.model, 512, 3000, "streamed", 2, estimator=stages)
    assert (kept.residency, kept.max_batch) == ("streamed", 2)
    assert choose(stages.model, 512, 3000, "mapped", estimator=stages).residency == "mapped"
    with pytest.raises(EdgeSdkError, match=r"\(weights resident, 1 a call\).* or leave out --residency"):
        choose(stages.model, 512, 500, "resident", estimator=stages)
    with pytest.raises(EdgeSdkError, match=r"16 a call\).* or leave out --residency and --max_batch"):
        choose(stages.model, 512, 500, None, 16, estimator=stages)


def test_the_refusal_names_the_smallest_budget_that_works(stages: Estimator) -> None:
    with pytest.raises(EdgeSdkError, match=r"^memory_budget_mb is 200; the leanest way here \(weights str") as said:
        choose(stages.model, 512, 200, estimator=stages)
    (least,) = re.findall(r"needs an estimated (\d+) MB; give that, or a smaller --resolution$", str(said.value))
    assert choose(stages.model, 512, int(least), estimator=stages).residency == "streamed"
    with pytest.raises(EdgeSdkError):
        choose(stages.model, 512, int(least) - 1, estimator=stages)


def test_float_weights_cannot_be_streamed_and_it_is_said_what_can(tmp_path: Path) -> None:
    model = described(tmp_path, stored=False)
    with pytest.raises(EdgeSdkError, match=r"weights resident.*stream the weights of an integer checkpoint, which"):
        choose(model, 512, 600, estimator=Estimator(model, 512, BASE))


@pytest.mark.parametrize("budget", [0, -5, float("nan"), float("inf")], ids=str)
def test_a_budget_that_is_no_amount_is_refused(budget: float, stages: Estimator) -> None:
    with pytest.raises(EdgeSdkError, match=r"^memory_budget_mb is .*; it must be above 0$"):
        choose(stages.model, 512, budget, estimator=stages)


@pytest.fixture(scope="module")
def tiny(sd1_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("budget") / "int8"
    quantize(str(sd1_folder), folder)
    return folder


def command(model: Path | str, photos: Path, folder: Path, *more: object) -> list[str]:
    words = ["personalize", "--pretrained_model_name_or_path", model, "--train_data_dir", photos]
    words += ["--output_dir", folder, "--initializer_token", "dog", "--max_train_steps", 3, "--eval_draws", 2]
    words += ["--no_preview", *more]
    return [str(word) for word in words]


@pytest.mark.parametrize("kind", ["integer checkpoint", "float folder", "float weights"])
def test_a_whole_run_stays_below_its_estimate(
    kind: str, tiny: Path, sd1_folder: Path, photos: Path, tmp_path: Path
) -> None:
    model = tiny if kind == "integer checkpoint" else sd1_folder
    more = ["--weights", "none"] if kind == "float weights" else []
    process = start(*command(model, photos, tmp_path / "run", "--memory_budget_mb", 4000, *more))
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    record = json.loads((tmp_path / "run/run.json").read_text())
    (estimate,) = map(float, re.findall(r"memory budget 4000 MB: weights resident, 16 rows.* of (\d+) MB", err))
    assert record["peak_rss_mb"] < estimate < 1.25 * record["peak_rss_mb"]
    assert record["residency"] == "resident" and record["config"]["max_batch"] == 16


def test_a_run_that_does_not_fit_loads_nothing_and_leaves_nothing(
    tiny: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def loaded(*_: Any) -> None:
        raise AssertionError("a part was loaded")

    monkeypatch.setattr(Model, "load", loaded)
    said = refused(capsys, *command(tiny, photos, tmp_path / "run", "--memory_budget_mb", 60))
    assert "memory_budget_mb is 60; the leanest way here (weights" in said and "needs an estimated" in said
    assert not (tmp_path / "run").exists()


def test_a_named_residency_is_that_of_the_run(tiny: Path, photos: Path, tmp_path: Path) -> None:
    words = command(tiny, photos, tmp_path / "run", "--memory_budget_mb", 20_000, "--residency", "streamed", "--quiet")
    assert call(*words) == 0
    assert json.loads((tmp_path / "run/run.json").read_text())["residency"] == "streamed"
