"""The settings of a personalization run: one frozen record, and the command line is made from its fields."""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, get_args

from edge_sdk import option_types
from edge_sdk.errors import EdgeSdkError
from edge_sdk.zo import PAPER, ZoConfig, fast
from edge_sdk.zo.config import METHOD, OFTEN
from edge_sdk.zo.early_stopping import LONGEST
from edge_sdk.zo.options import option, violation

SCHEMA_VERSION = 1
MODEL, PHOTOS, RUN = "model", "photos", "run"  # groups of options beside `OFTEN` and `METHOD`
PRESETS = ("fast", "paper")
SEARCH_BASES: tuple[str, ...] = get_args(option_types.SearchBasis)
MOST_ROWS, ROW_LATENTS = 16, 8192  # rows a call, latents (h w) of all rows of a call
CUDA_ROWS, CUDA_ROW_LATENTS = 64, 33 * 64 * 64  # the same on a GPU: a step of `fast` for 512 pixels is one call
MOST_BESIDE, LATENTS_BESIDE = 33, 69_632  # the same of rows beside a base, which hold less of each
WEIGHTS: tuple[str, ...] = get_args(option_types.Weights)
EXECUTIONS: tuple[str, ...] = get_args(option_types.Execution)
RESIDENCIES: tuple[str, ...] = get_args(option_types.Residency)
DEVICES: tuple[str, ...] = get_args(option_types.Device)
PREDICTION_TYPES: tuple[str, ...] = get_args(option_types.PredictionType)  # of a single-file checkpoint
ACTIVATIONS: tuple[str, ...] = get_args(option_types.Activations)
OF_A_MODEL = ("weights", "execution", "residency", "device")  # settings that a bundle has already decided


@dataclass(frozen=True)
class PersonalizeConfig:
    """Everything but the photos, the model and the place of the results."""

    placeholder_token: str = option("<subject>", "word that will stand for the subject in prompts", group=OFTEN)
    initializer_token: str | None = option(
        None,
        "one known word to start from, such as dog (default: person for the embedded model, else required)",
        group=OFTEN,
    )
    learnable_property: str = option(
        "object", "what is learned; chooses the training prompts", group=OFTEN, choices=("object", "style")
    )
    num_vectors: int = option(1, "vectors that the word stands for", group=METHOD, least=1, most=64)
    resolution: int | None = option(
        None, "side of the pictures in pixels, a multiple of 8 (default: the model's own)", group=OFTEN
    )
    center_crop: bool = option(True, "crop photos to a square before resizing; false: squeeze them")
    use_captions: bool = option(
        False,
        "take each photo's prompt from the .txt file beside it, where {} marks the subject's place; without {} the "
        "subject comes first",
        group=PHOTOS,
    )
    weights: str = option(
        "int8", "weights to run on: integers of 8 or 4 bits, or none for floats", group=MODEL, choices=WEIGHTS
    )
    execution: str = option(
        "integer",
        "integer: products of integers; fused: float activations on integer weights",
        group=MODEL,
        choices=EXECUTIONS,
    )
    residency: str = option(
        "resident",
        "where an integer checkpoint's weights are: in memory, in the file as far as there is room (mapped), or in "
        "the file and dropped after each use (streamed)",
        group=MODEL,
        choices=RESIDENCIES,
    )
    device: str = option(
        "cpu", "where the model runs; random numbers are the same on both", group=MODEL, choices=DEVICES
    )
    activations: str = option(
        "16",
        "how the denoiser and the text encoder round activations on integer weights: to 16 bits, to 8, or 16 of the "
        "token and 8 of what every other row of a step differs by from it (difference)",
        group=MODEL,
        choices=ACTIVATIONS,
    )
    preset: str = option("fast", "settings of the method to start from", group=OFTEN, choices=PRESETS)
    search_basis: str | None = option(
        None,
        "what Gauss-Newton searches: principal directions, in which the vocabulary's words differ most, or readable "
        "ones, along which the text encoder's states change most (default: readable for tokens of 512 numbers or more, "
        "else principal)",
        group=METHOD,
        choices=SEARCH_BASES,
    )
    max_batch: int | None = option(
        None,
        "rows per call of the denoiser; changes results by rounding only (default: 1 to 16, on a GPU 64, by the size "
        "of the latents)",
        group=RUN,
        least=1,
        most=4096,
    )
    eval_draws: int = option(
        32, "draws for the loss before and after, which training never uses", group=RUN, least=1, most=65_536
    )
    checkpointing_steps: int | None = option(
        None, "steps between checkpoints (default: about 150 forward passes)", group=RUN, least=1, most=10**9
    )
    stop_when_flat: bool = option(False, "end once the held-out loss is flat; see `zo` for when at the latest")
    seed: int = option(0, "seed of every random number", group=RUN, least=0, most=2**64 - 1)
    zo_options: dict[str, Any] = field(default_factory=dict)  # settings of `ZoConfig` that replace the preset's

    def __post_init__(self) -> None:
        check_options(self)
        check_resolution(self.resolution)
        for name in ("placeholder_token", "initializer_token"):
            check_text(name, getattr(self, name) or "")
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

    def rows(self, latents_shape: tuple[int, int, int], fixed: int | None = None) -> int:
        """Rows per call for latents (C, h, w): where they are large, more at once cost memory.

        They save little time on a processor, and much on a GPU.

        Args:
            fixed: by the graph, whatever the user wants.
        """
        most, latents = (CUDA_ROWS, CUDA_ROW_LATENTS) if self.device == "cuda" else (MOST_ROWS, ROW_LATENTS)
        return fixed or self.max_batch or max(1, min(most, latents // (latents_shape[1] * latents_shape[2])))

    def rows_beside(self, latents_shape: tuple[int, int, int], fixed: int | None = None) -> int:
        """Rows per call of a step, all of which are beside one token: more where only differences are held."""
        if self.activations != "difference":
            return self.rows(latents_shape, fixed)
        return self.max_batch or max(2, min(MOST_BESIDE, LATENTS_BESIDE // (latents_shape[1] * latents_shape[2])))

    @classmethod
    def from_options(cls, /, **options: Any) -> "PersonalizeConfig":
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


def check_text(name: str, text: str) -> None:
    """Raises EdgeSdkError for text that is no Unicode, such as bytes of another encoding on the command line."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise EdgeSdkError(f"{name} {text!a} holds bytes that are not UTF-8; write it in UTF-8") from error


def refuse_beside_bundle(**given: Any) -> None:
    """Raises EdgeSdkError if any of these options is not None: a bundle is a model and how it runs."""
    if named := [name for name, value in given.items() if value is not None]:
        raise EdgeSdkError(f"{named[0]} is given beside a bundle, which decides it; leave out one of them")


def check_options(config: Any) -> None:
    """Raises EdgeSdkError for the first field of a config that is not as its type and metadata say."""
    if problem := violation(config):
        raise EdgeSdkError(problem)


def one_of(name: str, value: str, accepted: tuple[str, ...]) -> None:
    """Raises EdgeSdkError unless the value is an accepted one."""
    if value not in accepted:
        raise EdgeSdkError(f"{name} is {value!r}; it must be one of {', '.join(accepted)}")
