"""Textual inversion that stops by itself: DVAR (Voronov et al., 2023, arXiv 2302.04841), on backpropagation.

The loss on fixed training draws is measured every few steps. A run ends once its variance over the last looks is a
small share of its variance over all looks.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.lib.baselines.backprop import BackpropConfig, train
from benchmarks.lib.lockstep import View
from benchmarks.quality.learn import REFERENCES, VIEWS, Bench, Run, all_losses
from benchmarks.quality.measure import losses
from edge_sdk.system.memory import keep_heap
from edge_sdk.zo import held_out_draws

WINDOW, THRESHOLD = 8, 0.15  # looks, share; the paper's threshold, and a window for runs that are as short as these
EVERY, DRAWS = 3, 8  # steps between two looks, draws of a look
CONFIG = BackpropConfig(max_train_steps=150, learning_rate=1e-2, end_factor=1.0)


def stop(looks: np.ndarray) -> int:
    """The look, from 0, after which a run ends; the last one if its loss never settles."""
    for end in range(WINDOW, len(looks) + 1):
        if looks[end - WINDOW : end].var() < THRESHOLD * looks[:end].var():
            return end - 1
    return len(looks) - 1


def stopped_runs(bench: Bench, runs: Sequence[Run], backward: int) -> list[dict[str, Any]]:
    """Rows of runs with the loss where each stopped, and the forward passes up to there.

    Args:
        backward: forward passes that a draw with its backward pass counts as.
    """
    keep_heap()
    views = [View(bench.objective, subject * VIEWS, REFERENCES) for subject, _ in runs]
    kept = range(EVERY, CONFIG.max_train_steps + 1, EVERY)
    tokens = train(bench.objective, views, bench.initial, [seed for _, seed in runs], CONFIG, kept)
    fixed = [[view.to_global(d) for d in held_out_draws(view, 1, DRAWS, (0, 1000))] for view in views]
    looks = np.stack([all_losses(bench.objective, each, fixed).mean(axis=1) for each in tokens])  # (looks, runs)
    ends = [stop(looks[:, i]) for i in range(len(runs))]
    rows = losses(bench, np.stack([tokens[end, i] for i, end in enumerate(ends)]), runs)
    cost = CONFIG.train_batch_size * EVERY * backward + DRAWS
    return [
        row | {"steps": EVERY * (end + 1), "forwards": cost * (end + 1)} for row, end in zip(rows, ends, strict=True)
    ]
