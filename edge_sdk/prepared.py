"""What a run needs of a model, whatever executes it: PyTorch (`models.Model`) or ONNX Runtime (`BundleModel`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edge_sdk.config import PersonalizeConfig, refuse_beside_bundle
from edge_sdk.diffusion.prompts import caption_prompt
from edge_sdk.embedding import LearnedEmbedding
from edge_sdk.errors import EdgeSdkError
from edge_sdk.images import Photos
from edge_sdk.zo import ZoConfig, directions
from edge_sdk.zo.loop import Bound

POCKET_PSNR = 20.0  # dB; the VAE reproduces every held-out person better (30 dB on average), photographs worse


@dataclass
class Prepared:
    """A model as an objective of one set of photos, and where to start."""

    objective: Any  # an `edge_sdk.zo.Objective`
    zo: ZoConfig  # for this model's vocabulary
    initial: np.ndarray  # (K, D) float32, the initializer's vectors
    widths: tuple[int, ...]  # of the parts of a vector, one a text encoder
    scale: np.ndarray | float  # (D,) or 1: vectors are the optimizer's variable times it
    norm_range: tuple[Bound, Bound]  # of the optimizer's variable
    vocabulary_std: float  # per dimension of the variable over the vocabulary
    photos: Photos
    fingerprints: dict[str, str]  # of everything that must be the same when a run is resumed
    basis: np.ndarray | None  # (R K, K, D) float32, the directions of Gauss-Newton, else None
    notices: list[str]  # what the user should know before it starts


class Personalizable(Protocol):
    """A model that a token can be learned on and that draws with it.

    Attributes:
        label: its name, in a run's record.
        weights, execution, residency, device: see `models.Model`.
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

    def resolution(self) -> int:
        """The side of a picture in pixels that the model was made for."""
        ...

    def latents_shape(self, side: int) -> tuple[int, int, int]:
        """(C, h, w) of a picture of so many pixels a side."""
        ...

    def training_prompts(self, kind: str, placeholder: str) -> Sequence[str]:
        """The prompts of a `PersonalizeConfig.learnable_property`; the embedded model has its own."""
        ...

    def prepare(self, photos: Photos, config: PersonalizeConfig) -> Prepared:
        """Encode the photos, then load what the loss is computed with."""
        ...

    def draw(
        self, prompt: str, negative_prompt: str, embeddings: Sequence[LearnedEmbedding], noise: np.ndarray, steps: int,
        guidance_scale: float,
    ) -> np.ndarray:  # fmt: skip
        """Pictures (N, H, W, 3) uint8 from noise (N, C, h, w) float32."""
        ...

    def preview(
        self, prepared: Prepared, prompt: str, embeddings: Sequence[LearnedEmbedding], noise: np.ndarray, steps: int,
        guidance_scale: float,
    ) -> list[np.ndarray]:  # fmt: skip
        """The same with each embedding, on what ``prepared`` has in memory; it cannot be used afterwards."""
        ...


def open_model_or_bundle(model: str | None, bundle: str | Path | None, **settings: Any) -> Personalizable:
    """A model (by default the embedded one), to be run by PyTorch, or a bundle, to be run by ONNX Runtime.

    Args:
        settings: of `edge_sdk.models.open_model`; None is the default.

    Raises:
        EdgeSdkError: it cannot be opened, or a model or settings are given beside a bundle, which has its own.
    """
    if bundle is None:
        from edge_sdk.models import open_model

        return open_model(model or "pocket", **{name: value for name, value in settings.items() if value is not None})
    refuse_beside_bundle(pretrained_model_name_or_path=model, **settings)
    from edge_sdk.runtime.model import open_bundle

    return open_bundle(bundle)


def initializer(model: Personalizable, config: PersonalizeConfig) -> str:
    """The word to start from. Only the embedded model has one of its own."""
    chosen = model.initializer_token if config.initializer_token is None else config.initializer_token
    if chosen is None:
        raise EdgeSdkError(
            "initializer_token is not given; name what the photos show in one word, such as 'dog' or 'mug'"
        )
    return chosen


def prompt_ids(model: Personalizable, text: Any, photos: Photos, config: PersonalizeConfig) -> Any:
    """Token ids of the prompts, (P, T) for all photos or (N, 1, T) of the photos' own captions.

    Args:
        text: tokenizes; what it gives is what this gives.
    """
    token, vectors = config.placeholder_token, {config.placeholder_token: config.num_vectors}
    if config.use_captions:
        return text.tokenize([caption_prompt(caption, token) for caption in photos.captions], vectors)[:, None]
    return text.tokenize(model.training_prompts(config.learnable_property, token), vectors)


def settings(
    config: PersonalizeConfig, vocabulary_std: float, width: int, num_train_timesteps: int,
    preset: ZoConfig | None = None,
) -> ZoConfig:  # fmt: skip
    """The optimizer's settings for a model; raises EdgeSdkError for timesteps that it does not have.

    Args:
        preset: see `PersonalizeConfig.zo`.
    """
    zo = config.zo(vocabulary_std, width, preset)
    low, high = zo.timestep_range
    if high > num_train_timesteps:
        raise EdgeSdkError(f"timestep_range is {low} {high}; this model has timesteps below {num_train_timesteps}")
    return zo


def basis(zo: ZoConfig, principal_directions: Callable[[int], np.ndarray], num_vectors: int) -> np.ndarray | None:
    """The directions of Gauss-Newton, (R K, K, D) float32; None for Adam.

    Args:
        principal_directions: of a text side; gives (R, D), with R what it is told where there are so many.

    Raises:
        EdgeSdkError: there are fewer than ``zo_samples``.
    """
    if zo.optimizer != "gauss_newton":
        return None
    try:
        return directions(principal_directions(zo.searched), zo.zo_samples, num_vectors)
    except ValueError as error:
        raise EdgeSdkError(str(error)) from error


def pocket_notices(reproduced: np.ndarray, photos: Photos) -> list[str]:
    """Says so when photos are not of the kind that the embedded model draws: its VAE then cannot reproduce them.

    Args:
        reproduced: the photos through the VAE, (N, H, W, 3) uint8.
    """
    errors = reproduced.transpose(0, 3, 1, 2) / 127.5 - 1 - photos.pixels
    psnr = float(np.mean(10 * np.log10(4 / np.maximum((errors**2).mean(axis=(1, 2, 3)), 1e-6))))
    if psnr >= POCKET_PSNR:
        return []
    return [
        f"the embedded model draws pixel-art people only, and its VAE reproduces these photos at {psnr:.0f} dB "
        "only; expect their colours at best, and use "
        "--pretrained_model_name_or_path with a Stable Diffusion folder for real photos"
    ]
