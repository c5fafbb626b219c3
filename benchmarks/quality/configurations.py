"""The ways to get a token that the quality benchmark compares."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.lib.baselines.backprop import BackpropConfig
from benchmarks.lib.baselines.evolution import EvolutionConfig
from benchmarks.quality import bases
from edge_sdk.zo import PAPER, ZoConfig, fast

BUDGET = 1320  # forward passes of `fast` on the embedded model
Settings = Callable[[float, int], ZoConfig]
EXECUTIONS = {
    "float": ("none", "integer"),
    "int8-integer": ("int8", "integer"),
    "int8-fused": ("int8", "fused"),
    "int4-integer": ("int4", "integer"),
}


@dataclass(frozen=True)
class Config:
    """One way to get a token; with none of ``zo``, ``backprop`` and ``evolution`` it is the initializer's.

    Attributes:
        zo: settings, given the vocabulary's standard deviation and the width of a token.
        basis: Gauss-Newton's directions.
        coordinates: Adam's variable is the coefficients of so many principal directions instead of the token.
        timesteps: how they are chosen, one of `timesteps.PLANS`; "": independently.
        activations: "16" or "difference", see `edge_sdk.quantization.difference`.
    """

    weights: str = "none"
    execution: str = "integer"
    zo: Settings | None = None
    backprop: BackpropConfig | None = None
    evolution: EvolutionConfig | None = None
    basis: bases.Basis = bases.default
    coordinates: int = 0
    timesteps: str = ""
    activations: str = "16"

    def forwards(self, std: float, width: int) -> int:
        """Single-row forward passes; for backpropagation each also has a backward pass."""
        if self.zo is not None:
            zo = self.zo(std, width)
            return zo.max_train_steps * zo.forwards_per_step
        if self.evolution is not None:
            return self.evolution.generations * self.evolution.population * self.evolution.draws
        return self.backprop.max_train_steps * self.backprop.train_batch_size if self.backprop else 0


def fast_with(**changes: Any) -> Settings:
    """`fast` with changes, at its number of forward passes if these change how many a step takes.

    It searches 32 directions unless the changes say otherwise, whatever the width.
    """

    def made(std: float, width: int) -> ZoConfig:
        settings = replace(fast(std, 0), **changes)
        return replace(settings, max_train_steps=changes.get("max_train_steps", BUDGET // settings.forwards_per_step))

    return made


def _fast_in_std(**shares: float) -> Settings:
    """`fast` with lengths given as shares of the vocabulary's standard deviation."""
    return lambda std, width: replace(fast(std, width), **{name: share * std for name, share in shares.items()})


