"""What surrounds the steps of a run, in forward passes: a twentieth of the steps where tokens are wide."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk import mu_floor, pocket
from edge_sdk.diffusion.networks.unet import UNet
from edge_sdk.errors import Cancelled
from edge_sdk.export.bundle import export
from edge_sdk.run_folder import run_personalization
from edge_sdk.runtime.onnx.session import Session
from edge_sdk.zo import fast
from tests import tiny_models

WIDE = fast(1.0, 768)  # tokens of Stable Diffusion 1.x
ALL_STEPS = WIDE.max_train_steps * WIDE.forwards_per_step
SHORT: dict[str, Any] = {"initializer_token": "dog", "max_train_steps": 1}


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build(tmp_path_factory.mktemp("wide") / "model", width=768)


@pytest.fixture(params=["model", "bundle"])
def wide(request: pytest.FixtureRequest, wide_model: Path) -> dict[str, Any]:
    """A model with tokens as wide as Stable Diffusion's, in PyTorch or as a bundle."""
    if request.param == "model":
        return {"model": str(wide_model)}
    bundle = wide_model.with_name("bundle")
    if not bundle.exists():
        export(str(wide_model), bundle)
    return {"bundle": bundle}


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every call of a denoiser from here on."""
    counted: list[int] = []
    forward, call = UNet.forward, Session.__call__

    def network(self: UNet, sample: Any, time: Any, hidden: Any, *inputs: Any, **more: Any) -> Any:
        counted.append(len(hidden))
        return forward(self, sample, time, hidden, *inputs, **more)

    def session(self: Session, **inputs: np.ndarray) -> Any:
        if self.name in ("zo_loss", "unet"):
            counted.append(len(inputs["timestep"]))
        return call(self, **inputs)

    monkeypatch.setattr(UNet, "forward", network)
    monkeypatch.setattr(Session, "__call__", session)
    return counted


def around(record: Any) -> int:
    """Forward passes beside the steps."""
    return record["forwards"] - record["unet_forwards"]


def test_at_the_true_width_a_run_is_its_steps_and_at_most_a_twentieth_more(
    wide: dict[str, Any], photos: Path, tmp_path: Path, rows: list[int]
) -> None:
    assert ALL_STEPS == 2640
    first = run_personalization(photos, tmp_path / "first", **wide, **SHORT)
    assert sum(rows) == first["forwards"] == sum(first["forwards_of"].values())
    assert first["unet_forwards"] == first["forwards_of"]["steps"] == WIDE.forwards_per_step
    assert 20 * around(first) <= ALL_STEPS and (tmp_path / "first" / "preview.png").exists()
    again = run_personalization(photos, tmp_path / "again", **wide, **SHORT)
    measured = 0 if "bundle" in wide else mu_floor.FORWARDS
    assert around(first) - around(again) == measured and again["forwards_of"]["floor of mu"] == 0
    assert again["mu_min"] == first["mu_min"]
    learned = [(tmp_path / name / "learned_embeds.safetensors").read_bytes() for name in ("first", "again")]
    assert learned[0] == learned[1]


def test_a_forecast_is_what_a_run_takes_also_where_the_floor_is_remembered(
    wide: dict[str, Any], photos: Path, tmp_path: Path
) -> None:
    for name in ("first", "again"):
        forecast = run_personalization(photos, tmp_path / name, dry_run=True, **wide, **SHORT)
        record = run_personalization(photos, tmp_path / name, **wide, **SHORT)
        assert forecast["forwards_of"] == record["forwards_of"]
        assert forecast["forwards"] == record["forwards"]


def test_the_embedded_model_keeps_its_draws_and_pictures(tmp_path: Path, rows: list[int]) -> None:
    record = run_personalization(pocket.PHOTOS, tmp_path / "run", max_train_steps=1)
    assert record["loss_draws"] == 32 and record["loss_initial"] == pytest.approx(0.1936, abs=5e-5)
    parts = record["forwards_of"]
    assert (parts["floor of mu"], parts["held-out losses"], parts["preview"]) == (24, 64, 200)
    assert sum(rows) == record["forwards"]


def test_every_loss_and_picture_on_the_way_is_counted(photos: Path, sd1_folder: Path, tmp_path: Path) -> None:
    record = run_personalization(
        photos,
        tmp_path / "run",
        str(sd1_folder),
        validation_prompt="a <subject>",
        validation_steps=2,
        preview=False,
        **SHORT | {"max_train_steps": 4, "eval_draws": 3},
    )
    parts = record["forwards_of"]
    assert (parts["held-out losses"], parts["preview"], parts["validation"]) == (6, 0, 100)
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == record


def test_a_resumed_run_counts_all_steps_and_what_it_did_beside_them_itself(
    photos: Path, sd1_folder: Path, tmp_path: Path
) -> None:
    options = SHORT | {"max_train_steps": 3, "eval_draws": 3, "preview": False}
    learn: Callable[..., Any] = lambda **more: run_personalization(photos, tmp_path, str(sd1_folder), **options, **more)  # noqa: E731
    with pytest.raises(Cancelled):
        learn(stop=lambda: True)
    parts = learn(resume_from_checkpoint="latest")["forwards_of"]
    assert parts == {"floor of mu": 0, "held-out losses": 6, "steps": 99, "preview": 0, "validation": 0}
