"""Write the golden vectors that the Python, Kotlin and Swift twins share.

    python -m tests.golden.make_golden

The Philox answers are those published with Random123 and are typed in, not computed.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge_sdk.zo import State, ZoConfig, directions, run
from edge_sdk.zo.noise import Stream, integers, normals
from tests.zo.objectives import LeastSquares, Quadratic

HERE = Path(__file__).parent
PHILOX = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0],
     [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
]  # fmt: skip
TRAJECTORY = ZoConfig(
    max_train_steps=20, learning_rate=0.05, zo_samples=3, zo_mu=0.01, subspace_buffer=8, subspace_threshold=0.05,
    timestep_range=(500, 900),
)  # fmt: skip


@dataclass(frozen=True)
class NewtonCase:
    """A run of Gauss-Newton on least squares."""

    config: ZoConfig
    shape: tuple[int, int]  # K, D
    principal: np.ndarray  # (R, D) float32, orthogonal
    bend: float
    norm_range: tuple[float, float] = (0.0, 1e6)

    def start(self) -> tuple[LeastSquares, State]:
        zo, token = self.config, np.zeros(self.shape, np.float32)
        basis = directions(self.principal, zo.zo_samples, self.shape[0])
        return LeastSquares(self.shape, noise=0.5, bend=self.bend), State.start(zo, 7, token, basis=basis)


NEWTON = ZoConfig(
    optimizer="gauss_newton", max_train_steps=12, zo_samples=6, zo_mu=0.05, trust_radius=0.8, subspace_buffer=0,
    timestep_range=(0, 1000),
)  # fmt: skip
STRAIGHT = np.diag(np.float32([2, 1.5, 1, 1, 0.5, 0.25]))
TURNED = np.array([[2, 2, 1], [-1, 0.5, 1], [0.25, -0.5, 0.5]], np.float32)  # orthogonal rows of lengths 3, 1.5, 0.75
NEWTON_CASES = [
    NewtonCase(NEWTON, (1, 6), STRAIGHT, bend=0.0),
    NewtonCase(
        replace(NEWTON, zo_samples=5, train_batch_size=2, memory=0.5, average_from=0.5), (2, 3), TURNED, bend=0.1,
        norm_range=(0.9, 2.25),
    ),
    NewtonCase(replace(NEWTON, zo_samples=3, max_train_steps=15), (1, 6), STRAIGHT, bend=0.0),
]  # fmt: skip


def newton_trajectory(case: NewtonCase) -> dict:
    """A dozen steps; the second case reaches the bounds of the norm; in the last a step takes some directions."""
    objective, state = case.start()
    steps = [(step, state.embedding.tolist()) for step in run(objective, state, case.norm_range, max_batch=4)]
    return {
        "matrix": objective.matrix.tolist(), "target": objective.target.tolist(), "noise": objective.noise,
        "bend": objective.bend, "seed": state.seed, "images": 5, "prompts": 3, "latents_shape": [2, 2, 2],
        "principal": case.principal.tolist(), "norm_range": case.norm_range, "config": case.config.to_dict(),
        "tokens": [token for _, token in steps], "losses": [step.loss for step, _ in steps],
        "clamped": [step.clamped for step, _ in steps], "result": state.result.tolist(),
    }  # fmt: skip


def trajectory() -> dict:
    """Twenty steps on a quadratic, across two renewals of the subspace."""
    objective = Quadratic((1, 6), tilt=0.1)
    state = State.start(TRAJECTORY, 7, np.zeros((1, 6), np.float32))
    tokens = [state.embedding.tolist() for _ in run(objective, state)]
    return {
        "definition": "loss = sum_i c_i (theta_i - target_i)^2 / 2 + mean(noise) + tilt * noise[0] * sum_i theta_i",
        "curvature": objective.curvature.tolist(), "target": objective.target.tolist(), "tilt": 0.1, "seed": 7,
        "images": 5, "prompts": 3, "latents_shape": [2, 2, 2], "config": TRAJECTORY.to_dict(), "tokens": tokens,
        "gauss_newton": {
            "definition": "residual = matrix gap + bend matrix gap^2 + noise * the draw's, gap = theta - target; "
            "loss = mean(residual^2); theta starts at 0; the norm of each vector is kept in norm_range",
            "runs": [newton_trajectory(case) for case in NEWTON_CASES],
        },
    }  # fmt: skip


def main() -> None:
    noise = {
        "philox4x32_10": [{"counter": c, "key": k, "output": o} for c, k, o in PHILOX],
        "normals": [
            {"seed": seed, "stream": int(stream), "step": step, "values": normals(seed, stream, step, (9,)).tolist()}
            for seed, stream, step in (
                (0, Stream.PERTURBATION, 0),
                (1, Stream.NOISE, 5),
                (2**63 + 11, Stream.NOISE, 2**31),
            )
        ],
        "integers": [
            {
                "seed": 4,
                "stream": int(Stream.TIMESTEP),
                "step": 2,
                "n": n,
                "values": integers(4, Stream.TIMESTEP, 2, 9, n).tolist(),
            }
            for n in (1, 5, 400, 2**32)
        ],
    }
    (HERE / "noise.json").write_text(json.dumps(noise, indent=1) + "\n")
    (HERE / "trajectory.json").write_text(json.dumps(trajectory(), indent=1) + "\n")


if __name__ == "__main__":
    main()
