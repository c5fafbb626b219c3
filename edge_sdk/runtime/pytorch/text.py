"""The text side: prompts with a placeholder as token ids, and a CLIP text encoder that takes learned vectors."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from tokenizers import Tokenizer

from edge_sdk.diffusion.networks.clip import ClipText
from edge_sdk.diffusion.tokenizer import END, ClipTokenizer, load_tokenizer, padding_word
from edge_sdk.runtime.pytorch.directions import (
    AFTER,
    PROMPT,
    WORDS,
    jacobian_gram,
    search_directions,
    variance_share,
)

ROWS = 512  # of the embedding table looked at together


class Condition(NamedTuple):
    """What a denoiser is told beside noised latents and timestep: its arguments after those two."""

    hidden: torch.Tensor  # (B, T, D) float32, a state a token
    added: tuple[torch.Tensor, torch.Tensor] | None = None  # SDXL only: pooled text (B, P), time ids (B, 6), float32

    def repeated(self, count: int) -> "Condition":
        """A condition of one row as ``count`` rows that share its memory."""
        hidden = self.hidden.expand(count, -1, -1)
        if self.added is None:
            return Condition(hidden)
        return Condition(hidden, (self.added[0].expand(count, -1), self.added[1].expand(count, -1)))

    def followed_by(self, other: "Condition") -> "Condition":
        """The rows of both."""
        hidden = torch.cat([self.hidden, other.hidden])
        if self.added is None or other.added is None:
            return Condition(hidden)
        return Condition(
            hidden, (torch.cat([self.added[0], other.added[0]]), torch.cat([self.added[1], other.added[1]]))
        )


class Text(Protocol):
    """The text side of a model family, and all that the rest of the program knows of it.

    `TextEncoder` is that of Stable Diffusion 1.x and 2.x, `stable_diffusion_xl.TextEncoderPair` that of SDXL. Methods
    are described there.

    Attributes:
        widths: of the parts of a learned vector, one an encoder; ``width`` is their sum, D.
        tokenizers: the one of each encoder.
        scale: (D,) float32, or 1: a vector is ``scale`` times the optimizer's variable, all parts of which have one
            scale. `vocabulary_std` and `norm_range` (one number or one a part) speak of the variable.
    """

    width: int
    widths: tuple[int, ...]

    @property
    def tokenizers(self) -> list[ClipTokenizer]: ...
    @property
    def models(self) -> "list[ClipText]": ...
    @property
    def scale(self) -> "np.ndarray | float": ...
    def tokenize(self, prompts: Sequence[str], placeholders: dict[str, int] | None = None) -> np.ndarray: ...
    def condition(
        self, ids: torch.Tensor | np.ndarray, learned: torch.Tensor | None = None, time_ids: torch.Tensor | None = None
    ) -> Condition: ...
    def negative(
        self,
        prompt: str,
        time_ids: torch.Tensor | None = None,
        placeholders: dict[str, int] | None = None,
        learned: torch.Tensor | None = None,
    ) -> Condition: ...
    def check_placeholder(self, placeholder: str) -> None: ...
    def initial_embedding(self, initializer_token: str, num_vectors: int) -> np.ndarray: ...
    def vocabulary_std(self) -> float: ...
    def search_directions(self, count: int, basis: str | None = None) -> np.ndarray: ...
    def variance_share(self, directions: np.ndarray) -> float: ...
    def norm_range(self) -> "tuple[float, float] | tuple[tuple[float, ...], tuple[float, ...]]": ...


class TextEncoder(ClipTokenizer):
    """A tokenizer and a text encoder as one function from prompts and learned vectors to hidden states."""

    scale = 1.0

    def __init__(self, tokenizer: Tokenizer, model: ClipText, pad: str = END) -> None:
        self.model = model
        self.table = model.embeddings.token_embedding.weight  # (V, D), float32 or float16
        vocab_size, self.width = self.table.shape
        self.widths: tuple[int, ...] = (self.width,)
        super().__init__(tokenizer, vocab_size, model.config.max_position_embeddings, pad)

    @property
    def tokenizers(self) -> list[ClipTokenizer]:
        return [self]

    @property
    def models(self) -> list[ClipText]:
        """The text encoder, or both of SDXL."""
        return [self.model]

    @classmethod
    def from_folder(cls, folder: Path, model: ClipText) -> "TextEncoder":
        """Read the tokenizer beside a text encoder.

        Raises:
            EdgeSdkError: the folder does not hold CLIP's tokenizer.
        """
        return cls(load_tokenizer(folder), model, padding_word(folder))

    def tokenize(self, prompts: Sequence[str], placeholders: dict[str, int] | None = None) -> np.ndarray:
        """Prompts as ids (N, T) int64, see `ClipTokenizer.rows`."""
        return self.rows(prompts, placeholders)

    def encode(self, ids: torch.Tensor | np.ndarray, learned: torch.Tensor | None = None) -> torch.Tensor:
        """ids (B, T) int64, learned (B, K, D) float32 or None -> last hidden state (B, T, D) float32."""
        device = self.table.device
        return self.model(torch.as_tensor(ids).to(device), None if learned is None else learned.to(device))

    def condition(
        self, ids: torch.Tensor | np.ndarray, learned: torch.Tensor | None = None, time_ids: torch.Tensor | None = None
    ) -> Condition:
        """What the denoiser is told of prompts, see `encode`; ``time_ids`` (B, 6) matter to SDXL only."""
        return Condition(self.encode(ids, learned))

    def negative(
        self,
        prompt: str,
        time_ids: torch.Tensor | None = None,
        placeholders: dict[str, int] | None = None,
        learned: torch.Tensor | None = None,
    ) -> Condition:
        """What the denoiser is told of a prompt to keep away from, one row; learned (1, K, D) float32 or None."""
        return self.condition(self.tokenize([prompt], placeholders), learned, time_ids)

    def initial_embedding(self, initializer_token: str, num_vectors: int) -> np.ndarray:
        """The initializer's row of the table, once per vector, (K, D) float32.

        Raises:
            EdgeSdkError: the initializer is not exactly one token.
        """
        row = self.table[self.word(initializer_token)]
        return np.repeat(row.detach().float().cpu().numpy()[None], num_vectors, axis=0)

    def vocabulary_std(self) -> float:
        """Standard deviation of the table's rows, per dimension, mean over dimensions."""
        total, squares = np.zeros(self.width), np.zeros(self.width)
        for rows in self.rows_of_table():
            total += rows.sum(axis=0)
            squares += (rows**2).sum(axis=0)
        variance = (squares - total**2 / self.vocab_size) / (self.vocab_size - 1)
        return float(np.sqrt(variance).mean())

    def search_directions(self, count: int, basis: str | None = None) -> np.ndarray:
        """Of the table and the encoder, (R, D) float32, see `edge_sdk.runtime.pytorch.directions`."""
        return search_directions(self, count, basis)

    def jacobian_gram(self) -> np.ndarray:
        """Of the states after a short prompt, (D, D) float64, see the function of that name."""
        return jacobian_gram(self.states, self.words_of_table(), self.vocabulary_std())

    def states(self, vectors: torch.Tensor, skip_last: bool = False) -> torch.Tensor:
        """States (B, M) float32 of a short prompt that ends with a vector, (B, D) float32; see `ClipText.forward`."""
        ids = [self.bos, *self.words(PROMPT), self.vocab_size, self.eos, *[self.pad] * (AFTER - 1)][: self.length]
        rows = torch.tensor(ids, device=self.table.device).expand(len(vectors), -1)
        return self.model(rows, vectors[:, None].to(self.table.device), skip_last=skip_last).flatten(1)

    def words_of_table(self) -> np.ndarray:
        """A few rows of the table, evenly spaced, (W, D) float64."""
        places = np.linspace(0, self.vocab_size - 1, WORDS + 2)[1:-1].astype(int)
        return self.table[torch.from_numpy(places)].detach().double().cpu().numpy()

    def variance_share(self, directions: np.ndarray) -> float:
        """Of the table's rows, see the function of that name."""
        return variance_share(self.rows_of_table(), directions)

    def norm_range(self) -> tuple[float, float]:
        """Norms of the table's rows between the 0.1 % and the 99.9 % quantile, widened by a factor of 2 on either side.

        Rows outside are mostly unused tokens. The widening leaves a learned vector room to be unlike any word:
        backpropagation ends there too.
        """
        norms = np.concatenate([np.linalg.norm(rows, axis=1) for rows in self.rows_of_table()])
        low, high = np.quantile(norms, [0.001, 0.999])
        return float(low / 2), float(high * 2)

    def rows_of_table(self) -> Iterator[np.ndarray]:
        """The table in pieces (n, D) float64."""
        return (rows.detach().double().cpu().numpy() for rows in self.table.split(ROWS))
