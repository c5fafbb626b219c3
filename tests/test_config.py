"""The settings of a run: ranges, unknown options, presets that fit the model's vocabulary, JSON."""

import json
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from edge_sdk.config import PRESETS, SCHEMA_VERSION, PersonalizeConfig
from edge_sdk.errors import EdgeSdkError
from edge_sdk.zo import PAPER, ZoConfig, fast


@pytest.mark.parametrize(
    "change",
    [
        {"learnable_property": "person"},
        {"weights": "int2"},
        {"execution": "float"},
        {"preset": "slow"},
        {"num_vectors": 0},
        {"max_batch": 0},
        {"eval_draws": 0},
        {"checkpointing_steps": 0},
        {"seed": -1},
        {"seed": 2**64},
        {"resolution": 0},
        {"resolution": -8},
        {"resolution": 100},
        {"placeholder_token": ""},
        {"placeholder_token": "my mug"},
        {"placeholder_token": "a\tb"},
        {"placeholder_token": "a\nb"},
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"zo_mu": -1},
        {"zo_samples": 0},
        {"subspace_buffer": 1},
        {"subspace_threshold": 1},
        {"timestep_range": (9, 9)},
        {"max_train_steps": 0},
    ],
    ids=str,
)
def test_a_value_out_of_range_is_named_in_one_line(change: dict[str, Any]) -> None:
    with pytest.raises(EdgeSdkError, match=rf"\A{next(iter(change))} is [^\n]*; it must be [^\n]+\Z"):
        PersonalizeConfig.from_options(**change)


@pytest.mark.parametrize(
    "change",
    [{"resolution": 8}, {"seed": 2**64 - 1}, {"num_vectors": 16}, {"placeholder_token": "<é>"}, {"weights": "none"}],
    ids=str,
)
def test_values_at_the_edge_are_accepted(change: dict[str, Any]) -> None:
    config = PersonalizeConfig.from_options(**change)
    assert {name: getattr(config, name) for name in change} == change


@pytest.mark.parametrize("name", ["learning_rat", "zo_options", "schema_version"])
def test_an_unknown_option_is_named_with_the_known_ones(name: str) -> None:
    with pytest.raises(EdgeSdkError, match=rf"\Aunknown option '{name}'; known are [^\n]*learning_rate[^\n]*\Z"):
        PersonalizeConfig.from_options(**{name: 1})


def test_an_option_that_is_not_given_is_the_default() -> None:
    every = {f.name: None for f in (*fields(PersonalizeConfig), *fields(ZoConfig))}
    assert PersonalizeConfig.from_options(**every) == PersonalizeConfig() == PersonalizeConfig.from_options()


def test_false_and_zero_count_as_given() -> None:
    config = PersonalizeConfig.from_options(center_crop=False, seed=0, subspace_buffer=0, preset="paper")
    assert not config.center_crop and config.zo(1.0, 8).subspace_buffer == 0 != PAPER.subspace_buffer


def test_the_paper_preset_is_the_same_for_every_model() -> None:
    config = PersonalizeConfig(preset="paper")
    assert config.zo(0.014, 768) == config.zo(0.4, 8) == PAPER


def test_the_fast_preset_scales_with_the_vocabulary() -> None:
    config = PersonalizeConfig()
    assert config.preset == "fast" and config.zo(0.027, 128) == fast(0.027, 128)
    small, large = config.zo(0.01, 128), config.zo(0.04, 128)
    assert large.trust_radius == pytest.approx(4 * small.trust_radius)
    assert large.zo_mu == pytest.approx(4 * small.zo_mu)
    assert large.max_train_steps == small.max_train_steps


@pytest.mark.parametrize(("width", "directions", "steps"), [(8, 32, 40), (128, 32, 40), (768, 64, 80), (2048, 64, 80)])
def test_a_wide_token_is_searched_in_more_directions_and_steps(width: int, directions: int, steps: int) -> None:
    zo = fast(0.02, width)
    assert (zo.zo_samples, zo.zo_directions, zo.max_train_steps) == (32, directions, steps)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_step_size_and_a_perturbation_that_are_given_are_absolute(preset: str) -> None:
    config = PersonalizeConfig.from_options(preset=preset, learning_rate=0.02, zo_mu=0.003)
    for vocabulary_std in (0.01, 0.04):
        zo = config.zo(vocabulary_std, 768)
        assert (zo.learning_rate, zo.zo_mu) == (0.02, 0.003)


def test_one_value_that_is_given_leaves_the_other_relative() -> None:
    zo = PersonalizeConfig.from_options(learning_rate=0.02).zo(0.04, 8)
    assert (zo.learning_rate, zo.zo_mu) == (0.02, fast(0.04, 8).zo_mu)


@pytest.mark.parametrize("steps", [1, 77])
def test_the_number_of_steps_is_that_of_the_optimizer(steps: int) -> None:
    config = PersonalizeConfig.from_options(max_train_steps=steps)
    assert config.zo(0.02, 128).max_train_steps == config.zo(0.02, 768).max_train_steps == steps


def test_the_settings_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        PersonalizeConfig().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    "options",
    [{}, {"preset": "paper", "timestep_range": (1, 9), "zo_mu": 0.1, "resolution": 64, "initializer_token": "dog"}],
    ids=["defaults", "everything else"],
)
def test_the_settings_survive_json(options: dict[str, Any]) -> None:
    config = PersonalizeConfig.from_options(**options)
    read = json.loads(json.dumps(config.to_dict(), allow_nan=False))
    assert read.pop("schema_version") == SCHEMA_VERSION
    again = PersonalizeConfig.from_options(**read.pop("zo_options"), **read)
    assert again.zo(0.02, 768) == config.zo(0.02, 768)
    assert again.to_dict() | {"zo_options": {}} == config.to_dict() | {"zo_options": {}}


@pytest.mark.parametrize(("side", "expected"), [(8, 16), (16, 16), (32, 8), (64, 2), (96, 1), (128, 1)])
def test_rows_a_call_fall_with_the_size_of_latents(side: int, expected: int) -> None:
    assert PersonalizeConfig().rows((4, side, side)) == expected
    assert PersonalizeConfig(max_batch=5).rows((4, side, side)) == 5
