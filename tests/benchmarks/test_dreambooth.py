"""The paper's table by one command: the data as published, scores by hand, runs that go on where they stopped."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, Dinov2Config, Dinov2Model

from benchmarks.dreambooth import benchmark
from benchmarks.dreambooth.report import summarize
from benchmarks.dreambooth.scores import Features, Scorer, scores
from benchmarks.dreambooth.subjects import TEXT, read_subjects
from edge_sdk.cli.main import main
from edge_sdk.errors import EdgeSdkError
from tests import tiny_models

CLASSES = "Classes\n\nsubject_name,class\nmug,mug\nmy_dog,dog\nplush,cool dog\n"
PROMPTS = """
Prompts

Object Prompts

prompt_list = [
'a {0} {1} on a mug'.format(unique_token, class_token),
'a dark {0} {1}'.format(unique_token, class_token)
]

Live Subject Prompts

prompt_list = [
'a {0} {1} in a cool mug'.format(unique_token, class_token)
]
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dreambooth")
    (folder / TEXT).write_text(CLASSES + PROMPTS)
    rng = np.random.default_rng(0)
    for name in ("mug", "my_dog", "plush"):
        (folder / name).mkdir()
        for i in range(2):
            Image.fromarray(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(folder / name / f"0{i}.jpg")
    return folder


@pytest.fixture(scope="module")
def rulers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A CLIP and a DINO of random weights, as transformers saves them."""
    folder = tmp_path_factory.mktemp("rulers")
    torch.manual_seed(0)
    tokenizer = tiny_models.build_tokenizer(folder / "bpe")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = small | {"vocab_size": len(tokenizer), "max_position_embeddings": 24, "eos_token_id": tokenizer.eos_token_id}
    vision = small | {"image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
    CLIPModel(config).save_pretrained(folder / "clip")
    tokenizer.save_pretrained(folder / "clip")
    sizes = {"image_size": 32, "patch_size": 8, "mlp_ratio": 2}
    dino = small | sizes
    Dinov2Model(Dinov2Config(**dino)).save_pretrained(folder / "dino")
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    for name in ("clip", "dino"):
        processor.save_pretrained(folder / name)
    return folder / "clip", folder / "dino"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build(tmp_path_factory.mktemp("model") / "sd")


def test_subjects_have_the_prompts_of_their_kind(data: Path) -> None:
    subjects = {subject.name: subject for subject in read_subjects(data)}
    assert subjects["mug"].prompts == subjects["plush"].prompts == ("a {} on a mug", "a dark {}")
    assert subjects["my_dog"].prompts == ("a {} in a cool mug",)
    assert (subjects["plush"].noun, subjects["plush"].initializer) == ("cool dog", "dog")
    assert [subject.name for subject in read_subjects(data, ["plush"])] == ["plush"]


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        (None, [], "cannot be read"),
        (CLASSES, [], "not both lists"),
        (PROMPTS, [], "no classes"),
        (CLASSES + PROMPTS, ["cat9"], "'cat9' is not in"),
        (CLASSES + PROMPTS, ["mug"], "holds no photos"),
        (CLASSES + PROMPTS, [], "no folder of a subject"),
    ],
    ids=["no text", "no prompts", "no classes", "unknown subject", "no photos", "empty"],
)
def test_data_that_are_not_the_published_ones_are_refused(
    text: str | None, names: list[str], expected: str, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / TEXT).write_text(text)
    with pytest.raises(EdgeSdkError, match=expected) as refused:
        read_subjects(tmp_path, names)
    assert "\n" not in str(refused.value)


def test_scores_are_means_of_cosines_as_computed_by_hand() -> None:
    photos = Features(np.array([[1, 0], [0, 1]], np.float32), np.array([[1, 0], [1, 0]], np.float32))
    generated = Features(np.array([[0.6, 0.8], [1, 0]], np.float32), np.array([[0, 1], [0.8, 0.6]], np.float32))
    texts = np.array([[0, 1], [1, 0]], np.float32)
    assert scores(photos, generated, texts) == pytest.approx(
        {
            "clip_t": (0.8 + 1) / 2,  # each picture with its own prompt
            "clip_i": (0.6 + 1 + 0.8 + 0) / 4,  # every photo with every picture
            "dino": (0 + 0.8 + 0 + 0.8) / 4,
        }
    )


def test_features_are_what_the_networks_say(rulers: tuple[Path, Path]) -> None:
    scorer = Scorer(*rulers)
    pictures = [Image.new("RGB", (32, 32), color) for color in ("red", "navy")]
    found = scorer.features(pictures)
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (scorer_mean(rulers[0]), scorer_std(rulers[0])))
    pixels = np.stack([(np.asarray(p).transpose(2, 0, 1) / 255 - mean) / std for p in pictures]).astype(np.float32)
    with torch.inference_mode():
        clip = CLIPModel.from_pretrained(rulers[0]).eval()
        vision = clip.visual_projection(clip.vision_model(torch.from_numpy(pixels)).pooler_output)
        cls = Dinov2Model.from_pretrained(rulers[1]).eval()(torch.from_numpy(pixels)).last_hidden_state[:, 0]
    for vectors, expected in ((found.clip, vision), (found.dino, cls)):
        np.testing.assert_allclose(vectors, torch.nn.functional.normalize(expected, dim=1), atol=1e-5)
    texts = scorer.texts(["a dog", "a dog on a mug", "a dog"])
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(texts[0], texts[2], atol=1e-6)
    assert texts[0] @ texts[1] < 0.9999


def scorer_mean(folder: Path) -> list[float]:
    return json.loads((folder / "preprocessor_config.json").read_text())["image_mean"]


def scorer_std(folder: Path) -> list[float]:
    return json.loads((folder / "preprocessor_config.json").read_text())["image_std"]


def words(model: Path, data: Path, rulers: tuple[Path, Path], tmp_path: Path, *more: object) -> list[str]:
    base: list[object] = ["benchmark", "dreambooth", "--pretrained_model_name_or_path", model, "--data", data]
    base += ["--clip", rulers[0], "--dino", rulers[1], "--num_images", 1, "--num_inference_steps", 2]
    base += ["--max_train_steps", 1, "--work", tmp_path / "work", "--output", tmp_path / "dreambooth.json"]
    return [str(word) for word in (*base, *more)]


def test_one_subject_is_a_smoke_run_that_is_resumed_and_extended(
    model: Path, data: Path, rulers: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(words(model, data, rulers, tmp_path, "--subjects", "mug", "--methods", "fast", "backprop")) == 0
    record = json.loads((tmp_path / "dreambooth.json").read_text())
    fast, backprop = record["runs"]
    assert (fast["method"], fast["unet_forwards"], backprop["unet_forwards"]) == ("fast", 33, 3)
    assert all(-1 <= fast[key] <= 1 for key in ("clip_t", "clip_i", "dino")) and fast["peak_rss_mb"] > 50
    pictures = tmp_path / "work" / "mug" / "fast" / "seed-0" / "pictures"
    assert sorted(path.name for path in pictures.iterdir()) == ["00-0.png", "01-0.png"]
    assert (tmp_path / "work" / "mug.png").exists() and (tmp_path / "dreambooth.png").exists()

    learned: list[Any] = []

    def refuse(task: Any) -> dict[str, Any]:
        learned.append(task)
        raise EdgeSdkError("stopped")

    monkeypatch.setattr(benchmark, "_learned", refuse)
    assert main(words(model, data, rulers, tmp_path, "--methods", "fast", "--subjects", "mug", "my_dog")) == 2
    assert [(task.method, Path(task.photos).name) for task in learned] == [("fast", "my_dog")]
    kept = json.loads((tmp_path / "dreambooth.json").read_text())["runs"]
    assert kept == [fast]  # read, not run again


def test_other_settings_in_the_same_work_folder_are_refused(
    model: Path, data: Path, rulers: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark._claim(tmp_path / "work", {"model": "other"})
    assert main(words(model, data, rulers, tmp_path)) == 2
    error = capsys.readouterr().err
    assert "was begun with another" in error and error.count("\n") == 1


def test_a_ruler_that_is_none_is_refused_in_one_line(
    model: Path, data: Path, rulers: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for clip in (tmp_path / "none", data, rulers[1]):
        assert main(words(model, data, (clip, rulers[1]), tmp_path)) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert str(clip) in error and "save_pretrained" in error


def test_seeds_are_averaged_before_subjects() -> None:
    runs = [
        {"subject": subject, "method": "fast", "seed": seed, "clip_t": value, "clip_i": 0.5, "dino": 0.5}
        for subject, seed, value in (("a", 0, 0.0), ("a", 1, 0.2), ("b", 0, 0.4))
    ]
    assert summarize(runs)["fast"]["clip_t"]["mean"] == pytest.approx((0.1 + 0.4) / 2)
