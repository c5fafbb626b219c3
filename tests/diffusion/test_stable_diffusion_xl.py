"""SDXL's text side, sizes and loss against stock diffusers and transformers."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionXLPipeline

from edge_sdk.diffusion.conditioning import add_time_ids
from edge_sdk.errors import EdgeSdkError
from edge_sdk.runtime.pytorch.model import open_model
from edge_sdk.runtime.pytorch.objective import StableDiffusionObjective, encode_images
from edge_sdk.runtime.pytorch.text_xl import TextEncoderPair
from edge_sdk.zo import Draw, draw
from tests.diffusion.test_objective import pixels
from tests.tiny_models import WIDTHS_XL

PROMPTS = ["a photo of <s>", "<s>", "a good picture of my <s>, <s>"]
PLAIN = ["a photo of a dog", "", "my cool mug, close up", "dog " * 60]
ORIGINALS = [(480, 640), (1200, 900)]
CLOSE: dict[str, float] = {"rtol": 1e-4, "atol": 1e-5}


def vectors(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).standard_normal((*shape, sum(WIDTHS_XL))).astype(np.float32))


@pytest.fixture(scope="module")
def text(sdxl_folder: Path) -> TextEncoderPair:
    made = open_model(str(sdxl_folder), "none").load_text()
    assert isinstance(made, TextEncoderPair)
    return made


@pytest.fixture
def stock(sdxl_folder: Path) -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline.from_pretrained(sdxl_folder)


def taught(stock: StableDiffusionXLPipeline, learned: torch.Tensor) -> StableDiffusionXLPipeline:
    """The pipeline with vectors (K, D1 + D2) of <s> added to both tokenizers and encoders, as diffusers does it."""
    first, second = learned.split(WIDTHS_XL, dim=1)
    stock.load_textual_inversion(first, token="<s>", text_encoder=stock.text_encoder, tokenizer=stock.tokenizer)
    stock.load_textual_inversion(second, token="<s>", text_encoder=stock.text_encoder_2, tokenizer=stock.tokenizer_2)
    return stock


def test_both_tokenizers_are_asked(text: TextEncoderPair, stock: StableDiffusionXLPipeline) -> None:
    expected = [
        torch.cat(
            [
                tokenizer(PLAIN, padding="max_length", truncation=True, return_tensors="pt").input_ids
                for tokenizer in (stock.tokenizer, stock.tokenizer_2)
            ],
            dim=1,
        )
    ]
    assert torch.equal(torch.from_numpy(text.tokenize(PLAIN)), expected[0])
    assert text.tokenize([""])[0, -1] != text.tokenize([""])[0, text.first.length - 1]  # another word fills up


def test_prompts_are_encoded_as_the_pipeline_does(text: TextEncoderPair, stock: StableDiffusionXLPipeline) -> None:
    sizes = torch.from_numpy(add_time_ids([(16, 16)] * len(PLAIN), (16, 16)))
    with torch.inference_mode():
        hidden, _, pooled, _ = stock.encode_prompt(PLAIN, do_classifier_free_guidance=False)
        found = text.condition(text.tokenize(PLAIN), None, sizes)
    assert found.added is not None and torch.equal(found.added[1], sizes)
    torch.testing.assert_close(found.hidden, hidden, **CLOSE)
    torch.testing.assert_close(found.added[0], pooled, **CLOSE)


@pytest.mark.parametrize("zeros", [True, False], ids=["zeros for none", "none is encoded"])
@pytest.mark.parametrize("prompt", ["", "a dark photo"], ids=["none", "some"])
def test_the_negative_prompt_is_that_of_the_pipeline(
    prompt: str, zeros: bool, sdxl_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(sdxl_folder, tmp_path / "model")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"force_zeros_for_empty_prompt": zeros}))
    stock = StableDiffusionXLPipeline.from_pretrained(folder)
    sizes = torch.from_numpy(add_time_ids([(16, 16)], (16, 16)))
    with torch.inference_mode():
        _, hidden, _, pooled = stock.encode_prompt("a dog", negative_prompt=prompt or None)
        found = open_model(str(folder), "none").load_text().negative(prompt, sizes)
    assert found.added is not None and torch.equal(found.added[1], sizes)
    torch.testing.assert_close(found.hidden, hidden, **CLOSE)
    torch.testing.assert_close(found.added[0], pooled, **CLOSE)
    assert bool((found.hidden == 0).all()) == (zeros and not prompt)


@pytest.mark.parametrize("count", [1, 2])
def test_learned_vectors_are_tokens_added_to_both_encoders(
    count: int, text: TextEncoderPair, stock: StableDiffusionXLPipeline
) -> None:
    learned = vectors(count)
    ids = text.tokenize(PROMPTS, {"<s>": count})
    with torch.inference_mode():
        hidden, _, pooled, _ = taught(stock, learned).encode_prompt(PROMPTS, do_classifier_free_guidance=False)
        found = text.condition(ids, learned.expand(3, -1, -1), torch.zeros(3, 6))
    assert found.added is not None
    torch.testing.assert_close(found.hidden, hidden, **CLOSE)
    torch.testing.assert_close(found.added[0], pooled, **CLOSE)


def test_the_end_of_the_text_is_pooled_whatever_an_old_config_says(sdxl_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sdxl_folder, tmp_path / "model")
    path = folder / "text_encoder_2/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": 2}))
    old, new = (open_model(str(f), "none").load_text() for f in (folder, sdxl_folder))
    ids, learned = new.tokenize(PROMPTS, {"<s>": 1}), vectors(3, 1)
    found, expected = (t.condition(ids, learned, torch.zeros(3, 6)).added for t in (old, new))
    assert found is not None and expected is not None and torch.equal(found[0], expected[0])


def test_the_sizes_are_those_that_the_pipeline_gives(stock: StableDiffusionXLPipeline) -> None:
    expected = [
        stock._get_add_time_ids(original, (0, 0), (16, 16), torch.float32, text_encoder_projection_dim=24)
        for original in ORIGINALS
    ]
    assert torch.equal(torch.from_numpy(add_time_ids(ORIGINALS, (16, 16))), torch.cat(expected))


def test_the_optimizers_variable_has_one_scale(text: TextEncoderPair) -> None:
    tables = [t.table.detach().double().numpy() for t in (text.first, text.second)]
    stds = [table.std(axis=0, ddof=1).mean() for table in tables]
    assert stds[1] < 0.7 * stds[0] and text.vocabulary_std() == pytest.approx(stds[0], rel=1e-5)
    words = np.concatenate(tables, axis=1) / text.scale
    parts = np.split(words, [WIDTHS_XL[0]], axis=1)
    assert [part.std(axis=0, ddof=1).mean() for part in parts] == pytest.approx([stds[0]] * 2, rel=1e-5)
    assert (text.scale[: WIDTHS_XL[0]] == 1).all() and text.scale.dtype == np.float32
    for part, low, high in zip(parts, *text.norm_range(), strict=True):
        norms = np.linalg.norm(part, axis=1)
        assert low == pytest.approx(np.quantile(norms, 0.001) / 2, rel=1e-4)
        assert high == pytest.approx(np.quantile(norms, 0.999) * 2, rel=1e-4)


def test_the_initial_embedding_is_the_words_rows_of_both_tables(text: TextEncoderPair) -> None:
    start = text.initial_embedding("dog", 2)
    (row,) = text.first.words("dog")
    expected = np.concatenate([t.table[row].detach().numpy() for t in (text.first, text.second)])
    assert start.shape == (2, sum(WIDTHS_XL)) and start.dtype == np.float32 and (start == expected).all()
    with pytest.raises(EdgeSdkError, match="must be one word"):
        text.initial_embedding("dog cat", 1)
    with pytest.raises(EdgeSdkError, match="'dog' is already a word"):
        text.check_placeholder("dog")


def test_encoders_of_different_lengths_are_refused(sdxl_folder: Path, text: TextEncoderPair) -> None:
    other = open_model("pocket", "none").load_text()
    with pytest.raises(EdgeSdkError, match=r"^the text encoders take 24 and 32 tokens; [^\n]*$"):
        TextEncoderPair(text.first, other)  # type: ignore[arg-type]


def objective_of(folder: Path, weights: str = "none") -> StableDiffusionObjective:
    model = open_model(str(folder), weights)
    text, sizes = model.load_text(), add_time_ids(ORIGINALS, (16, 16))
    ids, latents = text.tokenize(PROMPTS, {"<s>": 2}), encode_images(model.load("vae"), pixels())
    return StableDiffusionObjective(text, model.load("unet"), model.load_schedule(), latents, ids, 2, sizes)


def stock_loss(stock: StableDiffusionXLPipeline, learned: torch.Tensor, drawn: Draw) -> float:
    """The loss of diffusers' SDXL training scripts."""
    scheduler = DDPMScheduler.from_config(stock.scheduler.config)
    noise, latent_noise = torch.from_numpy(drawn.noise)[None], torch.from_numpy(drawn.latent_noise)[None]
    t = torch.tensor([drawn.timestep])
    with torch.inference_mode():
        posterior = stock.vae.encode(torch.from_numpy(pixels()[drawn.image : drawn.image + 1])).latent_dist
        x0 = (posterior.mean + posterior.std * latent_noise) * stock.vae.config.scaling_factor
        prompt = PROMPTS[drawn.prompt]
        hidden, _, pooled, _ = taught(stock, learned).encode_prompt(prompt, do_classifier_free_guidance=False)
        sizes = torch.tensor([[*ORIGINALS[drawn.image], 0, 0, 16, 16]], dtype=torch.float32)
        added = {"text_embeds": pooled, "time_ids": sizes}
        predicted = stock.unet(scheduler.add_noise(x0, noise, t), t, hidden, added_cond_kwargs=added).sample
    return torch.nn.functional.mse_loss(predicted, noise).item()


