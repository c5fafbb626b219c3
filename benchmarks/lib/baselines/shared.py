"""Every forgetting rule through one optimizer, the product's: what then differs is the rule alone.

A rule gives the gradient of its forgetting. The product's loop does the rest: layers in residual branches, retention of
96 pictures by the base model's predictions, an Adam for each side, surgery of updates, the preconditioner. Adam takes
away a gradient's length, so a rule's own way of weighing both sides has no place here: ``unlearn_weight`` does that.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from benchmarks.lib.baselines.unlearning import Gradients, Run, mixture_batches
from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.denoiser import Denoiser
from edge_sdk.unlearning.training.losses import DenoisingBatch, Draws, Losses
from edge_sdk.unlearning.training.preconditioner import Metric

UNWEIGHTED = {"timestep_weight": "uniform", "surrogate_path": 0.0}  # a surrogate loss without what is ours
EDITED = {
    "surrogate": "edit",
    "num_surrogates": 1,
    "timestep_weight": "snr",
    "surrogate_path": 0.0,
}  # as Lee et al. (2026) have it, as far as it is known


class TaughtLosses(Losses):
    """Losses that keep what the teacher says of a step's retained pictures: it is the same for every rule.

    Args:
        lessons: batches by the draws that they are of; shared by the runs of one target and seed.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        targets: torch.Tensor,
        surrogates: torch.Tensor,
        retained: torch.Tensor,
        config: UnlearnConfig,
        lessons: dict[bytes, DenoisingBatch],
    ) -> None:
        super().__init__(denoiser, targets, surrogates, retained, config)
        self._lessons = lessons

    def batch_to_retain(self, draws: Draws, form: str = "none") -> DenoisingBatch:
        name = form.encode() + b"".join(part.numpy().tobytes() for part in (draws.image, draws.t, draws.noise[0]))
        if name not in self._lessons:
            self._lessons[name] = super().batch_to_retain(draws, form)
        return self._lessons[name]


class SharedStepper(Run):
    """The product's optimizer, layers, retention and batch, and a rule's gradient of forgetting.

    Args:
        metric: measured before, as `retained_metric` does; None measures it.
    """

    def __init__(self, losses: Losses, rule: "ForgetRule", metric: Metric | None = None) -> None:
        super().__init__(losses, metric)
        self._rule = rule

    def step(self) -> None:  # type: ignore[override]
        """Train once; nothing is measured."""
        number = self.count
        self.count += 1
        mask = self.saliency() if self._rule.masked else None
        forget = self._rule.forget(self, self.draws(number, False))
        retain = self._gradients(list(self.batches(number, True)), self.config.retain_batch)[1]
        if mask is None:
            self.optimizer.apply(forget, retain)
            return
        before = [p.detach().clone() for p in self.parameters]
        self.optimizer.apply(*([g * m for g, m in zip(own, mask, strict=True)] for own in (forget, retain)))
        with torch.no_grad():
            for p, old, m in zip(self.parameters, before, mask, strict=True):
                p.copy_(torch.where(m > 0, p, old))  # the preconditioner reaches weights outside of the mask


def nothing(run: Run, forget: Draws) -> Gradients:
    return [torch.zeros_like(p) for p in run.parameters]


def ascent(run: Run, forget: Draws) -> Gradients:
    return [-g for g in run.target_gradient(forget)]


def mixed_ascent(run: Run, forget: Draws) -> Gradients:
    """SISS's ascent, on twice as many noised pictures as others, so that as many are the target's."""
    retain = run.draws(run.count - 1, True)
    every = len(retain.t) // (2 * len(forget.t))
    climb = mixture_batches(run, retain[slice(None, None, every)])[1]
    return [-g for g in run.gradient_of(climb)]


@dataclass(frozen=True)
class ForgetRule:
    """What a rule forgets by.

    Attributes:
        forget: draws of targets -> gradient to descend, one for each parameter.
        settings: of the surrogate loss, in place of the product's.
        neighbours: how many of the nearest retained pictures are the surrogates; 0: as the settings say.
        masked: only the weights of `Run.saliency` are trained.
    """

    forget: Callable[[Any, Draws], Gradients]
    settings: dict[str, Any] = field(default_factory=dict)
    neighbours: int = 0
    masked: bool = False

    def config(self, config: UnlearnConfig) -> UnlearnConfig:
        return replace(config, **self.settings)


FORGET_RULES: dict[str, ForgetRule] = {
    "naive deletion": ForgetRule(nothing),
    "EraseDiff": ForgetRule(Run.noise_gradient),
    "SISS": ForgetRule(mixed_ascent),
    "NegGrad": ForgetRule(ascent),
    "SalUn": ForgetRule(Run.surrogate_gradient, UNWEIGHTED, masked=True),
    "edited surrogate": ForgetRule(Run.surrogate_gradient, EDITED),
    "ReTrack": ForgetRule(Run.surrogate_gradient, UNWEIGHTED, neighbours=10),
    "ours": ForgetRule(Run.surrogate_gradient),
}
