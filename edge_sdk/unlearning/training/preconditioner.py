"""The metric of steps: a change of a layer is as long as what it does to the layer's outputs on retained pictures.

With x a layer's inputs, a change D of its weights changes its outputs by E|D x|^2 = tr(D M D'), M = E[x x']. Descent in
that length, with some Euclidean length for damping, is along the gradient times (M + damping)^-1: far where retained
pictures have little, hardly where they all are. This is the input half of K-FAC (Martens and Grosse, 2015, arXiv
1503.05671); taking steps where old inputs are not is known from continual learning (Wang et al., 2021, arXiv
2103.07113). That it serves unlearning is our measurement, no part of the paper.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import nn

from edge_sdk.unlearning.training.losses import Draws, Losses
from edge_sdk.unlearning.training.surgery import Tensors
from edge_sdk.unlearning.training.trainable import Trainable
from edge_sdk.zo.noise import INPUT_MOMENTS

BLOCK = 1024  # inputs of a layer at most in one block of M; what different blocks have in common is neglected
DRAWS, AT_ONCE = 256, 8  # noised retained pictures that inputs are measured on
NUMBER = INPUT_MOMENTS.first  # of these draws; training has its own

Metric = Callable[[Tensors], list[torch.Tensor]]
Blocks = list[torch.Tensor]  # along the diagonal of a square matrix


def retained_metric(losses: Losses, trainable: Trainable, damping: float) -> Metric:
    """What steps of ``trainable.parameters`` are multiplied by: damping (M + damping)^-1, eigenvalues from 0 to 1.

    M is scaled to a mean of 1 on its diagonal. A bias, and whatever else is no weight of a layer, has the input 1.
    """
    names = {name.rpartition(".")[0] for name in trainable.parameters}
    moments = input_moments(losses, {name: layer for name, layer in trainable.layers.items() if name in names})
    factors: dict[str, Blocks] = {}
    while moments:  # which are let go one by one: both together take twice the memory
        layer, blocks = moments.popitem()
        factors[f"{layer}.weight"] = factors[f"{layer}.lora_A"] = inverse_factors(blocks, damping)
        if (a := trainable.parameters.get(f"{layer}.lora_A")) is not None:
            own = torch.stack([part @ m @ part.T for part, m in split(a.detach(), blocks)]).sum(0)  # of its inputs A x
            factors[f"{layer}.lora_B"] = inverse_factors([own], damping)
    chosen = [factors.get(name) for name in trainable.parameters]

    def apply(steps: Tensors) -> list[torch.Tensor]:
        return [
            step * (damping / (1 + damping)) if blocks is None else multiplied(step, blocks)
            for step, blocks in zip(steps, chosen, strict=True)
        ]

    return apply


@torch.no_grad()
def input_moments(losses: Losses, layers: dict[str, nn.Module]) -> dict[str, Blocks]:
    """Second moments E[x x'] of the inputs (K,) that retained pictures give the base model's layers, by layer.

    K is ordered as a flattened weight: an input of a convolution is a patch, channels first.
    """
    sums: dict[str, Blocks] = {}

    def watch(name: str, layer: nn.Module) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def add(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            products = [rows.T @ rows for rows in rows_of(layer, inputs[0])]
            sums[name] = [s + f for s, f in zip(sums[name], products, strict=True)] if name in sums else products

        return add

    hooks = [layer.register_forward_pre_hook(watch(name, layer)) for name, layer in layers.items()]
    denoiser = losses.denoiser
    draws = Draws.numbered(
        losses.config.seed,
        NUMBER,
        len(losses.retained),
        denoiser.schedule.num_train_timesteps,
        denoiser.shape,
        DRAWS,
        device=str(losses.retained.device),
    )
    try:
        for start in range(0, DRAWS, AT_ONCE):
            some = draws[start : start + AT_ONCE]
            losses.predict(denoiser.module, losses.noised(losses.retained[some.image], some), some.t)
    finally:
        for hook in hooks:
            hook.remove()
    return sums


def rows_of(layer: nn.Module, inputs: torch.Tensor) -> Iterator[torch.Tensor]:
    """What a layer's flattened weight is multiplied by, (rows, k) block by block: of K inputs or of whole channels."""
    if not isinstance(layer, nn.Conv2d):
        yield from inputs.flatten(0, -2).split(block_sizes(layer), dim=1)
        return
    taps = layer.kernel_size[0] * layer.kernel_size[1]
    for some in inputs.split([size // taps for size in block_sizes(layer)], dim=1):
        patches = F.unfold(some, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        yield patches.transpose(1, 2).flatten(0, 1)


def block_sizes(layer: nn.Module) -> list[int]:
    """How many of a layer's K inputs are in each block; of a convolution all those of a channel are in one."""
    inputs, taps = layer.weight[0].numel(), layer.weight[0, 0].numel()
    most = max(1, BLOCK // taps) * taps
    return [min(most, inputs - start) for start in range(0, inputs, most)]


def inverse_factors(blocks: Blocks, damping: float) -> Blocks:
    """damping (M + damping)^-1, block by block, with M scaled to a mean of 1 on the diagonal."""
    mean = torch.cat([block.diagonal() for block in blocks]).mean().clamp_min(1e-30)
    eyes = [torch.eye(len(block), dtype=torch.float64, device=block.device) for block in blocks]
    return [
        (damping * torch.linalg.inv(block.double() / mean + damping * eye)).float()
        for block, eye in zip(blocks, eyes, strict=True)
    ]


def multiplied(step: torch.Tensor, blocks: Blocks) -> torch.Tensor:
    """A step (N, K...) times a square matrix over its inputs."""
    return torch.cat([part @ block for part, block in split(step, blocks)], dim=1).view_as(step)


def split(weight: torch.Tensor, blocks: Blocks) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The columns of a flattened weight (N, K...) that each block is for, and the block."""
    return zip(weight.flatten(1).split([len(block) for block in blocks], dim=1), blocks, strict=True)