def _adam(std: float, width: int, steps: int = BUDGET // 3, unit: float | None = None) -> ZoConfig:
    """The preset that `fast` was before: many steps of two random directions, and the mean of the last third.

    Args:
        unit: what lengths are shares of, by default the vocabulary's standard deviation.
    """
    scale = std if unit is None else unit
    return ZoConfig(
        max_train_steps=steps,
        learning_rate=0.45 * scale,
        lr_schedule="cosine",
        zo_mu=0.4 * scale,
        subspace_buffer=0,
        timestep_range=(0, 1000),
        adam_eps=1e-8,
        average_from=0.7,
    )


def _paper(steps: int, **changes: Any) -> Settings:
    return lambda std, width: replace(PAPER, max_train_steps=steps, **changes)


def _main() -> dict[str, Config]:
    out = {f"initializer-{name}": Config(w, e) for name, (w, e) in EXECUTIONS.items()}
    out["backprop-float"] = Config(backprop=BackpropConfig())
    out |= {f"fast-{name}": Config(w, e, fast) for name, (w, e) in EXECUTIONS.items()}
    return out | {f"paper-{name}": Config(w, e, _paper(BUDGET // 3)) for name, (w, e) in EXECUTIONS.items()}


MAIN = _main()
LONG = {
    "fast-float 120 steps": Config(zo=fast_with(max_train_steps=120)),
    "adam-float 4000 forwards": Config(zo=lambda std, width: _adam(std, width, 1333)),
    "paper-float 10000 steps": Config(zo=_paper(10_000)),
    "paper-int8-integer 10000 steps": Config("int8", zo=_paper(10_000)),
    "paper-int8-integer 30000 steps": Config("int8", zo=_paper(30_000)),
}
PAPER_CHANGES: dict[str, dict[str, Any]] = {
    "1320 steps": {},
    "no subspace": {"subspace_buffer": 0},
    "all timesteps": {"timestep_range": (0, 1000)},
    "neither": {"subspace_buffer": 0, "timestep_range": (0, 1000)},
    "n 1": {"zo_samples": 1},
    "n 4": {"zo_samples": 4},
    "tau 32": {"subspace_buffer": 32},
    "tau 512": {"subspace_buffer": 512},
    "nu 0.1": {"subspace_threshold": 0.1},
}
ABLATIONS = {
    "fast-float, adam": Config(zo=_adam),
    "fast-float, adam in 32 coordinates": Config(zo=lambda std, width: _adam(std, width, unit=std), coordinates=32),
    "fast-float, directions that the text encoder reads": Config(zo=fast, basis=bases.readable),
    "fast-float, directions of the 200 nearest words": Config(zo=fast, basis=bases.nearest(200)),
    "fast-float, random directions": Config(zo=fast, basis=bases.random),
    "fast-float, directions of one length": Config(zo=fast, basis=bases.one_length),
    **{f"fast-float, {n} directions": Config(zo=fast_with(zo_samples=n, zo_directions=n)) for n in (8, 16, 24, 48, 64)},
    **{f"fast-float, 32 of {n} directions a step": Config(zo=fast_with(zo_directions=n)) for n in (48, 64, 128)},
    "fast-int8-integer, 32 directions, 40 steps": Config("int8", zo=fast_with()),
    "fast-float, 80 steps": Config(zo=fast_with(max_train_steps=80)),
    **{f"fast-float, {name} timesteps": Config(zo=fast, timesteps=name) for name in ("stratified", "important")},
    "fast-float, mean of the last third": Config(zo=fast_with(average_from=0.67)),
    "fast-float, mean of the last third, 80 steps": Config(zo=fast_with(average_from=0.67, max_train_steps=80)),
    "fast-float, mean of the last third, 32 of 64 directions a step, 80 steps": Config(
        zo=fast_with(average_from=0.67, max_train_steps=80, zo_directions=64)
    ),
    **{f"fast-float, memory {m}": Config(zo=fast_with(memory=m)) for m in (0.0, 0.5, 2.0, 4.0, 100.0)},
    **{f"fast-float, damping {d}": Config(zo=fast_with(damping=d)) for d in (0.03, 0.3, 1.0)},
    **{f"fast-float, mu {m}": Config(zo=_fast_in_std(zo_mu=m)) for m in (0.1, 0.8)},
    **{f"fast-float, trust {r}": Config(zo=_fast_in_std(trust_radius=r)) for r in (1.0, 2.0, 6.0)},
    **{f"fast-float, batch {b}": Config(zo=fast_with(train_batch_size=b)) for b in (2, 4)},
    "fast-float, timesteps 500-900": Config(zo=fast_with(timestep_range=(500, 900))),
    "fast-float, timesteps 100-900": Config(zo=fast_with(timestep_range=(100, 900))),
    **{f"paper-float, {name}": Config(zo=_paper(1320, **changes)) for name, changes in PAPER_CHANGES.items()},
}
TUNING = {
    f"backprop-float, rate {rate:g}, {steps} steps": Config(backprop=BackpropConfig(steps, learning_rate=rate))
    for rate, steps in ((5e-3, 150), (2e-2, 150), (4e-2, 150), (2e-2, 75), (1e-2, 300))
}
EVOLUTION = {"evolution-int8-integer": Config("int8", evolution=EvolutionConfig(sigma=0.25))}  # best of four
NOISY = ("initializer-float", "initializer-int8-integer", "backprop-float", "fast-int8-integer", "paper-int8-integer")
NOISY += tuple(EVOLUTION)
DIFFERENCES = {
    f"fast-{weights}-difference": Config(weights, zo=fast, activations="difference") for weights in ("int8", "int4")
}
CONFIGURATIONS = MAIN | LONG | ABLATIONS | TUNING | EVOLUTION | DIFFERENCES
