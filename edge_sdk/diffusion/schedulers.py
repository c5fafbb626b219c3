"""What a ``scheduler_config.json`` stands for: accepted classes, their defaults, and what a pipeline corrects.

Training reads a scheduler's noise schedule, and pictures are generated with DDIM on it. So any class is accepted whose
schedule is one of betas, whatever its own way of sampling is, and a flow with a fixed shift.
"""

from typing import Any

from edge_sdk.diffusion.configs import check_config
from edge_sdk.diffusion.ddim import SPACINGS
from edge_sdk.diffusion.tables import ANY, BETA_SCHEDULES, MOST_TIMESTEPS, OFF, PREDICTIONS, Table
from edge_sdk.errors import EdgeSdkError, one_line
from edge_sdk.system.schema import Many, Real, Whole

# The defaults of diffusers' classes. A class that has no ``clip_sample`` never clips, whatever its config holds.
DEFAULTS: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "steps_offset": 0,
    "set_alpha_to_one": True,
}
_EVEN = {"timestep_spacing": "linspace"}
_SHORT = {"beta_start": 0.00085, "beta_end": 0.012}
_DISTILLED = _SHORT | {"beta_schedule": "scaled_linear", "clip_sample": False}
BETA_CLASSES: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {"clip_sample": True},
    "DDIMParallelScheduler": {"clip_sample": True},
    "DDPMScheduler": {"clip_sample": True},
    "DDPMParallelScheduler": {"clip_sample": True},
    "DEISMultistepScheduler": _EVEN,
    "DPMSolverMultistepScheduler": _EVEN,
    "DPMSolverSDEScheduler": _SHORT | _EVEN,
    "DPMSolverSinglestepScheduler": _EVEN,
    "EulerAncestralDiscreteScheduler": _EVEN,
    "EulerDiscreteScheduler": _EVEN,
    "HeunDiscreteScheduler": _SHORT | _EVEN | {"clip_sample": False},
    "KDPM2AncestralDiscreteScheduler": _SHORT | _EVEN,
    "KDPM2DiscreteScheduler": _SHORT | _EVEN,
    "LCMScheduler": _DISTILLED,
    "LMSDiscreteScheduler": _EVEN,
    "PNDMScheduler": {"set_alpha_to_one": False},
    "SASolverScheduler": _EVEN,
    "TCDScheduler": _DISTILLED,
    "UniPCMultistepScheduler": _EVEN,
}
FLOW_CLASSES = ("FlowMatchEulerDiscreteScheduler",)
CLASSES = (*BETA_CLASSES, *FLOW_CLASSES)
# What only a sampler reads that is not DDIM, or what has no effect without another entry.
_OTHER_SAMPLERS = (
    "algorithm_type",
    "base_image_seq_len",
    "base_shift",
    "corrector_order",
    "disable_corrector",
    "dynamic_thresholding_ratio",
    "euler_at_final",
    "final_sigmas_type",
    "flow_shift",
    "interpolation_type",
    "lambda_min_clipped",
    "lower_order_final",
    "max_image_seq_len",
    "max_shift",
    "noise_sampler_seed",
    "original_inference_steps",
    "predict_x0",
    "predictor_order",
    "rho",
    "s_noise",
    "sample_max_value",
    "sigma_max",
    "sigma_min",
    "skip_prk_steps",
    "solver_order",
    "solver_p",
    "solver_type",
    "stochastic_sampling",
    "tau_func",
    "tensor_format",  # of versions before 0.5
    "time_shift_type",
    "timestep_scaling",
    "timestep_values",  # of versions before 0.3
    "use_beta_sigmas",
    "use_exponential_sigmas",
    "use_karras_sigmas",
    "use_lu_lambdas",
    "variance_type",
)
SCHEDULER = Table(
    {
        "num_train_timesteps": Whole(1, MOST_TIMESTEPS),
        "prediction_type": PREDICTIONS,
        "timestep_spacing": SPACINGS,
        "steps_offset": Whole(0, MOST_TIMESTEPS),
        "clip_sample": bool,
        "clip_sample_range": Real(1e-6, 1e6),
        "set_alpha_to_one": bool,
        "beta_start": Real(0, 1),
        "beta_end": Real(0, 1),
        "beta_schedule": BETA_SCHEDULES,
        "trained_betas": Many(Real(0, 1), 1, MOST_TIMESTEPS),
        "rescale_betas_zero_snr": bool,
        "shift": Real(1e-3, 1e3),
        "use_dynamic_shifting": OFF,
        "shift_terminal": None,
        "invert_sigmas": OFF,
        "use_flow_sigmas": OFF,
        "thresholding": OFF,
        "timestep_type": ("discrete",),
        "predict_epsilon": (True,),  # of versions before 0.9; false means prediction_type "sample"
        **dict.fromkeys(_OTHER_SAMPLERS, ANY),
    }
)


