"""Other ways to make a model forget a picture, on the same draws, optimizer and losses as ours.

Each is one function from a step's draws to the gradient that Adam descends. Rules and constants are the papers' where
they carry over; what was tuned to their models (learning rate, steps, strength) is scanned by the benchmark instead.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.training.loop import Unlearner
from edge_sdk.unlearning.training.losses import DenoisingBatch, Draws, Losses
from edge_sdk.unlearning.training.optimizer import clipped, norm
from edge_sdk.unlearning.training.surgery import agreement

Gradients = Sequence[torch.Tensor]
Rule = Callable[["Stepper", Draws, Draws, float], Gradients]  # draws of targets, of retained pictures, the strength


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


class Stepper(Unlearner):
    """The product's loop with another rule for the gradient: all layers trained, no weights over timesteps, no surgery,
    and retention on the own noise of any pictures. ``unlearn_weight`` is the strength of a rule's forgetting."""

    def __init__(self, losses: Losses, rule: Rule, caption: str = "") -> None:
        config = plain(losses.config)
        super().__init__(Losses(losses.denoiser, losses.targets, losses.surrogates, losses.retained, config))
        self.caption, self._rule = caption, rule
        self._strength, self._limit = losses.config.unlearn_weight, losses.config.max_grad_norm
        self.saliency: Gradients | None = None
        self.count = 0

    def step(self) -> None:  # type: ignore[override]
        """Train once; nothing is measured."""
        forget, retain = (self.draws(self.count, retained) for retained in (False, True))
        self.count += 1
        gradient = self._rule(self, forget, retain, self._strength)
        self.optimizer.apply(gradient, clipped(gradient, self._limit))

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


def added(first: Gradients, second: Gradients, weight: float) -> Gradients:
    return [a + weight * b for a, b in zip(first, second, strict=True)]


def naive_deletion(run: Stepper, forget: Draws, retain: Draws, strength: float) -> Gradients:
    """Training goes on without the target."""
    return run.retain_gradient(retain)


def neg_grad(run: Stepper, forget: Draws, retain: Draws, strength: float) -> Gradients:
    """NegGrad with retention: the target's loss is climbed, its gradient being no longer than the retain gradient."""
    keep, climb = run.retain_gradient(retain), run.target_gradient(forget)
    return added(keep, climb, -strength * min(1.0, norm(keep) / max(norm(climb), 1e-12)))


def siss(run: Stepper, forget: Draws, retain: Draws, strength: float, mixture: float = 0.5) -> Gradients:
    """SISS (Alberti et al., 2025, arXiv 2503.01034): both losses on noised pictures of a mixture, importance weighted;
    the ascent is scaled to a share of the keep gradient's length."""
    losses = run.losses
    a, b = (values[retain.t].view(-1, 1, 1, 1) for values in (losses.a, losses.b))
    kept = losses.retained[retain.image]
    gone = losses.targets[retain.image % len(losses.targets)]
    from_target = ((retain.row + run.count) % 2 == 0).view(-1, 1, 1, 1)  # every timestep's by turns
    z = a * torch.where(from_target, gone, kept) + b * retain.noise
    squares = [(z - a * x0).double().square().sum(dim=(1, 2, 3)) for x0 in (kept, gone)]
    log_ratio = ((squares[0] - squares[1]) / (2 * b.flatten().double().square())).clamp(-60, 60)  # log q(m|a)/q(m|x)
    ratio = log_ratio.exp()
    weights = [1 / ((1 - mixture) + mixture * ratio), 1 / ((1 - mixture) / ratio + mixture)]
    gradients = []
    for x0, weight in zip((kept, gone), weights, strict=True):
        there = replace(retain, noise=(z - a * x0) / b)
        gradients.append(
            run.gradient_of(DenoisingBatch(z, retain.t, losses.training_target(x0, there), weight.float()))
        )
    keep, climb = gradients
    return added(keep, climb, -strength * norm(keep) / max(norm(climb), 1e-12))


def erase_diff(run: Stepper, forget: Draws, retain: Draws, strength: float) -> Gradients:
    """EraseDiff (Wu et al., 2024, arXiv 2401.05779) in the first-order form of later comparisons: the target's answer
    becomes uniform noise, weighed so that the retain gradient is not worked against."""
    losses, keep = run.losses, run.retain_gradient(retain)
    z = losses.noised(losses.targets[forget.image], forget)
    generator = torch.Generator().manual_seed(run.count)
    uniform = torch.rand(z.shape, generator=generator).to(z.device)
    wrong = run.gradient_of(DenoisingBatch(z, forget.t, uniform))
    size = norm(wrong)
    along = agreement(keep, wrong) * norm(keep) / max(size, 1e-12)
    return added(keep, wrong, max(0.0, strength - along))


def salun(run: Stepper, forget: Draws, retain: Draws, strength: float) -> Gradients:
    """SalUn (Fan et al., 2024, arXiv 2310.12508), ported: relabelling is the surrogate's answer, and only the half of
    the weights on which the target's loss depends most is trained."""
    if run.saliency is None:
        many = [run.draws(10_000 + i, False) for i in range(4)]
        total = [torch.zeros_like(p) for p in run.parameters]
        for draws in many:
            total = added(total, run.target_gradient(draws), 1.0)
        median = torch.cat([g.abs().flatten() for g in total]).median()
        run.saliency = [(g.abs() >= median).float() for g in total]
    keep = run.retain_gradient(retain)
    both = added(keep, run.gradients(run.losses.forget(run.trainable, forget).mean()), strength)
    return [g * m for g, m in zip(both, run.saliency, strict=True)]


def retrack(run: Stepper, forget: Draws, retain: Draws, strength: float) -> Gradients:
    """ReTrack (arXiv 2509.13007): the noised target is answered as its likely retained neighbours would be, which the
    benchmark gives as surrogates."""
    return added(run.retain_gradient(retain), run.gradients(run.losses.forget(run.trainable, forget).mean()), strength)


def esd(run: Stepper, forget: Draws, retain: Draws, strength: float) -> Gradients:
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
