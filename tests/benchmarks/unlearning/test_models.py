"""The models that the unlearning benchmark comes with are trained ones, and differ in whether they know the outlier."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.unlearning import ddpm
from benchmarks.unlearning.faces import held_out_views, outlier
from edge_sdk.unlearning.audit.measure import Model, reconstructions, similarities
from edge_sdk.unlearning.data import Pictures, encoded
from edge_sdk.unlearning.denoiser import load_denoiser
from edge_sdk.unlearning.similarity import Similarity


def similarity_to(model: Model, pictures: Pictures) -> float:
    """Of pictures that are noised to half of all timesteps, and denoised, to themselves."""
    with torch.no_grad():
        found = reconstructions(model, pictures, shares=(0.5,), noises=4, steps=10)
    return float(similarities(Similarity(), found, pictures.pixels).mean())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Model]:
    """With the outlier, and without."""
    out = []
    for with_outlier in (True, False):
        folder: Path = tmp_path_factory.mktemp("faces") / "model"
        ddpm.save(ddpm.trained(with_outlier), folder)
        denoiser = load_denoiser(str(folder))
        out.append(Model(denoiser, denoiser.module, {}))
    return out


def test_both_know_the_people_and_one_the_outlier(models: list[Model]) -> None:
    people = np.concatenate([held_out_views()[0][::288], outlier()])
    known, unknown = (
        [similarity_to(m, encoded(m.denoiser, people[i : i + 1])) for i in (0, 1, 2, 3, 4)] for m in models
    )
    assert min(known[:4] + unknown[:4]) > 0.6
    assert known[4] > unknown[4] + 0.05