def scheduler_entries(
    config: dict[str, Any], accepted: tuple[str, ...], declared: str | None = None, is_corrected: bool = False
) -> dict[str, Any]:
    """The entries of a scheduler's config, checked, with the defaults of its class; without nulls.

    Args:
        accepted: names of classes.
        declared: the class by ``model_index.json``, which counts more than the config's own, but for a flow: that is
            another process, so either word for it counts.
        is_corrected: as diffusers' StableDiffusionPipeline corrects old configs: nothing is clipped, and steps have
            an offset of one.

    Raises:
        EdgeSdkError: another class, or an entry that is not accepted; one line that names it.
    """
    own = config.get("_class_name")
    for name in (declared, own):
        if name is not None and name not in accepted:
            raise EdgeSdkError(f"the scheduler is a {one_line(name, 80)}, which is not supported: {_why(accepted)}")
    kind = next((name for name in (own, declared) if name in FLOW_CLASSES), declared or own)
    unused = config.get("_use_default_values")
    unused = unused if isinstance(unused, list) else []
    given = {name: value for name, value in config.items() if value is not None and name not in unused}
    try:
        check_config(given, SCHEDULER)
    except ValueError as error:
        raise EdgeSdkError(str(error)) from error
    defaults = DEFAULTS | BETA_CLASSES.get(str(kind), {})
    entries = defaults | given
    if kind is not None and "clip_sample" not in defaults:
        entries["clip_sample"] = False
    timesteps, offset = entries["num_train_timesteps"], entries["steps_offset"]
    if is_corrected:
        entries |= {"clip_sample": False, "steps_offset": 1}
    if max(offset, entries["steps_offset"]) >= timesteps:
        raise EdgeSdkError(f"steps_offset is {offset} and num_train_timesteps {timesteps}; the first must be smaller")
    if "trained_betas" in entries and len(entries["trained_betas"]) != timesteps:
        raise EdgeSdkError(f"trained_betas has {len(entries['trained_betas'])} values for {timesteps} timesteps")
    return entries if kind is None else entries | {"_class_name": kind}


def _why(accepted: tuple[str, ...]) -> str:
    flow = " or ".join(FLOW_CLASSES)
    if set(accepted) == set(FLOW_CLASSES):
        return f"this model is a flow, and its scheduler must be {flow}"
    return f"the noise schedule must be one of betas, as those of DDIM, DDPM, PNDM, Euler, UniPC and LCM are, or {flow}"


def check_last_step(entries: dict[str, Any], samples_it: bool | None = None) -> None:
    """Refuse a schedule whose last step is pure noise if the model predicts noise: nothing tells it what to draw.

    Args:
        entries: see `scheduler_entries`.
        samples_it: whether sampling begins at the last step; None for what ``timestep_spacing`` says.

    Raises:
        EdgeSdkError: pictures would be divided by zero.
    """
    if entries.get("_class_name") in FLOW_CLASSES or entries["prediction_type"] != "epsilon":
        return
    betas = entries.get("trained_betas") or [entries["beta_start"], entries["beta_end"]]
    has_zero = entries.get("rescale_betas_zero_snr", False) or (
        1 in betas and ("trained_betas" in entries or entries["beta_schedule"] != "squaredcos_cap_v2")
    )
    if has_zero and (entries["timestep_spacing"] != "leading" if samples_it is None else samples_it):
        cause = "rescale_betas_zero_snr" if entries.get("rescale_betas_zero_snr") else "a beta of 1"
        raise EdgeSdkError(
            f"{cause} with prediction_type epsilon and timestep_spacing {entries['timestep_spacing']} divides by zero "
            "at the first step; a model of this schedule predicts v: check prediction_type"
        )
