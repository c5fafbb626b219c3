"""The metric of steps: what it measures, what it does to a step, and to what a step does."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.estimate import estimate
from edge_sdk.unlearning.sampling import add_noise
from edge_sdk.unlearning.training import preconditioner as metric
from edge_sdk.unlearning.training.losses import Draws, Losses, trainable_of
from edge_sdk.unlearning.training.preconditioner import (
    input_moments,
    inverse_factors,
    multiplied,
    retained_metric,
    rows_of,
)
from edge_sdk.unlearning.training.trainable import Trainable
from tests.unlearning.test_losses import losses_of

LAYERS = [
    nn.Linear(11, 5, bias=False),
    nn.Conv2d(4, 6, 3, padding=1, bias=False),
    nn.Conv2d(5, 3, 3, stride=2, bias=False),
    nn.Conv2d(7, 2, 1, bias=False),
]


@pytest.mark.parametrize("block", [1024, 18])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_rows_times_the_flattened_weight_are_the_layer(
    layer: nn.Module, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the moments are of what the weight meets, in its own order, whether in one block or in several."""
    monkeypatch.setattr(metric, "BLOCK", block)
    torch.manual_seed(0)
    inputs = torch.randn(2, 9, 11) if isinstance(layer, nn.Linear) else torch.randn(2, layer.in_channels, 8, 8)
    rows = torch.cat(list(rows_of(layer, inputs)), dim=1)
    wanted = layer(inputs).detach()
    wanted = wanted.flatten(0, -2) if isinstance(layer, nn.Linear) else wanted.flatten(2).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(rows @ layer.weight.detach().flatten(1).T, wanted)


def test_a_step_is_short_where_retained_inputs_are_and_stays_where_they_are_not() -> None:
    torch.manual_seed(0)
    seen = nn.functional.normalize(torch.randn(8), dim=0)
    unseen = torch.randn(8)
    unseen -= (unseen @ seen) * seen
    (block,) = inverse_factors([torch.outer(seen, seen)], damping=0.1)
    torch.testing.assert_close(multiplied(unseen[None], [block])[0], unseen)
    torch.testing.assert_close(multiplied(seen[None], [block])[0], seen * 0.1 / (8 + 0.1), rtol=1e-4, atol=1e-6)


def test_blocks_are_the_diagonal_of_one_matrix() -> None:
    torch.manual_seed(0)
    halves = [m @ m.T for m in torch.randn(2, 6, 9)]
    whole, step = torch.block_diag(*halves), torch.randn(4, 3, 2, 2)
    apart = multiplied(step, inverse_factors(halves, 0.3))
    torch.testing.assert_close(apart, multiplied(step, inverse_factors([whole], 0.3)), rtol=1e-4, atol=1e-5)


def answers(losses: Losses, x0: torch.Tensor, change: list[torch.Tensor]) -> torch.Tensor:
    """How much a small step changes what the denoiser says of noised pictures."""
    trained = trainable_of(losses.denoiser, losses.config)
    draws = Draws.numbered(0, 3, len(x0), 1000, losses.denoiser.shape, 64)
    arguments, named = losses.denoiser.arguments(
        add_noise(losses.denoiser, x0[draws.image], draws.noise, draws.t), draws.t, losses.condition
    )
    before = trained.frozen()(*arguments, **named)[0]
    for parameter, step in zip(trained.parameters.values(), change, strict=True):
        parameter.data.sub_(step)
    return (trained.frozen()(*arguments, **named)[0] - before).square().mean().sqrt()


def gradient_of(losses: Losses, trained: Trainable) -> list[torch.Tensor]:
    """Of forgetting."""
    value = losses.forget(trained, Draws.numbered(0, 2, 2, 1000, losses.denoiser.shape, 8)).mean()
    found = torch.autograd.grad(value, list(trained.parameters.values()), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(trained.parameters.values(), found, strict=True)]


