"""How short a perturbation each execution can resolve, on the trained embedded model, against autograd.

    python -m benchmarks.quality.mu_floor

For every variant of the execution: what `calibrate_mu` finds without gradients (noise of a loss, floor of mu for
forward differences), and how central differences over several mu agree with the true directional derivative. That one
comes from autograd on the same integer weights with float activations. One direction, draw and token a slope.
"""

import argparse
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.lib.report import machine, markdown, pyplot
from benchmarks.quality.layer_error import layer_errors, layers, loss_difference, prepared
from edge_sdk.personalizer import Prepared
from edge_sdk.quantization import IntConv2d, kernels
from edge_sdk.quantization import layers as integer
from edge_sdk.system.files import write_json
from edge_sdk.zo import (
    State,
    calibrate_mu,
    evaluate_rows,
    held_out_draws,
    lengths_below,
    normals,
    random_directions,
    run,
)

DIRECTIONS = 24
MUS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
EDGES = ("unet.conv_in", "unet.conv_out")
Choose = Callable[[str, Any], tuple[str, int]]  # name and layer -> execution and bits of the activations


def variants() -> dict[str, tuple[str, Choose, str]]:
    """Name -> weights, what each layer does, how activation scales are taken."""
    whole: dict[str, Choose] = {
        "fused": lambda *_: ("fused", 16),
        "16 bit": lambda *_: ("integer", 16),
        "8 bit": lambda *_: ("integer", 8),
    }
    is_conv = {True: ("integer", 8), False: ("fused", 16)}
    return {
        "float": ("none", whole["fused"], ""),
        "int8, fused": ("int8", whole["fused"], ""),
        "int8, 16 bit": ("int8", whole["16 bit"], ""),
        "int8, 8 bit": ("int8", whole["8 bit"], ""),
        "int4, 16 bit": ("int4", whole["16 bit"], ""),
        "int8, 8 bit, scales shared by both sides": ("int8", whole["8 bit"], "pair"),
        "int8, 8 bit, one scale a sample": ("int8", whole["8 bit"], "sample"),
        "int8, 8 bit convolutions, fused linears": ("int8", lambda _, layer: is_conv[isinstance(layer, IntConv2d)], ""),
        "int8, 8 bit linears, fused convolutions": (
            "int8",
            lambda _, layer: is_conv[not isinstance(layer, IntConv2d)],
            "",
        ),
        "int8, 8 bit, first and last layer fused": (
            "int8",
            lambda name, _: ("fused", 16) if name in EDGES else ("integer", 8),
            "",
        ),
        "int8, 8 bit text, 16 bit denoiser": (
            "int8",
            lambda name, _: ("integer", 8 if name.startswith("text") else 16),
            "",
        ),
        "int8, 16 bit text, 8 bit denoiser": (
            "int8",
            lambda name, _: ("integer", 16 if name.startswith("text") else 8),
            "",
        ),
    }


@contextlib.contextmanager
def scales(kind: str) -> Iterator[None]:
    """Activation scales shared by the two rows of a batch ("pair") or by all tokens of a sample ("sample")."""
    if not kind:
        yield
        return
    backend, split = integer.backend, kernels.split_rows

    def shared(x: torch.Tensor, levels: float) -> tuple[torch.Tensor, torch.Tensor]:
        sides = x.abs().flatten(1).amax(1).view(2, -1)  # (2, rows of a side)
        largest = (sides.amax(0).repeat(2) if kind == "pair" else sides.amax(1).repeat_interleave(sides.shape[1])).view(
            -1, *[1] * (x.dim() - 1)
        )
        step = largest.clamp_min(1e-12) / levels
        return (x / step).round_().to(torch.int8)[None], step

    integer.backend, kernels.split_rows = lambda _device: kernels, shared
    try:
        yield
    finally:
        integer.backend, kernels.split_rows = backend, split


def true_slopes(made: Prepared, token: np.ndarray, e: np.ndarray, draws: list[Any]) -> np.ndarray:
    """Directional derivatives by autograd with float activations on the same weights, (directions,) float64."""
    before = {name: layer.execution for name, layer in layers(made).items()}
    for layer in layers(made).values():
        layer.execution = "fused"
    tokens = torch.from_numpy(np.repeat(token[None], len(draws), axis=0)).requires_grad_()
    made.objective.loss(tokens, draws).sum().backward()
    for name, layer in layers(made).items():
        layer.execution = before[name]
    assert tokens.grad is not None
    return (tokens.grad.numpy().astype(np.float64) * e).sum((1, 2))


