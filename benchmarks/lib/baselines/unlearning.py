"""Other ways to make a model forget a picture, on the same draws, optimizer and losses as ours.

Each is one function from a step's draws to the gradient that Adam descends. Rules and constants are the papers' where
they carry over; what was tuned to their models (learning rate, steps, strength) is scanned by the benchmark instead.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Any

import torch

from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.training.loop import Unlearner
from edge_sdk.unlearning.training.losses import DenoisingBatch, Draws, Losses
from edge_sdk.unlearning.training.optimizer import clipped, norm
from edge_sdk.unlearning.training.preconditioner import Metric
from edge_sdk.unlearning.training.surgery import agreement, combine

Gradients = Sequence[torch.Tensor]
Rule = Callable[[Any, Draws, Draws, float], Gradients]  # draws of targets, of retained pictures, the strength


def plain(config: UnlearnConfig) -> UnlearnConfig:
    """Settings without all that is ours."""
    return replace(
        config,
        surgery="none",
        unlearn_weight=0.0,
        max_grad_norm=0.0,
        timestep_weight="uniform",
        surrogate_path=0.0,
        retention="data",
        neighbour_share=0.0,
        metric="euclidean",
        layers="all",
    )


class Run(Unlearner):
    """The product's loop for other rules: the gradients that they take. ``count`` is the step's number, from 1."""

    def __init__(self, losses: Losses, metric: Metric | None = None) -> None:
        super().__init__(losses, metric=metric)
        self._saliency: Gradients | None = None
        self.count = 0

    def gradient_of(self, batch: DenoisingBatch) -> Gradients:
        return self.gradients(self.losses.error(self.trainable, batch).mean())

    def retain_gradient(self, draws: Draws) -> Gradients:
        return self.gradients(self.losses.retain(self.trainable, draws).mean())

    def target_gradient(self, draws: Draws) -> Gradients:
        """Of the targets' own denoising loss."""
        x0 = self.losses.targets[draws.image]
        return self.gradient_of(
            DenoisingBatch(self.losses.noised(x0, draws), draws.t, self.losses.training_target(x0, draws))
        )

    def surrogate_gradient(self, draws: Draws) -> Gradients:
        """Of the surrogate loss, with the weights over timesteps and the path of the run's settings."""
        return self.gradients(self.losses.forget(self.trainable, draws).mean())

    def noise_gradient(self, draws: Draws) -> Gradients:
        """Of EraseDiff's loss: the noised target's answer becomes uniform noise."""
        z = self.losses.noised(self.losses.targets[draws.image], draws)
        uniform = torch.rand(z.shape, generator=torch.Generator().manual_seed(self.count)).to(z.device)
        return self.gradient_of(DenoisingBatch(z, draws.t, uniform))

    def saliency(self) -> Gradients:
        """SalUn's mask: 1 for the half of the base's weights on which the target's loss depends most, else 0."""
        if self._saliency is None:
            total = [torch.zeros_like(p) for p in self.parameters]
            for i in range(4):
                total = added(total, self.target_gradient(self.draws(10_000 + i, False)), 1.0)
            median = torch.cat([g.abs().flatten() for g in total]).median()
            self._saliency = [(g.abs() >= median).float() for g in total]
        return self._saliency


class Stepper(Run):
    """A rule as it is published, on Adam as it is: all layers trained, no weights over timesteps, no surgery, and
    retention on the own noise of any pictures. ``unlearn_weight`` is the strength of a rule's forgetting.

    Args:
        own: settings that a rule has in place of `plain`'s.
    """

    def __init__(
        self, losses: Losses, rule: Rule, caption: str = "", own: Mapping[str, object] = MappingProxyType({})
    ) -> None:
        config = UnlearnConfig(**{**asdict(plain(losses.config)), **own})
        super().__init__(Losses(losses.denoiser, losses.targets, losses.surrogates, losses.retained, config))
        self.caption, self._rule = caption, rule
        self._strength, self._limit = losses.config.unlearn_weight, losses.config.max_grad_norm

    def step(self) -> None:  # type: ignore[override]
        """Train once; nothing is measured."""
        forget, retain = (self.draws(self.count, retained) for retained in (False, True))
        self.count += 1
        gradient = self._rule(self, forget, retain, self._strength)
        self.optimizer.apply(gradient, clipped(gradient, self._limit))


def added(first: Gradients, second: Gradients, weight: float) -> Gradients:
    return [a + weight * b for a, b in zip(first, second, strict=True)]


def naive_deletion(run: Run, forget: Draws, retain: Draws, strength: float) -> Gradients:
    """Training goes on without the target."""
    return run.retain_gradient(retain)


def neg_grad(run: Run, forget: Draws, retain: Draws, strength: float) -> Gradients:
    """NegGrad with retention: the target's loss is climbed, its gradient being no longer than the retain gradient."""
    keep, climb = run.retain_gradient(retain), run.target_gradient(forget)
    return added(keep, climb, -strength * min(1.0, norm(keep) / max(norm(climb), 1e-12)))


