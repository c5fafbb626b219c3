"""What limits a forward-only step: how much of the true gradient the directions hold, and how noisy one step's is.

    python -m benchmarks.quality.gradient [--model benchmarks/work/wide]

The true gradient is the mean of backpropagation over many draws, on float weights, at the initializer and at a learned
token. Every estimate takes 33 forward passes. Means over subjects and steps, with the standard error over subjects.
"""

import argparse
import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.lib.lockstep import View
from benchmarks.lib.report import machine, markdown, say
from benchmarks.pocket.people import held_out_people
from benchmarks.quality.bases import readable
from benchmarks.quality.learn import REFERENCES, VIEWS, Bench, Subjects
from edge_sdk.runtime.pytorch.objective import Latents, StableDiffusionObjective
from edge_sdk.system.files import write_json
from edge_sdk.zo import State, ZoConfig, directions, draw, estimate, fast, linearize, run

SUBJECTS, DRAWS, STEPS = 8, 512, 8
COUNTS = (8, 16, 32, 64)


def true_gradient(bench: Bench, view: View, token: np.ndarray, seed: int, count: int) -> np.ndarray:
    """Of the mean loss over draws, (D,) float64."""
    draws, out = [view.to_global(d) for d in draw(view, seed, 10**6, count, (0, 1000))], np.zeros(token.size)
    for start in range(0, count, 32):
        rows = torch.from_numpy(np.repeat(token[None], len(draws[start : start + 32]), axis=0)).requires_grad_()
        bench.objective.loss(rows, draws[start : start + 32]).sum().backward()
        out += rows.grad.double().sum(0).flatten().numpy()  # type: ignore[union-attr]
    return out / count


def at_half(objective: StableDiffusionObjective) -> StableDiffusionObjective:
    """The same of latents averaged two by two, as a run that begins with small latents would have it."""
    small = Latents(*(torch.nn.functional.avg_pool2d(x, 2) for x in (objective.latents.mean, objective.latents.std)))
    made = copy.copy(objective)
    made.latents, made.latents_shape = small, tuple(small.mean.shape[1:])
    return made


def share(basis: np.ndarray, vector: np.ndarray) -> float:
    """Of a vector's square, in the span of some orthogonal directions."""
    unit = basis / np.linalg.norm(basis, axis=1, keepdims=True)
    return float(((unit @ vector) ** 2).sum() / (vector @ vector))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-300))


def measure(floats: Bench, integers: Bench, subject: int, learned: bool) -> dict[str, float]:
    view = View(floats.objective, subject * VIEWS, REFERENCES)
    std, token = floats.std, floats.initial
    zo = fast(std, floats.width)
    basis = directions(floats.principal[: zo.zo_samples], zo.zo_samples, 1)
    if learned:
        state = State.start(zo, 0, token, basis=basis)
        for _ in run(view, state, floats.norms, max_batch=33):
            pass
        token = state.result
    truth = true_gradient(floats, view, token, subject, DRAWS)
    half = replace(floats, objective=at_half(floats.objective))
    small = true_gradient(half, View(half.objective, subject * VIEWS, REFERENCES), token, subject, DRAWS)
    out = {f"share in {n} directions": share(floats.principal[:n], truth) for n in COUNTS}
    out["share in 32 directions that the text encoder reads"] = share(readable(floats, 32), truth)
    out["cosine, true gradient at half the resolution"] = cosine(small, truth)
    isotropic = ZoConfig(zo_samples=32, zo_mu=0.4 * std, timestep_range=(0, 1000))

    def in_basis(bench: Bench, config: ZoConfig, step: int) -> np.ndarray:
        found = linearize(View(bench.objective, subject * VIEWS, REFERENCES), token, basis, config, 1, step, 33)
        return (found.slope / (basis.reshape(len(basis), -1) ** 2).sum(axis=1)) @ basis.reshape(len(basis), -1)

    ways: dict[str, Callable[[int], np.ndarray]] = {
        "backpropagation, 1 draw": lambda s: true_gradient(floats, view, token, 1000 + s, 1),
        "backpropagation, 8 draws": lambda s: true_gradient(floats, view, token, 1000 + s, 8),
        "32 random directions": lambda s: estimate(view, token, isotropic, 1, s, 0, 33).gradient.reshape(-1),
        "32 principal directions": lambda s: in_basis(floats, zo, s),
        "32 principal directions, int8": lambda s: in_basis(integers, zo, s),
        "32 principal directions, mu / 40, float": lambda s: in_basis(floats, replace(zo, zo_mu=zo.zo_mu / 40), s),
        "32 principal directions, mu / 40, int8": lambda s: in_basis(integers, replace(zo, zo_mu=zo.zo_mu / 40), s),
    }
    return out | {
        f"cosine, {name}": float(np.mean([cosine(way(s), truth) for s in range(STEPS)])) for name, way in ways.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/gradient.json"))
    args = parser.parse_args()
    subjects = Subjects(held_out_people()[:SUBJECTS])
    floats, integers = (Bench.build(args.model, weights, "integer", subjects) for weights in ("none", "int8"))
    command = f"python -m benchmarks.quality.gradient --model {args.model} --output {args.output}"
    record: dict[str, Any] = {"command": command, "date": date.today().isoformat(), "machine": machine()}
    for name, learned in (("initializer", False), ("learned", True)):
        record[name] = [measure(floats, integers, subject, learned) for subject in range(SUBJECTS)]
    write_json(args.output, record)
    rows = []
    for key in record["initializer"][0]:
        columns = [np.array([found[key] for found in record[name]]) for name in ("initializer", "learned")]
        rows.append([key, *(f"{c.mean():.3f} ± {c.std(ddof=1) / np.sqrt(len(c)):.3f}" for c in columns)])
    say(markdown(["of the true gradient", "at the initializer", "at a learned token"], rows), command, args.output)


if __name__ == "__main__":
    main()
