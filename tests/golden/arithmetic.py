"""Golden vectors of pure arithmetic: random numbers, draws, presets, the subspace, the end of a run."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from edge_sdk import mu_floor, stopping
from edge_sdk.config import PersonalizeConfig
from edge_sdk.zo import PAPER, ZoConfig, draw, fast, held_out_draws
from edge_sdk.zo.draws import Draw
from edge_sdk.zo.estimator import directions as perturbations
from edge_sdk.zo.gauss_newton import directions as token_basis
from edge_sdk.zo.noise import Stream, integers, normals, uniforms, words
from edge_sdk.zo.subspace import low_variance_directions

# Published with Random123, typed in and not computed: counter, key, output.
PHILOX = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]
LARGE_SEED = 2**63 + 11
WIDTHS = [(0.027, 128), (0.02, 384), (0.0137, 600), (0.014, 768), (0.02, 1024), (0.01, 2048)]  # std, width


def noise() -> dict[str, Any]:
    """noise.json."""
    sequences = [(0, Stream.PERTURBATION, 0), (1, Stream.NOISE, 5), (LARGE_SEED, Stream.NOISE, 2**31)]
    return {
        "philox4x32_10": [{"counter": c, "key": k, "output": o} for c, k, o in PHILOX],
        "words": [
            {"seed": seed, "stream": int(stream), "step": step, "start": start, "values": values.tolist()}
            for (seed, stream, step), start in zip(sequences, (0, 3, 2**35 + 6), strict=True)
            for values in [words(seed, stream, step, 9, start)]
        ],
        "uniforms": [
            {"seed": 9, "stream": int(Stream.AUGMENTATION), "step": 4, "values": u.tolist()}
            for u in [uniforms(9, Stream.AUGMENTATION, 4, 9)]
        ],
        "normals": [
            {"seed": seed, "stream": int(stream), "step": step, "values": normals(seed, stream, step, (9,)).tolist()}
            for seed, stream, step in sequences
        ],
        "normals_from": [
            {"seed": 1, "stream": int(Stream.NOISE), "step": 5, "start": start, "values": values.tolist()}
            for start in (1, 2, 7)
            for values in [normals(1, Stream.NOISE, 5, (4,), start)]
        ],
        "integers": [
            {"seed": 4, "stream": int(Stream.TIMESTEP), "step": 2, "n": n, "values": values.tolist()}
            for n in (1, 5, 400, 2**32)
            for values in [integers(4, Stream.TIMESTEP, 2, 9, n)]
        ],
    }


def draws() -> dict[str, Any]:
    """draws.json."""
    cases = [
        {"seed": 7, "step": 0, "count": 1, "timestep_range": [500, 900], "images": 5, "prompts": 3},
        {"seed": 7, "step": 3, "count": 4, "timestep_range": [0, 1000], "images": 5, "prompts": 27},
        {"seed": 2**53, "step": 2**31 - 1, "count": 2, "timestep_range": [10, 11], "images": 1, "prompts": 1},
    ]
    held_out = [
        {"seed": 7, "count": 8, "timestep_range": [0, 1000], "images": 3, "prompts": 27},
        {"seed": 0, "count": 5, "timestep_range": [500, 900], "images": 5, "prompts": 1},
    ]
    shape = [2, 2, 2]
    for case in cases:
        case["draws"] = [_draw(d) for d in draw(_sizes(case, shape), *_arguments(case, "seed", "step", "count"))]
    for case in held_out:
        case["draws"] = [_draw(d) for d in held_out_draws(_sizes(case, shape), *_arguments(case, "seed", "count"))]
    principal = np.array([[2, 2, 1], [-1, 0.5, 1]], np.float32)
    config = ZoConfig(zo_samples=3)
    return {
        "latents_shape": shape,
        "draws": cases,
        "held_out": held_out,
        "perturbations": [
            {"seed": 7, "step": 2, "zo_samples": 3, "shape": [2, 3], "values": e.reshape(3, -1).tolist()}
            for e in [perturbations(config, 7, 2, (2, 3))]
        ],
        "token_basis": [
            {"principal": principal.tolist(), "num_vectors": vectors, "rows": basis.reshape(len(basis), -1).tolist()}
            for vectors in (1, 2)
            for basis in [token_basis(principal, 2, vectors)]
        ],
    }


def _sizes(case: dict[str, Any], shape: list[int]) -> Any:
    return SimpleNamespace(num_images=case["images"], num_prompts=case["prompts"], latents_shape=tuple(shape))


def _arguments(case: dict[str, Any], *names: str) -> list[Any]:
    return [*(case[name] for name in names), tuple(case["timestep_range"])]


def _draw(drawn: Draw) -> dict[str, Any]:
    return {
        "image": drawn.image,
        "prompt": drawn.prompt,
        "timestep": drawn.timestep,
        "noise": drawn.noise.reshape(-1).tolist(),
        "latent_noise": drawn.latent_noise.reshape(-1).tolist(),
    }


REFUSED: dict[str, list[Any]] = {
    "optimizer": ["sgd"],
    "max_train_steps": [0, -1],
    "learning_rate": [0.0, 10.0],
    "lr_schedule": ["linear"],
    "zo_samples": [0, 4097],
    "zo_directions": [-1, 4097],
    "zo_mu": [0.0, -0.1, 10.0],
    "zo_difference": ["backward"],
    "zo_draws": ["none"],
    "train_batch_size": [0, 4097],
    "subspace_buffer": [1, 4097],
    "subspace_threshold": [-0.1, 1.0],
    "timestep_range": [[5, 5], [-1, 5], [9, 3]],
    "adam_beta1": [-0.1, 1.0],
    "adam_beta2": [-0.1, 1.0],
    "adam_eps": [0.0],
    "damping": [0.0, 1001.0],
    "memory": [-0.1, 101.0],
    "trust_radius": [0.0],
    "average_from": [-0.1, 1.1],
    "max_bad_steps": [0],
    "schema_version": [0, 2],
    "zo_unknown": [1],
}


def presets() -> dict[str, Any]:
    """presets.json."""
    raised = [(0.01, 0.002, 0.03), (0.001, 0.004, 0.03), (0.001, 0.05, 0.03), (0.05, 0.06, 0.03), (0.01, None, 0.03)]
    return {
        "paper": PAPER.to_dict(),
        "fast": [
            {
                "vocabulary_std": std,
                "width": width,
                "config": fast(std, width).to_dict(),
                "forwards_per_step": fast(std, width).forwards_per_step,
            }
            for std, width in WIDTHS
        ],
        "forwards_per_step": [
            {"change": change, "forwards": replace(PAPER, **change).forwards_per_step}
            for change in (
                {},
                {"train_batch_size": 3},
                {"zo_difference": "central"},
                {"zo_draws": "per_direction", "train_batch_size": 2},
                {"optimizer": "gauss_newton", "zo_samples": 5, "train_batch_size": 2},
            )
        ],
        "raised_mu": [
            {"zo_mu": mu, "mu_min": floor, "vocabulary_std": std, "used": used.zo_mu}
            for mu, floor, std in raised
            for used in [mu_floor.raised(replace(PAPER, zo_mu=mu), np.inf if floor is None else floor, std)]
        ],
        "eval_draws": PersonalizeConfig().eval_draws,
        "refused": [{"name": name, "value": value} for name, values in REFUSED.items() for value in values],
    }


def subspace() -> dict[str, Any]:
    """subspace.json."""
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.standard_normal((12, 9)), axis=0).astype(np.float32)
    walk[:, 3] = 1.0
    still = np.ones((4, 5), np.float32)
    cases = [(walk, 0.02), (walk, 0.4), (walk, 0.0), (walk[:5], 0.1), (still, 0.1)]
    return {
        "cases": [
            {"history": history.tolist(), "threshold": threshold, "removed": removed.tolist()}
            for history, threshold in cases
            for removed in [low_variance_directions(history, threshold)]
        ]
    }


def end_of_run() -> dict[str, Any]:
    """stopping.json."""
    config = fast(0.02, 128)
    falling = [0.3, 0.2, 0.15, 0.1495, 0.1490, 0.1]
    cases = [
        {"forwards_per_step": 33, "initial": 0.4, "before": 0.4, "held_out": falling},
        {"forwards_per_step": 33, "initial": 0.4, "before": 0.4, "held_out": [0.5, 0.4]},
        {"forwards_per_step": 400, "initial": 0.4, "before": 0.151, "held_out": falling[2:]},
        {"forwards_per_step": 33, "initial": 0.4, "before": 0.4, "held_out": [0.3, 0.25, 0.2]},
    ]
    for case in cases:
        case["every"] = max(1, stopping.LOOK // case["forwards_per_step"])
        case["ends_at_look"] = _ends_at(case)
    assert stopping.steps_of(stopping.LOOK, config) == cases[0]["every"]
    return {
        "share": stopping.FLAT,
        "forwards_between_looks": stopping.LOOK,
        "forwards_between_checkpoints": stopping.SAVE,
        "times_the_presets_steps": stopping.LONGEST,
        "cases": cases,
    }


def _ends_at(case: dict[str, Any]) -> int | None:
    """The number of the look, from 1, that ends the run."""
    losses = iter(case["held_out"])
    sizes = replace(fast(0.02, 128), zo_samples=case["forwards_per_step"] - 1)
    flat = stopping.Flat(lambda: next(losses), case["initial"], case["before"], sizes)
    for look in range(1, len(case["held_out"]) + 1):
        assert case["every"] == 1 or not flat(look * case["every"] + 1)  # between looks nothing is measured
        if flat(look * case["every"]):
            return look
    return None
