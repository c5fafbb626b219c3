"""Gradient surgery: the part of the forget step that would raise the retain loss is taken out.

The paper's exact rule is not known to us; these are reconstructions from the published idea that retention has
priority. ``one_sided`` projects the forget direction only; ``symmetric`` is PCGrad (Yu et al., 2020, arXiv 2001.06782),
each projected off the other's original. Under Adam a step is not the gradient, so a guarantee for gradients does not
hold for steps: ``preconditioned`` projects in the inner product of Adam's second moment, ``update`` projects Adam's
update itself off the retain gradient, which keeps the step's first-order effect on the retain loss what it would be
without forgetting, or better.
"""

from collections.abc import Sequence

import torch

Tensors = Sequence[torch.Tensor]


def project(direction: Tensors, off: Tensors, scope: str, dual: Tensors | None = None) -> list[torch.Tensor]:
    """Take out of ``direction`` what points against ``off``: d - min(0, <d, g>) / <g', g> g'; g' is ``dual`` or g.

    Args:
        direction, off: lists of tensors of the same shapes.
        scope: "global" (one inner product over all tensors) or "tensor" (one each).
        dual: what is added to repair a conflict, if it is not ``off``: with g' = P g the smallest change in the norm
            of P^-1 that ends it.

    Returns:
        New tensors, the same ones where nothing conflicts.
    """
    repair = off if dual is None else dual
    along, size = _products(direction, off, scope), _products(repair, off, scope)
    return [
        d if a >= 0 or s <= 0 else d - (a / s) * g for d, g, a, s in zip(direction, repair, along, size, strict=True)
    ]


def combine(
    forget: Tensors, retain: Tensors, weight: float, surgery: str, scope: str, scale: Tensors | None = None
) -> list[torch.Tensor]:
    """The direction to descend: retain + weight * forget, with conflicts taken out.

    Args:
        forget, retain: gradients of the two losses.
        surgery: "none", "one_sided" or "symmetric".
        scale: Adam's 1 / (sqrt(v) + eps), if the gradients are compared as Adam will step along them.
    """
    forget_, retain_ = list(forget), list(retain)
    if surgery != "none":
        inner = retain_ if scale is None else [g * s for g, s in zip(retain_, scale, strict=True)]
        forget_ = project(forget, inner, scope, dual=retain_)
    if surgery == "symmetric":
        inner = list(forget) if scale is None else [g * s for g, s in zip(forget, scale, strict=True)]
        retain_ = project(retain, inner, scope, dual=forget)
    return [r + weight * f for r, f in zip(retain_, forget_, strict=True)]


def agreement(first: Tensors, second: Tensors) -> float:
    """Cosine of the angle between two lists of tensors, 0 if one is all zeros."""
    dot, a, b = (sum(_products(x, y, "global")[:1]) for x, y in ((first, second), (first, first), (second, second)))
    return dot / (a * b) ** 0.5 if a > 0 and b > 0 else 0.0


def _products(first: Tensors, second: Tensors, scope: str) -> list[float]:
    """Inner products, one a tensor; with "global" all are their sum."""
    own = torch.stack([torch.dot(x.flatten(), y.flatten()) for x, y in zip(first, second, strict=True)]).tolist()
    return own if scope == "tensor" else [sum(own)] * len(own)
