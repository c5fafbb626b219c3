"""Golden runs of the optimizer on two small objectives, and checkpoints of two of them."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.system.checkpoints import save_state
from edge_sdk.zo import PAPER, Draw, NonFiniteLossError, State, ZoConfig, directions, run
from tests.zo.objectives import LeastSquares, Quadratic

SEED = 7
OBJECTIVES = {
    "quadratic": "loss = sum_i c_i (theta_i - target_i)^2 / 2 + mean(noise) + tilt * noise[0] * sum_i theta_i",
    "least_squares": "residual = matrix gap + bend matrix gap^2 + spread * noise, gap = theta - target; "
    "loss = mean(residual^2)",
}
TRAJECTORY = ZoConfig(
    max_train_steps=20,
    learning_rate=0.05,
    zo_samples=3,
    zo_mu=0.01,
    subspace_buffer=8,
    subspace_threshold=0.05,
    timestep_range=(500, 900),
)
NEWTON = ZoConfig(
    optimizer="gauss_newton",
    max_train_steps=12,
    zo_samples=6,
    zo_mu=0.05,
    trust_radius=0.8,
    subspace_buffer=0,
    timestep_range=(0, 1000),
)
STRAIGHT = np.diag(np.float32([2, 1.5, 1, 1, 0.5, 0.25]))
TURNED = np.array([[2, 2, 1], [-1, 0.5, 1], [0.25, -0.5, 0.5]], np.float32)  # orthogonal rows of lengths 3, 1.5, 0.75
FIVE_OF_SIX = np.eye(5, 6, dtype=np.float32) * np.float32(
    [[2], [1.5], [1.25], [1], [0.5]]
)  # the last is never searched


class BrokenQuadratic(Quadratic):
    """A quadratic whose loss is NaN on draws of some images."""

    def __init__(self, broken: Sequence[int], shape: tuple[int, int], tilt: float) -> None:
        super().__init__(shape, tilt)
        self.broken = broken

    def losses(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        bad = [one.image in self.broken for one in draws]
        return np.where(bad, np.nan, super().losses(embeddings, draws))


class BrokenLeastSquares(LeastSquares):
    """Least squares whose residuals are NaN on draws of some images."""

    def __init__(self, broken: Sequence[int], shape: tuple[int, int], noise: float, bend: float) -> None:
        super().__init__(shape, noise, bend)
        self.broken = broken

    def residuals(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        bad = np.array([one.image in self.broken for one in draws])
        return np.where(bad[:, None], np.nan, super().residuals(embeddings, draws))


@dataclass(frozen=True)
class Run:
    """A run as trajectory.json has it."""

    name: str
    config: ZoConfig
    shape: tuple[int, int] = (1, 6)  # K, D
    start: float = 0.0  # every coordinate of the first token
    principal: np.ndarray | None = None  # (R, D) float32; for Gauss-Newton
    spread: float = 0.5  # of the noise, of least squares
    bend: float = 0.0
    zero: bool = False  # a matrix of zeros: the loss does not depend on the token
    tilt: float = 0.1
    norm_range: tuple[Any, Any] = (0.0, 1e6)  # two numbers, or two lists with one a part
    parts: tuple[int, ...] = ()
    max_batch: int = 4
    broken_images: tuple[int, ...] = field(default=())

    @property
    def kind(self) -> str:
        return "least_squares" if self.config.optimizer == "gauss_newton" else "quadratic"

    def objective(self) -> Any:
        if self.kind == "quadratic":
            return BrokenQuadratic(self.broken_images, self.shape, self.tilt)
        objective = BrokenLeastSquares(self.broken_images, self.shape, self.spread, self.bend)
        if self.zero:
            objective.matrix *= 0
        return objective

    def state(self) -> State:
        token = np.full(self.shape, self.start, np.float32)
        basis = None
        if self.principal is not None:
            basis = directions(self.principal, self.config.zo_samples, self.shape[0])
        return State.start(self.config, SEED, token, basis=basis)

    def steps(self, state: State, objective: Any = None) -> Any:
        """The run from a state on, on a clock that ticks once a reading."""
        clock = map(float, itertools.count()).__next__
        bounds = {"norm_range": self.norm_range, "max_batch": self.max_batch, "parts": self.parts}
        return run(objective or self.objective(), state, clock=clock, **bounds)

    def described(self) -> dict[str, Any]:
        """The objective's numbers, the settings, and every step."""
        objective, state = self.objective(), self.state()
        names = ("curvature", "target") if self.kind == "quadratic" else ("matrix", "target")
        numbers = {name: getattr(objective, name).tolist() for name in names}
        numbers |= {"tilt": self.tilt} if self.kind == "quadratic" else {"spread": self.spread, "bend": self.bend}
        low, high = (np.atleast_1d(bound).tolist() for bound in self.norm_range)
        steps, ends = [], None
        loop = self.steps(state, objective)
        while True:
            chosen = state.newton.choose().tolist() if self.principal is not None else None
            try:
                step = next(loop)
            except StopIteration:
                break
            except NonFiniteLossError:
                ends = "non-finite loss"
                break
            steps.append(
                {
                    "token": state.embedding.tolist(),
                    "loss": None if step.skipped else step.loss,
                    "grad_norm": None if step.skipped else step.grad_norm,
                    "forwards": step.forwards,
                    "removed": step.removed,
                    "skipped": step.skipped,
                    "clamped": step.clamped,
                    **({} if chosen is None else {"chosen": chosen}),
                }
            )
        return {
            "name": self.name,
            "objective": self.kind,
            **numbers,
            "broken_images": list(self.broken_images),
            "images": 5,
            "prompts": 3,
            "latents_shape": [2, 2, 2],
            "seed": SEED,
            "start": np.full(self.shape, self.start).tolist(),
            **({} if self.principal is None else {"principal": self.principal.tolist()}),
            "parts": list(self.parts) or [self.shape[1]],
            "norm_range": [low, high],
            "max_batch": self.max_batch,
            "config": self.config.to_dict(),
            "steps": steps,
            "ends": ends,
            "result": state.result.tolist(),
        }


