"""Pictures in the middle of learning: those of the saved token, and learning goes on as if none had been drawn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk import EdgeSdkError, Personalizer, generate, pocket

DRAW: dict[str, Any] = {"num_inference_steps": 2, "num_images": 2, "seed": 5}
LEARN: dict[str, Any] = {"max_train_steps": 3, "zo_samples": 4, "eval_draws": 4}
PROMPTS = ["a picture of <subject>", "a person"]


def opened(kind: str, bundle_of: Callable[[str, str], Path]) -> tuple[Personalizer, dict[str, Any]]:
    """A personalizer, and what `generate` opens the same model with."""
    if kind == "bundle":
        folder = bundle_of("pocket", "int8")
        return Personalizer.from_bundle(folder), {"bundle": folder}
    return Personalizer.from_pretrained("pocket"), {}


@pytest.mark.parametrize("kind", ["model", "bundle"])
def test_pictures_are_those_of_the_saved_token(
    kind: str, bundle_of: Callable[[str, str], Path], tmp_path: Path
) -> None:
    personalizer, model = opened(kind, bundle_of)
    before = personalizer.generate("a person", **DRAW)
    steps = personalizer.fit(pocket.PHOTOS, **LEARN)
    next(steps)
    drawn = personalizer.generate(PROMPTS, negative_prompt="a hat", **DRAW)
    saved = personalizer.save(tmp_path)
    again = generate(PROMPTS, embeddings=[saved], negative_prompt="a hat", **DRAW, **model)
    assert len(drawn) == 4 and [np.asarray(p).tolist() for p in drawn] == [np.asarray(p).tolist() for p in again]
    assert "<subject>" in drawn[0].info["parameters"]
    assert (np.asarray(before[0]) == np.asarray(generate("a person", **DRAW, **model)[0])).all()
    rest = [step.embedding.tobytes() for step in steps]
    undisturbed = list(opened(kind, bundle_of)[0].fit(pocket.PHOTOS, **LEARN))
    assert rest == [step.embedding.tobytes() for step in undisturbed][1:]


def test_wrong_settings_are_said() -> None:
    personalizer = Personalizer.from_pretrained("pocket")
    for options, words in (
        ({"num_images": 0}, "num_images is 0"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
    ):
        with pytest.raises(EdgeSdkError, match=words):
            personalizer.generate("a person", **options)