def measure(made: Prepared, token: np.ndarray, batch: int) -> dict[str, Any]:
    """The floor without gradients, and the agreement with autograd."""
    zo = made.zo
    random = random_directions(0, DIRECTIONS, token.shape)
    floor = calibrate_mu(made.objective, token, zo, lengths_below(zo.zo_mu), 0, random, batch)
    e = normals(1, 0, 0, (DIRECTIONS, *token.shape))
    draws = held_out_draws(made.objective, 1, DIRECTIONS, (0, 1000))
    slopes, curve = true_slopes(made, token, e, draws), {}
    for mu in MUS:
        sides = np.stack([token + np.float32(mu) * e, token - np.float32(mu) * e], axis=1)  # (n, 2, K, D)
        losses = evaluate_rows(
            made.objective, sides.reshape(-1, *token.shape), [d for d in draws for _ in range(2)], batch
        )
        found = (losses[0::2] - losses[1::2]) / (2 * mu)
        error = float(np.sqrt(np.mean((found - slopes) ** 2) / np.mean(slopes**2)))
        curve[str(mu)] = {"correlation": float(np.corrcoef(found, slopes)[0, 1]), "error": error}
    return {"floor": asdict(floor), "true_slope": float(np.sqrt(np.mean(slopes**2))), "curve": curve}


def learned_token(made: Prepared) -> np.ndarray:
    """What the preset `fast` learns from the bundled photos."""
    state = State.start(made.zo, 0, made.initial)
    for _ in run(made.objective, state, made.norm_range, max_batch=16):
        pass
    return state.result


def table(results: dict[str, Any], std: float) -> str:
    """Markdown: noise, floors, and the correlation with autograd at every mu."""
    head = ["variant", "noise of a loss", "mu_min", "of the vocabulary's std", "mu_min, learned token"]
    rows = []
    for name, result in results.items():
        floor, late = result["initial"]["floor"], result["learned"]["floor"]
        cells = [f"{floor['noise']:.1e}", f"{floor['mu_min']:.1e}", f"{floor['mu_min'] / std:.4f}"]
        cells += [f"{late['mu_min']:.1e}"] + [f"{v['correlation']:.3f}" for v in result["initial"]["curve"].values()]
        rows.append([name, *cells])
    return markdown(head + [f"mu {mu:g}" for mu in MUS], rows)


def plot(results: dict[str, Any], path: Path) -> None:
    """The error of central differences against mu, a line a variant."""
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(8, 4.2))
    for i, (name, result) in enumerate(results.items()):
        errors = [value["error"] for value in result["initial"]["curve"].values()]
        axis.loglog(MUS, errors, "-o" if i < 5 else "--", ms=3, lw=1.6 if i < 5 else 0.9, label=name)
    axis.axhline(0.1, color="#bbbbbb", lw=1)
    axis.set_xlabel("mu")
    axis.set_ylabel("relative error of the directional derivative")
    axis.legend(fontsize=6.5, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/mu_floor.json"))
    args = parser.parse_args()
    reference = prepared("none")
    late, results = learned_token(reference), dict[str, Any]()
    for name, (weights, choose, kind) in variants().items():
        made = prepared(weights)
        for layer_name, layer in layers(made).items():
            layer.execution, layer.activation_bits = choose(layer_name, layer)
        with scales(kind):  # sides of a difference are neighbours, and alone in a batch where they share
            results[name] = {"initial": measure(made, made.initial, 2 if kind else 16)}
            results[name]["learned"] = measure(made, late, 2 if kind else 16)
        print(name, results[name]["initial"]["floor"], flush=True)
        if weights != "none" and not kind:
            errors = layer_errors(made, reference)
            worst = max(errors, key=lambda n: errors[n])
            results[name] |= {
                "worst_layer": worst,
                "worst_layer_error": errors[worst],
                "layers": len(errors),
                "layers_above_2_percent": sum(error >= 0.02 for error in errors.values()),
                "loss_difference": loss_difference(made, reference, made.initial),
                "loss_difference_learned": loss_difference(made, reference, late),
            }
    std = reference.vocabulary_std
    record = {
        "command": "python -m benchmarks.quality.mu_floor",
        "date": date.today().isoformat(),
        "machine": machine(),
        "vocabulary_std": std,
        "directions": DIRECTIONS,
        "results": results,
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.output, record)
    plot(results, args.output.with_suffix(".png"))
    print(table(results, std))
    for name, result in results.items():
        if "worst_layer" in result:
            print(
                f"{name}: worst of {result['layers']} layers {result['worst_layer']} {result['worst_layer_error']:.2%}"
                f" ({result['layers_above_2_percent']} above 2 %), loss {result['loss_difference']:+.2%} at the "
                f"initializer, {result['loss_difference_learned']:+.2%} at the learned token"
            )


if __name__ == "__main__":
    main()