ADAM = replace(TRAJECTORY, max_train_steps=10, subspace_buffer=0)
RUNS = [
    Run("central differences", replace(ADAM, zo_difference="central", train_batch_size=2)),
    Run("draws per direction", replace(ADAM, zo_draws="per_direction", train_batch_size=2)),
    Run(
        "central differences, draws per direction, normalized, cosine, averaged",
        replace(
            ADAM,
            zo_samples=2,
            train_batch_size=2,
            zo_difference="central",
            zo_draws="per_direction",
            zo_normalize=True,
            lr_schedule="cosine",
            average_from=0.5,
            learning_rate=0.1,
        ),
        start=1.0,
        norm_range=(0.5, 2.0),
        max_batch=3,
    ),
    Run(
        "normalized while directions are removed",
        replace(TRAJECTORY, zo_normalize=True, subspace_buffer=6, subspace_threshold=0.2),
    ),
    Run("other moments", replace(ADAM, adam_beta1=0.5, adam_beta2=0.9, adam_eps=0.05)),
    Run(
        "parts with norms of their own",
        replace(ADAM, learning_rate=0.3),
        shape=(2, 6),
        start=0.5,
        parts=(2, 4),
        norm_range=([0.5, 1.25], [1.0, 1.5]),
    ),
    Run("a loss that is not finite", ADAM, broken_images=(2,)),
    Run("too many losses that are not finite", replace(ADAM, max_bad_steps=3), broken_images=(0, 1, 2, 3, 4)),
    Run("the preset paper past its first subspace", replace(PAPER, max_train_steps=140), start=0.25),
    Run(
        "Gauss-Newton: some of ten directions a step, two vectors",
        replace(NEWTON, zo_samples=4, zo_directions=5, max_train_steps=20),
        shape=(2, 6),
        principal=FIVE_OF_SIX,
        bend=0.05,
    ),
    Run(
        "Gauss-Newton: an odd number of directions a step",
        replace(NEWTON, zo_samples=3, zo_directions=5, memory=2.0),
        principal=FIVE_OF_SIX,
    ),
    Run(
        "Gauss-Newton: batch, damping, no memory, parts, averaged",
        replace(NEWTON, train_batch_size=3, damping=2.0, memory=0.0, average_from=0.6),
        shape=(2, 6),
        start=0.5,
        principal=STRAIGHT,
        parts=(2, 4),
        norm_range=([0.5, 1.0], [1.5, 2.0]),
        max_batch=5,
    ),
    Run("Gauss-Newton: a loss that is not finite", NEWTON, principal=STRAIGHT, broken_images=(2,)),
    Run("Gauss-Newton: the token makes no difference", NEWTON, principal=STRAIGHT, zero=True),
]
NEWTON_RUNS = [
    Run("", NEWTON, principal=STRAIGHT),
    Run(
        "",
        replace(NEWTON, zo_samples=5, train_batch_size=2, memory=0.5, average_from=0.5),
        (2, 3),
        principal=TURNED,
        bend=0.1,
        norm_range=(0.9, 2.25),
    ),
    Run("", replace(NEWTON, zo_samples=3, max_train_steps=15), principal=STRAIGHT),
]