def test_losses_are_those_of_stock_diffusers(sdxl_folder: Path) -> None:
    objective = objective_of(sdxl_folder)
    draws, variables = draw(objective, 3, 0, 4, (0, 1000)), vectors(4, 2).numpy()
    assert len({(d.image, d.prompt) for d in draws}) > 2 and objective.embedding_shape == (2, 80)
    learned = torch.from_numpy(variables * objective.text.scale)
    expected = [
        stock_loss(StableDiffusionXLPipeline.from_pretrained(sdxl_folder), one, d)
        for one, d in zip(learned, draws, strict=True)
    ]
    np.testing.assert_allclose(objective.losses(variables, draws), expected, rtol=2e-5)


@pytest.mark.parametrize("weights", ["none", "int8", "int4"])
def test_a_row_depends_on_nothing_but_itself_and_all_of_it(weights: str, sdxl_folder: Path) -> None:
    objective = objective_of(sdxl_folder, weights)
    draws, learned = draw(objective, 5, 0, 3, (0, 1000)), vectors(3, 2).numpy()
    together = objective.losses(learned, draws)
    alone = [objective.losses(learned[b : b + 1], draws[b : b + 1])[0] for b in range(3)]
    np.testing.assert_allclose(alone, together, rtol=1e-4)
    for part in (slice(0, WIDTHS_XL[0]), slice(WIDTHS_XL[0], None)):
        changed = learned.copy()
        changed[:, :, part] += 1
        assert (np.abs(objective.losses(changed, draws) - together) > 1e-5 * together).all()
    objective.time_ids = torch.from_numpy(add_time_ids([(16, 16)] * 2, (16, 16)))
    assert (np.abs(objective.losses(learned, draws) - together) > 1e-6 * together).all()


def test_a_denoiser_that_is_not_told_sizes_says_so(sdxl_folder: Path) -> None:
    objective: Any = objective_of(sdxl_folder)
    objective.time_ids = None
    with pytest.raises(EdgeSdkError, match="needs the pooled text and the picture's sizes"):
        objective.losses(vectors(1, 2).numpy(), draw(objective, 5, 0, 1, (0, 1000)))
