"""Models for export tests: the tiny ones of every family, one that predicts a flow; and what a step graph must do."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge_sdk.export.golden import GraphObjective
from edge_sdk.zo import State, ZoConfig, draw, run
from edge_sdk.zo.estimator import directions
from edge_sdk.zo.optimizer import learning_rate
from tests import tiny_models

FAMILIES = (*tiny_models.FAMILIES, "flow")


def build(folder: Path, family: str) -> Path:
    """A float model folder."""
    tiny_models.build(folder, "sd1" if family == "flow" else family)
    if family == "flow":
        config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
        (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    return folder


def source(folder: Path, family: str) -> str:
    """A float model by name or path, built in a folder when it is first asked for."""
    if family == "pocket":
        return "pocket"
    return str(folder / family if (folder / family).exists() else build(folder / family, family))


def check_steps(
    objective: GraphObjective, start: np.ndarray, step: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
    steps: int, removed_rows: int,
) -> None:  # fmt: skip
    """Assert that a `zo_step` graph takes the steps of the host's loop, the projection included.

    Args:
        start: (K, D), the first token.
        step: the graph.
        removed_rows: R, rows of zeros for directions that are not there.
    """
    seed = 5
    config = ZoConfig(max_train_steps=steps, zo_samples=1, subspace_buffer=3, subspace_threshold=0.5, zo_mu=0.01)
    token, state = start, State.start(config, seed, start)
    m, v, removed = np.zeros_like(start), np.zeros_like(start), np.zeros((removed_rows, start.size), np.float32)
    for i, host in enumerate(run(objective, state)):
        (drawn,) = draw(objective, seed, i, 1, config.timestep_range)
        betas = np.array([config.adam_beta1, config.adam_beta2])
        numbers = {"mu_plus": [config.zo_mu], "mu_minus": [0], "betas": betas, "correction": 1 / (1 - betas ** (i + 1)),
                   "rate": [learning_rate(config, i)], "eps": [config.adam_eps]}  # fmt: skip
        inputs = objective.inputs(token, drawn) | {name: np.array(x, np.float32) for name, x in numbers.items()}
        inputs |= {"direction": directions(config, seed, i, start.shape)[0], "m": m, "v": v, "removed": removed}
        outputs = step(inputs)
        token, m, v = (outputs[name] for name in ("next", "next_m", "next_v"))
        np.testing.assert_allclose(token, host.embedding, atol=2e-3 * np.abs(host.embedding - start).max())
        removed[: len(state.subspace.removed)] = state.subspace.removed
    assert len(state.subspace.removed) > 0 and np.abs(token - start).max() > 1e-3
