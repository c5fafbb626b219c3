"""SDXL through every command: float folder and integer checkpoint, three residencies, damaged files, wrong tokens."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionXLPipeline
from PIL import Image
from safetensors.torch import load_file

from edge_sdk import Personalizer, load_embedding
from edge_sdk.config import RESIDENCIES
from edge_sdk.embedding import LearnedEmbedding, save_embedding
from edge_sdk.generation import generate, starting_noise
from edge_sdk.images import load_photos
from edge_sdk.zo import evaluate, held_out_draws
from tests.cli.test_main import call, refused
from tests.test_quantize import cut_short, missing, with_a_nan_scale, with_header_edited
from tests.tiny_models import WIDTHS_XL

LEARNED = "learned_embeds.safetensors"
Checkpoints = Callable[[str, str], Path]


def personalized(model: Path, photos: Path, run: Path, *more: object) -> Path:
    """The file of two steps."""
    words = ["--pretrained_model_name_or_path", model, "--train_data_dir", photos, "--output_dir", run, "--quiet"]
    few = ["--initializer_token", "dog", "--max_train_steps", 2, "--eval_draws", 2]
    assert call("personalize", *words, *few, *more) == 0
    return run / LEARNED


def embedding(widths: tuple[int, ...], token: str = "<s>", scale: float = 1.0) -> LearnedEmbedding:
    values = scale * np.random.default_rng(0).standard_normal((2, sum(widths))).astype(np.float32)
    return LearnedEmbedding(token, values, widths=widths)


@pytest.mark.parametrize("weights", ["int8", "int4", "none"])
def test_a_token_is_learned_and_drawn_on_a_float_folder(
    weights: str, sdxl_folder: Path, photos: Path, tmp_path: Path
) -> None:
    model = ["--pretrained_model_name_or_path", sdxl_folder, "--weights", weights]
    learned = personalized(sdxl_folder, photos, tmp_path / "run", "--weights", weights)
    assert json.loads((tmp_path / "run/run.json").read_text())["steps"] == 2
    Image.open(tmp_path / "run/preview.png").verify()
    draw = ["--embedding", learned, "--prompt", "a <subject>", "--num_inference_steps", 2, "--quiet"]
    assert call("generate", *model, *draw, "--output", tmp_path / "x.png") == 0
    assert call("generate", *model, *draw[2:], "--output", tmp_path / "y.png") == 0
    assert (tmp_path / "x.png").read_bytes() != (tmp_path / "y.png").read_bytes()


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_every_residency_gives_the_same_token_and_pictures(
    weights: str, checkpoint_of: Checkpoints, photos: Path, tmp_path: Path
) -> None:
    folder, tokens, pictures = checkpoint_of("sdxl", weights), set(), set()
    for residency in RESIDENCIES:
        how = ["--weights", weights, "--residency", residency]
        learned = personalized(folder, photos, tmp_path / residency, "--no_preview", *how)
        tokens.add(learned.read_bytes())
        words = ["--pretrained_model_name_or_path", folder, "--embedding", learned, "--prompt", "a <subject>", *how]
        picture = tmp_path / f"{residency}.png"
        assert call("generate", *words, "--num_inference_steps", 2, "--quiet", "--output", picture) == 0
        pictures.add(picture.read_bytes())
    assert len(tokens) == len(pictures) == 1


def test_an_integer_checkpoint_holds_both_text_sides(checkpoint_of: Checkpoints, sdxl_folder: Path) -> None:
    folder = checkpoint_of("sdxl", "int8")
    assert (folder / "text_encoder_2/integer_model.safetensors").is_file()
    for path in (sdxl_folder / "tokenizer_2").iterdir():
        assert (folder / "tokenizer_2" / path.name).read_bytes() == path.read_bytes()


def test_both_parts_of_a_token_move_by_steps_of_their_own_scale(sdxl_folder: Path, photos: Path) -> None:
    personalizer = Personalizer.from_pretrained(str(sdxl_folder))
    options = {"initializer_token": "dog", "preset": "paper", "max_train_steps": 3, "adam_eps": 1e-30}
    last = list(personalizer.fit(photos, lr_schedule="constant", **options))[-1]
    prepared, learned = personalizer.fitted(), personalizer.embedding
    assert learned.widths == WIDTHS_XL and (learned.vectors == last.embedding).all()
    first = next(personalizer.fit(photos, lr_schedule="constant", **options)).embedding - prepared.initial
    own = np.split(np.abs(first), [WIDTHS_XL[0]], axis=1)
    ratio = float(prepared.scale[-1])  # type: ignore[index]
    assert own[0] == pytest.approx(prepared.zo.learning_rate, rel=1e-3)  # Adam's first step
    assert own[1] == pytest.approx(prepared.zo.learning_rate * ratio, rel=1e-3) and ratio < 0.7
    assert personalizer.held_out_loss() != personalizer.held_out_loss(prepared.initial)


def test_the_held_out_loss_is_asked_for_vectors_not_for_the_optimizers_variable(
    sdxl_folder: Path, photos: Path
) -> None:
    personalizer = Personalizer.from_pretrained(str(sdxl_folder))
    personalizer.fit(photos, initializer_token="dog", eval_draws=4)
    prepared, state = personalizer.fitted(), personalizer.started()
    draws = held_out_draws(prepared.objective, 0, 4, prepared.zo.timestep_range)
    expected = evaluate(prepared.objective, state.embedding, draws, 16).mean()
    assert personalizer.held_out_loss(prepared.initial) == pytest.approx(expected, rel=1e-6)
    assert personalizer.held_out_loss() == pytest.approx(expected, rel=1e-6)
    assert evaluate(prepared.objective, prepared.initial, draws, 16).mean() != pytest.approx(expected, rel=1e-5)


def test_a_run_is_resumed_to_the_same_bytes(sdxl_folder: Path, photos: Path, tmp_path: Path) -> None:
    few = ["--checkpointing_steps", 1, "--no_preview"]
    whole = personalized(sdxl_folder, photos, tmp_path / "whole", *few).read_bytes()
    run = tmp_path / "run"
    shutil.copytree(tmp_path / "whole", run, ignore=shutil.ignore_patterns("run.json", LEARNED, "checkpoint-2"))
    assert personalized(sdxl_folder, photos, run, *few, "--resume_from_checkpoint", "latest").read_bytes() == whole


def test_photos_of_another_original_size_are_another_run(sdxl_folder: Path, tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8))
    prepared = []
    for scale in (1, 2):
        (tmp_path / str(scale)).mkdir()
        noise.resize((24 * scale, 24 * scale), Image.Resampling.NEAREST).save(tmp_path / str(scale) / "a.png")
        personalizer = Personalizer.from_pretrained(str(sdxl_folder))
        personalizer.fit(load_photos(tmp_path / str(scale), 24), initializer_token="dog")
        prepared.append(personalizer.fitted())
    assert prepared[1].objective.time_ids.tolist() == [[48, 48, 0, 0, 24, 24]]
    assert prepared[0].fingerprints["photos"] != prepared[1].fingerprints["photos"]


@pytest.mark.parametrize("resolution", [8, 24], ids=lambda n: f"{n}px")
def test_a_resolution_may_be_asked_for(resolution: int, sdxl_folder: Path, photos: Path, tmp_path: Path) -> None:
    (picture,) = generate("a dog", str(sdxl_folder), resolution=resolution, num_inference_steps=1)
    assert picture.size == (resolution, resolution)
    personalized(sdxl_folder, photos, tmp_path / "run", "--resolution", resolution, "--no_preview")


@pytest.mark.parametrize("negative", ["", "a dark photo"], ids=["no negative prompt", "negative prompt"])
@pytest.mark.parametrize("side", [16, 24])
def test_float_weights_draw_what_stock_diffusers_draws(
    side: int, negative: str, sdxl_folder: Path, tmp_path: Path
) -> None:
    save_embedding(tmp_path / LEARNED, embedding(WIDTHS_XL))
    stock = StableDiffusionXLPipeline.from_pretrained(sdxl_folder, add_watermarker=False)
    state = load_file(tmp_path / LEARNED)
    stock.load_textual_inversion(
        state["clip_l"], token="<s>", text_encoder=stock.text_encoder, tokenizer=stock.tokenizer
    )
    stock.load_textual_inversion(
        state["clip_g"], token="<s>", text_encoder=stock.text_encoder_2, tokenizer=stock.tokenizer_2
    )
    stock.scheduler = DDIMScheduler.from_config(stock.scheduler.config)
    stock.set_progress_bar_config(disable=True)
    latents = torch.from_numpy(starting_noise(11, 2, (4, side // 2, side // 2)))
    settings: dict[str, Any] = {"num_inference_steps": 5, "guidance_scale": 4.0}
    expected = stock(
        ["a photo of my <s>"] * 2,
        negative_prompt=[negative] * 2 if negative else None,
        latents=latents,
        height=side,
        width=side,
        output_type="np",
        **settings,
    ).images
    drawn = generate(
        "a photo of my <s>",
        str(sdxl_folder),
        [tmp_path / LEARNED],
        negative_prompt=negative,
        num_images=2,
        weights="none",
        seed=11,
        resolution=side,
        **settings,
    )
    found = np.stack([np.asarray(picture, np.float32) for picture in drawn])
    assert np.abs(found - expected * 255).max() <= 1.5 and found.std() > 5


WRONG = {
    "a token of SDXL on SD": ("sd1", WIDTHS_XL, "<s> is 32 + 48 (SDXL) wide and this model takes 32; use it with"),
    "a token of SD on SDXL": ("sdxl", (32,), "<s> is 32 wide and this model takes 32 + 48 (SDXL); use it with"),
    "as wide as both": ("sdxl", (80,), "<s> is 80 wide and this model takes 32 + 48 (SDXL); use it with"),
    "another SDXL": ("sdxl", (48, 32), "<s> is 48 + 32 (SDXL) wide and this model takes 32 + 48 (SDXL); use it with"),
}


@pytest.mark.parametrize(("family", "widths", "said"), WRONG.values(), ids=WRONG)
def test_a_token_of_another_family_is_one_line(
    family: str,
    widths: tuple[int, ...],
    said: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_embedding(tmp_path / LEARNED, embedding(widths))
    words = ["--pretrained_model_name_or_path", request.getfixturevalue(f"{family}_folder"), "--prompt", "a <s>"]
    line = refused(capsys, "generate", *words, "--embedding", tmp_path / LEARNED, "--output", tmp_path / "x.png")
    assert said in line and not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("residency", RESIDENCIES)
@pytest.mark.parametrize(
    "damage", [cut_short, with_header_edited, with_a_nan_scale, missing], ids=lambda damage: damage.__name__
)
def test_a_damaged_second_text_encoder_is_one_line(
    damage: Callable[[Path], None],
    residency: str,
    checkpoint_of: Checkpoints,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(checkpoint_of("sdxl", "int8"), tmp_path / "copy")
    path = folder / "text_encoder_2/integer_model.safetensors"
    damage(path)
    words = ["--pretrained_model_name_or_path", folder, "--residency", residency, "--prompt", "a dog"]
    assert str(path) in refused(capsys, "generate", *words, "--output", tmp_path / "x.png")


@pytest.mark.parametrize("damage", [cut_short, missing], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("command", ["quantize", "personalize"])
def test_a_damaged_float_second_text_encoder_is_one_line(
    command: str,
    damage: Callable[[Path], None],
    sdxl_folder: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(sdxl_folder, tmp_path / "copy")
    damage(folder / "text_encoder_2/model.safetensors")
    words = ["--pretrained_model_name_or_path", folder, "--output_dir", tmp_path / "out", "--quiet"]
    more = ["--train_data_dir", photos, "--initializer_token", "dog"] if command == "personalize" else []
    assert str(folder / "text_encoder_2") in refused(capsys, command, *words, *more)
    assert not (tmp_path / "out").exists()


def test_the_web_uis_form_is_read_back(sdxl_folder: Path, photos: Path, tmp_path: Path) -> None:
    learned = load_embedding(personalized(sdxl_folder, photos, tmp_path / "run", "--no_preview", "--a1111"))
    other = load_embedding(tmp_path / "run/learned_embeds_a1111.safetensors")
    assert (other.vectors == learned.vectors).all() and other.widths == learned.widths == WIDTHS_XL
