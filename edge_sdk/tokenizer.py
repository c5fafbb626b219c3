"""CLIP's tokenizer with placeholders, on `tokenizers` and numpy alone: what every runtime's text side begins with.

A placeholder's vectors take the token ids that follow the vocabulary: id ``vocab_size + k`` stands for vector k.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

from edge_sdk.errors import EdgeSdkError, native_errors
from edge_sdk.system.inputs import read_input
from edge_sdk.system.json import MOST_TOKENIZER_BYTES, read_json
from edge_sdk.system.schema import Either, Maybe, Whole, check
from edge_sdk.tokenizer_file import AGAIN, read_tokenizer_file

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
# CLIP's own way of cutting text into words (its simple_tokenizer.py).
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class ClipTokenizer:
    """Prompts as rows of token ids.

    Args:
        vocab_size: rows of the embedding table.
        length: tokens of a row, the marks of beginning and end included.
        pad: the word that fills prompts up; SDXL's second tokenizer has one of its own.

    Raises:
        EdgeSdkError: the tokenizer does not know the three marks, or not within the table.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, length: int, pad: str = END) -> None:
        self.tokenizer, self.vocab_size, self.length = tokenizer, vocab_size, length
        self.bos, self.eos, self.pad = (self._id(word) for word in (BEGIN, END, pad))

    def _id(self, word: str) -> int:
        number = self.tokenizer.token_to_id(word)
        if number is None or number >= self.vocab_size:
            raise EdgeSdkError(f"the tokenizer does not know {word}; it is not CLIP's, or not this text encoder's")
        return number

    def words(self, text: str) -> list[int]:
        """Token ids of a text without the marks of its beginning and end."""
        with native_errors("the tokenizer"):
            ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        if ids and max(ids) >= self.vocab_size:
            raise EdgeSdkError(
                f"the tokenizer makes token {max(ids)} of {text!r:.60}, and the text encoder knows {self.vocab_size}; "
                "they are not of one model"
            )
        return ids

    def word(self, initializer_token: str) -> int:
        """The id of a word that is one token.

        Raises:
            EdgeSdkError: it is not exactly one.
        """
        ids = self.words(initializer_token)
        if len(ids) != 1:
            raise EdgeSdkError(
                f"initializer_token {initializer_token!r} makes {len(ids)} tokens; it must be one word that the "
                "model knows as a single token, such as 'person' or 'dog'"
            )
        return ids[0]

    def check_placeholder(self, placeholder: str) -> None:
        """Raises EdgeSdkError if the placeholder is already a word of the vocabulary."""
        ids = self.words(placeholder)
        if len(ids) == 1 and ids[0] != self.eos:
            raise EdgeSdkError(
                f"placeholder_token {placeholder!r} is already a word of the model; choose one that is not, "
                "such as '<subject>'"
            )

    def rows(self, prompts: Sequence[str], placeholders: dict[str, int] | None = None) -> np.ndarray:
        """Prompts as ids (N, T) int64, padded and cut as CLIP's tokenizer does.

        Args:
            placeholders: word -> number of its vectors. They take the ids vocab_size, vocab_size + 1, ... in order.

        Raises:
            EdgeSdkError: a placeholder's vectors do not fit into the prompt's length.
        """
        first, ids_of = self.vocab_size, {}
        for word, vectors in (placeholders or {}).items():
            ids_of[word] = list(range(first, first + vectors))
            first += vectors
        return np.array([self._row(prompt, ids_of) for prompt in prompts], np.int64)

    def _row(self, prompt: str, ids_of: dict[str, list[int]]) -> list[int]:
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


def load_tokenizer(folder: Path) -> Tokenizer:
    """CLIP's tokenizer from ``vocab.json`` and ``merges.txt``, or from a ``tokenizer.json``.

    Raises:
        EdgeSdkError: neither is there, or cannot be read.
    """
    try:
        with native_errors(f"{folder}"):
            if not (folder / "vocab.json").exists():
                return Tokenizer.from_str(read_tokenizer_file(folder / "tokenizer.json"))
            lines = read_input(folder / "merges.txt", MOST_TOKENIZER_BYTES).decode().splitlines()
            pairs = (line.split() for line in lines if line.strip() and not line.startswith("#version"))
            merges = [(first, second) for first, second in pairs]
            vocabulary = read_json(folder / "vocab.json", AGAIN, MOST_TOKENIZER_BYTES)
            check(vocabulary, {str: Whole(0, 1 << 24)})
            made = Tokenizer(BPE(vocabulary, merges, unk_token=END, end_of_word_suffix="</w>", fuse_unk=False))
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise EdgeSdkError(f"{folder} cannot be read as CLIP's tokenizer ({reason}); download it again") from error
    made.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.add_special_tokens([AddedToken(word, special=True) for word in (BEGIN, END)])
    return made


def padding_word(folder: Path) -> str:
    """The word that a tokenizer's folder says prompts are filled up with; CLIP's end of text if it says nothing.

    Raises:
        EdgeSdkError: ``tokenizer_config.json`` is there and damaged.
    """
    path = folder / "tokenizer_config.json"
    if not path.exists():
        return END
    config = read_json(path, AGAIN)
    try:
        check(config, {"pad_token": Maybe(Either(str, {"content": str}, None))})
    except ValueError as error:
        raise EdgeSdkError(f"{path} cannot be used: {error}; {AGAIN}") from error
    pad = config.get("pad_token") or END
    return pad["content"] if isinstance(pad, dict) else pad
