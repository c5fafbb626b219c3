"""What an app's command line learned, beside what Python learns on the same bundle."""

import json
from pathlib import Path

import numpy as np

from edge_sdk import Personalizer, pocket
from edge_sdk.embedding import load_embedding

LEARNED = "learned_embeds.safetensors"
SHARE = 0.05  # of what was learned, by which rounding activations to static scales may part two runtimes


def assert_learned_as_in_python(run: Path, bundle: Path) -> None:
    """A run's folder, of two steps and four held-out draws with seed 0, holds about Python's token and loss."""
    python = Personalizer.from_bundle(bundle)
    python.notify = lambda line: None
    assert len(list(python.fit(pocket.PHOTOS, max_train_steps=2, eval_draws=4, seed=0))) == 2
    record, found = json.loads((run / "run.json").read_text()), load_embedding(run / LEARNED)
    moved = np.abs(python.embedding.vectors - python.fitted().initial).max()
    assert np.abs(found.vectors - python.embedding.vectors).max() < SHARE * moved
    lowered = record["loss_initial"] - record["loss_final"]
    assert lowered > 0 and abs(record["loss_final"] - python.held_out_loss()) < SHARE * lowered
