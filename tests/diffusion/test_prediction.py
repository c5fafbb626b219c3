"""The forward process and its targets against diffusers' schedulers."""

import pytest
import torch
from diffusers.schedulers import DDPMScheduler

from edge_sdk.diffusion.prediction import noised, target

TABLE = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
TIMESTEPS = torch.tensor([0, 1, 250, 500, 999])
ALPHA_BAR = TABLE.alphas_cumprod[TIMESTEPS]


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 5, 4, 3, 2, generator=generator).unbind()
    return x0, noise


def test_noising_is_that_of_diffusers(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    torch.testing.assert_close(noised(*pair, ALPHA_BAR), TABLE.add_noise(*pair, TIMESTEPS), rtol=1e-6, atol=1e-6)


def test_v_is_the_velocity_of_diffusers(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    expected = TABLE.get_velocity(*pair, TIMESTEPS)
    torch.testing.assert_close(target("v_prediction", *pair, ALPHA_BAR), expected, rtol=1e-6, atol=1e-6)


def test_epsilon_is_the_noise_itself(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert (target("epsilon", *pair, ALPHA_BAR) == pair[1]).all()


def test_the_photo_is_found_again_from_v(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    a = ALPHA_BAR.view(-1, 1, 1, 1)
    rebuilt = a.sqrt() * noised(*pair, ALPHA_BAR) - (1 - a).sqrt() * target("v_prediction", *pair, ALPHA_BAR)
    torch.testing.assert_close(rebuilt, pair[0], rtol=1e-5, atol=1e-5)


def test_a_signal_of_one_is_the_photo_and_of_zero_the_noise(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    x0, noise = pair
    assert (noised(x0, noise, torch.ones(5)) == x0).all() and (noised(x0, noise, torch.zeros(5)) == noise).all()
    assert (target("v_prediction", x0, noise, torch.ones(5)) == noise).all()
    assert (target("v_prediction", x0, noise, torch.zeros(5)) == -x0).all()
