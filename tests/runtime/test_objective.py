"""Loss and residuals of a bundle are those of PyTorch on the same weights, row by row."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk import EdgeSdkError, Personalizer
from edge_sdk.config import PersonalizeConfig
from edge_sdk.images import Photos, load_photos
from edge_sdk.runtime.onnx.session import Session
from edge_sdk.zo import draw
from tests.runtime.conftest import Pairs

KINDS = [("pocket", "int8"), ("sd1", "int8"), ("sd2", "int4"), ("sdxl", "int8"), ("flow", "none")]
TOLERANCE = 1e-5  # relative, of a loss


def prepared(personalizer: Personalizer, photos: Path | Photos, **options: Any) -> Any:
    return personalizer.prepare(photos, PersonalizeConfig.from_options(initializer_token="person", **options))


@pytest.mark.parametrize("use_captions", [False, True], ids=["templates", "captions"])
@pytest.mark.parametrize(("family", "weights"), KINDS, ids=lambda value: value)
def test_loss_and_residuals_are_those_of_pytorch_for_the_same_draws(
    family: str, weights: str, use_captions: bool, pair_of: Pairs, photos: Path
) -> None:
    loaded = replace(load_photos(photos, 16), captions=("a dark {}", "{} in the mug", "close up"))
    own, wanted = (prepared(p, loaded, num_vectors=2, use_captions=use_captions) for p in pair_of(family, weights))
    assert (own.objective.ids == wanted.objective.ids.numpy()).all() and own.widths == wanted.widths
    assert own.fingerprints["photos"] == wanted.fingerprints["photos"]
    np.testing.assert_allclose(own.objective.latents.mean, wanted.objective.latents.mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(own.objective.latents.std, wanted.objective.latents.std, rtol=1e-4, atol=1e-5)
    rng = np.random.default_rng(0)
    moved = own.vocabulary_std * rng.standard_normal((8, *own.initial.shape))
    embeddings = (own.initial / own.scale + moved).astype(np.float32)
    draws = draw(own.objective, 0, 0, 8, (0, 1000))
    losses = own.objective.losses(embeddings, draws)
    assert losses.dtype == np.float64 and len(set(losses)) == 8
    np.testing.assert_allclose(losses, wanted.objective.losses(embeddings, draws), rtol=TOLERANCE)
    residuals, reference = (side.objective.residuals(embeddings, draws) for side in (own, wanted))
    assert residuals.dtype == np.float32 and residuals.shape == (8, np.prod(own.objective.latents_shape))
    np.testing.assert_allclose(residuals, reference, atol=TOLERANCE * np.abs(reference).max())
    np.testing.assert_allclose((residuals.astype(np.float64) ** 2).mean(axis=1), losses, rtol=1e-6)


@pytest.mark.parametrize(("family", "weights"), KINDS, ids=lambda value: value)
def test_where_learning_starts_and_its_bounds_are_those_of_pytorch(
    family: str, weights: str, pair_of: Pairs, photos: Path
) -> None:
    own, wanted = (prepared(p, photos) for p in pair_of(family, weights))
    np.testing.assert_allclose(own.initial, wanted.initial, rtol=1e-3, atol=1e-5)  # tables may be in half precision
    np.testing.assert_allclose(own.scale, np.broadcast_to(wanted.scale, own.scale.shape), rtol=1e-4)
    assert np.ravel(own.norm_range) == pytest.approx(np.ravel(wanted.norm_range), rel=1e-4)
    assert own.vocabulary_std == pytest.approx(wanted.vocabulary_std, rel=1e-5)
    assert own.zo.to_dict().keys() == wanted.zo.to_dict().keys() and own.zo.optimizer == "gauss_newton"


@pytest.mark.parametrize("num_vectors", [1, 2], ids=["1 vector", "2 vectors"])
@pytest.mark.parametrize(("family", "weights"), KINDS, ids=lambda value: value)
def test_directions_are_those_of_pytorch(
    family: str, weights: str, num_vectors: int, pair_of: Pairs, photos: Path
) -> None:
    own, wanted = (prepared(p, photos, num_vectors=num_vectors) for p in pair_of(family, weights))
    assert own.basis.shape == (num_vectors * own.zo.zo_samples, *own.initial.shape) and own.basis.dtype == np.float32
    np.testing.assert_allclose(own.basis, wanted.basis, atol=1e-3 * np.abs(wanted.basis).max())


def test_directions_are_read_only_where_they_are_needed(bundle_of: Callable[[str, str], Path], photos: Path) -> None:
    personalizer = Personalizer.from_bundle(bundle_of("sd1", "int8"))
    assert prepared(personalizer, photos, preset="paper").basis is None
    with pytest.raises(EdgeSdkError, match=r"^zo_samples is 33; there are 32 directions to choose from$"):
        prepared(personalizer, photos, zo_samples=33)
    assert prepared(personalizer, photos, zo_samples=33, num_vectors=2).basis.shape == (64, 2, 32)


def test_neighbouring_rows_with_one_embedding_are_one_call(
    bundle_of: Callable[[str, str], Path], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = prepared(Personalizer.from_bundle(bundle_of("sd1", "int8")), photos)
    objective, a = made.objective, made.initial
    draws = draw(objective, 0, 0, 5, (0, 1000))
    rows = np.stack([a, a, 1.5 * a, a, a])
    alone = np.concatenate([objective.losses(rows[b : b + 1], draws[b : b + 1]) for b in range(5)])
    call, calls = Session.__call__, []

    def counted(session: Session, **inputs: np.ndarray) -> list[np.ndarray]:
        calls.append(len(inputs["latents"]))
        return call(session, **inputs)

    monkeypatch.setattr(Session, "__call__", counted)
    np.testing.assert_allclose(objective.losses(rows, draws), alone, rtol=1e-6)
    assert calls == [2, 1, 2]
