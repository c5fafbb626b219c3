"""Settings as keyword arguments, typed for editors and type checkers; a test holds them to the fields of the configs.

What each one means stands at its field: `edge_sdk.config.PersonalizeConfig`, `edge_sdk.zo.ZoConfig`.
"""

from typing import Literal, TypeAlias, TypedDict

Weights: TypeAlias = Literal["int8", "int4", "none"]
Execution: TypeAlias = Literal["integer", "fused"]
Residency: TypeAlias = Literal["resident", "mapped", "streamed"]
Device: TypeAlias = Literal["cpu", "cuda"]
SearchBasis: TypeAlias = Literal["principal", "readable"]
Activations: TypeAlias = Literal["16", "8", "difference"]
PredictionType: TypeAlias = Literal["epsilon", "v_prediction"]


class ZoOptions(TypedDict, total=False):
    """Settings of the optimizer; None is the preset's value."""

    optimizer: Literal["adam", "gauss_newton"] | None
    max_train_steps: int | Literal["auto"] | None  # "auto" is `stop_when_flat`
    learning_rate: float | None
    lr_schedule: Literal["constant", "cosine"] | None
    zo_samples: int | None
    zo_directions: int | None
    zo_mu: float | None
    zo_difference: Literal["forward", "central"] | None
    zo_draws: Literal["shared", "per_direction"] | None
    train_batch_size: int | None
    zo_normalize: bool | None
    subspace_buffer: int | None
    subspace_threshold: float | None
    timestep_range: tuple[int, int] | None
    adam_beta1: float | None
    adam_beta2: float | None
    adam_eps: float | None
    damping: float | None
    memory: float | None
    trust_radius: float | None
    average_from: float | None
    max_bad_steps: int | None


class FitOptions(ZoOptions, total=False):
    """Settings of learning on a model that is open; None is the default."""

    placeholder_token: str | None
    initializer_token: str | None
    learnable_property: Literal["object", "style"] | None
    num_vectors: int | None
    resolution: int | None
    center_crop: bool | None
    use_captions: bool | None
    preset: Literal["fast", "paper"] | None
    search_basis: SearchBasis | None
    activations: Activations | None
    max_batch: int | None
    eval_draws: int | None
    checkpointing_steps: int | None
    stop_when_flat: bool | None
    seed: int | None


class PersonalizeOptions(FitOptions, total=False):
    """Settings of a run that opens the model itself; None is the default."""

    weights: Weights | None
    execution: Execution | None
    residency: Residency | None
    device: Device | None
