"""Pictures from a bundle: text encoder, denoiser and VAE in numpy's hands, one session at a time."""

from collections.abc import Sequence

import numpy as np

from edge_sdk.embedding import LearnedEmbedding, check_embeddings
from edge_sdk.runtime.onnx.bundle import Bundle
from edge_sdk.runtime.onnx.session import Session
from edge_sdk.runtime.onnx.text import BundleText

# What the denoiser is told: hidden (N, T, D), for SDXL also pooled (N, P) and sizes (N, 6), all float32.
Told = dict[str, np.ndarray]


def picture_sizes(originals: Sequence[tuple[int, int]], side: int) -> np.ndarray:
    """What SDXL is told of pictures, (N, 6) float32: see `edge_sdk.runtime.pytorch.text_xl.picture_sizes`."""
    return np.array([(*original, 0, 0, side, side) for original in originals], np.float32)


def draw(
    bundle: Bundle, prompt: str, negative_prompt: str, embeddings: Sequence[Sequence[LearnedEmbedding]],
    noise: np.ndarray, steps: int, guidance_scale: float,
) -> list[np.ndarray]:  # fmt: skip
    """N pictures (N, H, W, 3) uint8 with each set of embeddings, from the same noise (N, C, h, w) float32.

    Raises:
        EdgeSdkError: an embedding is of another family or width than the model, or two are for one token.
    """
    with Session(bundle, "text_encoder") as encoder:
        told = [condition(bundle, encoder, prompt, negative_prompt, each, len(noise)) for each in embeddings]
    with Session(bundle, "unet") as unet:
        latents = [denoise(bundle, unet, *pair, noise, steps, guidance_scale) for pair in told]
    with Session(bundle, "vae_decoder") as decoder:
        return [decode(decoder, each) for each in latents]


def condition(
    bundle: Bundle, encoder: Session, prompt: str, negative_prompt: str, embeddings: Sequence[LearnedEmbedding],
    count: int,
) -> tuple[Told, Told]:  # fmt: skip
    """What the denoiser is told of a prompt and of the negative prompt, ``count`` rows each."""
    check_embeddings(embeddings, bundle.widths)
    text = BundleText(bundle)
    learned = [e.vectors for e in embeddings] or [np.zeros((1, sum(bundle.widths)), np.float32)]  # no id asks for it
    vectors = np.concatenate(learned)  # (sum of K, D)

    def told(words: str, placeholders: dict[str, int]) -> Told:
        values = encoder(input_ids=text.tokenize([words], placeholders), learned=vectors)
        out = dict(zip(bundle.manifest["graphs"]["text_encoder"]["outputs"], values, strict=True))
        if bundle.is_xl:
            out["sizes"] = picture_sizes([(bundle.side, bundle.side)], bundle.side)
        return out

    positive = told(prompt, {e.token: len(e.vectors) for e in embeddings})
    negative = told(negative_prompt, {})
    if bundle.is_xl and not negative_prompt and bundle.zero_negative:
        negative |= {name: np.zeros_like(negative[name]) for name in ("hidden", "pooled")}
    rows = [{name: np.repeat(value, count, axis=0) for name, value in each.items()} for each in (positive, negative)]
    return rows[0], rows[1]


def denoise(
    bundle: Bundle, unet: Session, positive: Told, negative: Told, noise: np.ndarray, num_inference_steps: int,
    guidance_scale: float,
) -> np.ndarray:  # fmt: skip
    """DDIM from noise (N, C, h, w) float32 to latents of the same shape. Guidance of 1 or less is no guidance."""
    sampler, coefficients, guided = bundle.sampler(), bundle.coefficients, guidance_scale > 1
    steps = min(num_inference_steps, sampler.max_steps)
    told = {name: np.concatenate([negative[name], positive[name]]) for name in positive} if guided else positive
    latents = noise
    for t in sampler.timesteps(steps):
        batch = np.concatenate([latents, latents]) if guided else latents
        (predicted,) = unet(sample=batch, timestep=np.full(len(batch), t, np.int64), **told)
        if guided:
            without, with_prompt = np.split(predicted, 2)
            predicted = without + np.float32(guidance_scale) * (with_prompt - without)
        latents = sampler.ddim_step(predicted, t, steps, latents, coefficients)
    return latents


def decode(decoder: Session, latents: np.ndarray) -> np.ndarray:
    """Latents (N, C, h, w) to pictures (N, H, W, 3) uint8, one at a time to bound memory."""
    pixels = np.concatenate([decoder(latents=row[None])[0] for row in latents])
    return ((pixels.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8).transpose(0, 2, 3, 1)
