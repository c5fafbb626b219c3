"""The figures of an audit: what two models make of targets, of other pictures, and of noise."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from edge_sdk.errors import EdgeSdkError
from edge_sdk.unlearning.audit import measure, recovery
from edge_sdk.unlearning.audit.limits import FORMS
from edge_sdk.unlearning.audit.measure import Model
from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.data import Pictures, encoded
from edge_sdk.unlearning.denoiser import Denoiser
from edge_sdk.unlearning.similarity import Similarity
from edge_sdk.unlearning.training.losses import Losses
from edge_sdk.unlearning.training.trainable import in_form

WHEN = ("before", "after")
NEIGHBOURS = 8  # retained pictures most like a target
RETAINED, SAMPLES = 24, 16  # other pictures beside which a target's change is judged, at most; neighbours come on top
NOISES = 4  # of the reconstructions of each of those
TAIL = 0.05  # share of other pictures that may have lost more than a target is compared with
WORST = 0.95  # quantile that stands for the worst tail


@dataclass(frozen=True)
class Subject:
    """What is audited, and the pictures for it."""

    base: Denoiser
    repaired: Denoiser
    targets: Pictures
    retained: Pictures
    control: Pictures


@dataclass(frozen=True)
class Pictured:
    """What the page shows beside the figures: arrays of pictures (N, 3, H, W)."""

    samples: dict[str, np.ndarray]  # (2, N, 3, H, W), before and after, by form
    like_target: dict[str, np.ndarray]  # (2, N) bool, which of those are most like a target
    reconstructions: dict[str, np.ndarray]  # a few of each target, before, and after by form: (N, few, 3, H, W)
    targets: np.ndarray


def collect(
    subject: Subject, config: UnlearnConfig, similarity: Similarity, count: int, notify: Callable[[str], None]
) -> tuple[dict[str, Any], Pictured]:
    """All figures of an audit, and the pictures that go with them.

    Args:
        count: free samples of each model.

    Raises:
        EdgeSdkError: the model before draws nothing but targets.
    """
    base, targets, retained = subject.base, subject.targets, subject.retained
    condition = base.condition(config.prompt)
    losses = Losses(base, targets.x0, targets.x0[:, None], retained.x0, config)
    neighbours, others = chosen_others(targets, retained, similarity)
    figures: dict[str, Any] = {"forgetting": {}, "samples_like_targets": {}, "integrity": {}, "attacks": {}}
    figures["relearning_steps"] = [0, *recovery.RELEARNING]
    rebuilt: dict[str, np.ndarray] = {}
    drawn: dict[str, np.ndarray] = {}
    like: dict[str, np.ndarray] = {}

    for name, form in FORMS.items():
        notify(f"{name} weights: reconstructions, and {count} samples of each model")
        old, new = (Model(model, in_form(model.module, form), condition) for model in (base, subject.repaired))
        with torch.no_grad():
            drawn[name] = np.stack([measure.samples(model, count, config.seed) for model in (old, new)])
            hits = np.stack(
                [
                    [measure.hits(similarity, samples, target, retained.pixels) for target in targets.pixels]
                    for samples in drawn[name]
                ]
            )  # (2, targets, N)
            like[name] = np.any(hits, axis=1)
            if like[name][0].all():
                raise EdgeSdkError(
                    f"each of the {count} samples of the model before is more like a target than like any retained "
                    "picture, so nothing shows what else it lost; give other pictures as retain_data_dir"
                )
            figures["samples_like_targets"][name] = {
                "before": [_rate(hit) for hit in hits[0]],
                "after": [
                    _rate(hit) | {"rise": float(hit.mean() - was.mean())} for was, hit in zip(*hits, strict=True)
                ],
            }
            pair = [measure.reconstructions(model, targets, config.seed) for model in (old, new)]
            rebuilt |= ({"before": pair[0]} if name == "float" else {}) | {name: pair[1]}
            forgetting = {when: _remembered(one, targets, similarity) for when, one in zip(WHEN, pair, strict=True)}
            kept = _reconstructed(old, new, retained[others], config.seed)
            own = encoded(base, drawn[name][0][~like[name][0]][:SAMPLES])  # none that should be forgotten too
            lost = {
                "retained": _changes(kept, retained[others], similarity),
                "samples": _changes(_reconstructed(old, new, own, config.seed), own, similarity),
            }
            forgetting["change"] = beyond_others(forgetting, lost)
            figures["forgetting"][name] = forgetting
            near = [one[np.isin(others, neighbours), 0].reshape(-1, *one.shape[3:]) for one in kept]
            figures["integrity"][name] = {
                **_integrity(old, new, drawn[name], losses, similarity),
                "neighbour_drift": float(measure.drift(similarity, *near).mean()),
            }
        notify(f"{name} weights: recovery attacks")
        figures["attacks"][name] = recovery.attacks(old, new, form, targets, subject.control, similarity, config)
    few = {name: values[:, 2, :4] for name, values in rebuilt.items()}
    return figures, Pictured(drawn, like, few, targets.pixels)


def chosen_others(targets: Pictures, retained: Pictures, similarity: Similarity) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the retained pictures most like a target, and of all beside which targets are judged, rising."""
    neighbours = np.unique(similarity(targets.pixels, retained.pixels).argsort(axis=1)[:, -NEIGHBOURS:])
    spread = np.linspace(0, len(retained) - 1, min(RETAINED, len(retained))).round().astype(np.int64)
    return neighbours, np.union1d(neighbours, spread)


