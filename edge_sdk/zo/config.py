"""Settings of the zeroth-order optimizer, and the two presets."""

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from typing import Any

from edge_sdk.zo.options import option, violation

SCHEMA_VERSION = 1
OFTEN, METHOD = "often used", "method"  # groups of options, see `option`
PAIR = "timestep_range"  # the one setting of two values
SAMPLES = 32  # directions a step of the preset `fast`
OF_ADAM = {
    "learning_rate",
    "lr_schedule",
    "zo_difference",
    "zo_draws",
    "zo_normalize",
    "subspace_buffer",
    "subspace_threshold",
    "adam_beta1",
    "adam_beta2",
    "adam_eps",
}
OF_GAUSS_NEWTON = {"zo_directions", "damping", "memory", "trust_radius"}


@dataclass(frozen=True)
class ZoConfig:
    """Defaults are the paper's (ZOODiP, CVPR 2025), where it states them.

    Raises:
        ValueError: one line, for a value out of range.
    """

    optimizer: str = option(
        "adam",
        "adam on an estimated gradient, or gauss_newton on differences of the residuals",
        choices=("adam", "gauss_newton"),
    )
    max_train_steps: int = option(30_000, "updates of the token", group=OFTEN, least=1, most=10**9)
    learning_rate: float = option(5e-3, "step size of Adam", group=METHOD, above=0, below=10)
    lr_schedule: str = option(
        "constant",
        "whether the step size of Adam stays, or falls to a tenth over the run",
        group=METHOD,
        choices=("constant", "cosine"),
    )
    zo_samples: int = option(2, "directions that a step measures (n)", group=METHOD, least=1, most=4096)
    zo_directions: int = option(
        0,
        "directions that Gauss-Newton searches for each vector; 0: as many as a step measures",
        group=METHOD,
        least=0,
        most=4096,
    )
    zo_mu: float = option(
        1e-3, "length of a perturbation per standard normal coordinate (mu)", group=METHOD, above=0, below=10
    )
    zo_difference: str = option(
        "forward",
        "difference of two losses: forward shares one base loss, central has two sides",
        group=METHOD,
        choices=("forward", "central"),
    )
    zo_draws: str = option(
        "shared",
        "shared: all directions see the same draws; per_direction: each has its own",
        choices=("shared", "per_direction"),
    )
    train_batch_size: int = option(1, "draws on which a step measures each direction", group=METHOD, least=1, most=4096)
    zo_normalize: bool = option(False, "divide by sqrt((d' + n - 1) / n), as the released code does")
    subspace_buffer: int = option(
        128,
        "token values from which a subspace is made (tau); 0 switches the projection off",
        group=METHOD,
        least=2,
        most=4096,
        or_zero=True,
    )
    subspace_threshold: float = option(
        1e-3,
        "share of variance that the removed directions hold together (nu)",
        group=METHOD,
        least=0,
        below=1,
    )
    timestep_range: tuple[int, int] = option(
        (500, 900), "timesteps on which the loss is measured, LO <= t < HI", group=METHOD
    )
    adam_beta1: float = option(0.9, "decay of Adam's mean gradient", least=0, below=1)
    adam_beta2: float = option(0.999, "decay of Adam's mean square", least=0, below=1)
    # Not 1e-8: the larger value keeps small noisy gradients from becoming full steps.
    adam_eps: float = option(1e-3, "what Adam adds to the root of its mean square", above=0, most=1000)
    damping: float = option(
        0.1,
        "what Gauss-Newton adds to its matrix's diagonal, as a share of the diagonal's mean",
        group=METHOD,
        above=0,
        most=1000,
    )
    memory: float = option(1.0, "Gauss-Newton weighs step k by k to this power", least=0, most=100)
    trust_radius: float = option(
        3.0, "longest step of Gauss-Newton, in the directions' coefficients", group=METHOD, above=0, below=math.inf
    )
    average_from: float = option(
        1.0,
        "share of the steps from which the result is the mean token; 1: the result is the last token",
        group=METHOD,
        least=0,
        most=1,
    )
    max_bad_steps: int = option(
        10, "losses in a row that are not finite, after which a run gives up", least=1, most=10**9
    )

    def __post_init__(self) -> None:
        try:
            low, high = (int(end) for end in self.timestep_range)
        except (TypeError, ValueError) as error:
            raise ValueError(f"timestep_range is {self.timestep_range}; it must be two numbers") from error
        object.__setattr__(self, "timestep_range", (low, high))
        if problem := violation(self):
            raise ValueError(problem)
        if not 0 <= low < high <= 100_000:
            raise ValueError(f"timestep_range is {low} {high}; it must be LO HI with 0 <= LO < HI <= 100000")

    @property
    def forwards_per_step(self) -> int:
        """Single-row evaluations of the model a step."""
        rows = self.zo_samples * self.train_batch_size
        if self.optimizer == "gauss_newton":
            return rows + self.train_batch_size
        if self.zo_difference == "forward" and self.zo_draws == "shared":
            return rows + self.train_batch_size
        return 2 * rows

    @property
    def searched(self) -> int:
        """Gauss-Newton's directions for each vector, from which a step takes ``zo_samples``."""
        return max(self.zo_samples, self.zo_directions)

    def without_effect(self, names: Collection[str]) -> list[str]:
        """Those of some settings that this optimizer does not look at, sorted."""
        return sorted(set(names) & (OF_ADAM if self.optimizer == "gauss_newton" else OF_GAUSS_NEWTON))

    def to_dict(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **asdict(self), "timestep_range": list(self.timestep_range)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ZoConfig":
        """Raises ValueError for another schema version, an unknown key, or a value of another type or out of range."""
        given = dict(values)
        if (version := given.pop("schema_version", None)) != SCHEMA_VERSION:
            raise ValueError(f"schema_version is {version}; this version reads {SCHEMA_VERSION}")
        if unknown := sorted(set(given) - {f.name for f in fields(cls)}):
            raise ValueError(f"unknown setting {unknown[0]!r}")
        for name, value in given.items():
            default = getattr(cls, name)
            accepted = int | float if isinstance(default, float) else list | tuple if name == PAIR else type(default)
            if not isinstance(value, accepted) or isinstance(value, bool) != isinstance(default, bool):
                raise ValueError(f"{name} is {value!r:.60}; it must be of the type of {default!r}")
        if any(type(bound) is not int for bound in given.get(PAIR, ())):
            raise ValueError(f"{PAIR} holds other values than integers")
        return cls(**given)


PAPER = ZoConfig()


def fast(vocabulary_std: float, width: int) -> ZoConfig:
    """The default preset: Gauss-Newton steps in fixed directions, see `edge_sdk.zo.gauss_newton`.

    Args:
        vocabulary_std: standard deviation per dimension of the model's token embeddings. Lengths are shares of it,
            because the scale of embeddings differs between models (0.027 in the embedded model, 0.014 in Stable
            Diffusion 1.x).
        width: of a token embedding. Wider tokens need more directions, and more steps to learn along them: 32 in 40
            steps up to a width of 384 (the embedded model has 128), 64 in 80 steps from 768 on.
    """
    directions = min(2 * SAMPLES, max(SAMPLES, width // 12))
    return ZoConfig(
        optimizer="gauss_newton",
        max_train_steps=40 * directions // SAMPLES,
        zo_samples=SAMPLES,
        zo_directions=directions,
        zo_mu=0.4 * vocabulary_std,
        trust_radius=3 * vocabulary_std,
        subspace_buffer=0,
        timestep_range=(0, 1000),
    )
