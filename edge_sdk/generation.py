"""Pictures from a prompt and learned embeddings, on the same weights that personalization runs on.

    pictures = generate("a picture of <subject> on a blue background", embeddings=["run/learned_embeds.safetensors"])

DDIM (Song et al., 2021) with classifier-free guidance. The starting noise comes from the portable generator, so the
same seed gives the same bytes on the same machine.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

import numpy as np

from edge_sdk._version import __version__
from edge_sdk.config import check_resolution, check_seed, check_text
from edge_sdk.diffusion.ddim import denoise
from edge_sdk.diffusion.notices import prompt_notices
from edge_sdk.diffusion.tokenizer import words_in
from edge_sdk.embedding import LearnedEmbedding, load_embedding
from edge_sdk.errors import EdgeSdkError
from edge_sdk.images import to_pil
from edge_sdk.option_types import PredictionType
from edge_sdk.progress import LOGGER, Counter, OnProgress, silent
from edge_sdk.runtime.base import PreparedObjective, Runtime, TextStage
from edge_sdk.runtime.open import open_runtime
from edge_sdk.zo.noise import Stream, normals

if TYPE_CHECKING:
    from PIL import Image

DRAWING = "drawing pictures"  # the name of a stage


def generate(
    prompt: str | Sequence[str],
    model: str | None = None,
    embeddings: Sequence[str | Path | LearnedEmbedding] = (),
    *,
    negative_prompt: str = "",
    num_images: int = 1,
    num_inference_steps: int = 25,
    guidance_scale: float = 4.0,
    resolution: int | None = None,
    weights: str | None = None,
    execution: str | None = None,
    residency: str | None = None,
    device: str | None = None,
    prediction_type: PredictionType | None = None,
    seed: int = 0,
    bundle: str | Path | None = None,
    notify: Callable[[str], None] = LOGGER.warning,
    on_progress: OnProgress = silent,
) -> "list[Image.Image]":
    """Generate pictures; text encoder, denoiser and VAE are in memory one after the other.

    Args:
        prompt: one, or several; all start from the same noise.
        model: "pocket" (the default), a diffusers folder, a single-file checkpoint, an integer checkpoint, or a hub id.
        embeddings: files, or embeddings already loaded; their tokens may be used in prompt and negative
            prompt, in any letters.
        resolution: side in pixels, a multiple of 8; None for the model's own.
        weights, execution, residency, device, prediction_type: see `edge_sdk.runtime.pytorch.model.open_model`, whose
            defaults are taken.
        bundle: a folder of `edge-sdk export`, run by ONNX Runtime, instead of a model and these five.
        notify: is told in one line each what the user should know; by default a warning of the logger "edge_sdk".
        on_progress: see `edge_sdk.progress`.

    Returns:
        ``num_images`` pictures for each prompt, all of the first one first. Their ``info["parameters"]`` is the text
        that web UIs read their settings from, see `parameters`; `save_png` writes it.

    Raises:
        EdgeSdkError: model or embedding cannot be used, or a number is out of range.
    """
    settings: GenerateOptions = {
        "negative_prompt": negative_prompt,
        "num_images": num_images,
        "num_inference_steps": num_inference_steps,
        "guidance_scale": guidance_scale,
        "resolution": resolution,
        "seed": seed,
    }
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    check_generate_options(prompts, settings)
    runtime = open_runtime(
        model,
        bundle,
        weights=weights,
        execution=execution,
        residency=residency,
        device=device,
        prediction_type=prediction_type,
    )
    return generate_on(runtime, prompts, embeddings, notify=notify, on_progress=on_progress, **settings)


class GenerateOptions(TypedDict, total=False):
    """How pictures are generated; see `generate`."""

    negative_prompt: str
    num_images: int
    num_inference_steps: int
    guidance_scale: float
    resolution: int | None
    seed: int


def check_generate_options(prompts: Sequence[str], options: GenerateOptions) -> None:
    """Raises EdgeSdkError for a number out of range, or text that is no Unicode."""
    for name, value in options.items():
        if name in ("num_images", "num_inference_steps") and not 1 <= cast(int, value) <= 1000:
            raise EdgeSdkError(f"{name} is {value}; it must be from 1 to 1000")
    if not math.isfinite(scale := options.get("guidance_scale", 1.0)):
        raise EdgeSdkError(f"guidance_scale is {scale}; it must be a finite number")
    check_seed(options.get("seed", 0))
    check_resolution(options.get("resolution"))
    for name, text in (
        *(("prompt", each) for each in prompts),
        ("negative_prompt", options.get("negative_prompt", "")),
    ):
        check_text(name, text)


def generate_on(
    runtime: Runtime,
    prompts: Sequence[str],
    embeddings: Sequence[str | Path | LearnedEmbedding],
    *,
    negative_prompt: str = "",
    num_images: int = 1,
    num_inference_steps: int = 25,
    guidance_scale: float = 4.0,
    resolution: int | None = None,
    seed: int = 0,
    objective: PreparedObjective | None = None,
    notify: Callable[[str], None] = LOGGER.warning,
    on_progress: OnProgress = silent,
) -> "list[Image.Image]":
    """`generate` on a model that is open, with checked settings.

    Args:
        objective: of a run on the same runtime, which is used and goes on to be.
    """
    loaded = [each if isinstance(each, LearnedEmbedding) else load_embedding(each) for each in embeddings]
    side = resolution or runtime.resolution()
    noise = starting_noise(seed, num_images, runtime.latents_shape(side))
    sets = sample(
        runtime,
        [(each, loaded) for each in prompts],
        noise,
        side,
        negative_prompt=negative_prompt,
        steps=num_inference_steps,
        guidance_scale=guidance_scale,
        objective=objective,
        keep_objective=True,
        notify=notify,
        on_progress=on_progress,
    )
    pictures, model_hash = [], runtime.weights_hash()[:10]
    for each, drawn in zip(prompts, sets, strict=True):
        used = words_in(f"{each}\n{negative_prompt}", [embedding.token for embedding in loaded])
        for number, pixels in enumerate(drawn):
            picture = to_pil(pixels)
            settings = {
                "Steps": num_inference_steps,
                "Sampler": "DDIM",
                "CFG scale": f"{guidance_scale:g}",
                "Seed": seed,
                "Picture": number,
                "Size": f"{side}x{side}",
                "Model hash": model_hash,  # not its name: a folder's is the user's own
                "Weights": f"{runtime.weights} {runtime.execution}",
                "Embeddings": " ".join(used),
                "Version": f"edge-sdk {__version__}",
            }
            picture.info["parameters"] = parameters(each, negative_prompt, settings)
            pictures.append(picture)
    return pictures


def parameters(prompt: str, negative_prompt: str, settings: dict[str, object]) -> str:
    """Settings as web UIs write them into the text ``parameters`` of a PNG: prompt, negative prompt, then the rest.

    Values with a comma, a colon or a line break are quoted as in JSON; empty ones are left out. A name with bytes that
    are no Unicode, which a file may have, is written with escapes.
    """
    prompt, negative_prompt = prompt.replace("\0", ""), negative_prompt.replace("\0", "")
    texts = {name: str(value) for name, value in settings.items() if str(value)}
    quoted = {name: json.dumps(text) if re.search(r"[,:\n]", text) else text for name, text in texts.items()}
    lines = [prompt, *([f"Negative prompt: {negative_prompt}"] if negative_prompt else [])]
    whole = "\n".join([*lines, ", ".join(f"{name}: {text}" for name, text in quoted.items())])
    return whole.encode(errors="backslashreplace").decode()


def sample(
    runtime: Runtime,
    prompts: Sequence[tuple[str, Sequence[LearnedEmbedding]]],
    noise: np.ndarray,
    side: int,
    *,
    negative_prompt: str = "",
    steps: int = 25,
    guidance_scale: float = 4.0,
    objective: PreparedObjective | None = None,
    keep_objective: bool = False,
    stage: str = DRAWING,
    notify: Callable[[str], None] = lambda line: None,
    on_progress: OnProgress = silent,
) -> list[np.ndarray]:
    """N pictures (N, H, W, 3) uint8 of each prompt with its embeddings, from the same noise (N, C, h, w) float32.

    Args:
        side: of a picture in pixels.
        guidance_scale: 1 or less is no guidance.
        objective: of a run on the same runtime; components that it holds are used.
        keep_objective: the objective is used again afterwards; else it is closed before the VAE is loaded.
        stage: name under which ``on_progress`` hears of denoising steps and decoded pictures.
        notify: is told what the user should know of the prompts, see `prompt_notices`.

    Raises:
        EdgeSdkError: an embedding is of another family or width than the model, or two are for one token.
    """
    guided = guidance_scale > 1
    sampler, coefficients = runtime.sampler()
    total = len(prompts) * (min(steps, sampler.max_steps) + len(noise))  # denoising steps, and pictures to decode
    count = Counter(total, stage, on_progress)
    with runtime.text_stage(objective) as text:
        conditionings = [text.encode(prompt, negative_prompt, each, len(noise), side) for prompt, each in prompts]
        for line in _notices(text, prompts, negative_prompt, guided):
            notify(line)
    with runtime.denoiser_stage(objective) as denoiser:
        latents = []
        for positive, negative in conditionings:
            predict = count.calls(denoiser.predictor(positive, negative if guided else None))
            start = denoiser.array(noise)
            latents.append(denoise(sampler, coefficients, predict, start, steps, guidance_scale))
    if objective is not None and not keep_objective:
        objective.close()
    pictures = []
    with runtime.vae_stage() as vae:
        for each in latents:
            pictures.append(vae.decode(each))
            count.add(len(noise))
    return pictures


def _notices(
    text: TextStage, prompts: Sequence[tuple[str, Sequence[LearnedEmbedding]]], negative_prompt: str, guided: bool
) -> list[str]:
    """What the user should know of prompts that are drawn with the same embeddings."""
    embeddings = {each.token: len(each.vectors) for _, used in prompts for each in used}
    texts = {"prompt": [prompt for prompt, _ in prompts]} | ({"negative prompt": [negative_prompt]} if guided else {})
    return prompt_notices(text.tokenizers, texts, embeddings)


def starting_noise(seed: int, count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """(count, C, h, w) float32; picture i starts from the same noise however many are generated."""
    return np.stack([normals(seed, Stream.NOISE, i, shape) for i in range(count)])
