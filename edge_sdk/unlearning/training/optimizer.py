"""One step: two gradients, surgery, Adam.

Adam (Kingma and Ba, 2015) is written out here because surgery has to see its inside: the scale that it gives to every
weight, and the steps that it would take for each of the two losses alone.
"""

from collections.abc import Sequence

import torch

from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.training.preconditioner import Metric
from edge_sdk.unlearning.training.surgery import Tensors, agreement, combine, project


class AdamDirection:
    """Adam's direction for gradients of one kind; its state is a list of tensors for each moment."""

    def __init__(self, like: Tensors, config: UnlearnConfig) -> None:
        self.count, self._config = 0, config
        self.m, self.v = ([torch.zeros_like(p) for p in like] for _ in range(2))

    def scale(self, gradients: Tensors) -> list[torch.Tensor]:
        """1 / (sqrt(v) + eps), with v as it will be after these gradients."""
        beta, correction = self._config.adam_beta2, 1 - self._config.adam_beta2 ** (self.count + 1)
        return [
            1 / (((beta * v + (1 - beta) * g * g) / correction).sqrt() + self._config.adam_eps)
            for v, g in zip(self.v, gradients, strict=True)
        ]

    def __call__(self, gradients: Tensors) -> list[torch.Tensor]:
        """Takes the gradients in and returns the direction to descend."""
        self.count += 1
        one, two, eps = self._config.adam_beta1, self._config.adam_beta2, self._config.adam_eps
        out = []
        for m, v, g in zip(self.m, self.v, gradients, strict=True):
            m.mul_(one).add_(g, alpha=1 - one)
            v.mul_(two).addcmul_(g, g, value=1 - two)
            out.append(m / (1 - one**self.count) / ((v / (1 - two**self.count)).sqrt() + eps))
        return out


class UnlearnOptimizer:
    """Applies steps to parameters.

    Args:
        metric: what steps are multiplied by, before surgery where that is in the space of updates.

    Attributes:
        directions: one Adam, or for ``surgery_space`` "update" one for each loss, forget first.
    """

    def __init__(self, parameters: Tensors, config: UnlearnConfig, metric: Metric = list) -> None:
        self.parameters, self._config, self._metric = list(parameters), config, metric
        count = 2 if config.surgery_space == "update" and config.surgery != "none" else 1
        self.directions = [AdamDirection(self.parameters, config) for _ in range(count)]

    def apply(self, forget: Tensors, retain: Tensors) -> float:
        """One step from the gradients of the two losses; returns their cosine."""
        config = self._config
        forget, retain = (clipped(gradients, config.max_grad_norm) for gradients in (forget, retain))
        cosine = agreement(forget, retain)
        if len(self.directions) == 2:
            direction = self._updates(forget, retain)
        else:
            scale = self.directions[0].scale(retain) if config.surgery_space == "preconditioned" else None
            weight, kind, scope = config.unlearn_weight, config.surgery, config.surgery_scope
            direction = self._metric(self.directions[0](combine(forget, retain, weight, kind, scope, scale)))
        rate = learning_rate(self.directions[0].count, config)
        with torch.no_grad():
            for parameter, step in zip(self.parameters, direction, strict=True):
                parameter.sub_(step, alpha=rate)
        return cosine

    def _updates(self, forget: Tensors, retain: Tensors) -> list[torch.Tensor]:
        """The two Adam steps, the forget step without what goes against the retain gradient."""
        config = self._config
        scales = [adam.scale(g) for adam, g in zip(self.directions, (forget, retain), strict=True)]
        steps = [self._metric(adam(g)) for adam, g in zip(self.directions, (forget, retain), strict=True)]
        duals = [
            self._metric([s * g for s, g in zip(own, gradients, strict=True)])
            for own, gradients in zip(scales, (forget, retain), strict=True)
        ]
        forget_step = project(steps[0], retain, config.surgery_scope, dual=duals[1])
        retain_step = steps[1]
        if config.surgery == "symmetric":
            retain_step = project(steps[1], forget, config.surgery_scope, dual=duals[0])
        return [r + config.unlearn_weight * f for r, f in zip(retain_step, forget_step, strict=True)]


def learning_rate(step: int, config: UnlearnConfig) -> float:
    """Of a step, from 1."""
    left = 1.0 if config.lr_scheduler == "constant" else max(0.0, 1 - (step - 1) / config.max_train_steps)
    return config.learning_rate * min(left, step / max(1, config.lr_warmup_steps))


def norm(gradients: Tensors) -> float:
    """Of all tensors together."""
    return float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients])))


def balanced(many: Sequence[Tensors]) -> list[torch.Tensor]:
    """The sum of some gradients, each scaled down to the length of the shortest that is not zero."""
    least = min((length for length in map(norm, many) if length > 0), default=0.0)
    return [torch.stack(parts).sum(0) for parts in zip(*(clipped(one, least) for one in many), strict=True)]


def clipped(gradients: Tensors, limit: float) -> list[torch.Tensor]:
    """Scaled down together to a norm of at most ``limit``; 0 is no limit."""
    length = norm(gradients)
    return [g * (limit / length) for g in gradients] if 0 < limit < length else list(gradients)
