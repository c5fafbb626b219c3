"""Rows in lockstep with a token's own: differences of residuals of every kind of model, of any size."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edge_sdk.diffusion.conditioning import add_time_ids
from edge_sdk.diffusion.networks import lockstep
from edge_sdk.runtime.pytorch.model import open_model
from edge_sdk.runtime.pytorch.objective import Latents, StableDiffusionObjective
from edge_sdk.zo import Draw, draw, near
from tests import tiny_models

FAMILIES = ("sd1", "sd2", "sdxl", "vega", "lists", "only-cross")


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build(tmp_path_factory.mktemp("lockstep") / "model", request.param)


def objective_of(folder: Path, weights: str, execution: str, activations: str = "16") -> StableDiffusionObjective:
    """Two photos with a caption each, and a word of two vectors."""
    model = open_model(str(folder), weights, execution)
    text, shape = model.load_text(), (2, *model.latents_shape(model.resolution()))
    latents = Latents(
        torch.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32)), torch.ones(shape)
    )
    ids = text.tokenize(["a photo of <s>", "<s> and a dog"], {"<s>": 2})[:, None]
    sides = [(16, 16)] * 2
    inputs = (text, model.load("unet"), model.load_schedule(), latents, ids, 2, add_time_ids(sides, (16, 16)))
    return StableDiffusionObjective(*inputs, activations)


def rows_near(objective: StableDiffusionObjective, length: float) -> tuple[np.ndarray, np.ndarray, list[Draw]]:
    """A token, itself and six others near it, and one draw for all."""
    rng = np.random.default_rng(3)
    token = rng.standard_normal(objective.embedding_shape).astype(np.float32)
    steps = rng.standard_normal((6, *token.shape)).astype(np.float32)
    return (
        token,
        np.concatenate([token[None], token + np.float32(length) * steps]),
        draw(objective, 1, 0, 1, (400, 600)) * 7,
    )


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_differences_are_those_of_float_activations_at_any_length(folder: Path, weights: str) -> None:
    exact, objective = objective_of(folder, weights, "fused"), objective_of(folder, weights, "integer", "difference")
    for length in (0.3, 0.003):
        token, rows, draws = rows_near(objective, length)
        found, truth = near(objective, token).residuals(rows, draws), exact.residuals(rows, draws)
        change = truth[1:] - truth[:1]
        assert np.linalg.norm(found[1:] - found[:1] - change) < 0.06 * np.linalg.norm(change)
        np.testing.assert_allclose(found[0], truth[0], atol=0.01 * np.abs(truth[0]).max())


def test_a_row_is_the_same_in_calls_of_any_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = objective_of(folder, "int8", "integer", "difference")
    token, rows, draws = rows_near(objective, 0.1)
    beside = near(objective, token)
    together = beside.residuals(rows, draws)
    parts = [beside.residuals(rows[i : i + 2], draws[i : i + 2]) for i in range(0, 7, 2)]
    np.testing.assert_array_equal(np.concatenate(parts), together)
    monkeypatch.setattr(lockstep, "POSITIONS", 1)  # a row at a time
    np.testing.assert_array_equal(beside.residuals(rows, draws), together)


def test_rows_of_several_draws_each_have_the_token_on_their_own_draw(folder: Path) -> None:
    objective = objective_of(folder, "int8", "integer", "difference")
    token, rows, _ = rows_near(objective, 0.1)
    draws = draw(objective, 2, 0, 7, (0, 1000))
    draws[3] = draws[1]
    losses, beside = near(objective, token).losses(rows, draws), near(objective, token)
    alone = [beside.losses(rows[b : b + 1], draws[b : b + 1])[0] for b in range(7)]
    np.testing.assert_array_equal(losses, alone)
    np.testing.assert_allclose(losses, objective.losses(rows, draws), rtol=0.02)
