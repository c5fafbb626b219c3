"""The denoising loss against the same loss written with stock diffusers, one row at a time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel

from edge_sdk.runtime.pytorch.model import Model, open_model
from edge_sdk.runtime.pytorch.objective import StableDiffusionObjective, encode_images
from edge_sdk.zo import Draw, draw
from tests.diffusion.test_text import extended

PROMPTS = ["a photo of <s>", "<s>", "a good picture of my <s>, <s>"]


def pixels(count: int = 2) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (count, 3, 16, 16)).astype(np.float32)


def objective_of(model: Model, captions: bool = False) -> StableDiffusionObjective:
    text = model.load_text()
    ids = text.tokenize(PROMPTS[:2] if captions else PROMPTS, {"<s>": 2})
    latents = encode_images(model.load("vae"), pixels())
    ids = ids[:, None] if captions else ids
    return StableDiffusionObjective(text, model.load("unet"), model.load_schedule(), latents, ids, 2)


def embeddings(count: int) -> np.ndarray:
    return np.random.default_rng(2).standard_normal((count, 2, 32)).astype(np.float32)


@pytest.fixture(scope="module", params=["sd1", "sd2"])
def folder(request: pytest.FixtureRequest, sd1_folder: Path, sd2_folder: Path) -> Path:
    return {"sd1": sd1_folder, "sd2": sd2_folder}[request.param]


@pytest.fixture(scope="module")
def objective(folder: Path) -> StableDiffusionObjective:
    return objective_of(open_model(str(folder), "none"))


@torch.no_grad()
def stock_loss(folder: Path, learned: np.ndarray, drawn: Draw, ids: torch.Tensor) -> float:
    """mean (target - unet)^2 by from_pretrained, DDPMScheduler and a text encoder with a longer table."""
    vae = AutoencoderKL.from_pretrained(folder / "vae").eval()
    scheduler = DDPMScheduler.from_pretrained(folder / "scheduler")
    posterior = vae.encode(torch.from_numpy(pixels()[drawn.image : drawn.image + 1])).latent_dist
    noise, latent_noise = torch.from_numpy(drawn.noise)[None], torch.from_numpy(drawn.latent_noise)[None]
    x0 = (posterior.mean + posterior.std * latent_noise) * vae.config.scaling_factor
    t = torch.tensor([drawn.timestep])
    hidden = extended(folder, torch.from_numpy(learned))(input_ids=ids[None]).last_hidden_state
    unet = UNet2DConditionModel.from_pretrained(folder / "unet").eval()
    predicted = unet(scheduler.add_noise(x0, noise, t), t, hidden).sample
    v = scheduler.config.prediction_type == "v_prediction"
    wanted = scheduler.get_velocity(x0, noise, t) if v else noise
    return torch.nn.functional.mse_loss(predicted, wanted).item()


def test_losses_are_those_of_stock_diffusers(folder: Path, objective: StableDiffusionObjective) -> None:
    draws, learned = draw(objective, 3, 0, 5, (0, 1000)), embeddings(5)
    assert len({(d.image, d.prompt) for d in draws}) > 2
    expected = [stock_loss(folder, e, d, objective.ids[d.prompt]) for e, d in zip(learned, draws, strict=True)]
    out = objective.losses(learned, draws)
    assert out.dtype == np.float64 and out.shape == (5,)
    np.testing.assert_allclose(out, expected, rtol=2e-5)


def test_a_caption_belongs_to_its_photo(folder: Path) -> None:
    objective = objective_of(open_model(str(folder), "none"), captions=True)
    assert (objective.num_images, objective.num_prompts) == (2, 1)
    draws, learned = draw(objective, 4, 0, 4, (0, 1000)), embeddings(4)
    assert {d.image for d in draws} == {0, 1} and {d.prompt for d in draws} == {0}
    expected = [stock_loss(folder, e, d, objective.ids[d.image, 0]) for e, d in zip(learned, draws, strict=True)]
    np.testing.assert_allclose(objective.losses(learned, draws), expected, rtol=2e-5)


def test_the_objective_says_what_it_takes(folder: Path, objective: StableDiffusionObjective) -> None:
    assert objective.prediction_type == ("epsilon" if folder.name == "sd1" else "v_prediction")
    assert (objective.num_images, objective.num_prompts, objective.num_train_timesteps) == (2, 3, 1000)
    assert objective.latents_shape == (4, 8, 8) and objective.embedding_shape == (2, 32)


@pytest.mark.parametrize("weights", ["none", "int8", "int4"])
def test_a_row_depends_on_nothing_but_itself(weights: str, folder: Path) -> None:
    objective = objective_of(open_model(str(folder), weights))
    draws, learned = draw(objective, 5, 0, 4, (0, 1000)), embeddings(4)
    together = objective.losses(learned, draws)
    alone = [objective.losses(learned[b : b + 1], draws[b : b + 1])[0] for b in range(4)]
    np.testing.assert_allclose(alone, together, rtol=1e-4)
    assert len(set(together)) == 4
    others = learned + np.float32(1) * (np.arange(4) != 2)[:, None, None]
    np.testing.assert_allclose(objective.losses(others, draws)[2], together[2], rtol=1e-4)


def test_every_part_of_a_draw_counts(objective: StableDiffusionObjective) -> None:
    base = draw(objective, 6, 0, 1, (300, 700))[0]
    changes: dict[str, Any] = {
        "image": 1 - base.image,
        "prompt": (base.prompt + 1) % 3,
        "timestep": base.timestep + 50,
        "noise": -base.noise,
        "latent_noise": -base.latent_noise,
    }
    draws = [base, *(Draw(**{**base.__dict__, name: value}) for name, value in changes.items())]
    losses = objective.losses(np.repeat(embeddings(1), len(draws), axis=0), draws)
    assert (np.abs(losses[1:] - losses[0]) > 1e-6 * losses[0]).all()


def test_the_gradient_is_that_of_central_differences(objective: StableDiffusionObjective) -> None:
    draws, start = draw(objective, 7, 0, 3, (0, 1000)), embeddings(3)
    learned = torch.from_numpy(start.copy()).requires_grad_()
    objective.loss(learned, draws).sum().backward()
    assert learned.grad is not None
    gradient = learned.grad.double().numpy()
    length = np.sqrt((gradient**2).sum(axis=(1, 2)))
    step = 0.05 * (gradient / length[:, None, None]).astype(np.float32)
    slope = (objective.losses(start + step, draws) - objective.losses(start - step, draws)) / 0.1
    np.testing.assert_allclose(slope, length, rtol=0.05)


def test_losses_take_a_broadcast_view_and_leave_it(objective: StableDiffusionObjective) -> None:
    draws, one = draw(objective, 8, 0, 2, (0, 1000)), embeddings(1)[0]
    view = np.broadcast_to(one, (2, *one.shape))
    assert (objective.losses(view, draws) == objective.losses(np.stack([one, one]), draws)).all()
    assert (one == embeddings(1)[0]).all()


def test_photos_are_encoded_to_the_scaled_posterior(sd1_folder: Path) -> None:
    vae = AutoencoderKL.from_pretrained(sd1_folder / "vae").eval()
    latents = encode_images(open_model(str(sd1_folder), "none").load("vae"), pixels(3))
    with torch.inference_mode():
        posterior = vae.encode(torch.from_numpy(pixels(3))).latent_dist
    assert vae.config.scaling_factor == 0.2 and latents.mean.shape == latents.std.shape == (3, 4, 8, 8)
    torch.testing.assert_close(latents.mean, posterior.mean * 0.2, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(latents.std, posterior.std * 0.2, rtol=1e-4, atol=1e-5)


def test_a_shift_is_taken_from_the_mean_alone(sd1_folder: Path) -> None:
    vae: Any = open_model(str(sd1_folder), "none").load("vae")
    plain = encode_images(vae, pixels(1))
    vae.config = replace(vae.config, shift_factor=0.5)
    shifted = encode_images(vae, pixels(1))
    torch.testing.assert_close(shifted.mean, plain.mean - 0.5 * 0.2)
    torch.testing.assert_close(shifted.std, plain.std)
