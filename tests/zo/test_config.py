"""Settings: ranges, round trip, presets."""

import pytest

from edge_sdk.zo import PAPER, ZoConfig, fast


@pytest.mark.parametrize("preset", [PAPER, fast(0.03, 128)], ids=["paper", "fast"])
def test_settings_survive_the_round_trip(preset: ZoConfig) -> None:
    assert ZoConfig.from_dict(preset.to_dict()) == preset


def test_the_paper_preset_is_the_published_one() -> None:
    assert (PAPER.zo_samples, PAPER.zo_mu, PAPER.subspace_buffer, PAPER.subspace_threshold) == (2, 1e-3, 128, 1e-3)
    assert (PAPER.timestep_range, PAPER.adam_eps, PAPER.learning_rate) == ((500, 900), 1e-3, 5e-3)
    assert (PAPER.zo_difference, PAPER.max_train_steps, PAPER.forwards_per_step) == ("forward", 30_000, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"zo_mu": 0},
        {"zo_samples": 0},
        {"learning_rate": -1},
        {"zo_difference": "both"},
        {"timestep_range": [5, 5]},
        {"timestep_range": [-1, 5]},
        {"subspace_threshold": 1},
        {"subspace_buffer": 1},
        {"max_train_steps": 0},
        {"adam_eps": 0},
        {"average_from": 2},
        {"zo_draws": "x"},
        {"lr_schedule": "x"},
        {"train_batch_size": 0},
        {"zo_mu": float("nan")},
    ],
    ids=str,
)
def test_a_value_out_of_range_is_named(change: dict) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(change))} is .* it must be [^\n]*$"):
        ZoConfig.from_dict({**PAPER.to_dict(), **change})


@pytest.mark.parametrize("change", [{"zo_muu": 1}, {"schema_version": 2}], ids=["unknown key", "other schema"])
def test_foreign_settings_are_refused(change: dict) -> None:
    with pytest.raises(ValueError, match=r"unknown setting 'zo_muu'|schema_version is 2"):
        ZoConfig.from_dict({**PAPER.to_dict(), **change})
