"""Float16 arithmetic at its worst: sums of products, norms and softmax round inside, too.

Apple does not say how the Neural Engine sums. Measurements by others find float16 products summed in about float32
(ane-guide.readthedocs.io, "Numerics"), which is what the interpreter does by default. These operations assume less:
float32 for the products of `CHANNELS` channels only, float16 for what adds those up, and for every step of a norm or a
softmax. What holds here as well does not depend on that assumption.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

CHANNELS = 32  # whose products are summed before the first rounding


def half(x: Tensor) -> Tensor:
    """Rounded to float16, as float32."""
    return x.half().float()


def _total(parts: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    """One after the other, rounded after each."""
    total = half(parts[0])
    for part in parts[1:]:
        total = half(total + half(part))
    return total if bias is None else half(total + bias)


def _conv(a: dict[str, Any]) -> Tensor:
    top, bottom, left, right = a["pad"].tolist()
    x = F.pad(a["x"], (left, right, top, bottom)).split(CHANNELS, 1)
    weight, bias = a["weight"].split(CHANNELS, 1), a.get("bias")
    parts = [F.conv2d(i, w, None, a["strides"].tolist()) for i, w in zip(x, weight, strict=True)]
    return _total(parts, None if bias is None else bias.reshape(-1, 1, 1))


def _linear(a: dict[str, Any]) -> Tensor:
    parts = zip(a["x"].split(CHANNELS, -1), a["weight"].split(CHANNELS, -1), strict=True)
    return _total([F.linear(x, w) for x, w in parts], a.get("bias"))


def _einsum(a: dict[str, Any]) -> Tensor:
    """nchw,nwhu->nchu"""
    x, y = a["values"][0].transpose(1, 2), a["values"][1].permute(0, 2, 1, 3)
    parts = zip(x.split(CHANNELS, 3), y.split(CHANNELS, 2), strict=True)
    return _total([i @ j for i, j in parts], None).transpose(1, 2)


def _softmax(a: dict[str, Any]) -> Tensor:
    axis = int(a["axis"])
    powers = half(half(a["x"] - a["x"].amax(axis, keepdim=True)).exp())
    return powers / half(powers.sum(axis, keepdim=True))


def _normed(x: Tensor, axes: Sequence[int], epsilon: float) -> Tensor:
    centered = half(x - half(x.mean(list(axes), keepdim=True)))
    variance = half(half(centered * centered).mean(list(axes), keepdim=True))
    return half(centered * half(torch.rsqrt(half(variance + epsilon))))


def _layer_norm(a: dict[str, Any]) -> Tensor:
    (axis,) = a["axes"].tolist()
    shape = [-1 if i == axis % a["x"].dim() else 1 for i in range(a["x"].dim())]
    normed = _normed(a["x"], [axis], float(a["epsilon"]))
    return half(normed * a["gamma"].reshape(shape)) + a["beta"].reshape(shape)


def _instance_norm(a: dict[str, Any]) -> Tensor:
    return _normed(a["x"], range(2, a["x"].dim()), float(a["epsilon"]))


NARROW: dict[str, Callable[[dict[str, Any]], Tensor]] = {
    "conv": _conv,
    "linear": _linear,
    "einsum": _einsum,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "instance_norm": _instance_norm,
}
