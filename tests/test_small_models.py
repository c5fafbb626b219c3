"""Models as phones have them, without a middle block or with lists of layers, through the whole product."""

from pathlib import Path

import numpy as np
import pytest

from edge_sdk import quantize
from edge_sdk.generation import generate
from edge_sdk.run_folder import run_personalization
from edge_sdk.runtime.pytorch.memory_budget import Estimator
from edge_sdk.runtime.pytorch.model import open_model
from tests import tiny_models

KINDS = [("bk-sdm-tiny", "int8"), ("tiny-sd", "int4"), ("ssd-1b", "int8"), ("vega", "int4"), ("lists", "int4")]


@pytest.mark.parametrize(("family", "weights"), KINDS, ids=lambda value: value)
def test_a_small_model_is_quantized_learns_a_token_and_draws_it(
    family: str, weights: str, photos: Path, tmp_path: Path
) -> None:
    source, checkpoint, run = tiny_models.build(tmp_path / "model", family), tmp_path / "checkpoint", tmp_path / "run"
    quantize(str(source), checkpoint, weights)
    few = {"initializer_token": "dog", "max_train_steps": 2, "eval_draws": 2, "preview": False}
    record = run_personalization(photos, run, str(checkpoint), weights=weights, residency="streamed", **few)
    assert record["steps"] == 2 and np.isfinite(record["loss_final"])
    learned = [run / "learned_embeds.safetensors"]
    drawn = [
        np.asarray(generate("a <subject>", str(model), embeddings, weights=weights, num_inference_steps=2)[0])
        for model, embeddings in ((checkpoint, learned), (source, learned), (checkpoint, []))
    ]
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()


def test_a_row_is_estimated_from_the_blocks_that_are_there(tmp_path: Path) -> None:
    stages = Estimator(open_model(str(tiny_models.build(tmp_path / "model", "bk-sdm-small"))), 64, 0.0)
    row = stages.training("resident", 1001) - stages.training("resident", 1000)
    text = 8.0 * 24 * 64  # a hidden layer at 24 positions, eight times
    # The last level has 32 channels and a skip of 32 at 32 x 32, three times, and two outputs; no other skip waits.
    assert row == pytest.approx(4e-6 * (text + 32 * 32 * (3 * (32 + 32) + 2 * 32)))
