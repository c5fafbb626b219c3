"""Our schedule and DDIM give what diffusers' give."""

from typing import Any

import pytest
import torch
from diffusers.schedulers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from edge_sdk.diffusion.schedule import Schedule
from edge_sdk.errors import EdgeSdkError

SD: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
CONFIGS: dict[str, dict[str, Any]] = {
    "SD 1.5": SD | {"set_alpha_to_one": False, "steps_offset": 1},
    "SD 2.1": SD | {"set_alpha_to_one": False, "steps_offset": 1, "prediction_type": "v_prediction"},
    "trailing, zero SNR": SD
    | {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
    "linspace, cosine, clipped": SD
    | {"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "linspace"}
    | {"clip_sample": True, "clip_sample_range": 0.7},
    "linear, short": {"beta_schedule": "linear", "num_train_timesteps": 200, "clip_sample": False},
}


@pytest.mark.parametrize("steps", [1, 7, 50])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_sampling_is_that_of_diffusers(config: dict[str, Any], steps: int) -> None:
    stock, own = DDIMScheduler(**config), Schedule.from_dict(config)
    alphas = own.alphas_cumprod()
    torch.testing.assert_close(alphas, stock.alphas_cumprod, rtol=1e-5, atol=1e-7)
    stock.set_timesteps(steps)
    assert own.timesteps(steps) == stock.timesteps.tolist()
    found = expected = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for t in own.timesteps(steps):
        predicted = torch.sin(3 * expected + t)
        expected = stock.step(predicted, t, expected, return_dict=False)[0]
        found = own.ddim_step(predicted, t, steps, found, own.coefficients())
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "change", [{"beta_schedule": "spiral"}, {"prediction_type": "sample"}, {"timestep_spacing": "odd"}], ids=str
)
def test_an_unknown_schedule_is_one_line(change: dict[str, Any]) -> None:
    with pytest.raises(EdgeSdkError, match=rf"^{next(iter(change))} is [^\n]*, not one of [^\n]*$"):
        Schedule.from_dict(SD | change)


def test_other_samplers_entries_are_left_out_and_none_is_the_default() -> None:
    assert Schedule.from_dict({"skip_prk_steps": True, "steps_offset": None}).steps_offset == 0


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_flow_has_the_sigmas_and_times_of_diffusers(shift: float) -> None:
    stock = FlowMatchEulerDiscreteScheduler(shift=shift)
    own = Schedule.from_dict(dict(stock.config) | {"_class_name": "FlowMatchEulerDiscreteScheduler"})
    assert own.prediction_type == "flow"
    torch.testing.assert_close(own.coefficients()[1].flip(0), stock.sigmas, rtol=1e-6, atol=0)
    torch.testing.assert_close(own.times().flip(0), stock.timesteps, rtol=1e-6, atol=0)


def test_sampling_a_flow_takes_the_steps_of_diffusers() -> None:
    stock = FlowMatchEulerDiscreteScheduler()
    own = Schedule.from_dict(dict(stock.config) | {"_class_name": "FlowMatchEulerDiscreteScheduler"})
    stock.set_timesteps(sigmas=own.coefficients()[1][own.timesteps(4)].tolist())
    found = expected = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for i, t in enumerate(own.timesteps(4)):
        expected = stock.step(torch.sin(expected), stock.timesteps[i], expected, return_dict=False)[0]
        found = own.ddim_step(torch.sin(found), t, 4, found, own.coefficients())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_flow_whose_shift_depends_on_the_picture_is_refused() -> None:
    with pytest.raises(EdgeSdkError, match="use_dynamic_shifting"):
        Schedule.from_dict({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True})
