"""The whole method on one screen: perturb, measure, estimate, denoise, step. A generator, so the caller has control."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edge_sdk.zo.config import ZoConfig
from edge_sdk.zo.draws import Objective
from edge_sdk.zo.estimator import Estimate, estimate
from edge_sdk.zo.gauss_newton import GaussNewton, Linearization, linearize
from edge_sdk.zo.optimizer import Adam
from edge_sdk.zo.subspace import Subspace

Bound = float | Sequence[float]  # one number, or one for each part of a vector


class NonFiniteLossError(ArithmeticError):
    """The loss was not finite many times in a row; the state still holds the last good token."""


@dataclass
class State:
    """The whole state of a run. Changed in place, and only when a step is complete."""

    config: ZoConfig
    seed: int
    embedding: np.ndarray  # (K, D) float32, the master token
    adam: Adam
    subspace: Subspace
    newton: GaussNewton
    average_sum: np.ndarray  # (K, D) float64, over the tail
    average_count: int = 0
    step: int = 0
    forwards: int = 0
    seconds: float = 0.0
    bad_steps: int = 0  # in a row
    mu_min: float = float("nan")  # the floor of mu that was measured before the run; NaN if none was

    @classmethod
    def start(
        cls,
        config: ZoConfig,
        seed: int,
        embedding: np.ndarray,
        mu_min: float = float("nan"),
        basis: np.ndarray | None = None,
    ) -> "State":
        """A fresh run from an initial token (K, D).

        Args:
            basis: (R, K, D) float32, the directions of ``gauss_newton``, at least ``zo_samples`` of them.
        """
        token = np.array(embedding, np.float32)
        directions = np.zeros((0, *token.shape), np.float32)
        if config.optimizer == "gauss_newton":
            if basis is None or basis.shape[1:] != token.shape or len(basis) < config.zo_samples:
                raise ValueError(f"gauss_newton needs {config.zo_samples} directions of shape {token.shape} or more")
            directions = basis
        return cls(
            config,
            seed,
            token,
            Adam(config, token.shape),
            Subspace(token.size, config.subspace_buffer, config.subspace_threshold),
            GaussNewton(config, directions),
            np.zeros(token.shape),
            mu_min=mu_min,
        )

    @property
    def result(self) -> np.ndarray:
        """The token to use, (K, D) float32: the tail average once there is one, else the current token."""
        if self.average_count:
            return (self.average_sum / self.average_count).astype(np.float32)
        return self.embedding


@dataclass(frozen=True)
class Step:
    """One finished step."""

    step: int  # from 1
    steps: int  # of the whole run
    loss: float  # mean over the draws of this step; NaN if the step was skipped
    embedding: npt.NDArray[np.float32] = field(repr=False)  # (K, D), the token to use if the run ended now
    forwards: int = 0  # single-row evaluations since the start of the run
    seconds: float = 0.0  # time since the start of the run, resumed parts included
    eta_s: float = 0.0  # expected seconds to the last step
    grad_norm: float = 0.0  # after the projection, or in the directions of Gauss-Newton
    removed: int = 0  # directions projected out
    skipped: bool = False  # a loss was not finite: the token did not change
    clamped: bool = False  # the norm was brought back into the vocabulary's range


def run(
    objective: Objective,
    state: State,
    norm_range: tuple[Bound, Bound] = (0.0, np.inf),
    max_batch: int = 64,
    clock: Callable[[], float] = time.monotonic,
    parts: Sequence[int] = (),
) -> Iterator[Step]:
    """Run until ``max_train_steps``. May be closed after any step and continued from ``state`` with the same result.

    Args:
        norm_range: smallest and largest Euclidean norm a vector of the token may have: the vocabulary's range.
        max_batch: rows per call of the objective.
        parts: widths of the parts of a vector that each have a norm of their own; none: the vector is one.

    Raises:
        NonFiniteLossError: after ``max_bad_steps`` steps in a row without a finite loss.
    """
    config = state.config
    pace: list[float] = []
    while state.step < config.max_train_steps:
        started = clock()
        removed = len(state.subspace.removed)
        measured = _measure(objective, state, max_batch)
        skipped, clamped, slope = not np.isfinite(measured.losses).all(), False, float("nan")
        if skipped:
            state.bad_steps += 1
        else:
            slope, clamped = _advance(state, measured, norm_range, parts)
            state.bad_steps = 0
            if state.step + 1 > config.average_from * config.max_train_steps:
                state.average_sum = state.average_sum + state.embedding
                state.average_count += 1
        state.step += 1
        state.forwards += measured.forwards
        elapsed = clock() - started
        state.seconds += elapsed
        pace = [*pace[-19:], elapsed]
        yield Step(
            step=state.step,
            steps=config.max_train_steps,
            loss=float("nan") if skipped else measured.loss,
            embedding=state.result.copy(),
            forwards=state.forwards,
            seconds=state.seconds,
            eta_s=(config.max_train_steps - state.step) * float(np.median(pace)),
            grad_norm=slope,
            removed=removed,
            skipped=skipped,
            clamped=clamped,
        )
        if state.bad_steps >= config.max_bad_steps:
            raise NonFiniteLossError(
                f"the loss was not finite {state.bad_steps} steps in a row, up to step {state.step}"
            )


def _measure(objective: Objective, state: State, max_batch: int) -> Estimate | Linearization:
    if state.config.optimizer == "gauss_newton":
        chosen = state.newton.basis[state.newton.choose()]
        return linearize(objective, state.embedding, chosen, state.config, state.seed, state.step, max_batch)
    removed = len(state.subspace.removed)
    return estimate(objective, state.embedding, state.config, state.seed, state.step, removed, max_batch)


def _advance(
    state: State, measured: Estimate | Linearization, norm_range: tuple[Bound, Bound], parts: Sequence[int]
) -> tuple[float, bool]:
    """Take a step. Returns the norm of the gradient that was used, and whether the token's norm was clamped."""
    before = state.embedding
    if isinstance(measured, Linearization):
        gradient, token = measured.slope, state.newton.update(before, measured)
    else:
        gradient = state.subspace.project(measured.gradient)
        token = state.adam.update(before, gradient, state.step)
    state.embedding, clamped = clamp_norms(token, norm_range, parts)
    if isinstance(measured, Linearization):
        state.newton.carry(before, state.embedding)
    state.subspace.push(state.embedding)
    return float(np.linalg.norm(gradient)), clamped


def clamp_norms(
    token: np.ndarray, norm_range: tuple[Bound, Bound], parts: Sequence[int] = ()
) -> tuple[np.ndarray, bool]:
    """Rescale every vector of (K, D), or part of one, whose norm is out of range; also returns whether any was."""
    pieces = np.split(token, np.cumsum(parts)[:-1].astype(int), axis=1)
    bounds = zip(*(np.broadcast_to(bound, len(pieces)) for bound in norm_range), strict=True)
    norms = [np.linalg.norm(piece.astype(np.float64), axis=1, keepdims=True) for piece in pieces]
    wanted = [np.clip(norm, low, high) for norm, (low, high) in zip(norms, bounds, strict=True)]
    if all((want == norm).all() for want, norm in zip(wanted, norms, strict=True)):
        return token, False
    factors = [want / np.maximum(norm, 1e-12) for want, norm in zip(wanted, norms, strict=True)]
    scaled = [piece * factor for piece, factor in zip(pieces, factors, strict=True)]
    return np.concatenate(scaled, axis=1).astype(np.float32), True
