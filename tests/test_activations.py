"""``activations``: the setting from the command to the record, resumed, within a budget, and where it is refused."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import EdgeSdkError
from edge_sdk.config import PersonalizeConfig
from edge_sdk.errors import Cancelled
from edge_sdk.run_folder import run_personalization
from edge_sdk.runtime.pytorch.memory_budget import Estimator, choose
from edge_sdk.runtime.pytorch.objective import StableDiffusionObjective
from tests.test_budget import BASE, described

QUICK = {
    "initializer_token": "dog",
    "max_train_steps": 4,
    "zo_samples": 3,
    "eval_draws": 2,
    "checkpointing_steps": 2,
    "preview": False,
    "activations": "difference",
}
# Peaks measured at this size beside those of `tests/test_budget.py`: rows a call -> MB above the loaded model.
ABOVE = {2: 149, 4: 176}


@pytest.fixture
def learn(sd1_folder: Path, photos: Path, tmp_path: Path) -> Callable[..., Any]:
    def run(name: str = "run", **options: Any) -> Any:
        return run_personalization(photos, tmp_path / name, str(sd1_folder), **{**QUICK, **options})

    return run


def learned(folder: Path) -> bytes:
    return (folder / "learned_embeds.safetensors").read_bytes()


@pytest.mark.parametrize("activations", ["16", "8", "difference"])
def test_the_record_says_how_activations_were_rounded(activations: str, learn: Callable[..., Any]) -> None:
    record = learn(activations=activations)
    assert record["activations"] == record["config"]["activations"] == activations
    assert record["max_batch"] == (33 if activations == "difference" else 16)


def test_a_run_learns_another_token_with_each(learn: Callable[..., Any], tmp_path: Path) -> None:
    for activations in ("16", "8", "difference"):
        learn(activations, activations=activations)
    assert len({learned(tmp_path / name) for name in ("16", "8", "difference")}) == 3


def test_rows_of_every_step_are_beside_the_token_and_so_are_those_that_measure_the_floor_of_mu(
    learn: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    near, plain, beside = StableDiffusionObjective.near, list[int](), list[Any]()
    errors = StableDiffusionObjective.errors
    monkeypatch.setattr(StableDiffusionObjective, "near", lambda self, base: (beside.append(base), near(self, base))[1])
    monkeypatch.setattr(
        StableDiffusionObjective, "errors", lambda self, *rows: (plain.append(len(rows[0])), errors(self, *rows))[1]
    )
    record = learn()
    floors = len(beside) - record["steps"]
    assert floors in (1, 2)  # a look, or two
    assert sum(plain) == 2 * QUICK["eval_draws"]  # held-out losses alone


@pytest.mark.parametrize("residency", ["resident", "streamed"])
def test_a_resumed_run_equals_an_uninterrupted_one(
    residency: str, checkpoint_of: Callable[[str, str], Path], photos: Path, tmp_path: Path
) -> None:
    model, calls = str(checkpoint_of("sd1", "int4")), count(1)
    options = {**QUICK, "weights": "int4", "residency": residency}
    run_personalization(photos, tmp_path / "whole", model, **options)
    with pytest.raises(Cancelled):
        run_personalization(photos, tmp_path / "parts", model, stop=lambda: next(calls) == 3, **options)
    run_personalization(photos, tmp_path / "parts", model, resume_from_checkpoint="latest", **options)
    assert learned(tmp_path / "parts") == learned(tmp_path / "whole")


@pytest.mark.parametrize("change", [{"max_batch": 2}, {"max_batch": 3}], ids=str)
def test_rows_a_call_change_nothing(change: dict[str, Any], learn: Callable[..., Any], tmp_path: Path) -> None:
    learn("all")
    learn("some", **change)
    assert learned(tmp_path / "some") == learned(tmp_path / "all")


def test_a_run_is_resumed_with_the_activations_it_began_with(learn: Callable[..., Any]) -> None:
    learn()
    with pytest.raises(EdgeSdkError, match="weights") as refusal:
        learn(activations="16", resume_from_checkpoint="latest", max_train_steps=4)
    assert "\n" not in str(refusal.value)


REFUSED = {
    "no such way": ({"activations": "12"}, "one of 16, 8, difference"),
    "float activations": ({"execution": "fused"}, "activations is difference, but execution fused does not round"),
    "float weights": ({"weights": "none"}, "but execution dequantized does not round activations"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_rounds_nothing_takes_no_such_setting(name: str, learn: Callable[..., Any], tmp_path: Path) -> None:
    options, message = REFUSED[name]
    with pytest.raises(EdgeSdkError, match=message) as refusal:
        learn(**options)
    assert "\n" not in str(refusal.value)


def test_a_bundle_decides_it(bundle_of: Callable[[str, str], Path], photos: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeSdkError, match="activations is difference beside a bundle, which decides it"):
        run_personalization(photos, tmp_path / "run", bundle=bundle_of("sd1", "int8"), **QUICK)


@pytest.mark.parametrize("rows", ABOVE)
def test_an_estimate_knows_what_rows_beside_a_token_take(rows: int, tmp_path: Path) -> None:
    stages = Estimator(replace(described(tmp_path), activations="difference"), 512, BASE)
    loaded = BASE + sum(stages.weights[part].held("resident") for part in ("text", "unet"))
    measured = loaded + ABOVE[rows]
    assert measured < stages.training("resident", rows) < 1.25 * measured


def test_a_budget_takes_fewer_rows_beside_a_token_before_it_streams(tmp_path: Path) -> None:
    stages = Estimator(replace(described(tmp_path), activations="difference"), 512, BASE)
    chosen = [choose(stages.model, 512, mb, estimator=stages) for mb in range(480, 3000, 60)]
    assert [c.max_batch for c in chosen if c.residency == "resident"][-1] == 33
    assert all(c.estimate_mb <= mb for c, mb in zip(chosen, range(480, 3000, 60), strict=True))
    needed = [stages.training("resident", rows) for rows in (2, 3, 5, 9, 17, 33)]
    assert needed == sorted(needed) and len(set(needed)) == 6


def test_rows_a_call_follow_the_size_of_the_latents() -> None:
    sizes = {(4, 8, 8): 33, (4, 64, 64): 17, (4, 128, 128): 4}
    config = PersonalizeConfig(activations="difference")
    assert {shape: config.rows_beside(shape) for shape in sizes} == sizes
    assert replace(config, activations="16").rows_beside((4, 64, 64)) == config.rows((4, 64, 64)) == 2
