"""From photos to an objective: the one path, whatever runs the model."""

import hashlib
from dataclasses import dataclass

import numpy as np

from edge_sdk.config import PersonalizeConfig
from edge_sdk.diffusion.conditioning import add_time_ids
from edge_sdk.diffusion.notices import cut_notices, prompt_notices
from edge_sdk.diffusion.prompts import caption_prompt
from edge_sdk.errors import EdgeSdkError
from edge_sdk.images import Photos
from edge_sdk.progress import OnProgress, counted, silent
from edge_sdk.runtime.base import PreparedObjective, Runtime, TextSide
from edge_sdk.zo import ZoConfig, directions
from edge_sdk.zo.loop import Bound

ENCODING = "encoding photos"  # a stage of `prepare`
POCKET_PSNR = 20.0  # dB; the VAE reproduces every held-out person better (30 dB on average), photographs worse


@dataclass
class Prepared:
    """A model as an objective of one set of photos, and where to start.

    Attributes:
        zo: the optimizer's settings for this model's vocabulary.
        initial: (K, D) float32, the initializer's vectors.
        widths: of a vector's sections, one a text encoder.
        scale: (D,) or 1: vectors are the optimizer's variable times it.
        norm_range: least and largest norm of the variable.
        vocabulary_std: per dimension of the variable over the vocabulary.
        fingerprints: of everything that must be the same when a run is resumed.
        basis: (R K, K, D) float32, the directions of Gauss-Newton, else None.
        variance_share: of the vocabulary's variance, what the directions hold; None without directions, or unknown.
        own_ids: (1, T) int64, the model's own prompt for one vector, whatever the user's prompts or captions are.
        notices: what the user should know before the run starts, a line each.
    """

    objective: PreparedObjective
    zo: ZoConfig
    initial: np.ndarray
    widths: tuple[int, ...]
    scale: np.ndarray | float
    norm_range: tuple[Bound, Bound]
    vocabulary_std: float
    photos: Photos
    fingerprints: dict[str, str]
    basis: np.ndarray | None
    variance_share: float | None
    own_ids: np.ndarray
    notices: list[str]


def prepare(
    runtime: Runtime,
    photos: Photos,
    config: PersonalizeConfig,
    on_progress: OnProgress = silent,
    validation_prompt: str | None = None,
) -> Prepared:
    """Load the text side, encode the photos, close the VAE, then load what the loss is computed with.

    Args:
        on_progress: is called with each of these stages.
        validation_prompt: is looked at only: `Prepared.notices` says what the model does not read of it.

    Raises:
        EdgeSdkError: the model cannot be loaded, photos are not of its size, or initializer or placeholder do not fit
            its vocabulary.
    """
    runtime.latents_shape(photos.pixels.shape[2])
    on_progress("loading the text encoder", 0, 0)
    text = runtime.load_text()
    text.check_placeholder(config.placeholder_token)
    word = initializer(runtime, config)
    initial = text.initial_embedding(word, config.num_vectors)
    ids = prompt_ids(runtime, text, photos, config)
    own = runtime.training_prompts(config.learnable_property, config.placeholder_token)[:1]
    own_ids = text.tokenize(own, {config.placeholder_token: 1})
    notices = text_notices(text, photos, config, validation_prompt)
    vocabulary_std = text.vocabulary_std()
    preset = runtime.preset(config.preset)
    zo = optimizer_settings(config, vocabulary_std, text.width, runtime.num_train_timesteps, preset)
    if zo.optimizer == "gauss_newton":
        on_progress("choosing directions", 0, 0)
    basis, share = search_directions(zo, text, config)

    on_progress("loading the VAE", 0, 0)
    with runtime.vae_stage() as vae:
        latents = vae.encode(counted(photos.pixels, len(photos.pixels), ENCODING, on_progress))
        notices += pocket_notices(vae.decode(latents.mean), photos) if runtime.is_pocket else []
    time_ids = add_time_ids(photos.sizes, photos.pixels.shape[2:])
    on_progress("loading the denoiser", 0, 0)
    objective = runtime.load_objective(text, latents, ids, config.num_vectors, time_ids)
    fingerprints = runtime.fingerprints() | {
        "photos": hashlib.sha256(photos.pixels.tobytes() + ids.tobytes() + time_ids.tobytes()).hexdigest(),
        "token": f"{config.placeholder_token} from {word}",
    }
    return Prepared(
        objective=objective,
        zo=zo,
        initial=initial,
        widths=text.widths,
        scale=text.scale,
        norm_range=text.norm_range(),
        vocabulary_std=vocabulary_std,
        photos=photos,
        fingerprints=fingerprints,
        basis=basis,
        variance_share=share,
        own_ids=own_ids,
        notices=notices,
    )


