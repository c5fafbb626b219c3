"""What both runtimes offer: protocols that `pytorch/` and `onnx/` fulfil with the same four files.

A runtime hands out *stages*, context managers that hold one component in memory. Text encoder, denoiser and VAE follow
one another, so only one of them exists at a time.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from edge_sdk.diffusion.ddim import Ddim
from edge_sdk.diffusion.tokenizer import ClipTokenizer
from edge_sdk.embedding import LearnedEmbedding
from edge_sdk.zo import Objective, ZoConfig
from edge_sdk.zo.loop import Bound

Array = Any  # numpy's or PyTorch's, as a runtime computes with


class TextSide(Protocol):
    """Tokenizers and embedding tables.

    Attributes:
        tokenizers: the one of each text encoder.
        widths: of a learned vector's sections, one a text encoder; ``width`` is their sum, D.
        scale: (D,) float32, or 1: a vector is ``scale`` times the optimizer's variable, all sections of which have one
            scale. `vocabulary_std`, `norm_range` and `principal_directions` speak of the variable.
    """

    width: int
    widths: tuple[int, ...]

    @property
    def tokenizers(self) -> list[ClipTokenizer]: ...
    @property
    def scale(self) -> np.ndarray | float: ...

    def tokenize(self, prompts: Sequence[str], placeholders: dict[str, int] | None = None) -> np.ndarray:
        """Prompts as ids (N, T) int64; ``placeholders`` are the tokens that stand for vectors, and how many each."""
        ...

    def check_placeholder(self, placeholder: str) -> None:
        """Raises EdgeSdkError if the placeholder is already a word of a vocabulary."""
        ...

    def initial_embedding(self, initializer_token: str, num_vectors: int) -> np.ndarray:
        """The initializer's rows of all tables, once per vector, (K, D) float32; not divided by the scale.

        Raises:
            EdgeSdkError: the initializer is not exactly one token.
        """
        ...

    def vocabulary_std(self) -> float:
        """Standard deviation per dimension over the vocabulary, mean over dimensions."""
        ...

    def norm_range(self) -> tuple[Bound, Bound]:
        """Least and largest norm, one number or one a section."""
        ...

    def principal_directions(self, count: int) -> np.ndarray:
        """Directions in which words differ most, (R, D) float32 with R the least of ``count`` and all there are."""
        ...

    def variance_share(self, directions: np.ndarray) -> float | None:
        """Of the vocabulary's variance, the share along the first of these directions; None if it is not known."""
        ...


class PreparedObjective(Objective, Protocol):
    """An objective that a run ends with `close`.

    Attributes:
        rows: of a call, where the runtime takes no other number.
    """

    @property
    def rows(self) -> int | None: ...

    def close(self) -> None:
        """Let go of everything it holds."""
        ...


class VaeStage(Protocol):
    def encode(self, pixels: Iterable[np.ndarray]) -> Any:
        """N photos, (3, H, W) float32 in [-1, 1] each, to the posterior's ``mean`` and ``std``, (N, C, h, w), scaled.

        They are taken one at a time, which bounds memory.
        """
        ...

    def decode(self, latents: Array) -> np.ndarray:
        """Latents (N, C, h, w) to pictures (N, H, W, 3) uint8, one at a time to bound memory."""
        ...


class TextStage(Protocol):
    """The text encoders, with the tokenizer of each."""

    @property
    def tokenizers(self) -> list[ClipTokenizer]: ...
    def encode(
        self, prompt: str, negative_prompt: str, embeddings: Sequence[LearnedEmbedding], count: int, side: int
    ) -> tuple[Any, Any]:
        """The conditioning of a prompt and of the negative prompt, ``count`` rows each, for pictures of a side.

        Both may use the embeddings.

        Raises:
            EdgeSdkError: an embedding is of another family or width than the model, or two are for one token.
        """
        ...


class DenoiserStage(Protocol):
    def array(self, noise: np.ndarray) -> Array:
        """Noise (N, C, h, w) float32 as what this runtime computes with."""
        ...

    def predictor(self, positive: Any, negative: Any | None) -> Callable[[Array, int], Array]:
        """From latents (N, C, h, w) and a timestep to the model's output.

        It has N rows, or with a negative conditioning 2 N, the negative prompt's first.
        """
        ...


class Runtime(Protocol):
    """A model that a token can be learned on and that generates with it.

    Attributes:
        label: its name, in a run's record.
        weights: "int8", "int4" or "none".
        execution: "integer", "fused" or "dequantized".
        residency: "resident", "mapped" or "streamed".
        device: "cpu" or "cuda".
        initializer_token: the word to start from if the user names none, or None.
        packages: that it runs on, for the record.
    """

    @property
    def label(self) -> str: ...
    @property
    def weights(self) -> str: ...
    @property
    def execution(self) -> str: ...
    @property
    def residency(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def is_pocket(self) -> bool: ...
    @property
    def initializer_token(self) -> str | None: ...
    @property
    def packages(self) -> tuple[str, ...]: ...
    @property
    def num_train_timesteps(self) -> int: ...

    def resolution(self) -> int:
        """The side of a picture in pixels that the model was made for."""
        ...

    def latents_shape(self, side: int) -> tuple[int, int, int]:
        """(C, h, w) of a picture of so many pixels a side."""
        ...

    def training_prompts(self, kind: str, placeholder: str) -> Sequence[str]:
        """The prompts of a `PersonalizeConfig.learnable_property`; the embedded model has its own."""
        ...

    def preset(self, name: str) -> ZoConfig | None:
        """The optimizer's settings that come with the model, for "fast" or "paper"; None: made from its vocabulary."""
        ...

    def weights_hash(self) -> str:
        """Identifies the weights alone, as hexadecimal digits."""
        ...

    def fingerprints(self) -> dict[str, str]:
        """What identifies the model and how it runs: all of it must be the same when a run is resumed."""
        ...

    def load_text(self) -> TextSide:
        """The text side. PyTorch's holds the text encoders as well, which `load_objective` takes over."""
        ...

    def load_objective(
        self, text: Any, latents: Any, ids: np.ndarray, num_vectors: int, time_ids: np.ndarray
    ) -> PreparedObjective:
        """Load what the loss is computed with.

        Args:
            text: from `load_text`.
            latents: from a VAE stage's ``encode``.
            ids: (P, T) int64 prompts for all photos, or (N, 1, T) one caption each.
            time_ids: (N, 6) float32, see `add_time_ids`; used by SDXL only.
        """
        ...

    def sampler(self) -> tuple[Ddim, tuple[Array, Array]]:
        """How the model is sampled, and a and b of every timestep, (T,) each: z_t = a x0 + b noise."""
        ...

    def text_stage(self, objective: Any = None) -> AbstractContextManager[TextStage]:
        """The text encoders. Components that an ``objective`` holds are used where the runtime can, else let go of."""
        ...

    def denoiser_stage(self, objective: Any = None) -> AbstractContextManager[DenoiserStage]:
        """The denoiser, likewise."""
        ...

    def vae_stage(self) -> AbstractContextManager[VaeStage]:
        """The autoencoder."""
        ...
