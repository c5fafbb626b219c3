"""The types of keyword arguments are those of the configs' fields."""

from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from edge_sdk import config
from edge_sdk.config import OF_A_MODEL, PersonalizeConfig
from edge_sdk.option_types import FitOptions, PersonalizeOptions, ZoOptions
from edge_sdk.zo import ZoConfig


def expected(config: type) -> dict[str, Any]:
    """A config's fields with their words as literals; None stands for the default."""
    types = {}
    for each in fields(config):
        choices = each.metadata.get("choices")
        types[each.name] = (Literal[choices] if choices else get_type_hints(config)[each.name]) | None
    return types


def test_the_optimizers_settings_are_all_there() -> None:
    given, wanted = get_type_hints(ZoOptions), expected(ZoConfig)
    assert given.pop("max_train_steps") == int | Literal["auto"] | None
    assert wanted.pop("max_train_steps") == int | None
    assert given == wanted


def test_the_settings_of_a_run_are_all_there() -> None:
    own = {name: kind for name, kind in expected(PersonalizeConfig).items() if name != "zo_options"}
    assert {name: kind for name, kind in get_type_hints(PersonalizeOptions).items() if name in own} == own
    assert get_type_hints(PersonalizeOptions).keys() == own.keys() | get_type_hints(ZoOptions).keys()
    assert get_type_hints(FitOptions).keys() == get_type_hints(PersonalizeOptions).keys() - set(OF_A_MODEL)


@pytest.mark.parametrize("name", ["Weights", "Execution", "Residency", "Device"])
def test_the_words_of_a_model_are_those_that_are_accepted(name: str) -> None:
    from edge_sdk import option_types

    literal = getattr(option_types, name)
    assert get_origin(literal) is Literal
    accepted = {"Weights": config.WEIGHTS, "Execution": config.EXECUTIONS, "Residency": config.RESIDENCIES}
    assert get_args(literal) == accepted.get(name, config.DEVICES)
