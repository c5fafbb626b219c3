"""Pictures: the same for the same seed, stock diffusers' on float weights, and one line for every mistake."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from edge_sdk.embedding import LearnedEmbedding, save_embedding
from edge_sdk.errors import EdgeSdkError
from edge_sdk.generation import generate, parameters, starting_noise
from edge_sdk.pocket import MODEL as POCKET
from tests import tiny_models

PROMPT = "a picture of a <s>"


@pytest.fixture(params=["sd1", "pocket"])
def model(request: pytest.FixtureRequest, sd1_folder: Path) -> str:
    return str(sd1_folder) if request.param == "sd1" else "pocket"


def pictures(model: str, prompt: str = PROMPT, **more: Any) -> np.ndarray:
    """(N, H, W, 3) int16."""
    drawn = generate(prompt, model, **{"num_inference_steps": 3, **more})
    return np.stack([np.asarray(picture, np.int16) for picture in drawn])


def embedding(width: int = 32, token: str = "<s>", seed: int = 0) -> LearnedEmbedding:
    values = np.random.default_rng(seed).standard_normal((2, width)).astype(np.float32)
    return LearnedEmbedding(token, values)


def test_pictures_are_rgb_of_the_models_size(model: str) -> None:
    drawn = generate(PROMPT, model, num_images=2, num_inference_steps=2)
    assert [(picture.size, picture.mode) for picture in drawn] == [((16, 16), "RGB")] * 2


@pytest.mark.parametrize("resolution", [8, 24], ids=lambda n: f"{n}px")
def test_a_resolution_may_be_asked_for(resolution: int, sd1_folder: Path) -> None:
    assert pictures(str(sd1_folder), resolution=resolution).shape == (1, resolution, resolution, 3)


@pytest.mark.parametrize("execution", ["integer", "fused"])
@pytest.mark.parametrize("weights", ["int8", "int4", "none"])
def test_the_same_seed_gives_the_same_bytes(weights: str, execution: str, model: str) -> None:
    settings = {"weights": weights, "execution": execution, "seed": 5}
    assert (pictures(model, **settings) == pictures(model, **settings)).all()


def test_picture_i_is_the_same_however_many_are_drawn(model: str) -> None:
    many = pictures(model, num_images=3)
    for count in (1, 2):
        assert np.abs(pictures(model, num_images=count) - many[:count]).max() <= 1
    assert len({picture.tobytes() for picture in many}) == 3


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"seed": 2**64 - 1}, {"negative_prompt": "a dog"}, {"guidance_scale": 1.0}, {"weights": "int4"}],
    ids=str,
)
def test_every_setting_reaches_the_picture(change: dict[str, Any], model: str) -> None:
    assert (pictures(model) != pictures(model, **change)).any()


def test_a_guidance_of_one_or_less_leaves_the_negative_prompt_out(model: str) -> None:
    plain = pictures(model, guidance_scale=1.0)
    assert (pictures(model, guidance_scale=1.0, negative_prompt="a dog") == plain).all()
    assert (pictures(model, guidance_scale=0.0) == plain).all()


def test_an_embedding_changes_the_picture_and_may_be_a_file(sd1_folder: Path, tmp_path: Path) -> None:
    model = str(sd1_folder)
    save_embedding(tmp_path / "s.safetensors", embedding())
    loaded, read = (pictures(model, embeddings=[e]) for e in (embedding(), tmp_path / "s.safetensors"))
    assert (loaded == read).all()
    assert (loaded != pictures(model)).any() and (loaded != pictures(model, embeddings=[embedding(seed=1)])).any()
    unused = pictures(model, "a dog", embeddings=[embedding()])
    assert np.abs(unused - pictures(model, "a dog")).max() <= 1


def test_two_embeddings_keep_their_places(sd1_folder: Path) -> None:
    one, two = embedding(seed=1), embedding(token="<t>", seed=2)
    ab, ba = (pictures(str(sd1_folder), "<t> on <s>", embeddings=e) for e in ([one, two], [two, one]))
    assert (ab == ba).all()
    assert (ab != pictures(str(sd1_folder), "<s> on <t>", embeddings=[one, two])).any()


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "another width": ({"embeddings": [embedding(48)]}, "<s> is 48 wide and this model takes 32"),
    "a token twice": ({"embeddings": [embedding(), embedding(seed=1)]}, "give each token once"),
    "resolution 12": ({"resolution": 12}, "resolution is 12; it must be a positive multiple of 8"),
    "resolution -8": ({"resolution": -8}, "resolution is -8; it must be a positive multiple of 8"),
    "resolution 0": ({"resolution": 0}, "resolution is 0; it must be a positive multiple of 8"),
    "no pictures": ({"num_images": 0}, "num_images is 0"),
    "too many pictures": ({"num_images": 1001}, "num_images is 1001"),
    "no steps": ({"num_inference_steps": 0}, "num_inference_steps is 0"),
    "seed -1": ({"seed": -1}, "seed is -1"),
    "seed 2**64": ({"seed": 2**64}, "seed is 18446744073709551616"),
    "guidance nan": ({"guidance_scale": float("nan")}, "guidance_scale is nan"),
    "guidance inf": ({"guidance_scale": float("inf")}, "guidance_scale is inf"),
    "weights": ({"weights": "int2"}, "int2"),
    "execution": ({"execution": "float"}, "float"),
    "embedding that is not there": ({"embeddings": ["nowhere.safetensors"]}, "nowhere.safetensors"),
}


@pytest.mark.parametrize(("change", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(change: dict[str, Any], words: str, sd1_folder: Path) -> None:
    with pytest.raises(EdgeSdkError) as error:
        pictures(str(sd1_folder), **change)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_token_that_is_cut_off_is_refused(sd1_folder: Path) -> None:
    with pytest.raises(EdgeSdkError, match="<s> would be cut off"):
        pictures(str(sd1_folder), "dog " * 30 + "<s>", embeddings=[embedding()])


@pytest.mark.parametrize("guidance", [1.0, 4.0], ids=["no guidance", "guidance"])
def test_float_weights_draw_what_stock_diffusers_draws(guidance: float) -> None:
    prompt, negative = "a picture of a woman with red hair", "a man"
    pipeline = StableDiffusionPipeline.from_pretrained(
        POCKET, safety_checker=None, feature_extractor=None, torch_dtype=torch.float32
    )
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    latents = torch.from_numpy(starting_noise(11, 2, (8, 8, 8)))
    stock = pipeline(
        [prompt] * 2,
        negative_prompt=[negative] * 2,
        latents=latents,
        num_inference_steps=10,
        guidance_scale=guidance,
        output_type="np",
        height=16,
        width=16,
    ).images
    settings = {"num_images": 2, "num_inference_steps": 10, "guidance_scale": guidance, "seed": 11}
    drawn = pictures("pocket", prompt, negative_prompt=negative, weights="none", **settings)
    assert np.abs(drawn - stock * 255).max() <= 1.5


def test_integer_pictures_are_near_float_ones() -> None:
    settings: dict[str, Any] = {"num_images": 4, "num_inference_steps": 10, "seed": 3}
    prompt = "a picture of a woman with red hair"
    exact = pictures("pocket", prompt, weights="none", **settings)
    int8, int4 = (np.abs(pictures("pocket", prompt, weights=w, **settings) - exact).mean() for w in ("int8", "int4"))
    assert 0 < int8 < 4 and int8 < int4 < 30
    fused = pictures("pocket", prompt, execution="fused", **settings)
    assert np.abs(fused - pictures("pocket", prompt, **settings)).max() <= 3


def test_starting_noise_is_standard_normal_and_begins_alike() -> None:
    many, few = starting_noise(1, 40, (4, 8, 8)), starting_noise(1, 2, (4, 8, 8))
    assert many.dtype == np.float32 and (many[:2] == few).all()
    assert abs(many.mean()) < 0.05 and abs(many.std() - 1) < 0.05


# words of embeddings


@pytest.fixture(params=["model", "bundle", "SDXL", "SDXL bundle"])
def place(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Where to draw, and the sections of an embedding there."""
    family = "sdxl" if "SDXL" in request.param else "sd1"
    widths = tiny_models.WIDTHS_XL if family == "sdxl" else (32,)
    if "bundle" in request.param:
        return {"bundle": request.getfixturevalue("bundle_of")(family, "int8"), "widths": widths}
    return {"model": str(request.getfixturevalue(f"{family}_folder")), "widths": widths}


