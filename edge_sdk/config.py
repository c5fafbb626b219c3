"""What a personalization run is told: one frozen record, from which the command line is made."""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from edge_sdk.errors import EdgeSdkError
from edge_sdk.stopping import LONGEST
from edge_sdk.zo import PAPER, ZoConfig, fast

SCHEMA_VERSION = 1
PRESETS = ("fast", "paper")
MOST_ROWS, ROW_LATENTS = 16, 8192  # rows a call, latents (h w) of all rows of a call
WEIGHTS = ("int8", "int4", "none")
EXECUTIONS = ("integer", "fused")
RESIDENCIES = ("resident", "mapped", "streamed")
DEVICES = ("cpu", "cuda")
OF_A_MODEL = ("weights", "execution", "residency", "device")  # settings that a bundle has already decided


@dataclass(frozen=True)
class PersonalizeConfig:
    """Everything but the photos, the model and the place of the results."""

    placeholder_token: str = "<subject>"  # the word that stands for the learned vectors in prompts
    initializer_token: str | None = None  # one known word to start from; None: "person" for the embedded model
    learnable_property: str = "object"  # which prompt templates: "object" or "style"
    num_vectors: int = 1  # vectors per placeholder token
    resolution: int | None = None  # side in pixels, a multiple of 8; None: the model's own
    center_crop: bool = True  # crop to a square before resizing; False: squeeze
    use_captions: bool = False  # caption each photo by the text file beside it instead of by templates
    weights: str = "int8"  # "int8", "int4" or "none" (float, for comparison)
    execution: str = "integer"  # "integer" (integer products) or "fused" (float activations)
    residency: str = "resident"  # where an integer checkpoint's weights are: "resident", "mapped" or "streamed"
    device: str = "cpu"  # where the model runs: "cpu" or "cuda"; random numbers are the same on both
    preset: str = "fast"  # the zeroth-order settings to start from: "fast" or "paper"
    max_batch: int | None = None  # rows per call of the denoiser, None: see `rows`; changes results by rounding only
    eval_draws: int = 32  # draws on which the loss is measured before and after; training never uses them
    checkpointing_steps: int | None = None  # steps between checkpoints; None: about 150 forward passes
    stop_when_flat: bool = False  # end once the held-out loss is flat; see `zo` for when at the latest
    seed: int = 0  # of every random number
    zo_options: dict[str, Any] = field(default_factory=dict)  # settings of `ZoConfig` that replace the preset's

    def __post_init__(self) -> None:
        one_of("learnable_property", self.learnable_property, ("object", "style"))
        one_of("weights", self.weights, WEIGHTS)
        one_of("execution", self.execution, EXECUTIONS)
        one_of("residency", self.residency, RESIDENCIES)
        one_of("device", self.device, DEVICES)
        one_of("preset", self.preset, PRESETS)
        _within("num_vectors", self.num_vectors, 1, 64)
        _within("max_batch", self.max_batch, 1, 4096)
        _within("eval_draws", self.eval_draws, 1, 65_536)
        _within("checkpointing_steps", self.checkpointing_steps, 1, 10**9)
        check_seed(self.seed)
        check_resolution(self.resolution)
        if not self.placeholder_token or any(c.isspace() for c in self.placeholder_token):
            raise EdgeSdkError(f"placeholder_token is {self.placeholder_token!r}; it must be one word without spaces")
        self.zo(vocabulary_std=1.0, width=768)

    def zo(self, vocabulary_std: float, width: int, preset: ZoConfig | None = None) -> ZoConfig:
        """The preset for a model whose token embeddings have this deviation and width, with ``zo_options`` in place.

        Args:
            preset: the preset's settings where the model brings its own, as a bundle does.

        With `stop_when_flat` the preset's number of steps is three times as large.

        Raises:
            EdgeSdkError: a value out of range.
        """
        if preset is None:
            preset = PAPER if self.preset == "paper" else fast(vocabulary_std, width)
        if self.stop_when_flat:
            preset = replace(preset, max_train_steps=LONGEST * preset.max_train_steps)
        try:
            return replace(preset, **self.zo_options)
        except ValueError as error:
            raise EdgeSdkError(str(error)) from error

    def rows(self, latents_shape: tuple[int, int, int]) -> int:
        """Rows per call for latents (C, h, w): where they are large, more at once cost memory and save little time."""
        return self.max_batch or max(1, min(MOST_ROWS, ROW_LATENTS // (latents_shape[1] * latents_shape[2])))

    @classmethod
    def from_options(cls, **options: Any) -> "PersonalizeConfig":
        """Build from flat options, those of `ZoConfig` included; None means the preset's or the default value.

        ``max_train_steps`` may be "auto", which is `stop_when_flat`.

        Raises:
            EdgeSdkError: for an unknown option or a value out of range.
        """
        own = {f.name for f in fields(cls)} - {"zo_options"}
        zo_names = {f.name for f in fields(ZoConfig)}
        given = {k: v for k, v in options.items() if v is not None}
        if unknown := sorted(set(given) - own - zo_names):
            raise EdgeSdkError(f"unknown option {unknown[0]!r}; known are {', '.join(sorted(own | zo_names))}")
        if given.get("max_train_steps") == "auto":
            del given["max_train_steps"]
            given["stop_when_flat"] = True
        zo_options = {k: v for k, v in given.items() if k in zo_names}
        return cls(**{k: v for k, v in given.items() if k in own}, zo_options=zo_options)

    def to_dict(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}


def check_seed(seed: int) -> None:
    """Raises EdgeSdkError unless the portable generator takes it."""
    if not 0 <= seed < 2**64:
        raise EdgeSdkError(f"seed is {seed}; it must be at least 0 and below 2**64")


def check_resolution(resolution: int | None) -> None:
    """Raises EdgeSdkError unless it is None (the model's own) or a multiple of 8 up to 4096 pixels."""
    if resolution is not None and (resolution % 8 or not 8 <= resolution <= 4096):
        raise EdgeSdkError(f"resolution is {resolution}; it must be a positive multiple of 8, at most 4096")


def refuse_beside_bundle(**given: Any) -> None:
    """Raises EdgeSdkError if any of these options is not None: a bundle is a model and how it runs."""
    if named := [name for name, value in given.items() if value is not None]:
        raise EdgeSdkError(f"{named[0]} is given beside a bundle, which decides it; leave out one of them")


def one_of(name: str, value: str, accepted: tuple[str, ...]) -> None:
    """Raises EdgeSdkError unless the value is an accepted one."""
    if value not in accepted:
        raise EdgeSdkError(f"{name} is {value!r}; it must be one of {', '.join(accepted)}")


def _within(name: str, value: int | None, least: int, most: int) -> None:
    if value is not None and not least <= value <= most:
        raise EdgeSdkError(f"{name} is {value}; it must be at least {least} and at most {most}")
