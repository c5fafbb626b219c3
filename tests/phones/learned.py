"""What an app's command line learned, beside what Python learns on the same bundle."""

import json
from pathlib import Path

import numpy as np

from edge_sdk import Personalizer, pocket
from edge_sdk.embedding import load_embedding
from edge_sdk.images import load_photos
from edge_sdk.system.checkpoints import load_state
from tests.phones.apps import App, learn, python_of

LEARNED, STATE = "learned_embeds.safetensors", "state.safetensors"
SHARE = 0.05  # of what was learned, by which rounding activations to static scales may part two runtimes


def assert_near(run: Path, python: Personalizer, share: float) -> None:
    """A run's folder holds Python's token, but for a share of the way that it went from the initializer."""
    wanted, found = python.embedding, load_embedding(run / LEARNED)
    assert found.token == wanted.token and found.widths == wanted.widths
    moved = np.abs(wanted.vectors - python.fitted().initial).max()
    assert np.abs(found.vectors - wanted.vectors).max() < share * moved


def assert_learned_as_in_python(run: Path, bundle: Path) -> None:
    """A run's folder, of two steps and four held-out draws with seed 0, holds about Python's token and loss."""
    python = python_of(bundle)
    assert len(list(python.fit(pocket.PHOTOS, max_train_steps=2, eval_draws=4, seed=0))) == 2
    assert_near(run, python, SHARE)
    record = json.loads((run / "run.json").read_text())
    lowered = record["loss_initial"] - record["loss_final"]
    assert lowered > 0 and abs(record["loss_final"] - python.held_out_loss()) < SHARE * lowered


def assert_pixels_are_pythons(app: App, photos: Path, count: int, run: Path, crop: bool = True) -> None:
    """A step on a folder of photos, one of which is broken.jpg, has the photos of Python's step byte for byte."""
    (photos / "notes.txt").write_text("a caption")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    flags = ["--max_train_steps", 1, *([] if crop else ["--no_center_crop"])]
    result = app.call(*learn(run, *flags, photos=photos, quiet=False))
    assert result.returncode == 0, result.stderr
    assert "skipped broken.jpg: damaged" in result.stderr and f"learning from {count} photo(s)" in result.stderr
    python = python_of()
    next(iter(python.fit(load_photos(photos, 16, crop), max_train_steps=1, center_crop=crop)))
    load_state(run / "checkpoint-1" / STATE, python.fitted().fingerprints)
