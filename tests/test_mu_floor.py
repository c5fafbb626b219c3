"""A perturbation below what model and execution resolve: refused if it was asked for, raised if it is the preset's."""

from pathlib import Path
from typing import Any

import pytest

from edge_sdk import EdgeSdkError, Personalizer, mu_floor, pocket
from edge_sdk.errors import Cancelled
from edge_sdk.quantization import integer_layers, kernels
from edge_sdk.run_folder import run_personalization
from edge_sdk.zo import ZoConfig

QUICK: dict[str, Any] = {"max_train_steps": 4, "eval_draws": 2, "preview": False}


def floor_of(personalizer: Personalizer, bits: int) -> float:
    objective = personalizer.fitted().objective
    for module in (objective.unet, objective.text.model):
        for layer in integer_layers(module).values():
            layer.activation_bits = bits
    return personalizer.calibrate_mu().mu_min


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Activations of fewer levels than a byte has: a real rounding, with a floor above the preset's mu."""
    monkeypatch.setitem(kernels.LEVELS, 16, 60.0)


def test_eight_bit_activations_have_a_far_higher_floor_than_sixteen_and_fused_the_lowest() -> None:
    integer, fused = Personalizer.from_pretrained("pocket"), Personalizer.from_pretrained("pocket", execution="fused")
    for personalizer in (integer, fused):
        personalizer.fit(pocket.PHOTOS, max_train_steps=1)
    eight, sixteen, floats = floor_of(integer, 8), floor_of(integer, 16), floor_of(fused, 16)
    assert eight > 20 * sixteen and sixteen > 2 * floats
    assert 1e-3 < eight < 5e-2 and sixteen < 1e-3


def test_a_clear_floor_costs_12_forwards_and_the_record_says_it(tmp_path: Path) -> None:
    record = run_personalization(pocket.PHOTOS, tmp_path / "run", **QUICK)
    assert record["mu_forwards"] == 12 and 0 < record["mu_min"] < record["zo"]["zo_mu"] / mu_floor.CLEAR
    fast = Personalizer.from_pretrained("pocket")
    fast.fit(pocket.PHOTOS)
    assert 0.1 * fast.fitted().zo.max_train_steps * fast.fitted().zo.forwards_per_step > 108


def test_a_mu_below_the_floor_is_refused_in_one_line(coarse: None, tmp_path: Path) -> None:
    with pytest.raises(
        EdgeSdkError, match=r"^zo_mu is 0\.001; with int8 integer the rounding .* give at least"
    ) as said:
        run_personalization(pocket.PHOTOS, tmp_path / "run", zo_mu=1e-3, **QUICK)
    assert "\n" not in str(said.value) and str(said.value).endswith("or use --execution fused")
    assert [path.name for path in (tmp_path / "run").iterdir()] in ([], [".lock"])
    least = float(str(said.value).rpartition("give at least ")[2].split(",")[0])
    record = run_personalization(pocket.PHOTOS, tmp_path / "run", zo_mu=least, **QUICK)
    assert record["zo"]["zo_mu"] == least == record["mu_min"] and record["mu_forwards"] == 108


def test_the_same_mu_is_accepted_where_activations_are_fine_enough(tmp_path: Path) -> None:
    assert run_personalization(pocket.PHOTOS, tmp_path / "run", zo_mu=1e-3, **QUICK)["zo"]["zo_mu"] == 1e-3


def test_a_presets_own_mu_is_raised_and_it_is_said(coarse: None, tmp_path: Path) -> None:
    said: list[str] = []
    record = run_personalization(pocket.PHOTOS, tmp_path / "run", preset="paper", notify=said.append, **QUICK)
    assert record["zo"]["zo_mu"] == record["mu_min"] > 1e-3
    (notice,) = [line for line in said if "zo_mu" in line]
    assert notice.startswith(f"zo_mu is raised from 0.001 to {record['mu_min']:g}: with int8 integer")


def test_a_resumed_run_measures_nothing_and_ends_with_the_same_bytes(
    coarse: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"preset": "paper", **QUICK}
    whole = run_personalization(pocket.PHOTOS, tmp_path / "whole", **options)
    with pytest.raises(Cancelled):
        run_personalization(pocket.PHOTOS, tmp_path / "cut", stop=lambda: True, **options)

    def measured(*_: object) -> None:
        raise AssertionError("a resumed run measured the floor again")

    monkeypatch.setattr(mu_floor, "measure", measured)
    resumed = run_personalization(pocket.PHOTOS, tmp_path / "cut", resume_from_checkpoint="latest", **options)
    assert resumed["mu_min"] == whole["mu_min"] and resumed["zo"] == whole["zo"]
    learned = [(tmp_path / name / "learned_embeds.safetensors").read_bytes() for name in ("whole", "cut")]
    assert learned[0] == learned[1]
    with pytest.raises(EdgeSdkError, match="made with other settings"):
        run_personalization(pocket.PHOTOS, tmp_path / "cut", resume_from_checkpoint="latest", zo_mu=1e-3, **options)


@pytest.mark.parametrize(
    ("mu_min", "used"),
    [(1e-4, 1e-3), (5e-3, 5e-3), (float("inf"), 0.02), (float("nan"), 1e-3)],
    ids=["below", "above", "no length is enough", "not measured"],
)
def test_a_preset_is_raised_to_the_floor_and_never_above_the_vocabularys_deviation(mu_min: float, used: float) -> None:
    assert mu_floor.raised(ZoConfig(), mu_min, vocabulary_std=0.02).zo_mu == used


def test_where_no_length_is_enough_the_refusal_says_what_else_to_do() -> None:
    with pytest.raises(EdgeSdkError, match="over all lengths that were tried; leave it out, or use --execution fused"):
        mu_floor.refuse_below(ZoConfig(), float("inf"), "int8 integer")
    mu_floor.refuse_below(ZoConfig(), float("nan"), "int8 integer")
