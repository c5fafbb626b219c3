"""Stages of generation on a bundle: one session at a time, arrays of numpy."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from edge_sdk.diffusion.conditioning import add_time_ids
from edge_sdk.diffusion.pixels import as_bytes
from edge_sdk.diffusion.tokenizer import ClipTokenizer
from edge_sdk.embedding import LearnedEmbedding, check_embeddings
from edge_sdk.runtime.onnx.bundle import Bundle
from edge_sdk.runtime.onnx.objective import Latents, encode_images
from edge_sdk.runtime.onnx.session import Session
from edge_sdk.runtime.onnx.text import BundleText

# Inputs of the denoiser: hidden (N, T, D), for SDXL also pooled (N, P) and sizes (N, 6), all float32.
Conditioning = dict[str, np.ndarray]


class TextStage:
    """The text encoders' session, see `edge_sdk.runtime.base.TextStage`."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def __enter__(self) -> "TextStage":
        self.text = BundleText(self.bundle)
        self.session = Session(self.bundle, "text_encoder")
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    @property
    def tokenizers(self) -> list[ClipTokenizer]:
        return self.text.tokenizers

    def encode(
        self, prompt: str, negative_prompt: str, embeddings: Sequence[LearnedEmbedding], count: int, side: int
    ) -> tuple[Conditioning, Conditioning]:
        bundle = self.bundle
        check_embeddings(embeddings, bundle.widths)
        positive = self._rows(prompt, embeddings, count, side)
        negative = self._rows(negative_prompt, embeddings, count, side)
        if bundle.is_xl and not negative_prompt and bundle.zero_negative:
            negative |= {name: np.zeros_like(negative[name]) for name in ("hidden", "pooled")}
        return positive, negative

    def _rows(self, prompt: str, embeddings: Sequence[LearnedEmbedding], count: int, side: int) -> Conditioning:
        bundle = self.bundle
        ids = self.text.tokenize([prompt], {e.token: len(e.vectors) for e in embeddings})
        # The graph takes at least one vector; without embeddings no id refers to it.
        vectors = [e.vectors for e in embeddings] or [np.zeros((1, sum(bundle.widths)), np.float32)]
        outputs = self.session(input_ids=ids, learned=np.concatenate(vectors))  # learned: (sum of K, D)
        row = dict(zip(bundle.manifest["graphs"]["text_encoder"]["outputs"], outputs, strict=True))
        if bundle.is_xl:
            row["sizes"] = add_time_ids([(side, side)], (side, side))
        return {name: np.repeat(value, count, axis=0) for name, value in row.items()}


class DenoiserStage:
    """The denoiser's session, see `edge_sdk.runtime.base.DenoiserStage`."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def __enter__(self) -> "DenoiserStage":
        self.session = Session(self.bundle, "unet")
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def array(self, noise: np.ndarray) -> np.ndarray:
        return noise

    def predictor(
        self, positive: Conditioning, negative: Conditioning | None
    ) -> Callable[[np.ndarray, int], np.ndarray]:
        inputs = positive
        if negative is not None:
            inputs = {name: np.concatenate([negative[name], positive[name]]) for name in positive}

        def predict(latents: np.ndarray, t: int) -> np.ndarray:
            batch = latents if negative is None else np.concatenate([latents, latents])
            return self.session(sample=batch, timestep=np.full(len(batch), t, np.int64), **inputs)[0]

        return predict


class VaeStage:
    """The autoencoder's sessions, each open for one call, see `edge_sdk.runtime.base.VaeStage`."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def __enter__(self) -> "VaeStage":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def encode(self, pixels: Iterable[np.ndarray]) -> Latents:
        return encode_images(self.bundle, pixels)

    def decode(self, latents: np.ndarray) -> np.ndarray:
        with Session(self.bundle, "vae_decoder") as decoder:
            pixels = np.concatenate([decoder(latents=row[None])[0] for row in latents])
        return as_bytes(pixels)
