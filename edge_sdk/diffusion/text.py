"""The text side: prompts with a placeholder as token ids, and a CLIP text encoder that takes learned vectors."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from tokenizers import Tokenizer

from edge_sdk.diffusion.clip import ClipText, load_tokenizer
from edge_sdk.errors import EdgeSdkError

ROWS = 512  # of the embedding table looked at together


class Condition(NamedTuple):
    """What a denoiser is told beside noised latents and timestep: its arguments after those two."""

    hidden: torch.Tensor  # (B, T, D) float32, a state a token
    added: tuple[torch.Tensor, torch.Tensor] | None = None  # SDXL only: pooled text (B, P), sizes (B, 6), float32

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
        scale: (D,) float32, or 1: a vector is ``scale`` times the optimizer's variable, all parts of which have one
            scale. `vocabulary_std` and `norm_range` (one number or one a part) speak of the variable.
    """

    width: int
    widths: tuple[int, ...]

    @property
    def scale(self) -> "np.ndarray | float": ...
    def tokenize(self, prompts: Sequence[str], placeholders: dict[str, int] | None = None) -> torch.Tensor: ...
    def condition(
        self, ids: torch.Tensor, learned: torch.Tensor | None = None, sizes: torch.Tensor | None = None
    ) -> Condition: ...
    def negative(self, prompt: str, sizes: torch.Tensor | None = None) -> Condition: ...
    def check_placeholder(self, placeholder: str) -> None: ...
    def initial_embedding(self, initializer_token: str, num_vectors: int) -> np.ndarray: ...
    def vocabulary_std(self) -> float: ...
    def norm_range(self) -> "tuple[float, float] | tuple[tuple[float, ...], tuple[float, ...]]": ...


