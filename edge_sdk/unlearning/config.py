"""What an unlearning run is told: one frozen record, from which the command line is made."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from edge_sdk.config import DEVICES, check_resolution, one_of
from edge_sdk.errors import EdgeSdkError
from edge_sdk.unlearning.choices import (
    AWARENESS,
    LAYERS,
    LR_SCHEDULERS,
    METRICS,
    RETENTIONS,
    SCOPES,
    SPACES,
    SURGERIES,
    SURROGATES,
    TIMESTEP_WEIGHTS,
)

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class UnlearnConfig:
    """Everything but the model, the pictures and the place of the results."""

    surrogate: str = "nearest"  # what replaces a target: "nearest" retained pictures, "edit" (by the model), "given"
    num_surrogates: int | None = None  # of each target, so that none is an attractor; None: up to 64 nearest, 4 edits
    edit_strength: float = 0.7  # how far a target is noised before it is denoised again, as a share of all timesteps
    surrogate_tries: int = 16  # edits that are made until enough are admitted
    max_target_similarity: float = 0.75  # of a surrogate to its target; above, it is no other person
    max_retained_similarity: float = 0.98  # of a surrogate to any retained picture; above, it is a real other person
    max_background_change: float = 0.05  # outside the mask, root mean square, pictures being in [0, 1]
    surrogate_path: float = 0.3  # how far towards its surrogate a target is moved at most before it is noised
    timestep_weight: str = "responsibility"  # w(t) of the surrogate loss, or "uniform", "snr", "window"
    snr_gamma: float = 5.0  # where the signal-to-noise ratio is clamped (all but "uniform")
    timestep_window: tuple[int, int] = (100, 600)  # [low, high) of the T timesteps ("window" only)
    neighbours: int = 16  # retained pictures nearest a target: told apart from it ("responsibility"), and drawn more
    neighbour_share: float = 0.25  # of a step's retained pictures, drawn from neighbours, which drift the most
    surgery: str = "one_sided"  # "none", "one_sided" (retention has priority) or "symmetric"
    surgery_scope: str = "global"  # projected over all weights together ("global") or "tensor" by tensor
    surgery_space: str = "update"  # what is projected: the "gradient", it "preconditioned" by Adam, or Adam's "update"
    metric: str = "retained"  # a step is as long as what it does to retained pictures, or "euclidean"
    metric_damping: float = 0.1  # share of Euclidean length in that ("retained" only)
    retention: str = "teacher"  # what retained pictures are held to: the base model, or their own noise ("data")
    unlearn_weight: float = 4.0  # of the surrogate loss beside the retain loss
    quantization_aware: str = "none"  # compute every other draw with weights rounded as "int8" or "int4" would be
    layers: str = "branches"  # what is trained: the layers in residual branches, or "all" of the denoiser
    lora_rank: int = 0  # 0: their weights are trained; else adapters of this rank
    learning_rate: float = 5.4e-4
    lr_scheduler: str = "linear"  # the learning rate falls to 0 over the run, or is "constant"
    lr_warmup_steps: int = 5  # over which it rises first
    adam_beta1: float = 0.5  # retention answers drift the sooner, the less it remembers
    adam_beta2: float = 0.99
    adam_eps: float = 1e-8
    max_grad_norm: float = 1.0  # of each of the two gradients; 0: no limit
    max_train_steps: int = 40
    forget_batch: int = 8  # noised copies of the targets a step
    retain_batch: int = 96  # retained pictures a step
    micro_batch: int = 32  # pictures computed at once; gradients of larger batches are summed
    prompt: str = ""  # what a conditional model is told, the same for targets and retained pictures
    resolution: int | None = None  # side in pixels; None: the model's own
    checkpointing_steps: int = 20
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, accepted in _CHOICES.items():
            one_of(name, getattr(self, name), accepted)
        for name, (least, most) in _RANGES.items():
            if getattr(self, name) is not None and not least <= getattr(self, name) <= most:
                raise EdgeSdkError(f"{name} is {getattr(self, name):g}; it must be from {least:g} to {most:g}")
        low, high = self.timestep_window
        if not 0 <= low < high:
            raise EdgeSdkError(f"timestep_window is {low} {high}; it must be two rising timesteps, such as 100 600")
        check_resolution(self.resolution)

    @classmethod
    def from_options(cls, **options: Any) -> "UnlearnConfig":
        """None stands for the default.

        Raises:
            EdgeSdkError: an unknown option or a value out of range.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(options) - known):
            raise EdgeSdkError(f"unknown option {unknown[0]!r}; known are {', '.join(sorted(known))}")
        return cls(**{name: value for name, value in options.items() if value is not None})

    @property
    def forms(self) -> tuple[str, ...]:
        """Of the weights; draws are computed with each in turn, see `trainable.Trainable`."""
        return ("none",) if self.quantization_aware == "none" else ("none", self.quantization_aware)

    def to_dict(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **asdict(self), "timestep_window": list(self.timestep_window)}


_CHOICES = {
    "surrogate": SURROGATES, "timestep_weight": TIMESTEP_WEIGHTS, "surgery": SURGERIES, "surgery_scope": SCOPES,
    "surgery_space": SPACES, "retention": RETENTIONS, "quantization_aware": AWARENESS, "device": DEVICES,
    "lr_scheduler": LR_SCHEDULERS, "metric": METRICS, "layers": LAYERS,
}  # fmt: skip
_RANGES = {
    "num_surrogates": (1, 64), "edit_strength": (0.05, 1.0), "surrogate_tries": (1, 1024),
    "max_target_similarity": (-1.0, 1.0), "max_retained_similarity": (-1.0, 1.0), "max_background_change": (0.0, 2.0),
    "surrogate_path": (0.0, 1.0), "snr_gamma": (1e-6, 1e6), "lr_warmup_steps": (0, 10**6),
    "neighbours": (1, 4096), "unlearn_weight": (0.0, 1e6), "lora_rank": (0, 1024), "metric_damping": (1e-6, 1e6),
    "learning_rate": (1e-12, 10.0),
    "adam_beta1": (0.0, 0.9999), "adam_beta2": (0.0, 0.99999), "adam_eps": (1e-20, 1.0), "max_grad_norm": (0.0, 1e9),
    "max_train_steps": (1, 10**7), "forget_batch": (1, 4096), "retain_batch": (1, 4096), "micro_batch": (1, 4096),
    "neighbour_share": (0.0, 1.0), "checkpointing_steps": (1, 10**9), "seed": (0, 2**64 - 1),
}  # fmt: skip
