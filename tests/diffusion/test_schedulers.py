"""Schedulers of model folders: every class of diffusers is read as the library reads it, or named and refused."""

import inspect
import json
from typing import Any

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, SchedulerMixin

from edge_sdk.diffusion.schedule import Schedule
from edge_sdk.diffusion.schedulers import (
    BETA_CLASSES,
    CLASSES,
    DEFAULTS,
    FLOW_CLASSES,
    SCHEDULER,
    check_last_step,
    scheduler_entries,
)
from edge_sdk.errors import EdgeSdkError

ACCEPTED = tuple(BETA_CLASSES)
HERE = [kind for kind in BETA_CLASSES if kind != "DPMSolverSDEScheduler"]  # which needs a package of its own


def parameters(kind: str) -> dict[str, Any]:
    """The entries of a class, with their defaults."""
    signature = inspect.signature(getattr(diffusers, kind).__init__).parameters
    return {name: entry.default for name, entry in signature.items() if name != "self"}


def all_schedulers() -> list[str]:
    names = [name for name in dir(diffusers) if name.endswith("Scheduler") and not name.startswith("Flax")]
    return [name for name in names if issubclass(getattr(diffusers, name), SchedulerMixin)]


@pytest.mark.parametrize("kind", HERE)
def test_a_config_without_entries_has_the_defaults_of_its_class(kind: str) -> None:
    entries, theirs = scheduler_entries({"_class_name": kind}, ACCEPTED), parameters(kind)
    expected = {name: theirs[name] for name in DEFAULTS if name in theirs}
    assert {name: entries[name] for name in expected} == expected
    assert entries["clip_sample"] == theirs.get("clip_sample", False)


@pytest.mark.parametrize("kind", [*HERE, *FLOW_CLASSES])
def test_every_entry_of_a_class_is_known(kind: str) -> None:
    assert set(parameters(kind)) <= set(SCHEDULER.entries)
    config = json.loads(getattr(diffusers, kind)().to_json_string())
    assert scheduler_entries(config, CLASSES)["_class_name"] == kind


def test_every_other_scheduler_of_diffusers_is_refused_by_name() -> None:
    others = sorted({*all_schedulers(), "NewScheduler"} - {*BETA_CLASSES})
    assert {"EDMEulerScheduler", "CMStochasticIterativeScheduler", "IPNDMScheduler", *FLOW_CLASSES} <= set(others)
    for kind in others:
        for config, declared in (({"_class_name": kind}, None), ({"_class_name": "DDIMScheduler"}, kind)):
            with pytest.raises(EdgeSdkError, match=rf"^the scheduler is a {kind}, [^\n]*betas[^\n]*$"):
                scheduler_entries(config, ACCEPTED, declared)


def test_the_class_of_the_index_counts_more_than_that_of_the_config() -> None:
    entries = scheduler_entries({"_class_name": "PNDMScheduler"}, ACCEPTED, "LCMScheduler")
    assert entries["_class_name"] == "LCMScheduler" and entries["beta_schedule"] == "scaled_linear"


@pytest.mark.parametrize(
    "entry",
    [
        {"prediction_type": "sample"},
        {"prediction_type": "flow_prediction"},
        {"predict_epsilon": False},
        {"thresholding": True},
        {"use_flow_sigmas": True},
        {"timestep_type": "continuous"},
        {"beta_schedule": "sigmoid"},
        {"beta_schedule": "laplace"},
        {"timestep_spacing": "quadratic"},
        {"trained_betas": [0.1, 0.2]},
        {"trained_betas": [0.1, "x"]},
        {"snr_shift_scale": 3.0},
        {"new_curve": "steep"},
    ],
    ids=str,
)
def test_an_entry_of_another_process_is_refused_by_name(entry: dict[str, Any]) -> None:
    with pytest.raises(EdgeSdkError, match=rf"^'?{next(iter(entry))}[^\n]*$"):
        scheduler_entries(entry, ACCEPTED)


@pytest.mark.parametrize(
    "entry",
    [
        {"sample_max_value": 2.0},
        {"use_karras_sigmas": True, "final_sigmas_type": "sigma_min", "sigma_max": 14.6},
        {"skip_prk_steps": False},
        {"tensor_format": "np", "timestep_values": None},
        {"lambda_min_clipped": float("-inf"), "algorithm_type": "sde-dpmsolver++"},
        {"_name_or_path": "somewhere", "_future": [1]},
        {"new_switch": False, "new_list": [], "new_number": None},
        {"thresholding": None, "trained_betas": None, "beta_start": None},
    ],
    ids=str,
)
def test_an_entry_without_effect_is_left_alone(entry: dict[str, Any]) -> None:
    plain = Schedule.from_dict({"_class_name": "DDIMScheduler"})
    assert Schedule.from_dict({"_class_name": "DDIMScheduler"} | entry) == plain


@pytest.mark.parametrize("place", ["config", "index"])
def test_a_flow_is_one_wherever_it_is_named(place: str) -> None:
    flow = FLOW_CLASSES[0]
    own, declared = (flow, "PNDMScheduler") if place == "config" else ("PNDMScheduler", flow)
    schedule = Schedule.from_dict({"_class_name": own, "shift": 3.0}, CLASSES, declared, is_corrected=True)
    assert (schedule.prediction_type, schedule.shift, schedule.timestep_spacing) == ("flow", 3.0, "trailing")


def test_defaults_that_a_config_marks_as_such_are_those_of_its_class() -> None:
    config = {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading", "beta_end": 0.012}
    entries = scheduler_entries(config | {"_use_default_values": ["timestep_spacing"]}, ACCEPTED)
    assert (entries["timestep_spacing"], entries["beta_end"]) == ("linspace", 0.012)


@pytest.mark.parametrize("zero", [False, True], ids=["plain", "zero SNR"])
def test_trained_betas_are_used_as_diffusers_uses_them(zero: bool) -> None:
    betas = torch.linspace(0.01, 0.2, 50).square().tolist()
    config = {"trained_betas": betas, "num_train_timesteps": 50, "rescale_betas_zero_snr": zero}
    own = Schedule.from_dict(config)
    torch.testing.assert_close(own.alphas_cumprod(), DDIMScheduler(**config).alphas_cumprod, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(own.alphas_cumprod(), Schedule.from_dict({"num_train_timesteps": 50}).alphas_cumprod())


ZERO: dict[str, dict[str, Any]] = {
    "trailing": {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
    "linspace": {"rescale_betas_zero_snr": True, "timestep_spacing": "linspace"},
    "default of Euler": {"rescale_betas_zero_snr": True, "_class_name": "EulerDiscreteScheduler"},
    "a last beta of 1": {"beta_end": 1.0, "timestep_spacing": "trailing"},
    "a trained beta of 1": {"trained_betas": [0.5, 1.0], "num_train_timesteps": 2, "timestep_spacing": "linspace"},
}


@pytest.mark.parametrize("config", ZERO.values(), ids=ZERO)
def test_noise_is_not_predicted_from_nothing_but_noise(config: dict[str, Any]) -> None:
    with pytest.raises(EdgeSdkError, match=r"^[^\n]*with prediction_type epsilon[^\n]*divides by zero[^\n]*$"):
        check_last_step(scheduler_entries(config, ACCEPTED))
    check_last_step(scheduler_entries(config | {"prediction_type": "v_prediction"}, ACCEPTED))
    leading = scheduler_entries(config | {"timestep_spacing": "leading"}, ACCEPTED)
    check_last_step(leading)
    with pytest.raises(EdgeSdkError, match="divides by zero"):
        check_last_step(leading, samples_it=True)
