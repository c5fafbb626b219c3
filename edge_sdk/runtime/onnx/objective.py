"""A bundle's graph ``zo_loss`` as an objective: the denoising loss of a learned embedding on a draw."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from edge_sdk.runtime.onnx.bundle import Bundle
from edge_sdk.runtime.onnx.session import Session
from edge_sdk.runtime.rows import rows_of_ids
from edge_sdk.zo import Draw


@dataclass(frozen=True)
class Latents:
    """The photos as the VAE sees them, encoded once: mean and std of the posterior, (N, C, h, w) float32, scaled."""

    mean: np.ndarray
    std: np.ndarray


def encode_images(bundle: Bundle, pixels: Iterable[np.ndarray]) -> Latents:
    """Encode photos, (3, H, W) float32 in [-1, 1] each, one at a time to bound memory."""
    with Session(bundle, "vae_encoder") as encoder:
        encoded = [encoder(pixels=image[None]) for image in pixels]
    mean, std = (np.concatenate(parts) for parts in zip(*encoded, strict=True))
    return Latents(mean, std)


class OnnxObjective:
    """loss(embedding, draw) = mean of (target - denoiser(z_t, t, text(embedding)))^2, all of it inside the graph.

    A graph of any number of rows takes one embedding a call, so neighbouring rows with the same one are a call. In one
    of a fixed number every row has an embedding of its own.

    Args:
        loss: the bundle's ``zo_loss``. `close` closes it, and the next call opens it again.
        latents: the encoded photos.
        ids: token ids (int64), (P, T) prompts for all photos or (N, 1, T) one caption each.
        num_vectors: vectors per placeholder token.
        time_ids: (N, 6) float32 for SDXL, see `edge_sdk.diffusion.conditioning.add_time_ids`; None for other families.
    """

    def __init__(
        self,
        bundle: Bundle,
        loss: Session,
        latents: Latents,
        ids: np.ndarray,
        num_vectors: int,
        time_ids: np.ndarray | None = None,
    ) -> None:
        self.bundle, self.loss, self.latents, self.ids, self.time_ids = bundle, loss, latents, ids, time_ids
        self.scale, self.rows = bundle.scale, bundle.rows("zo_loss")
        sizes = zip(bundle.manifest["tokens"], bundle.manifest["embedding"], strict=True)
        self._first = np.concatenate([np.full(one["length"], part["vocab_size"]) for one, part in sizes])  # (T,)
        self.num_images = len(latents.mean)
        self.num_prompts = ids.shape[-2]
        self.num_train_timesteps = bundle.num_train_timesteps
        self.latents_shape = bundle.latents_shape
        self.embedding_shape = (num_vectors, sum(bundle.widths))

    def losses(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        """(B, K, D) float32 embeddings on B draws -> (B,) float64. Row b depends on nothing but row b.

        An embedding is the optimizer's variable: the bundle's scale times it are the vectors.
        """
        calls = list(self._calls(embeddings, draws))
        if "loss" in calls[0]:
            return np.concatenate([call["loss"] for call in calls]).astype(np.float64)
        return (_flat(calls).astype(np.float64) ** 2).mean(axis=1)

    def residuals(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        """What the losses are the mean squares of: model output minus target, (B, C h w) float32."""
        return _flat(list(self._calls(embeddings, draws)))

    def close(self) -> None:
        """Close the graph until it is needed again."""
        self.loss.close()

    def _calls(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> Iterator[dict[str, np.ndarray]]:
        """What the graph gives, a call after the other."""
        if self.rows is not None:
            for first in range(0, len(draws), self.rows):
                yield self._call(embeddings[first : first + self.rows], draws[first : first + self.rows])
            return
        for _, alike in groupby(range(len(draws)), key=lambda b: embeddings[b].tobytes()):
            rows = list(alike)
            yield self._call(embeddings[rows[0]][None], [draws[b] for b in rows])

    def _call(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> dict[str, np.ndarray]:
        """One embedding, or one a draw, (B, K, D), on B draws -> residual (B, C, h, w), and perhaps loss (B,)."""
        if self.loss.closed:
            self.loss = Session(self.bundle, self.loss.name)
        image = [d.image for d in draws]
        x0 = self.latents.mean[image] + self.latents.std[image] * np.stack([d.latent_noise for d in draws])
        prompts = [self.ids[d.image, d.prompt] if self.ids.ndim == 3 else self.ids[d.prompt] for d in draws]
        ids = np.stack(prompts)
        outputs = self.loss(
            input_ids=rows_of_ids(ids, self._first, self.embedding_shape[0]) if len(embeddings) > 1 else ids,
            learned=np.concatenate(embeddings * self.scale).astype(np.float32),
            latents=x0,
            noise=np.stack([d.noise for d in draws]),
            timestep=np.array([d.timestep for d in draws], np.int64),
            **({} if self.time_ids is None else {"sizes": self.time_ids[image]}),
        )
        return dict(zip(self.bundle.manifest["graphs"][self.loss.name]["outputs"], outputs, strict=True))


def _flat(calls: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
    """Residuals of all calls, (B, C h w) float32."""
    residuals = np.concatenate([call["residual"] for call in calls])
    return residuals.reshape(len(residuals), -1)
