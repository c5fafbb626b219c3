"""What is tried of each method, one kind of setting after the other, and what of it is reported."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.lib.baselines.backprop import BackpropConfig
from benchmarks.lib.baselines.evolution import EvolutionConfig
from benchmarks.quality.configurations import BUDGET, Config
from edge_sdk.zo import PAPER, fast

Settings = dict[str, Any]
PAPER_ROWS = 3  # forward passes a step of `paper`
SHORTEST, SHORT, PRESET = 25, 50, 150  # steps of backpropagation


@dataclass(frozen=True)
class Scan:
    """Settings of a method to try.

    Attributes:
        config: the method with some settings changed.
        first: the settings to begin with.
        stages: of each, changes to the best so far; the best of them and of no change goes on.
    """

    config: Callable[[Settings], Config]
    first: Settings
    stages: tuple[tuple[Settings, ...], ...]


def paper(changes: Settings, forwards: int = BUDGET) -> Config:
    steps = forwards // PAPER_ROWS
    return Config("int8", zo=lambda std, width: replace(PAPER, max_train_steps=steps, **changes))


def backprop(steps: int) -> Callable[[Settings], Config]:
    return lambda changes: Config(backprop=BackpropConfig(steps, **changes))


def evolution(changes: Settings) -> Config:
    return Config("int8", evolution=EvolutionConfig(**changes))


SCANS = {
    f"backpropagation, {SHORTEST} steps": Scan(
        backprop(SHORTEST),
        {"learning_rate": 4e-2},
        (({"learning_rate": 5e-3}, {"learning_rate": 1e-2}, {"learning_rate": 2e-2}, {"learning_rate": 8e-2}),),
    ),
    f"backpropagation, {SHORT} steps": Scan(
        backprop(SHORT),
        {"learning_rate": 2e-2},
        (
            ({"learning_rate": 5e-3}, {"learning_rate": 1e-2}, {"learning_rate": 4e-2}),
            ({"clamp": True}, {"clamp": True, "learning_rate": 1e-2}, {"average_from": 0.7}),
        ),
    ),
    "paper": Scan(
        paper,
        {},
        (
            ({"learning_rate": 1e-3}, {"learning_rate": 2e-3}, {"learning_rate": 1e-2}, {"learning_rate": 2e-2}),
            ({"adam_eps": 1e-8},),
            ({"zo_mu": 1e-2},),
            ({"lr_schedule": "cosine"}, {"lr_schedule": "cosine", "learning_rate": 2e-2}, {"average_from": 0.7}),
        ),
    ),
    "evolution strategy": Scan(
        evolution, {"sigma": 0.5}, (({"sigma": 0.25}, {"sigma": 1.0}, {"sigma": 0.125}), ({"draws": 4},))
    ),
}


def reported(best: dict[str, Settings]) -> dict[str, Config]:
    """The rows of the report, given the best settings of each scan."""
    tuned = {f"{name}, tuned": SCANS[name].config(best[name]) for name in SCANS}
    return {
        f"backpropagation, {PRESET} steps": backprop(PRESET)({}),
        "fast": Config("int8", zo=fast),
        **tuned,
        "paper, published": paper({}),
        "paper, tuned, three times the steps": paper(best["paper"], 3 * BUDGET),
    }


def described(changes: Settings) -> str:
    """Settings in words."""
    return ", ".join(f"{name} {value}" for name, value in sorted(changes.items())) or "published"
