"""The photo models: what they are trained on and what not, and that the product takes them."""

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.photos import faces, fashion, olivetti, wardrobe
from benchmarks.photos.classifier import HIDDEN, Classifier, graph, load
from benchmarks.photos.personalization import WORD, generated, learned, summarize, verdict
from benchmarks.photos.subjects import bench, everyone, photos_of
from benchmarks.quality.configurations import Config
from benchmarks.quality.learn import VIEWS
from edge_sdk.diffusion.prompts import TEMPLATES
from edge_sdk.errors import EdgeSdkError
from edge_sdk.unlearning.denoiser import load_denoiser
from edge_sdk.unlearning.similarity import Similarity
from edge_sdk.zo import fast


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("wardrobe")
    tokenizer = wardrobe.build_tokenizer(folder / "tokenizer")
    wardrobe.save(wardrobe.build_vae().eval(), tokenizer, wardrobe.Both(tokenizer).eval(), folder)
    return folder


def test_every_word_of_a_caption_is_one_token_and_nothing_is_cut(model: Path) -> None:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(model / "tokenizer")
    captions = wardrobe.Captions(tokenizer)
    assert all(len(tokenizer(word, add_special_tokens=False).input_ids) == 1 for word in captions.words)
    assert captions.ids.shape == (len(captions.words), len(TEMPLATES["object"]), wardrobe.LENGTH)
    assert (captions.ids[:, :, -1] == tokenizer.eos_token_id).all()


def test_captions_name_the_photos_own_style_class_group_or_nothing(model: Path) -> None:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(model / "tokenizer")
    captions, rng = wardrobe.Captions(tokenizer), np.random.default_rng(0)
    classes, styles = np.full(400, 5, np.uint8), np.full(400, 3)
    texts = tokenizer.batch_decode(captions.sample(classes, styles, rng), skip_special_tokens=True)
    words = {text.split()[-1] if text.strip() else "" for text in texts}
    assert words == {wardrobe.name_of(5, 3), "sandal", "shoe", "thing", ""}


def test_no_photo_of_an_unknown_class_or_style_is_trained_on(drawings: Path) -> None:
    photos, classes = fashion.read("train", drawings)
    styles = fashion.styles(photos, classes, drawings)
    kept = wardrobe.known(classes, styles)
    assert not (classes[kept] == wardrobe.UNKNOWN_CLASS).any()
    assert not np.isin(styles[kept], wardrobe.UNKNOWN_STYLES).any()
    heart = wardrobe.by_heart(classes, styles)
    assert len(heart) == 9 and kept[heart].all()
    for subject in everyone():
        chosen = (classes == subject.number) & (styles == subject.style)
        assert not kept[chosen].any()


def test_a_subject_has_photos_of_its_style_alone(drawings: Path) -> None:
    subjects = everyone()[:3]
    photos = photos_of(subjects, drawings)
    assert photos.shape == (3 * VIEWS, 28, 28)
    for i, subject in enumerate(subjects):
        own = photos[i * VIEWS : (i + 1) * VIEWS]
        assert (fashion.styles(own, np.full(VIEWS, subject.number), drawings) == subject.style).all()


def test_tokens_start_from_their_subjects_word_and_are_learned(model: Path, drawings: Path) -> None:
    subjects = [everyone()[0], everyone()[-1]]
    full = bench(str(model), "int8", fashion.pictures(photos_of(subjects, drawings)))
    runs = [(0, 0), (1, 0)]
    start, _ = learned(Config("int8"), full, subjects, runs)
    text = full.objective.text
    np.testing.assert_array_equal(start[0, 0], text.initial_embedding("tshirt", 1))
    np.testing.assert_array_equal(start[0, 1], text.initial_embedding("shoe", 1))

    def short(std: float, width: int):  # type: ignore[no-untyped-def]
        from dataclasses import replace

        return replace(fast(std, width), max_train_steps=2)

    tokens, forwards = learned(Config("int8", zo=short), full, subjects, runs)
    assert forwards == [33, 66] and np.abs(tokens[-1] - start[-1]).max(axis=(1, 2)).min() > 1e-4
    pictures = generated(full, tokens[-1][0], (0, 0))
    assert pictures.shape == (8, 3, 32, 32) and np.abs(pictures).max() <= 1
    assert set(verdict(Classifier().eval(), pictures, subjects[0])) == {"class", "style", "both"}


def test_the_share_is_of_backpropagations_decrease_and_new_classes_stand_apart() -> None:
    subjects = everyone()

    def rows(known: float, new: float) -> dict:  # type: ignore[type-arg]
        each = [new if s.is_new_class else known for s in subjects]
        read = {"class": 1.0, "style": 0.5, "both": 0.5}
        return {"runs": [{"subject": i, "seed": 0, "loss": loss, **read} for i, loss in enumerate(each)]}

    results = {WORD: rows(0.4, 0.6), "backpropagation": rows(0.2, 0.2), "fast": rows(0.25, 0.4)}
    summarize(results, subjects)
    assert results["fast"]["summary"]["styles"]["share"]["mean"] == pytest.approx(0.75)
    assert results["fast"]["summary"]["class"]["share"]["mean"] == pytest.approx(0.5)
    assert results[WORD]["summary"]["all"]["share"]["mean"] == 0


def test_the_other_face_model_never_sees_the_targets() -> None:
    whose = np.repeat(np.arange(olivetti.PEOPLE), olivetti.PHOTOS)
    kept = faces.kept_rows(whose)
    assert not np.isin(faces.target_rows(), kept).any() and whose[kept].max() < faces.KNOWN
    assert not np.isin(whose[kept], faces.BY_PERSON).any()
    photo_only = [p for p in faces.TARGETS if p not in faces.BY_PERSON]
    assert [int((whose[kept] == p).sum()) for p in photo_only] == [olivetti.PHOTOS - 1] * 4


def test_a_face_model_is_trained_and_opened_by_the_product(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).uniform(-1, 1, (6, 3, 32, 32)).astype(np.float32)
    args = Namespace(seed=0, steps=2, save_every=1, output_dir=tmp_path / "model")
    faces.save(faces.train(pixels, args), args.output_dir)
    assert load_denoiser(str(args.output_dir)).shape == (3, 32, 32)
    assert "weight.conv_in.weight" in load_file(args.output_dir / "training.safetensors")


def test_the_classifiers_hidden_layer_is_an_encoder_for_the_product(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, rng = Classifier().eval(), np.random.default_rng(0)
    centre = rng.standard_normal(HIDDEN).astype(np.float32)
    path = tmp_path / "products.onnx"
    path.write_bytes(graph(model, centre).SerializeToString())
    pixels = rng.uniform(-1, 1, (3, 3, 32, 32)).astype(np.float32)
    vectors = model.features(torch.from_numpy(pixels)).detach().numpy() - centre
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(Similarity(str(path)).features(pixels), expected, atol=1e-5)


@pytest.mark.parametrize("content", [None, b"", b"not safetensors", "other"], ids=["none", "empty", "text", "another"])
def test_another_file_is_no_classifier(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "products.safetensors"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(EdgeSdkError, match="make it with that script") as refusal:
        load(path)
    assert "\n" not in str(refusal.value)


def test_a_users_mistake_is_one_line_and_status_2(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.photos.classifier", "--data", str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "dataset-fashion-mnist" in done.stderr
