"""Several linear layers with the same input, which is normalized and rounded only once."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from edge_sdk.quantization import difference, native
from edge_sdk.quantization.layers import IntLinear, backend


def linear(
    layers: Sequence[nn.Module],
    x: torch.Tensor,
    norm: nn.LayerNorm | None = None,
    outs: Sequence[torch.Tensor | None] | None = None,
) -> list[torch.Tensor]:
    """The output (..., N) float32 of each layer for x (..., K), with the same bits as from the layer alone.

    Args:
        norm: applied to x first.
        outs: contiguous tensors to write to, or None for new ones.
    """
    places = list(outs or [None] * len(layers))
    if not _share(layers):
        options = {} if norm is None else {"norm": norm}
        return [
            layer(x, **options) if out is None else layer(x, **options, out=out)
            for layer, out in zip(layers, places, strict=True)
        ]
    own: Any = layers
    ys = [
        x.new_empty((*x.shape[:-1], layer.out_features), dtype=torch.float32) if out is None else out
        for layer, out in zip(own, places, strict=True)
    ]
    compiled = backend(x.device) is native
    if not compiled and not difference.is_active():
        return [layer(x, norm, out=y) for layer, y in zip(own, ys, strict=True)]
    with _hooked(own, x, ys):
        if difference.is_active():
            difference.linear(own, x, norm, False, ys, False, compiled)
        else:
            flat = x.flatten(0, -2).float().contiguous()
            flat_ys = [y.view(-1, y.shape[-1]) for y in ys]
            native.linears(flat, [layer.matrix for layer in own], own[0].activation_bits, flat_ys, norm)
    return ys


@contextlib.contextmanager
def _hooked(layers: Sequence[nn.Module], x: torch.Tensor, ys: Sequence[torch.Tensor]) -> Iterator[None]:
    """Call each layer's hooks before and after its forward pass: they also drop the pages of streamed weights."""
    for layer in layers:
        for before in layer._forward_pre_hooks.values():
            before(layer, (x,))
    yield
    for layer, y in zip(layers, ys, strict=True):
        for after in layer._forward_hooks.values():
            after(layer, (x,), y)


def _share(layers: Sequence[nn.Module]) -> bool:
    """Whether the layers round their inputs in the same way."""
    if not all(isinstance(layer, IntLinear) and layer.execution == "integer" for layer in layers):
        return False
    return len({(layer.in_features, layer.activation_bits) for layer in layers}) == 1