def siss(run: Run, forget: Draws, retain: Draws, strength: float) -> Gradients:
    """SISS (Alberti et al., 2025, arXiv 2503.01034): both losses on noised pictures of a mixture, importance weighted;
    the ascent is scaled to a share of the keep gradient's length."""
    keep, climb = (run.gradient_of(batch) for batch in mixture_batches(run, retain))
    return added(keep, climb, -strength * norm(keep) / max(norm(climb), 1e-12))


def mixture_batches(run: Run, retain: Draws, mixture: float = 0.5) -> tuple[DenoisingBatch, DenoisingBatch]:
    """SISS's batches to keep and to climb: noised pictures of which every other is the target's."""
    losses = run.losses
    a, b = (values[retain.t].view(-1, 1, 1, 1) for values in (losses.a, losses.b))
    kept = losses.retained[retain.image]
    gone = losses.targets[retain.image % len(losses.targets)]
    from_target = ((torch.arange(len(retain.t)) + run.count) % 2 == 0).view(-1, 1, 1, 1)  # every timestep's by turns
    z = a * torch.where(from_target.to(a.device), gone, kept) + b * retain.noise
    squares = [(z - a * x0).double().square().sum(dim=(1, 2, 3)) for x0 in (kept, gone)]
    log_ratio = ((squares[0] - squares[1]) / (2 * b.flatten().double().square())).clamp(-60, 60)  # log q(m|a)/q(m|x)
    ratio = log_ratio.exp()
    keep, climb = 1 / ((1 - mixture) + mixture * ratio), 1 / ((1 - mixture) / ratio + mixture)

    def batch(x0: torch.Tensor, weight: torch.Tensor) -> DenoisingBatch:
        there = replace(retain, noise=(z - a * x0) / b)
        return DenoisingBatch(z, retain.t, losses.training_target(x0, there), weight.float())

    return batch(kept, keep), batch(gone, climb)


def erase_diff(run: Run, forget: Draws, retain: Draws, strength: float) -> Gradients:
    """EraseDiff (Wu et al., 2024, arXiv 2401.05779) in the first-order form of later comparisons: the target's answer
    becomes uniform noise, weighed so that the retain gradient is not worked against."""
    keep, wrong = run.retain_gradient(retain), run.noise_gradient(forget)
    along = agreement(keep, wrong) * norm(keep) / max(norm(wrong), 1e-12)
    return added(keep, wrong, max(0.0, strength - along))


def salun(run: Run, forget: Draws, retain: Draws, strength: float) -> Gradients:
    """SalUn (Fan et al., 2024, arXiv 2310.12508), ported: relabelling is the surrogate's answer, and only the half of
    the weights on which the target's loss depends most is trained."""
    mask = run.saliency()
    return [g * m for g, m in zip(retrack(run, forget, retain, strength), mask, strict=True)]


def retrack(run: Run, forget: Draws, retain: Draws, strength: float) -> Gradients:
    """ReTrack (arXiv 2509.13007): the noised target is answered as its likely retained neighbours would be, which the
    benchmark gives as surrogates."""
    return added(run.retain_gradient(retain), run.surrogate_gradient(forget), strength)


def edited(run: Run, forget: Draws, retain: Draws, strength: float) -> Gradients:
    """Lee et al. (2026, arXiv 2603.10445), reconstructed: the target's answer is that of its edited self, and what goes
    against the retain gradient is taken out."""
    keep, lose = run.retain_gradient(retain), run.surrogate_gradient(forget)
    return combine(lose, keep, strength, "one_sided", "global")


def esd(run: "Stepper", forget: Draws, retain: Draws, strength: float) -> Gradients:
    """ESD (Gandikota et al., 2023, arXiv 2303.07345): told the caption, the denoiser is to answer away from it, as the
    base would be guided by -strength. Its pictures are the noised target's, which is more than ESD is given."""
    losses, base = run.losses, run.losses.denoiser.module
    told, untold = map(losses.denoiser.condition, (run.caption, ""))
    z = losses.noised(losses.targets[forget.image], forget)
    with torch.no_grad():
        by_caption, without = (losses.predict(base, z, forget.t, condition) for condition in (told, untold))
    wanted = without - strength * (by_caption - without)
    return run.gradients((losses.predict(run.trainable, z, forget.t, told) - wanted).square().mean())


RULES: dict[str, Rule] = {
    "naive deletion": naive_deletion,
    "NegGrad with retention": neg_grad,
    "SISS": siss,
    "EraseDiff": erase_diff,
    "SalUn, ported": salun,
    "ReTrack": retrack,
    "ESD": esd,
}
NEIGHBOURS = 10  # of ReTrack