def initializer(runtime: Runtime, config: PersonalizeConfig) -> str:
    """The word to start from; only the embedded model has one of its own."""
    word = runtime.initializer_token if config.initializer_token is None else config.initializer_token
    if word is None:
        raise EdgeSdkError(
            "initializer_token is not given; name what the photos show in one word, such as 'dog' or 'mug'"
        )
    return word


def prompt_ids(runtime: Runtime, text: TextSide, photos: Photos, config: PersonalizeConfig) -> np.ndarray:
    """Token ids of the prompts, (P, T) int64 for all photos or (N, 1, T) of the photos' own captions."""
    token, vectors = config.placeholder_token, {config.placeholder_token: config.num_vectors}
    if config.use_captions:
        return text.tokenize([caption_prompt(caption, token) for caption in photos.captions], vectors)[:, None]
    return text.tokenize(runtime.training_prompts(config.learnable_property, token), vectors)


def text_notices(text: TextSide, photos: Photos, config: PersonalizeConfig, validation_prompt: str | None) -> list[str]:
    """A line for each caption that is cut, and what the user should know of the validation prompt.

    Raises:
        EdgeSdkError: the placeholder would be cut off the validation prompt.
    """
    token, vectors = config.placeholder_token, {config.placeholder_token: config.num_vectors}
    notices = []
    for number, caption in enumerate(photos.captions if config.use_captions else (), 1):
        notices += cut_notices(text.tokenizers, f"caption {number}", caption_prompt(caption, token), vectors)
    if validation_prompt is not None:
        notices += prompt_notices(text.tokenizers, {"validation prompt": [validation_prompt]}, vectors)
    return notices


def optimizer_settings(
    config: PersonalizeConfig,
    vocabulary_std: float,
    width: int,
    num_train_timesteps: int,
    preset: ZoConfig | None = None,
) -> ZoConfig:
    """The optimizer's settings for a model; raises EdgeSdkError for timesteps that it does not have.

    Args:
        preset: see `PersonalizeConfig.zo`.
    """
    zo = config.zo(vocabulary_std, width, preset)
    low, high = zo.timestep_range
    if high > num_train_timesteps:
        raise EdgeSdkError(f"timestep_range is {low} {high}; this model has timesteps below {num_train_timesteps}")
    return zo


def search_directions(
    zo: ZoConfig, text: TextSide, config: PersonalizeConfig
) -> tuple[np.ndarray | None, float | None]:
    """The directions of Gauss-Newton, (R K, K, D) float32, and their `Prepared.variance_share`; None for Adam.

    Raises:
        EdgeSdkError: there are fewer than ``zo_samples``, or the model's kind of directions cannot be chosen.
    """
    if zo.optimizer != "gauss_newton":
        return None, None
    rows = text.search_directions(zo.searched, config.search_basis)
    try:
        return directions(rows, zo.zo_samples, config.num_vectors), text.variance_share(rows)
    except ValueError as error:
        raise EdgeSdkError(str(error)) from error


def pocket_notices(reproduced: np.ndarray, photos: Photos) -> list[str]:
    """A warning where photos are not of the kind that the embedded model draws: its VAE cannot reproduce them.

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