@pytest.mark.parametrize("family", ["ddpm", "sd1", "sd3"])
@pytest.mark.parametrize("name", ["weight", "lora_A"])
def test_of_all_steps_with_one_effect_on_the_loss_it_takes_the_one_that_does_least_to_retained_pictures(
    model_of: dict[str, Path], pictures: dict[str, Path], family: str, name: str
) -> None:
    losses = losses_of(model_of[family], pictures, lora_rank=4 if name == "lora_A" else 0, layers="all")
    trained = trainable_of(losses.denoiser, losses.config)
    for p in trained.parameters.values():  # adapters begin with B = 0, where A has no gradient
        p.data += 0.01 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
    gradient = dict(zip(trained.parameters, gradient_of(losses, trained), strict=True))
    step = dict(zip(trained.parameters, retained_metric(losses, trained, 0.1)(list(gradient.values())), strict=True))
    moments, compared = input_moments(losses, trained.layers), 0
    for layer, blocks in moments.items():
        g, d = (found.get(f"{layer}.{name}", torch.zeros(1, 1)).flatten(1).double() for found in (gradient, step))
        if not g.any():
            continue
        m = torch.block_diag(*blocks).double()
        m = m / m.diagonal().mean() + 0.1 * torch.eye(len(m), dtype=torch.float64)
        torch.manual_seed(0)
        others = [g, *(d * torch.rand_like(d) for _ in range(3))]
        lengths = [float((one @ m * one).sum() / (one * g).sum() ** 2) for one in (d, *others)]
        assert lengths[0] <= min(lengths) * (1 + 1e-6)
        compared += 1
    assert compared


def test_a_step_that_does_as_much_to_the_target_does_less_to_retained_pictures(
    model_of: dict[str, Path], pictures: dict[str, Path]
) -> None:
    losses = losses_of(model_of["ddpm"], pictures, layers="all")
    trained = trainable_of(losses.denoiser, losses.config)
    steps = gradient_of(losses, trained)
    plain = [step * (1e-3 / torch.stack([step.norm() for step in steps]).norm()) for step in steps]
    shortened = retained_metric(losses, trained, 0.1)(plain)
    targets, retained = losses.targets, losses.retained
    ratios = [answers(losses, targets, taken) / answers(losses, retained, taken) for taken in (plain, shortened)]
    assert ratios[1] > 1.02 * ratios[0]


def test_what_is_no_layers_weight_has_the_input_one(model_of: dict[str, Path], pictures: dict[str, Path]) -> None:
    losses = losses_of(model_of["ddpm"], pictures, layers="all")
    trained = trainable_of(losses.denoiser, losses.config)
    ones = [torch.ones_like(p) for p in trained.parameters.values()]
    done = dict(zip(trained.parameters, retained_metric(losses, trained, 0.25)(ones), strict=True))
    torch.testing.assert_close(done["conv_in.bias"], torch.full_like(done["conv_in.bias"], 0.2))
    norm = next(name for name in done if "norm" in name and name.endswith("weight"))
    torch.testing.assert_close(done[norm], torch.full_like(done[norm], 0.2))


@pytest.mark.parametrize("block", [1024, 200])
@pytest.mark.parametrize("which", ["branches", "all"])
def test_the_estimate_counts_the_matrices(
    model_of: dict[str, Path], pictures: dict[str, Path], which: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metric, "BLOCK", block)
    losses = losses_of(model_of["ddpm"], pictures, layers=which)
    trained = trainable_of(losses.denoiser, losses.config)
    moments = input_moments(losses, {n: m for n, m in trained.layers.items() if f"{n}.weight" in trained.parameters})
    held = sum(own.nbytes for blocks in moments.values() for own in blocks) / 1e6
    settings = json.loads((model_of["ddpm"] / "unet" / "config.json").read_text())
    for kind, wanted in (("retained", held), ("euclidean", 0)):
        config = UnlearnConfig(metric=kind, layers=which)
        assert estimate(settings, losses.denoiser.shape, config).metric == pytest.approx(wanted)


def test_moments_are_of_the_base_model_and_leave_it_alone(model_of: dict[str, Path], pictures: dict[str, Path]) -> None:
    losses = losses_of(model_of["ddpm"], pictures)
    trained = trainable_of(losses.denoiser, losses.config)
    first, second = (input_moments(losses, trained.layers) for _ in range(2))
    assert first.keys() == trained.layers.keys()
    for name, blocks in first.items():
        assert sum(map(len, blocks)) == trained.layers[name].weight[0].numel()
        assert all(torch.equal(a, b) for a, b in zip(blocks, second[name], strict=True))
    assert not any(layer._forward_pre_hooks for layer in trained.layers.values())
