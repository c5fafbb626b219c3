"""Plans of timesteps change which draws are seen, not what is estimated."""

import numpy as np
import pytest

from benchmarks.quality.timesteps import Replanned, important, stratified
from edge_sdk.zo import Draw, ZoConfig

COUNT = 1000


class Steep:
    """Residuals that grow with the timestep, so that large ones are steep."""

    num_images = num_prompts = 1
    num_train_timesteps, latents_shape, embedding_shape = COUNT, (1, 2, 2), (1, 4)

    def residuals(self, embeddings: np.ndarray, draws: list[Draw]) -> np.ndarray:
        return np.stack([e[0] * (1 + d.timestep / 100) for e, d in zip(embeddings, draws, strict=True)])


def drawn(timestep: int) -> Draw:
    return Draw(0, 0, timestep, np.zeros((1, 2, 2), np.float32), np.zeros((1, 2, 2), np.float32))


def test_stratified_timesteps_fill_every_tenth_of_the_range_within_thirteen_draws() -> None:
    plan = stratified()
    places = [plan(number, 0.0, 0.3)[0] for number in range(13)]
    assert len({int(place * 10) for place in places}) == 10 and places[0] == 0.3


def test_important_timesteps_are_the_steep_ones_and_their_weights_keep_the_mean() -> None:
    zo = ZoConfig(optimizer="gauss_newton", zo_samples=2, subspace_buffer=0, timestep_range=(0, COUNT))
    plan = important([Steep()], np.ones((1, 4), np.float32), np.eye(4, dtype=np.float32)[:2], zo)
    uniforms = (np.arange(4000) + 0.5) / 4000
    places, weights = np.array([plan(0, u, 0.0) for u in uniforms]).T
    assert places.mean() > 0.6
    assert np.mean(weights * places**2) == pytest.approx(1 / 3, rel=0.01)


def test_rows_of_one_draw_get_one_timestep_and_the_next_draw_another() -> None:
    planned = Replanned(Steep(), lambda number, _uniform, _first: (number / 10, 4.0))
    first, second = drawn(500), drawn(500)
    rows = np.ones((3, 1, 4), np.float32)
    found = planned.residuals(rows, [first, first, second])
    assert np.allclose(found[:, 0], [2 * 1, 2 * 1, 2 * 2])
    assert np.allclose(planned.losses(rows[:1], [drawn(0)]), 4 * 3**2)