def newton_trajectory(one: Run) -> dict[str, Any]:
    """A dozen steps; the second case reaches the bounds of the norm; in the last a step takes some directions."""
    described = one.described()
    kept = ("matrix", "target", "bend", "seed", "images", "prompts", "latents_shape", "principal", "config", "result")
    steps = described["steps"]
    return {
        **{name: described[name] for name in kept},
        "noise": one.spread,
        "norm_range": list(one.norm_range),
        "tokens": [step["token"] for step in steps],
        "losses": [step["loss"] for step in steps],
        "clamped": [step["clamped"] for step in steps],
    }


def trajectory() -> dict[str, Any]:
    """trajectory.json: a quadratic over two renewals of the subspace, three runs of Gauss-Newton, and all settings."""
    first = Run("", TRAJECTORY).described()
    return {
        "definition": OBJECTIVES["quadratic"],
        **{name: first[name] for name in ("curvature", "target", "tilt", "seed", "images", "prompts", "latents_shape")},
        "config": first["config"],
        "tokens": [step["token"] for step in first["steps"]],
        "gauss_newton": {
            "definition": "residual = matrix gap + bend matrix gap^2 + noise * the draw's, gap = theta - target; "
            "loss = mean(residual^2); theta starts at 0; the norm of each vector is kept in norm_range",
            "runs": [newton_trajectory(one) for one in NEWTON_RUNS],
        },
        "objectives": OBJECTIVES,
        "runs": [one.described() for one in RUNS],
    }


# checkpoints: of which run, after how many steps
CHECKPOINTS = {"state_adam.safetensors": (8, 135), "state_gauss_newton.safetensors": (11, 8)}
FINGERPRINTS = {"model": "a" * 64, "photos": "b" * 64, "token": "<m\u00fcg> from mug"}
SALT = "00112233445566778899aabbccddeeff"


def write_checkpoint(path: Path) -> State:
    """One of the checkpoints, by its file's name."""
    number, steps = CHECKPOINTS[path.name]
    one = RUNS[number]
    state = one.state()
    state.mu_min = 0.004 if one.principal is not None else float("nan")
    for _ in itertools.islice(one.steps(state), steps):
        pass
    save_state(path, state, FINGERPRINTS, SALT)
    return state


DAMAGED_STATES: list[dict[str, Any]] = [
    {"name": "cut short", "cut_to": 500},
    {"name": "empty", "cut_to": 0},
    {"name": "more than the header says", "append_hex": "00"},
    {"name": "another schema version", "replace": ['"schema_version": "3"', '"schema_version": "9"']},
    {"name": "another dtype", "replace": ['"F32"', '"F16"']},
    {"name": "an unknown setting", "replace": ['\\"max_bad_steps\\"', '\\"max_bad_stepz\\"']},
    {"name": "a setting out of range", "replace": ['\\"zo_samples\\": ', '\\"zo_samples\\":-']},
    {"name": "a number that is not finite", "last_bytes_hex": "000000000000f07f"},
    {"name": "a header beyond the end", "first_bytes_hex": "ffffffffffffff7f"},
]


def checkpoint() -> dict[str, Any]:
    """checkpoint.json."""
    return {
        "fingerprints": FINGERPRINTS,
        "salt": SALT,
        "states": [
            {"file": file, "run": RUNS[number].name, "steps": steps} for file, (number, steps) in CHECKPOINTS.items()
        ],
        "damaged": DAMAGED_STATES,
    }
