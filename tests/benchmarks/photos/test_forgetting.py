"""What is reported of a model that was to forget a photo."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.photos import faces, fashion, forget_faces, forget_products, olivetti, wardrobe
from benchmarks.photos.forgetting import Photos, Pictures, Ruler, measured, opened, pictures_of, table, threshold
from edge_sdk.unlearning.similarity import Similarity


def people(count: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Three pictures each of people who are patterns, with noise."""
    rng = np.random.default_rng(0)
    each = np.repeat(rng.standard_normal((count, 3, 32, 32)), 3, axis=0)
    pixels = (each + noise * rng.standard_normal(each.shape)) / 4
    return pixels.clip(-1, 1).astype(np.float32), np.repeat(np.arange(count), 3)


@pytest.mark.parametrize(("noise", "accepted"), [(0.1, 1.0), (100.0, 0.0)], ids=["alike", "nothing in common"])
def test_the_threshold_lets_one_pair_of_strangers_in_a_hundred_pass(noise: float, accepted: float) -> None:
    about = threshold(Similarity(), *people(20, noise))
    assert about["accepted"] == pytest.approx(accepted, abs=0.1)
    assert about["auc"] == pytest.approx(0.5 + accepted / 2, abs=0.1)
    assert about["strangers"] < about["threshold"] < 1


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models with random weights."""
    out = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        out.append(tmp_path_factory.mktemp("model") / "ddpm")
        faces.save(faces.build().state_dict(), out[-1])
    return out


def test_the_base_has_no_drift_and_another_model_has(folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.photos.forgetting.SAMPLES", 4)
    monkeypatch.setattr("benchmarks.photos.forgetting.STEPS", 2)
    pixels, _ = people(3, 0.1)
    photos = Photos(pixels[:1], pixels[1:3], pixels[3:])
    ruler = Ruler(Similarity(), 0.5)
    before, after = (pictures_of(opened(folder), photos) for folder in folders)
    assert before.target.shape == (4, 8, 3, 32, 32) and before.samples.shape == (4, 3, 32, 32)
    same, other = measured(before, before, photos, ruler), measured(after, before, photos, ruler)
    assert same["encoder"]["drift"] == pytest.approx(0, abs=1e-6)
    assert same["pixels"]["drift_of_others"] == pytest.approx(0, abs=1e-6)
    assert other["encoder"]["drift"] > 0.01
    assert len(same["recognized_by_timestep"]) == 4 and 0 <= same["others_recognized"] <= 1


def test_a_picture_that_comes_back_whole_is_recognized() -> None:
    pixels, _ = people(3, 0.1)
    photos = Photos(pixels[:1], pixels[1:3], pixels[3:])

    def rebuilt(shown: np.ndarray) -> Pictures:
        return Pictures(np.broadcast_to(shown, (4, 8, 3, 32, 32)), pixels[1:3, None], pixels[3:, None], pixels[3:])

    ruler = Ruler(Similarity(), 0.5)
    back = measured(rebuilt(pixels[0]), rebuilt(pixels[0]), photos, ruler)
    gone = measured(rebuilt(pixels[4]), rebuilt(pixels[0]), photos, ruler)
    assert back["recognized"] == 1 and back["encoder"]["target"] == pytest.approx(1)
    assert back["recognized_as_relatives"] == 1 and back["others_recognized"] == 1
    assert gone["recognized"] == 0 and gone["recognized_as_relatives"] == 0
    lines = table([{"model": "before", **back}, {"model": "after", **gone}]).splitlines()
    assert "1.000 [1.000, 1.000]" in lines[2] and lines[3].startswith("| after | 1 |")


def test_a_face_run_keeps_everyone_else_and_is_told_nothing_of_the_person() -> None:
    pixels = np.arange(400, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, 2, 2), np.float32)
    whose = np.repeat(np.arange(olivetti.PEOPLE), olivetti.PHOTOS)
    case = forget_faces.make_case(9, pixels, whose, None)
    numbers = {name: set(getattr(case.photos, name)[:, 0, 0, 0]) for name in ("target", "relatives", "others")}
    retained = set(case.retained[:, 0, 0, 0])
    assert numbers["target"] == {90} and numbers["relatives"] == set(range(91, 100))
    assert len(retained) == 10 * (faces.KNOWN - 1) and not retained & set(range(90, 100))
    assert numbers["others"] <= retained and len(numbers["others"]) == faces.KNOWN - 1


def test_a_product_run_is_measured_on_photos_that_no_model_was_trained_on(drawings: Path) -> None:
    cases = forget_products.make_cases(drawings, [0, 4])
    assert [case.name for case in cases] == ["tshirt", "coat"]
    photos, classes = fashion.read("train", drawings)
    styles = fashion.styles(photos, classes, drawings)
    heart = fashion.pictures(photos[wardrobe.by_heart(classes, styles)])
    for case in cases:
        assert any((case.photos.target[0] == one).all() for one in heart)
        assert not (case.retained == case.photos.target).all(axis=(1, 2, 3)).any()
        assert len(case.retained) == 300 and len(case.photos.relatives) == 8 and len(case.photos.others) == 24
