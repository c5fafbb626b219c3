"""Stages of a run: what it says while it works, its time budget, pictures while it learns, and a dry run."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_sdk import EdgeSdkError, generate, load_embedding
from edge_sdk.preview import PREVIEW, VALIDATION
from edge_sdk.run_folder import run_personalization
from edge_sdk.time_budget import TimeBudget
from edge_sdk.zo import Step

LEARNED = "learned_embeds.safetensors"
QUICK: dict[str, Any] = {
    "initializer_token": "dog",
    "max_train_steps": 4,
    "zo_samples": 2,
    "eval_draws": 3,
    "preview": False,
}


@pytest.fixture(params=["model", "bundle"])
def source(request: pytest.FixtureRequest, sd1_folder: Path, bundle_of: Callable[[str, str], Path]) -> dict[str, Any]:
    """What a run is on: PyTorch or a bundle."""
    if request.param == "model":
        return {"model": str(sd1_folder)}
    return {"bundle": bundle_of("sd1", "int8")}


@pytest.fixture
def learn(source: dict[str, Any], photos: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(folder: str = "run", **options: Any) -> dict[str, Any]:
        return run_personalization(photos, tmp_path / folder, **{**source, **QUICK, **options})

    return run


class Listener:
    """Everything that a run says, in its order."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.stages: list[tuple[str, int, int]] = []
        self.steps: list[Step] = []
        self.callbacks = {"notify": self.lines.append, "on_progress": self._progress, "on_step": self._step}

    def _progress(self, stage: str, done: int, total: int) -> None:
        self.stages.append((stage, done, total))

    def _step(self, step: Step) -> None:
        self.lines.append(f"step {step.step}")
        self.steps.append(step)

    def of(self, name: str) -> list[tuple[int, int]]:
        return [(done, total) for stage, done, total in self.stages if stage == name]


def test_every_stage_is_named_with_how_much_of_it_is_done(learn: Callable[..., Any]) -> None:
    heard = Listener()
    record = learn(preview=True, max_batch=2, **heard.callbacks)
    assert heard.of("encoding photos") == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert f"the directions that are searched hold {record['variance_share']:.0%} of" in " ".join(heard.lines)
    assert max([done for done, _ in heard.of("measuring the floor of mu")], default=0) == record["mu_forwards"]
    assert heard.of("measuring the loss on held-out draws") == [(0, 3), (2, 3), (3, 3)] * 2
    drawing = heard.of(PREVIEW)
    assert [done for done, _ in drawing] == [*range(23)] and {total for _, total in drawing} == {22}
    names = list(dict.fromkeys(name for name, _, _ in heard.stages))
    assert names[:5] == [
        "loading the text encoder",
        "choosing directions",
        "loading the VAE",
        "encoding photos",
        "loading the denoiser",
    ]


