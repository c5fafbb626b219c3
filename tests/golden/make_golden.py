"""Write the golden vectors that the Python, Kotlin and Swift twins share.

    python -m tests.golden.make_golden

The Philox answers are those published with Random123 and are typed in, not computed.
"""

import json
from pathlib import Path

import numpy as np

from edge_sdk.zo import State, ZoConfig, run
from edge_sdk.zo.noise import Stream, integers, normals
from tests.zo.objectives import Quadratic

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


def trajectory() -> dict:
    """Twenty steps on a quadratic, across two renewals of the subspace."""
    objective = Quadratic((1, 6), tilt=0.1)
    state = State.start(TRAJECTORY, 7, np.zeros((1, 6), np.float32))
    tokens = [state.embedding.tolist() for _ in run(objective, state)]
    return {
        "definition": "loss = sum_i c_i (theta_i - target_i)^2 / 2 + mean(noise) + tilt * noise[0] * sum_i theta_i",
        "curvature": objective.curvature.tolist(), "target": objective.target.tolist(), "tilt": 0.1, "seed": 7,
        "images": 5, "prompts": 3, "latents_shape": [2, 2, 2], "config": TRAJECTORY.to_dict(), "tokens": tokens,
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
