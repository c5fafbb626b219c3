"""Settings of the zeroth-order optimizer, and the two presets."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from typing import Any

SCHEMA_VERSION = 1
PAIR = "timestep_range"  # the one setting of two values
SAMPLES = 32  # directions a step of the preset `fast`
OF_ADAM = {"learning_rate", "lr_schedule", "zo_difference", "zo_draws", "zo_normalize", "subspace_buffer",
           "subspace_threshold", "adam_beta1", "adam_beta2", "adam_eps"}  # fmt: skip
OF_GAUSS_NEWTON = {"zo_directions", "damping", "memory", "trust_radius"}


@dataclass(frozen=True)
class ZoConfig:
    """Defaults are the paper's (ZOODiP, CVPR 2025), where it states them.

    Raises:
        ValueError: one line, for a value out of range.
    """

    optimizer: str = "adam"  # "adam" on an estimated gradient, or "gauss_newton" on differences of the residuals
    max_train_steps: int = 30_000  # updates of the embedding
    learning_rate: float = 5e-3  # Adam's step size
    lr_schedule: str = "constant"  # "constant", or "cosine": falls to a tenth over max_train_steps
    zo_samples: int = 2  # n, directions a step
    zo_directions: int = 0  # Gauss-Newton: how many are searched for each vector; 0: as many as a step takes
    zo_mu: float = 1e-3  # mu, length of a perturbation per standard normal coordinate
    zo_difference: str = "forward"  # "forward" (one shared base loss) or "central"
    zo_draws: str = "shared"  # "shared": all directions see the same draws; "per_direction": each has its own
    train_batch_size: int = 1  # draws a direction is measured on
    zo_normalize: bool = False  # divide by sqrt((d' + n - 1) / n), as the released code does
    subspace_buffer: int = 128  # tau, token values per subspace; 0 switches the projection off
    subspace_threshold: float = 1e-3  # nu, share of variance that the removed directions hold together
    timestep_range: tuple[int, int] = (500, 900)  # T_L <= t < T_U
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_eps: float = 1e-3  # not 1e-8: it keeps noise from being blown up to full steps
    damping: float = 0.1  # Gauss-Newton: added to the matrix's diagonal, as a share of the mean of that
    memory: float = 1.0  # Gauss-Newton: step k weighs k**memory
    trust_radius: float = 3.0  # Gauss-Newton: the longest step, in the directions' coefficients
    average_from: float = 1.0  # the result is the mean token from this share of the steps on; 1: the last token
    max_bad_steps: int = 10  # non-finite losses in a row before giving up

    def __post_init__(self) -> None:
        low, high = self.timestep_range
        object.__setattr__(self, "timestep_range", (int(low), int(high)))
        checks = [
            ("optimizer", self.optimizer, self.optimizer in ("adam", "gauss_newton"), "adam or gauss_newton"),
            ("max_train_steps", self.max_train_steps, 1 <= self.max_train_steps <= 10**9, "from 1 to 1000000000"),
            ("learning_rate", self.learning_rate, 0 < self.learning_rate < 10, "above 0 and below 10"),
            ("lr_schedule", self.lr_schedule, self.lr_schedule in ("constant", "cosine"), "constant or cosine"),
            ("zo_samples", self.zo_samples, 1 <= self.zo_samples <= 4096, "from 1 to 4096"),
            ("zo_directions", self.zo_directions, 0 <= self.zo_directions <= 4096, "from 0 to 4096"),
            ("zo_mu", self.zo_mu, 0 < self.zo_mu < 10, "above 0 and below 10"),
            ("zo_difference", self.zo_difference, self.zo_difference in ("forward", "central"), "forward or central"),
            ("zo_draws", self.zo_draws, self.zo_draws in ("shared", "per_direction"), "shared or per_direction"),
            ("train_batch_size", self.train_batch_size, 1 <= self.train_batch_size <= 4096, "from 1 to 4096"),
            ("subspace_buffer", self.subspace_buffer, self.subspace_buffer == 0 or 2 <= self.subspace_buffer <= 4096,
             "0 (off) or from 2 to 4096"),
            ("subspace_threshold", self.subspace_threshold, 0 <= self.subspace_threshold < 1, "from 0 to below 1"),
            ("timestep_range", self.timestep_range, 0 <= low < high <= 100_000, "LO HI with 0 <= LO < HI <= 100000"),
            ("adam_beta1", self.adam_beta1, 0 <= self.adam_beta1 < 1, "from 0 to below 1"),
            ("adam_beta2", self.adam_beta2, 0 <= self.adam_beta2 < 1, "from 0 to below 1"),
            ("adam_eps", self.adam_eps, 0 < self.adam_eps <= 1000, "above 0 and at most 1000"),
            ("damping", self.damping, 0 < self.damping <= 1000, "above 0 and at most 1000"),
            ("memory", self.memory, 0 <= self.memory <= 100, "from 0 to 100"),
            ("trust_radius", self.trust_radius, 0 < self.trust_radius < float("inf"), "above 0"),
            ("average_from", self.average_from, 0 <= self.average_from <= 1, "from 0 to 1"),
            ("max_bad_steps", self.max_bad_steps, 1 <= self.max_bad_steps <= 10**9, "from 1 to 1000000000"),
        ]  # fmt: skip
        for name, value, good, accepted in checks:
            if not good:
                raise ValueError(f"{name} is {value}; it must be {accepted}")

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
    """Our best: Gauss-Newton steps in the vocabulary's principal directions, see `edge_sdk.zo.gauss_newton`.

    Args:
        vocabulary_std: standard deviation per dimension of the model's token embeddings. Lengths are shares of it,
            because its scale differs from model to model (0.027 in the embedded one, 0.014 in Stable Diffusion 1.x).
        width: of a token embedding. The wider, the more directions matter, and the more steps it takes to learn along
            them: 32 in 40 steps up to a width of 384 (the embedded model has 128), 64 in 80 steps from 768 on.
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
