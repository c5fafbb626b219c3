"""The forward process and its targets against diffusers' schedulers."""

import pytest
import torch
from diffusers.schedulers import DDPMScheduler

from edge_sdk.diffusion.ddim import PREDICTION_TYPES, x0_and_noise
from edge_sdk.diffusion.prediction import noised, target

TABLE = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
TIMESTEPS = torch.tensor([0, 1, 250, 500, 999])
A, B = TABLE.alphas_cumprod[TIMESTEPS].sqrt(), (1 - TABLE.alphas_cumprod[TIMESTEPS]).sqrt()
SIGMA = torch.tensor([0.001, 0.2, 0.5, 0.8, 1.0])


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 5, 4, 3, 2, generator=generator).unbind()
    return x0, noise


def test_noising_is_that_of_diffusers(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    torch.testing.assert_close(noised(*pair, A, B), TABLE.add_noise(*pair, TIMESTEPS), rtol=1e-6, atol=1e-6)


def test_v_is_the_velocity_of_diffusers(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    expected = TABLE.get_velocity(*pair, TIMESTEPS)
    torch.testing.assert_close(target("v_prediction", *pair, A, B), expected, rtol=1e-6, atol=1e-6)


def test_epsilon_is_the_noise_itself(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert (target("epsilon", *pair, A, B) == pair[1]).all()


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_photo_and_noise_are_found_again_from_what_is_predicted(
    kind: str, pair: tuple[torch.Tensor, torch.Tensor]
) -> None:
    a, b = (1 - SIGMA, SIGMA) if kind == "flow" else (A, B)
    z, wanted = noised(*pair, a, b), target(kind, *pair, a, b)
    for i in range(len(a)):
        found = x0_and_noise(kind, wanted[i], z[i], a[i], b[i])
        torch.testing.assert_close(torch.stack(found), torch.stack([part[i] for part in pair]), rtol=1e-3, atol=1e-3)


def test_a_flow_is_the_straight_line_between_photo_and_noise(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    x0, noise = pair
    z = noised(x0, noise, 1 - SIGMA, SIGMA)
    torch.testing.assert_close(z + (1 - SIGMA).view(-1, 1, 1, 1) * target("flow", x0, noise, A, B), noise)


def test_a_signal_of_one_is_the_photo_and_of_zero_the_noise(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    x0, noise = pair
    zero, one = torch.zeros(5), torch.ones(5)
    assert (noised(x0, noise, one, zero) == x0).all() and (noised(x0, noise, zero, one) == noise).all()
    assert (target("v_prediction", x0, noise, one, zero) == noise).all()
    assert (target("v_prediction", x0, noise, zero, one) == -x0).all()
