"""CLIP's tokenizer with placeholders, on `tokenizers` and numpy alone: what every runtime's text side begins with.

A placeholder's vectors take the token ids that follow the vocabulary: id ``vocab_size + k`` stands for vector k.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

from edge_sdk.config import check_text
from edge_sdk.diffusion.tokenizer_folder import BEGIN, END, SpecialTokens, read_folder
from edge_sdk.embedding import fold
from edge_sdk.errors import EdgeSdkError, native_errors

# CLIP's own way of cutting text into words (its simple_tokenizer.py).
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

Placed = tuple[int, int]  # a token's id, and the place in the text where it begins


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
        added = {token.content: number for number, token in tokenizer.get_added_tokens_decoder().items()}
        self._added = {fold(word) for word in added}
        self._vectors = {number: list(_vectors(word, added)) for word, number in added.items()}

    def _id(self, word: str) -> int:
        number = self.tokenizer.token_to_id(word)
        if number is None or number >= self.vocab_size:
            raise EdgeSdkError(f"the tokenizer does not know {word}; it is not CLIP's, or not this text encoder's")
        return number

    def words(self, text: str) -> list[int]:
        """Token ids of a text without the marks of its beginning and end."""
        return [number for number, _ in self._tokens(text)]

    def _tokens(self, text: str) -> list[Placed]:
        """Tokens of a text and their places; a word that was learned as several vectors becomes all of them."""
        check_text("the text", text)
        with native_errors("the tokenizer"):
            encoding = self.tokenizer.encode(text, add_special_tokens=False)
        if encoding.ids and max(encoding.ids) >= self.vocab_size:
            raise EdgeSdkError(
                f"the tokenizer makes token {max(encoding.ids)} of {text!r:.60}, and the text encoder knows "
                f"{self.vocab_size}; they are not of one model"
            )
        return [
            (vector, start)
            for number, (start, _) in zip(encoding.ids, encoding.offsets, strict=True)
            for vector in self._vectors.get(number, [number])
        ]

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

    def knows(self, word: str) -> bool:
        """Whether a word is a token of its own, of the vocabulary or one that was added to it, in any letters."""
        ids = self.words(word)
        return fold(word) in self._added or (len(ids) == 1 and ids[0] != self.eos)

    def check_placeholder(self, placeholder: str) -> None:
        """Raises EdgeSdkError if the placeholder is already a word of the vocabulary."""
        if self.knows(placeholder):
            raise EdgeSdkError(
                f"placeholder_token {placeholder!r} is already a word of the model; choose one that is not, "
                "such as '<subject>'"
            )

    def rows(self, prompts: Sequence[str], placeholders: Mapping[str, int] | None = None) -> np.ndarray:
        """Prompts as ids (N, T) int64, padded and cut as CLIP's tokenizer does.

        Args:
            placeholders: word -> number of its vectors. They take the ids vocab_size, vocab_size + 1, ... in order.
                A prompt may have the word in other letters, see `fold`.

        Raises:
            EdgeSdkError: a placeholder's vectors do not fit into the prompt's length.
        """
        return np.array([self._row(prompt, placeholders or {}) for prompt in prompts], np.int64)

    def left_out(self, prompt: str, placeholders: Mapping[str, int] | None = None) -> str:
        """The end of a prompt that is beyond the model's length; empty where all of it is read.

        Raises:
            EdgeSdkError: see `rows`.
        """
        text, tokens = self._placed(prompt, placeholders or {})
        room = self.length - 2
        return text[tokens[room][1] :].strip() if len(tokens) > room else ""

    def _row(self, prompt: str, placeholders: Mapping[str, int]) -> list[int]:
        _, tokens = self._placed(prompt, placeholders)
        row = [self.bos, *(number for number, _ in tokens[: self.length - 2]), self.eos]
        return row + [self.pad] * (self.length - len(row))

    def _placed(self, prompt: str, placeholders: Mapping[str, int]) -> tuple[str, list[Placed]]:
        """A prompt composed, and its tokens with those of its placeholders."""
        first, ids_of = self.vocab_size, dict[str, list[int]]()
        for word, vectors in placeholders.items():
            ids_of[fold(word)] = list(range(first, first + vectors))
            first += vectors
        text, tokens = unicodedata.normalize("NFC", prompt), list[Placed]()
        for start, piece in pieces(text, list(ids_of)):
            if (ids := ids_of.get(fold(piece))) is not None:
                tokens += [(number, start) for number in ids]
            elif piece.strip():
                tokens += [(number, start + place) for number, place in self._tokens(piece)]
        room = self.length - 2
        lost = {number for number, _ in tokens[room:]}
        for word in placeholders:
            if lost & set(ids_of[fold(word)]):
                raise EdgeSdkError(
                    f"the prompt {prompt!r} is {len(tokens)} tokens long and {word} would be cut off; "
                    f"the model takes {room}, use a shorter prompt or fewer vectors"
                )
        return text, tokens


def pieces(text: str, words: Sequence[str]) -> Iterator[tuple[int, str]]:
    """A composed text cut before and after folded words, the longest of which is looked for first, with places."""
    end = 0
    if words:
        longest_first = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
        for match in re.finditer(longest_first, fold(text)):
            yield end, text[end : match.start()]
            yield match.start(), text[match.start() : match.end()]
            end = match.end()
    yield end, text[end:]


def words_in(prompt: str, words: Iterable[str]) -> list[str]:
    """Those of some words that a prompt has, in any letters; a word inside of a longer one does not count."""
    folded = {fold(word): word for word in words}
    parts = {fold(piece) for _, piece in pieces(unicodedata.normalize("NFC", prompt), list(folded))}
    return [word for part, word in folded.items() if part in parts]


def _vectors(word: str, added: Mapping[str, int]) -> Iterator[int]:
    """The ids of a word that diffusers has saved as ``word``, ``word_1``, ``word_2``, ..., one a vector."""
    yield added[word]
    number = 1
    while (further := f"{word}_{number}") in added:
        yield added[further]
        number += 1


def load_tokenizer(folder: Path) -> Tokenizer:
    """CLIP's tokenizer from ``tokenizer.json``, or else ``vocab.json`` and ``merges.txt``, with all added tokens.

    Raises:
        EdgeSdkError: neither is there, or a file cannot be read.
    """
    try:
        with native_errors(f"{folder}"):
            vocabulary, merges, added = read_folder(folder)
            bpe = BPE(vocabulary, merges, unk_token=END, end_of_word_suffix="</w>", fuse_unk=False)
            tokenizer = Tokenizer(bpe)
            tokenizer.normalizer = normalizers.Sequence(
                [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
            )
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True),
                    pre_tokenizers.ByteLevel(add_prefix_space=False),
                ]
            )
            tokenizer.add_tokens(added)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise EdgeSdkError(f"{folder} cannot be read as CLIP's tokenizer ({reason}); download it again") from error
    return tokenizer


def padding_word(folder: Path) -> str:
    """The word that a tokenizer's folder says prompts are filled up with; CLIP's end of text if it says nothing.

    Raises:
        EdgeSdkError: a file that says so is damaged.
    """
    return SpecialTokens.read(folder).pad
