"""The text side: prompts with a placeholder as token ids, and a CLIP text encoder that takes learned vectors.

The tokenizer and the embedding table are never changed. A token id of ``vocab_size + k`` stands for vector k of the
learned embedding, which is an argument of every call and may differ from row to row.
"""

import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from edge_sdk.errors import EdgeSdkError


class _Lookup(nn.Module):
    """The token embedding table, with ids past its end read from ``learned`` (B, K, D)."""

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        self.table = table
        self.learned: torch.Tensor | None = None

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        if self.learned is None:
            return self.table(ids)
        is_new = ids >= self.table.num_embeddings
        rows = self.table(torch.where(is_new, 0, ids))  # (B, T, D)
        k = torch.where(is_new, ids - self.table.num_embeddings, 0)
        new = self.learned.gather(1, k[..., None].expand(-1, -1, self.learned.shape[2]))  # (B, T, D)
        return torch.where(is_new[..., None], new, rows)


class TextEncoder:
    """A tokenizer and a text encoder as one function from prompts and learned vectors to hidden states."""

    def __init__(self, tokenizer: CLIPTokenizer, model: CLIPTextModel) -> None:
        self.tokenizer, self.model = tokenizer, model
        self.lookup = _Lookup(model.get_input_embeddings())
        model.embeddings.token_embedding = self.lookup
        self.vocab_size = self.lookup.table.num_embeddings
        self.width = self.lookup.table.embedding_dim
        self.length = model.config.max_position_embeddings

    def encode(self, ids: torch.Tensor, learned: torch.Tensor | None = None) -> torch.Tensor:
        """ids (B, T) int64, learned (B, K, D) float32 or None -> last hidden state (B, T, D) float32."""
        self.lookup.learned = learned
        try:
            return self.model(input_ids=ids).last_hidden_state
        finally:
            self.lookup.learned = None

    def tokenize(self, prompts: Sequence[str], placeholders: dict[str, int] | None = None) -> torch.Tensor:
        """Prompts as ids (N, T), padded and cut as CLIPTokenizer does.

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
                inside += self.tokenizer(piece, add_special_tokens=False).input_ids
        room = self.length - 2
        lost = [word for word, ids in ids_of.items() if set(ids) & set(inside[room:])]
        if lost:
            raise EdgeSdkError(
                f"the prompt {prompt!r} is {len(inside)} tokens long and {lost[0]} would be cut off; "
                f"the model takes {room}, use a shorter prompt or fewer vectors"
            )
        row = [self.tokenizer.bos_token_id, *inside[:room], self.tokenizer.eos_token_id]
        return row + [self.tokenizer.pad_token_id] * (self.length - len(row))

    def initial_embedding(self, initializer_token: str, num_vectors: int) -> np.ndarray:
        """The initializer's row of the table, once per vector, (K, D) float32.

        Raises:
            EdgeSdkError: the initializer is not exactly one token.
        """
        ids = self.tokenizer(initializer_token, add_special_tokens=False).input_ids
        if len(ids) != 1:
            raise EdgeSdkError(
                f"initializer_token {initializer_token!r} makes {len(ids)} tokens; it must be one word that the "
                "model knows as a single token, such as 'person' or 'dog'"
            )
        row = self.lookup.table.weight[ids[0]].detach().float().numpy()
        return np.repeat(row[None], num_vectors, axis=0)

    def check_placeholder(self, placeholder: str) -> None:
        """Raises EdgeSdkError if the placeholder is already a word of the vocabulary."""
        ids = self.tokenizer(placeholder, add_special_tokens=False).input_ids
        if len(ids) == 1 and ids[0] != self.tokenizer.unk_token_id:
            raise EdgeSdkError(
                f"placeholder_token {placeholder!r} is already a word of the model; choose one that is not, "
                "such as '<subject>'"
            )

    def vocabulary_std(self) -> float:
        """Standard deviation of the table's rows, per dimension, mean over dimensions."""
        return float(self.lookup.table.weight.detach().float().std(dim=0).mean())

    def norm_range(self) -> tuple[float, float]:
        """Norms of the table's rows between the 0.1 % and the 99.9 % quantile, widened by a factor of 2 on either side.

        Rows outside are mostly unused tokens. The widening leaves a learned vector room to be unlike any word:
        backpropagation ends there too.
        """
        norms = self.lookup.table.weight.detach().float().norm(dim=1).numpy()
        low, high = np.quantile(norms, [0.001, 0.999])
        return float(low / 2), float(high * 2)
