"""One target, one method, one seed: unlearn, then measure."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.baselines.unlearning import NEIGHBOURS, RULES, Stepper
from benchmarks.unlearning.cases import Case
from benchmarks.unlearning.ruler import Ruler
from edge_sdk.unlearning.audit.measure import Model
from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.loop import Unlearner
from edge_sdk.unlearning.losses import Losses

OURS = "ours"


def run(
    base: Model, case: Case, ruler: Ruler, method: str, strength: float, config: UnlearnConfig
) -> tuple[dict[str, Any], np.ndarray]:
    """What is measured at the end of a run, and what then becomes of the target.

    Args:
        method: "ours" or one of `RULES`.
        strength: what its forgetting is multiplied by.
    """
    surrogates = case.surrogates
    if method == "ReTrack":
        gaps = torch.cdist(case.target.x0.flatten(1), case.retained.x0.flatten(1))
        surrogates = case.retained.x0[gaps[0].topk(NEIGHBOURS, largest=False).indices][None]
    config = replace(config, unlearn_weight=strength)
    losses = Losses(base.denoiser, case.target.x0, surrogates, case.retained.x0, config)
    runner: Unlearner = Unlearner(losses) if method == OURS else Stepper(losses, RULES[method], case.caption)
    for _ in range(config.max_train_steps):
        runner.step()
    repaired = replace(base, call=runner.trainable.frozen())
    with torch.no_grad():
        row = ruler(repaired)
        if method == OURS:
            row["without_rise"] = sum(s.retain_change <= 0 for s in runner.history) / len(runner.history)
            row |= ruler.in_forms(runner.trainable)
        return row, ruler.shown(repaired)
