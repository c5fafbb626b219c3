"""An exported loss graph as what tokens are learned on, in place of the model that PyTorch runs."""

from collections.abc import Callable, Sequence

import numpy as np

from edge_sdk.runtime.pytorch.objective import StableDiffusionObjective
from edge_sdk.runtime.rows import rows_of_ids
from edge_sdk.zo import Draw

Run = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]  # a graph: inputs to outputs, by name


class GraphObjective:
    """A graph ``zo_loss`` of a fixed number of rows on another objective's photos and prompts.

    A call that is not full is filled up with its last row.

    Args:
        inner: whose latents, ids and scale are taken; one vector a token, one text encoder.
        run: the graph.
        rows: of a call; row r takes vector r of ``learned``.
    """

    def __init__(self, inner: StableDiffusionObjective, run: Run, rows: int) -> None:
        self._inner, self._run, self._rows = inner, run, rows
        self.num_images, self.num_prompts = inner.num_images, inner.num_prompts
        self.num_train_timesteps, self.latents_shape = inner.num_train_timesteps, inner.latents_shape
        self.embedding_shape = inner.embedding_shape
        self._mean, self._std = inner.latents.mean.numpy(), inner.latents.std.numpy()
        self._ids = inner.ids.numpy()

    def losses(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        """See `edge_sdk.zo.Objective`."""
        return self._all("loss", embeddings, draws).astype(np.float64)

    def residuals(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        return self._all("residual", embeddings, draws).reshape(len(draws), -1)

    def _all(self, output: str, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        starts = range(0, len(draws), self._rows)
        return np.concatenate(
            [
                self._call(output, embeddings[i : i + self._rows], draws[i : i + self._rows])[: len(draws) - i]
                for i in starts
            ]
        )

    def _call(self, output: str, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        row = np.minimum(np.arange(self._rows), len(draws) - 1)
        drawn = [draws[r] for r in row]
        image = [d.image for d in drawn]
        ids = self._ids[[d.prompt for d in drawn]]
        scale = np.asarray(self._inner.text.scale, np.float32)
        inputs = {
            "input_ids": rows_of_ids(ids, np.full(ids.shape[1], self._inner.text.vocab_size), 1),
            "learned": (embeddings[row, 0] * scale).astype(np.float32),
            "latents": self._mean[image] + self._std[image] * np.stack([d.latent_noise for d in drawn]),
            "noise": np.stack([d.noise for d in drawn]),
            "timestep": np.array([d.timestep for d in drawn]),
        }
        return self._run(inputs)[output]