def test_pictures_while_it_learns_cost_what_is_said_and_change_no_byte_of_the_token(
    learn: Callable[..., Any], source: dict[str, Any], tmp_path: Path
) -> None:
    heard = Listener()
    learn("plain")
    learn(validation_prompt="a photo of a <subject>", validation_steps=2, report_to="tensorboard", **heard.callbacks)
    assert (tmp_path / "run" / LEARNED).read_bytes() == (tmp_path / "plain" / LEARNED).read_bytes()
    files = sorted(os.listdir(tmp_path / "run" / "validation"))
    assert files == ["step-000002.png", "step-000004.png"]
    first, last = (np.asarray(Image.open(tmp_path / "run" / "validation" / name)) for name in files)
    assert (first != last).any() and min(first.shape[:2]) >= 256
    (line,) = [line for line in heard.lines if "validation prompt" in line]
    assert line.startswith("a picture of the validation prompt every 2 steps: 50 forward passes and about ")
    assert line.endswith(" s each, 2 in all") and heard.lines.index(line) < heard.lines.index("step 1")
    assert len([1 for done, total in heard.of(VALIDATION) if done == total == 26]) == 2

    learned = load_embedding(tmp_path / "run" / LEARNED)
    (drawn,) = generate("a photo of a <subject>", embeddings=[learned], **source)
    assert (np.asarray(drawn.resize(last.shape[1::-1], Image.Resampling.NEAREST)) == last).all()

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(tmp_path / "run/logs"))
    log.Reload()
    assert [event.step for event in log.Images("validation")] == [2, 4]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"validation_steps": 3}, "no --validation_prompt"),
        ({"validation_prompt": "a <subject>", "validation_steps": 0}, "validation_steps is 0"),
        ({"validation_prompt": "  "}, "validation_prompt is empty"),
    ],
    ids=["steps alone", "no steps", "no words"],
)
@pytest.mark.parametrize("source", ["model"], indirect=True)
def test_a_validation_that_cannot_be_is_refused_at_once(
    options: dict[str, Any], named: str, learn: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(EdgeSdkError, match=named):
        learn(**options)
    assert not any(tmp_path.iterdir())


def test_a_dry_run_foretells_and_writes_nothing(learn: Callable[..., Any], photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"preview": True, "validation_prompt": "a <subject>", "validation_steps": 2}
    forecast = learn(dry_run=True, **options)
    assert not any(tmp_path.iterdir())
    record = learn(**options)
    parts = forecast["forwards_of"]
    assert forecast["steps"] == record["steps"] == 4 and parts["steps"] == record["unet_forwards"]
    assert (parts["held-out losses"], parts["preview"], parts["validation"]) == (6, 40, 100)
    assert parts == record["forwards_of"] and forecast["forwards"] == record["forwards"]
    assert parts == json.loads((tmp_path / "run" / "run.json").read_text())["forwards_of"]
    assert 0 < forecast["seconds_per_forward"] < forecast["seconds"] < 600 and forecast["peak_rss_mb"] > 50
    with pytest.raises(EdgeSdkError, match=r"already holds run\.json"):
        learn(dry_run=True)


@pytest.mark.parametrize("source", ["model"], indirect=True)
def test_a_dry_run_without_pictures_counts_none(learn: Callable[..., Any]) -> None:
    parts = learn(dry_run=True)["forwards_of"]
    assert (parts["preview"], parts["validation"]) == (0, 0)


def test_a_budget_that_cannot_be_kept_is_said_before_the_first_step_which_is_saved(
    learn: Callable[..., Any], tmp_path: Path
) -> None:
    heard = Listener()
    record = learn(time_budget_s=5.0, started=time.monotonic() - 60, preview=True, **heard.callbacks)
    (line,) = [line for line in heard.lines if "cannot be kept" in line]
    assert line.startswith("the time budget of 5 s cannot be kept: at ") and "the run ends after its first step" in line
    assert heard.lines.index(line) < heard.lines.index("step 1")
    assert not heard.of(PREVIEW) and record["forwards_of"]["preview"] == 0
    assert record["steps"] == 1 and load_embedding(tmp_path / "run" / LEARNED).metadata["steps"] == "1"
    (left_out,) = [line for line in heard.lines if line.startswith("preview.png is left out")]
    assert heard.lines.index(left_out) < heard.lines.index("step 1") and not (tmp_path / "run/preview.png").exists()


def test_a_budget_that_is_ample_changes_nothing(learn: Callable[..., Any], tmp_path: Path) -> None:
    heard = Listener()
    record = learn(time_budget_s=500.0, preview=True, **heard.callbacks)
    assert record["steps"] == 4 and (tmp_path / "run/preview.png").exists()
    assert not [line for line in heard.lines if "budget" in line]


@pytest.mark.parametrize("stage", [PREVIEW, VALIDATION])
@pytest.mark.parametrize("source", ["model"], indirect=True)
def test_a_picture_that_time_runs_out_on_is_left_out_and_the_token_kept(
    stage: str, learn: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [500.0]
    monkeypatch.setattr(TimeBudget, "left", property(lambda self: left[0]))

    def spend(name: str, done: int, total: int) -> None:
        if name == stage and done == 7:
            left[0] = 0.0

    lines: list[str] = []
    options: dict[str, Any] = {"validation_prompt": "a <subject>", "validation_steps": 2} if stage == VALIDATION else {}
    record = learn(time_budget_s=500, preview=stage == PREVIEW, on_progress=spend, notify=lines.append, **options)
    assert record["steps"] == (4 if stage == PREVIEW else 2) and (tmp_path / "run" / LEARNED).exists()
    pictures = [path.name for path in (tmp_path / "run").rglob("*.png")]
    assert pictures == []
    (line,) = [line for line in lines if "left out" in line or "no time" in line]
    assert "time budget" in line


@pytest.mark.parametrize("source", ["model"], indirect=True)
def test_a_preview_that_would_take_most_of_the_time_is_left_out_for_the_steps(
    learn: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_sdk.forecast import Forecast

    monkeypatch.setattr(Forecast, "preview_s", 200.0)
    lines: list[str] = []
    assert learn(time_budget_s=300.0, preview=True, notify=lines.append)["steps"] == 4
    (line,) = [line for line in lines if "left out" in line]
    assert "it would take about 3 min" in line and not (tmp_path / "run/preview.png").exists()


def test_the_age_of_a_process_counts_from_its_start() -> None:
    program = (
        "import time; time.sleep(0.7)\n"
        "from edge_sdk.system.clock import process_start; print(time.monotonic() - process_start())"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 0.69 <= float(done.stdout) <= time.monotonic() - began + 0.02


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan")])
def test_a_budget_that_is_none_is_refused(budget: float) -> None:
    with pytest.raises(EdgeSdkError, match=r"time_budget_s is .*; it must be above 0"):
        TimeBudget(budget, 0.0)
