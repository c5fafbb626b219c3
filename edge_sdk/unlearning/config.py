"""The settings of an unlearning run: one frozen record, and the command line is made from its fields."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from edge_sdk.config import DEVICES, MODEL, RUN, check_options, check_resolution, check_text
from edge_sdk.errors import EdgeSdkError
from edge_sdk.zo.config import METHOD, OFTEN
from edge_sdk.zo.options import option

SCHEMA_VERSION = 1
SURROGATES = "surrogates"  # a group of options


@dataclass(frozen=True)
class UnlearnConfig:
    """Everything but the model, the pictures and the place of the results."""

    surrogate: str = option(
        "nearest",
        "what replaces a target: the people of the nearest retained pictures, edits by the model itself, or pictures "
        "given by --surrogate_data_dir",
        group=OFTEN,
        choices=("edit", "nearest", "given"),
    )
    num_surrogates: int | None = option(
        None,
        "surrogates of each target (default: up to 64 nearest, 4 edits, or all given ones)",
        group=SURROGATES,
        least=1,
        most=64,
    )
    edit_strength: float = option(
        0.7,
        "how far a target is noised before it is edited, as a share of all timesteps",
        group=SURROGATES,
        least=0.05,
        most=1.0,
    )
    surrogate_tries: int = option(16, "edits tried for each surrogate", group=SURROGATES, least=1, most=1024)
    max_target_similarity: float = option(
        0.75,
        "largest similarity of a surrogate to its target; a more similar one is refused as the same person",
        group=SURROGATES,
        least=-1.0,
        most=1.0,
    )
    max_retained_similarity: float = option(
        0.98,
        "largest similarity of a surrogate to any retained picture; a more similar one is refused as a real person",
        group=SURROGATES,
        least=-1.0,
        most=1.0,
    )
    max_background_change: float = option(
        0.05,
        "largest change of a surrogate outside the mask, root mean square of pictures in [0, 1]",
        group=SURROGATES,
        least=0.0,
        most=2.0,
    )
    surrogate_path: float = option(
        0.3,
        "how far towards its surrogate a target is moved at most before it is noised, 0 to 1",
        group=METHOD,
        least=0.0,
        most=1.0,
    )
    timestep_weight: str = option(
        "responsibility",
        "weight of the surrogate loss over timesteps",
        group=METHOD,
        choices=("uniform", "snr", "window", "responsibility"),
    )
    snr_gamma: float = option(
        5.0,
        "where the signal-to-noise ratio is clamped, for every --timestep_weight except uniform",
        group=METHOD,
        least=1e-6,
        most=1e6,
    )
    timestep_window: tuple[int, int] = option(
        (100, 600), "timesteps LO <= t < HI of the surrogate loss, for --timestep_weight window", group=METHOD
    )
    neighbours: int = option(
        16,
        "retained pictures nearest a target: the loss tells them apart from the target, and they are drawn more often",
        group=METHOD,
        least=1,
        most=4096,
    )
    neighbour_share: float = option(
        0.25,
        "share of a step's retained pictures that are drawn from the neighbours, which drift the most",
        group=METHOD,
        least=0.0,
        most=1.0,
    )
    surgery: str = option(
        "one_sided",
        "how conflicts with the retain loss are resolved: not at all, with retention first, or symmetrically",
        group=METHOD,
        choices=("none", "one_sided", "symmetric"),
    )
    surgery_scope: str = option(
        "global",
        "whether conflicts are resolved over all weights together or tensor by tensor",
        group=METHOD,
        choices=("global", "tensor"),
    )
    surgery_space: str = option(
        "update",
        "what is projected: the gradient, the gradient preconditioned by Adam, or the update of Adam",
        group=METHOD,
        choices=("gradient", "preconditioned", "update"),
    )
    metric: str = option(
        "retained",
        "what makes a step long: the change of retained pictures, or of all weights alike (euclidean)",
        group=METHOD,
        choices=("euclidean", "retained"),
    )
    metric_damping: float = option(
        0.1, "share of Euclidean length in --metric retained", group=METHOD, least=1e-6, most=1e6
    )
    retention: str = option(
        "teacher",
        "target for retained pictures: the base model's prediction (teacher), or their own noise (data)",
        group=METHOD,
        choices=("data", "teacher"),
    )
    unlearn_weight: float = option(
        4.0,
        "weight of the surrogate loss relative to the retain loss; more forgets more and keeps less",
        group=OFTEN,
        least=0.0,
        most=1e6,
    )
    quantization_aware: str = option(
        "none",
        "compute every other draw with weights rounded as this type would be",
        group=METHOD,
        choices=("none", "int8", "int4"),
    )
    layers: str = option(
        "branches",
        "what is trained: the layers in residual branches, or all of the denoiser",
        group=METHOD,
        choices=("branches", "all"),
    )
    lora_rank: int = option(
        0,
        "rank of adapters that are trained instead of the weights, at 10 times the learning rate; 0: no adapters",
        group=METHOD,
        least=0,
        most=1024,
    )
    learning_rate: float = option(5.4e-4, "step size of Adam", group=OFTEN, least=1e-12, most=10.0)
    lr_scheduler: str = option(
        "linear",
        "whether the learning rate stays constant or falls linearly to 0 over the run",
        group=METHOD,
        choices=("constant", "linear"),
    )
    lr_warmup_steps: int = option(
        5, "steps over which the learning rate rises first", group=METHOD, least=0, most=10**6
    )
    # Retention gradients drift less where Adam has a short memory.
    adam_beta1: float = option(0.5, "decay of Adam's mean gradient", least=0.0, most=0.9999)
    adam_beta2: float = option(0.99, "decay of Adam's mean square", least=0.0, most=0.99999)
    adam_eps: float = option(1e-8, "what Adam adds to the root of its mean square", least=1e-20, most=1.0)
    max_grad_norm: float = option(
        1.0, "largest norm of each loss's gradient; 0: no limit", group=METHOD, least=0.0, most=1e9
    )
    max_train_steps: int = option(40, "updates of the model", group=OFTEN, least=1, most=10**7)
    forget_batch: int = option(8, "noised copies of targets in a step", group=METHOD, least=1, most=4096)
    retain_batch: int = option(96, "retained pictures in a step", group=METHOD, least=1, most=4096)
    micro_batch: int = option(
        32, "pictures computed at once; gradients of larger batches are summed", group=RUN, least=1, most=4096
    )
    prompt: str = option(
        "", "prompt of a conditional model, the same for targets and retained pictures (default: none)", group=OFTEN
    )
    resolution: int | None = option(None, "side of the pictures in pixels (default: the model's own)", group=OFTEN)
    checkpointing_steps: int = option(
        20, "steps between states that a run can be resumed from", group=RUN, least=1, most=10**9
    )
    device: str = option("cpu", "where the model runs", group=MODEL, choices=DEVICES)
    seed: int = option(0, "seed of every random number", group=RUN, least=0, most=2**64 - 1)

    def __post_init__(self) -> None:
        check_options(self)
        low, high = self.timestep_window
        if not 0 <= low < high:
            raise EdgeSdkError(f"timestep_window is {low} {high}; it must be two rising timesteps, such as 100 600")
        check_resolution(self.resolution)
        check_text("prompt", self.prompt)

    @classmethod
    def from_options(cls, /, **options: Any) -> "UnlearnConfig":
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