class TextEncoder:
    """A tokenizer and a text encoder as one function from prompts and learned vectors to hidden states.

    Args:
        pad: the word that fills prompts up; SDXL's second tokenizer has one of its own.
    """

    scale = 1.0

    def __init__(self, tokenizer: Tokenizer, model: ClipText, pad: str = "<|endoftext|>") -> None:
        self.tokenizer, self.model = tokenizer, model
        self.table = model.embeddings.token_embedding.weight  # (V, D), float32 or float16
        self.vocab_size, self.width = self.table.shape
        self.widths: tuple[int, ...] = (self.width,)
        self.length = model.config.max_position_embeddings
        self.bos, self.eos, self.pad = (self._id(word) for word in ("<|startoftext|>", "<|endoftext|>", pad))

    @classmethod
    def from_folder(cls, folder: Path, model: ClipText) -> "TextEncoder":
        """Read the tokenizer beside a text encoder.

        Raises:
            EdgeSdkError: the folder does not hold CLIP's tokenizer.
        """
        try:
            config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
            pad = config.get("pad_token") or "<|endoftext|>"
        except (OSError, ValueError, AttributeError):
            pad = "<|endoftext|>"
        return cls(load_tokenizer(folder), model, pad["content"] if isinstance(pad, dict) else pad)

    def _id(self, word: str) -> int:
        number = self.tokenizer.token_to_id(word)
        if number is None or number >= self.vocab_size:
            raise EdgeSdkError(f"the tokenizer does not know {word}; it is not CLIP's, or not this text encoder's")
        return number

    def encode(self, ids: torch.Tensor, learned: torch.Tensor | None = None) -> torch.Tensor:
        """ids (B, T) int64, learned (B, K, D) float32 or None -> last hidden state (B, T, D) float32."""
        device = self.table.device
        return self.model(ids.to(device), None if learned is None else learned.to(device))

    def condition(
        self, ids: torch.Tensor, learned: torch.Tensor | None = None, sizes: torch.Tensor | None = None
    ) -> Condition:
        """What the denoiser is told of prompts, see `encode`; ``sizes`` (B, 6) matter to SDXL only."""
        return Condition(self.encode(ids, learned))

    def negative(self, prompt: str, sizes: torch.Tensor | None = None) -> Condition:
        """What the denoiser is told of a prompt to keep away from, one row."""
        return self.condition(self.tokenize([prompt]), None, sizes)

    def words(self, text: str) -> list[int]:
        """Token ids of a text without the marks of its beginning and end."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def tokenize(self, prompts: Sequence[str], placeholders: dict[str, int] | None = None) -> torch.Tensor:
        """Prompts as ids (N, T), padded and cut as CLIP's tokenizer does.

        Args:
            placeholders: word -> number of its vectors. They take the ids vocab_size, vocab_size + 1, ... in order.

        Raises:
            EdgeSdkError: a placeholder's vectors do not fit into the prompt's length.
        """
        first, ids_of = self.vocab_size, {}
        for word, vectors in (placeholders or {}).items():
            ids_of[word] = list(range(first, first + vectors))
            first += vectors
        return torch.tensor([self._tokenize_one(prompt, ids_of) for prompt in prompts])

    def _tokenize_one(self, prompt: str, ids_of: dict[str, list[int]]) -> list[int]:
        longest_first = "|".join(re.escape(word) for word in sorted(ids_of, key=len, reverse=True))
        inside: list[int] = []
        for piece in re.split(f"({longest_first})", prompt) if ids_of else [prompt]:
            if piece in ids_of:
                inside += ids_of[piece]
            elif piece.strip():
                inside += self.words(piece)
        room = self.length - 2
        lost = [word for word, ids in ids_of.items() if set(ids) & set(inside[room:])]
        if lost:
            raise EdgeSdkError(
                f"the prompt {prompt!r} is {len(inside)} tokens long and {lost[0]} would be cut off; "
                f"the model takes {room}, use a shorter prompt or fewer vectors"
            )
        row = [self.bos, *inside[:room], self.eos]
        return row + [self.pad] * (self.length - len(row))

    def initial_embedding(self, initializer_token: str, num_vectors: int) -> np.ndarray:
        """The initializer's row of the table, once per vector, (K, D) float32.

        Raises:
            EdgeSdkError: the initializer is not exactly one token.
        """
        ids = self.words(initializer_token)
        if len(ids) != 1:
            raise EdgeSdkError(
                f"initializer_token {initializer_token!r} makes {len(ids)} tokens; it must be one word that the "
                "model knows as a single token, such as 'person' or 'dog'"
            )
        return np.repeat(self.table[ids[0]].detach().float().cpu().numpy()[None], num_vectors, axis=0)

    def check_placeholder(self, placeholder: str) -> None:
        """Raises EdgeSdkError if the placeholder is already a word of the vocabulary."""
        ids = self.words(placeholder)
        if len(ids) == 1 and ids[0] != self.eos:
            raise EdgeSdkError(
                f"placeholder_token {placeholder!r} is already a word of the model; choose one that is not, "
                "such as '<subject>'"
            )

    def vocabulary_std(self) -> float:
        """Standard deviation of the table's rows, per dimension, mean over dimensions."""
        total, squares = np.zeros(self.width), np.zeros(self.width)
        for rows in self._rows():
            total += rows.sum(axis=0)
            squares += (rows**2).sum(axis=0)
        variance = (squares - total**2 / self.vocab_size) / (self.vocab_size - 1)
        return float(np.sqrt(variance).mean())

    def norm_range(self) -> tuple[float, float]:
        """Norms of the table's rows between the 0.1 % and the 99.9 % quantile, widened by a factor of 2 on either side.

        Rows outside are mostly unused tokens. The widening leaves a learned vector room to be unlike any word:
        backpropagation ends there too.
        """
        norms = np.concatenate([np.linalg.norm(rows, axis=1) for rows in self._rows()])
        low, high = np.quantile(norms, [0.001, 0.999])
        return float(low / 2), float(high * 2)

    def _rows(self) -> Iterator[np.ndarray]:
        return (rows.detach().double().cpu().numpy() for rows in self.table.split(ROWS))