def beyond_others(forgetting: dict[str, Any], lost: dict[str, np.ndarray]) -> dict[str, Any]:
    """What targets lost that other pictures did not.

    A cast, or a model that got worse as a whole, makes every reconstruction less like its picture. So a target's change
    counts from where the most affected twentieth of other pictures is: of the retained ones or of the base's own
    samples, which no one can choose, whichever lost more.

    Args:
        forgetting: what `_remembered` gives before and after.
        lost: change of the similarity of other pictures to their reconstructions, (N,) each, by their kind.
    """
    by_target = np.subtract(forgetting["after"]["by_target"], forgetting["before"]["by_target"])
    tails = {name: float(np.quantile(values, TAIL)) for name, values in lost.items()}
    return {
        "by_target": by_target.tolist(),
        **{name: {"mean": float(values.mean()), "tail": tails[name]} for name, values in lost.items()},
        "beyond_others": (by_target - min(0.0, *tails.values())).tolist(),
    }


def _reconstructed(old: Model, new: Model, pictures: Pictures, seed: int) -> list[np.ndarray]:
    """By each model, of pictures from late timesteps: (N, timesteps, noises, 3, H, W)."""
    noises = min(NOISES, measure.NOISES)
    return [measure.reconstructions(model, pictures, seed, measure.LATE, noises) for model in (old, new)]


def _changes(pair: list[np.ndarray], pictures: Pictures, similarity: Similarity) -> np.ndarray:
    """How much less or more pictures (N,) are like their reconstructions after than before."""
    before, after = (measure.similarities(similarity, one, pictures.pixels).mean(axis=(1, 2)) for one in pair)
    return after - before


def _integrity(old: Model, new: Model, drawn: np.ndarray, losses: Losses, similarity: Similarity) -> dict[str, Any]:
    """What else moved, of weights in one form; ``drawn`` are both models' samples from the same noises."""
    moved = measure.drift(similarity, *drawn)
    by_bin = {when: measure.loss_by_timestep(model, losses) for when, model in zip(WHEN, (old, new), strict=True)}
    return {
        "drift": float(moved.mean()),
        "worst_drift": float(np.quantile(moved, WORST)),
        "kernel_distance": measure.kernel_distance(*map(similarity.features, drawn)),
        "loss_by_timestep": {name: values.tolist() for name, values in by_bin.items()},
        "retain_loss_rise": float(by_bin["after"].sum() / by_bin["before"].sum() - 1),
    }


def _remembered(rebuilt: np.ndarray, targets: Pictures, similarity: Similarity) -> dict[str, Any]:
    """How like targets their reconstructions (N, timesteps, noises, 3, H, W) are."""
    values = measure.similarities(similarity, rebuilt, targets.pixels)
    late = values[:, [measure.TIMESTEPS.index(share) for share in measure.LATE]].mean(axis=(1, 2))
    return {"by_timestep": values.mean(axis=(0, 2)).tolist(), "by_target": late.tolist(), "mean": float(late.mean())}


def _rate(hit: np.ndarray) -> dict[str, float]:
    return {"rate": float(hit.mean()), "upper_95": measure.upper_bound(int(hit.sum()), len(hit))}