def drawn(place: dict[str, Any], prompt: str, negative: str, tokens: Sequence[str] = ("<bad>", "<worse>")) -> bytes:
    where = {name: value for name, value in place.items() if name != "widths"}
    rng = np.random.default_rng(1)
    values = [rng.standard_normal((i + 1, sum(place["widths"]))).astype(np.float32) for i in range(len(tokens))]
    made = [LearnedEmbedding(t, v, widths=place["widths"]) for t, v in zip(tokens, values, strict=True)]
    settings: dict[str, Any] = {"num_inference_steps": 2, "notify": lambda line: None}
    (picture,) = generate(prompt, embeddings=made, negative_prompt=negative, **where, **settings)
    return picture.tobytes()


def test_both_prompts_use_several_embeddings_in_any_letters(place: dict[str, Any]) -> None:
    texts = [
        ("a dog", ""),
        ("a dog", "<bad>"),
        ("a dog", "<worse>"),
        ("a dog", "<bad> <worse>"),
        ("a <bad> dog", "<worse>"),
        ("a <worse> dog", "<bad>"),
    ]
    plain = [drawn(place, *each) for each in texts]
    assert len(set(plain)) == len(texts)
    assert drawn(place, "A <Bad> DOG", "<WORSE>") == plain[4]
    assert drawn(place, "a dog", "<Bad>") == drawn(place, "a dog", "<bad>", ("<BAD>", "<Worse>")) == plain[1]


