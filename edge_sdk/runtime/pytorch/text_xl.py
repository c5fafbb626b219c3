"""The text side of Stable Diffusion XL: two encoders that look like one.

Everything else of the family is what Stable Diffusion 1.x and 2.x have, objective included. What goes in is both
encoders' part side by side, the first one's first: token ids (N, T1 + T2) and learned vectors (B, K, D1 + D2).
"""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch

from edge_sdk.diffusion.networks.clip import ClipText
from edge_sdk.diffusion.tokenizer import ClipTokenizer
from edge_sdk.errors import EdgeSdkError
from edge_sdk.runtime.pytorch.directions import (
    jacobian_gram,
    search_directions,
    variance_share,
)
from edge_sdk.runtime.pytorch.text import Condition, TextEncoder


class TextEncoderPair:
    """CLIP ViT-L and OpenCLIP ViT-bigG as one, see `edge_sdk.runtime.pytorch.text.Text`.

    A learned vector has a part for each encoder, and the two tables are not of one scale. The optimizer has one step
    size, one perturbation and (with Adam) steps that do not depend on a coordinate's effect, so its variable must have
    one scale: the second part is divided by the ratio of the tables' standard deviations, the first is left as it is.
    Then both presets mean what they mean for Stable Diffusion 1.x, whose encoder the first one is. Norms are bounded
    part by part, each by its own vocabulary.

    The pooled state is that of the end-of-text token. Where a config has the old ``eos_token_id`` of 2, as the
    published SDXL ones do, transformers pools at the highest id: there an added token is taken for the end.

    Args:
        first, second: the encoders with their tokenizers; the second one projects.
        zero_negative: an empty negative prompt stands for zeros (``force_zeros_for_empty_prompt`` of the pipeline).

    Raises:
        EdgeSdkError: the encoders take prompts of different lengths.
    """

    def __init__(self, first: TextEncoder, second: TextEncoder, zero_negative: bool = True) -> None:
        if first.length != second.length:
            raise EdgeSdkError(
                f"the text encoders take {first.length} and {second.length} tokens; those of SDXL take as many"
            )
        self.first, self.second, self.zero_negative = first, second, zero_negative
        self.widths: tuple[int, ...] = (first.width, second.width)
        self.width = sum(self.widths)

    @property
    def tokenizers(self) -> list[ClipTokenizer]:
        return [self.first, self.second]

    @property
    def models(self) -> list[ClipText]:
        return [self.first.model, self.second.model]

    @cached_property
    def scale(self) -> np.ndarray:
        """(D1 + D2,) float32: ones, then the ratio of the tables' standard deviations."""
        ratio = self.second.vocabulary_std() / self.vocabulary_std()
        return np.repeat(np.array([1.0, ratio], np.float32), self.widths)

    def tokenize(self, prompts: Sequence[str], placeholders: dict[str, int] | None = None) -> np.ndarray:
        """Prompts as ids (N, T1 + T2), see `TextEncoder.tokenize`."""
        return np.concatenate([text.tokenize(prompts, placeholders) for text in (self.first, self.second)], axis=1)

    def condition(
        self, ids: torch.Tensor | np.ndarray, learned: torch.Tensor | None = None, time_ids: torch.Tensor | None = None
    ) -> Condition:
        """What the denoiser is told: the states before either encoder's last layer, pooled text, and the sizes.

        Args:
            ids: (B, T1 + T2) int64.
            learned: (B, K, D1 + D2) float32 or None.
            time_ids: (B, 6) float32, see `edge_sdk.diffusion.conditioning.add_time_ids`.
        """
        device = self.first.table.device
        learned, time_ids = (None if x is None else x.to(device) for x in (learned, time_ids))
        ids_1, ids_2 = torch.as_tensor(ids).to(device).split([self.first.length, self.second.length], dim=1)
        learned_1, learned_2 = (None, None) if learned is None else learned.split(self.widths, dim=2)
        hidden_1 = self.first.model(ids_1, learned_1, skip_last=True)
        hidden_2 = self.second.model(ids_2, learned_2, skip_last=True)
        end = (ids_2 == self.second.eos).int().argmax(dim=1)  # (B,), the first of them
        pooled = self.second.model.pool(hidden_2, end)
        hidden = torch.cat([hidden_1, hidden_2], dim=2)
        return Condition(hidden, None if time_ids is None else (pooled, time_ids))

    def negative(
        self,
        prompt: str,
        time_ids: torch.Tensor | None = None,
        placeholders: dict[str, int] | None = None,
        learned: torch.Tensor | None = None,
    ) -> Condition:
        """What the denoiser is told of a prompt to keep away from, one row; zeros for none."""
        hidden, added = self.condition(self.tokenize([prompt], placeholders), learned, time_ids)
        if prompt or not self.zero_negative or added is None:
            return Condition(hidden, added)
        return Condition(torch.zeros_like(hidden), (torch.zeros_like(added[0]), added[1]))

    def check_placeholder(self, placeholder: str) -> None:
        """Raises EdgeSdkError if the placeholder is already a word of either vocabulary."""
        self.first.check_placeholder(placeholder)
        self.second.check_placeholder(placeholder)

    def initial_embedding(self, initializer_token: str, num_vectors: int) -> np.ndarray:
        """The initializer's rows of both tables, once per vector, (K, D1 + D2) float32; not divided by `scale`.

        Raises:
            EdgeSdkError: the initializer is not exactly one token.
        """
        parts = [text.initial_embedding(initializer_token, num_vectors) for text in (self.first, self.second)]
        return np.concatenate(parts, axis=1)

    def vocabulary_std(self) -> float:
        """Standard deviation per dimension of the optimizer's variable over the vocabulary: that of the first table."""
        return self._std

    @cached_property
    def _std(self) -> float:
        return self.first.vocabulary_std()

    def search_directions(self, count: int, basis: str | None = None) -> np.ndarray:
        """Of the optimizer's variable, (R, D1 + D2) float32; a word has a row in both tables, side by side."""
        return search_directions(self, count, basis)

    def jacobian_gram(self) -> np.ndarray:
        """Of both encoders' states side by side, see `TextEncoder.jacobian_gram`."""
        ratio = float(self.scale[-1])
        words = np.hstack([self.first.words_of_table(), self.second.words_of_table() / ratio])

        def states(vectors: torch.Tensor) -> torch.Tensor:
            first, second = vectors.split(self.widths, dim=1)
            return torch.cat([self.first.states(first, True), self.second.states(second * ratio, True)], dim=1)

        return jacobian_gram(states, words, self.vocabulary_std())

    def variance_share(self, directions: np.ndarray) -> float:
        """Of the optimizer's variable over the vocabulary, see `edge_sdk.runtime.pytorch.directions.variance_share`."""
        return variance_share(self.rows_of_table(), directions)

    def rows_of_table(self) -> Iterator[np.ndarray]:
        """Both tables side by side in the optimizer's variable, in pieces (n, D1 + D2) float64."""
        ratio = float(self.scale[-1])
        pairs = zip(self.first.rows_of_table(), self.second.rows_of_table(), strict=True)
        return (np.hstack([one, two / ratio]) for one, two in pairs)

    def norm_range(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Least and largest norms of the parts of the optimizer's variable, see `TextEncoder.norm_range`."""
        (low_1, high_1), (low_2, high_2) = self.first.norm_range(), self.second.norm_range()
        ratio = float(self.scale[-1])
        return (low_1, low_2 / ratio), (high_1, high_2 / ratio)
