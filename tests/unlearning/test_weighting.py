"""Weights over timesteps: what a change of the clean picture does to the loss, and how weights bound it."""

import pytest
import torch

from edge_sdk.diffusion.schedule import Schedule
from edge_sdk.errors import EdgeSdkError
from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.training.weighting import residual_scale, responsibilities, timestep_weights

SCHEDULES = {kind: Schedule(prediction_type=kind, shift=3.0) for kind in ("epsilon", "v_prediction", "flow")}


@pytest.mark.parametrize("kind", SCHEDULES)
def test_the_residual_scale_is_what_a_surrogate_changes_the_answer_by(kind: str) -> None:
    schedule = SCHEDULES[kind]
    a, b = (values.double() for values in schedule.coefficients())
    x_f, x_s, noise = torch.tensor([0.3, -0.8, 1.1], dtype=torch.float64)
    z = a * x_f + b * noise
    swapped = (z - a * x_s) / b  # the noise that would have led to z from the surrogate
    answers = {
        "epsilon": (noise, swapped),
        "v_prediction": (a * noise - b * x_f, a * swapped - b * x_s),
        "flow": (noise - x_f, swapped - x_s),
    }
    true, wanted = answers[kind]
    torch.testing.assert_close(wanted - true, residual_scale(schedule).double() * (x_f - x_s), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_clamped_weights_bound_the_loss_by_the_clamped_signal_to_noise_ratio(kind: str) -> None:
    schedule = SCHEDULES[kind]
    weights = timestep_weights(schedule, UnlearnConfig(timestep_weight="snr", snr_gamma=5.0))
    a, b = schedule.coefficients()
    wanted = torch.minimum((a / b) ** 2, torch.tensor(5.0))
    torch.testing.assert_close(weights * residual_scale(schedule) ** 2, wanted)


def test_min_snr_weights_of_the_three_kinds() -> None:
    """The closed forms: min(SNR, g) / SNR, min(SNR, g) / (SNR + 1), min((1 - s)^2, g s^2)."""
    for kind, schedule in SCHEDULES.items():
        a, b = schedule.coefficients()
        snr, gamma = (a / b) ** 2, 5.0
        forms = {
            "epsilon": snr.clamp_max(gamma) / snr,
            "v_prediction": snr.clamp_max(gamma) / (snr + 1),
            "flow": torch.minimum((1 - b) ** 2, gamma * b**2),
        }
        weights = timestep_weights(schedule, UnlearnConfig(snr_gamma=gamma))
        torch.testing.assert_close(weights[:-1], forms[kind][:-1], rtol=1e-4, atol=1e-7)


def test_a_window_is_zero_outside_and_the_clamp_inside() -> None:
    window = timestep_weights(SCHEDULES["epsilon"], UnlearnConfig(timestep_weight="window", timestep_window=(50, 400)))
    whole = timestep_weights(SCHEDULES["epsilon"], UnlearnConfig())
    assert (window[:50] == 0).all() and (window[400:] == 0).all() and (window[50:400] == whole[50:400]).all()


def test_responsibility_goes_to_the_picture_that_was_noised_and_is_even_in_pure_noise() -> None:
    clean = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    a, b = torch.tensor([0.999]), torch.tensor([0.0447])
    sure = responsibilities(a * clean[:, 2] + b * noise, clean, a, b)
    assert sure[0, 2] > 0.999
    a, b = torch.tensor([1e-3]), torch.tensor([1.0])
    even = responsibilities(a * clean[:, 2] + b * noise, clean, a, b)
    assert (even - 0.25).abs().max() < 0.05
    assert torch.allclose(even.sum(1), torch.ones(1))


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("timestep_weight", "cosine", "uniform"),
        ("snr_gamma", 0.0, "snr_gamma"),
        ("timestep_window", (5, 5), "rising"),
        ("learning_rate", -1.0, "learning_rate"),
        ("surgery", "both", "one_sided"),
        ("nonsense", 1, "known are"),
    ],
)
def test_a_setting_out_of_range_is_one_line(option: str, value: object, said: str) -> None:
    with pytest.raises(EdgeSdkError, match=said) as error:
        UnlearnConfig.from_options(**{option: value})
    assert "\n" not in str(error.value)
