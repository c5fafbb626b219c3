"""Zeroth-order optimization of a token: numpy only. Its twins in other languages: ``tests/golden/twins.json``."""

from edge_sdk.zo.calibrate import MuFloor, calibrate_mu, lengths_below, random_directions
from edge_sdk.zo.checkpoint import CheckpointError, read_state, state_bytes
from edge_sdk.zo.config import PAPER, ZoConfig, fast
from edge_sdk.zo.draws import Draw, Objective, draw, evaluate, evaluate_residuals, evaluate_rows, held_out_draws, near
from edge_sdk.zo.estimator import Estimate, estimate
from edge_sdk.zo.gauss_newton import GaussNewton, directions, linearize
from edge_sdk.zo.loop import NonFiniteLossError, State, Step, run
from edge_sdk.zo.noise import Stream, integers, normals, uniforms
from edge_sdk.zo.optimizer import Adam
from edge_sdk.zo.subspace import Subspace, low_variance_directions

__all__ = [
    "PAPER",
    "Adam",
    "CheckpointError",
    "Draw",
    "Estimate",
    "GaussNewton",
    "MuFloor",
    "NonFiniteLossError",
    "Objective",
    "State",
    "Step",
    "Stream",
    "Subspace",
    "ZoConfig",
    "calibrate_mu",
    "directions",
    "draw",
    "estimate",
    "evaluate",
    "evaluate_residuals",
    "evaluate_rows",
    "fast",
    "held_out_draws",
    "integers",
    "lengths_below",
    "linearize",
    "low_variance_directions",
    "near",
    "normals",
    "random_directions",
    "read_state",
    "run",
    "state_bytes",
    "uniforms",
]