def test_a_word_is_found_however_its_letters_are_composed(sd1_folder: Path) -> None:
    place = {"model": str(sd1_folder), "widths": (32,)}
    composed, decomposed = "caf\u00e9", "cafe\u0301"  # as a keyboard gives it, as a file system does
    first = drawn(place, f"a {composed}", "", (composed,))
    assert first == drawn(place, f"a {decomposed}", "", (composed,)) == drawn(place, f"a {composed}", "", (decomposed,))
    assert first != drawn(place, "a dog", "", (composed,))


def test_one_token_in_two_spellings_is_refused(sd1_folder: Path) -> None:
    with pytest.raises(EdgeSdkError, match=r"^[^\n]*<S>[^\n]*give each token once"):
        pictures(str(sd1_folder), embeddings=[embedding(), embedding(token="<S>")])


def test_a_longer_word_that_holds_a_shorter_one_is_read_whole(sd1_folder: Path) -> None:
    lines: list[str] = []
    both = [embedding(token="hair", seed=1), embedding(token="hairs", seed=2)]
    generate("a dog with hairs", str(sd1_folder), both, num_inference_steps=1, notify=lines.append)
    (line,) = lines
    assert line.startswith("the embedding of hair has no effect")
    alone = pictures(str(sd1_folder), "a dog with hairs", embeddings=both[:1])
    assert (alone != pictures(str(sd1_folder), "a dog with hairs")).any()  # as in diffusers


def test_a_name_that_is_no_unicode_can_be_written_into_a_picture() -> None:
    text = parameters("a", "", {"Model": os.fsdecode(b"caf\xe9")})
    assert text.encode() == b"a\nModel: caf\\udce9"
