"""The folder of CLIP's tokenizer, read as transformers 5 reads it: vocabulary, merges, added tokens, padding.

Of ``tokenizer.json`` vocabulary, merges and added tokens are taken; how CLIP prepares a text is fixed. Tokens that were
added later, such as words of an earlier textual inversion, are listed in ``tokenizer_config.json``. Where it has none,
they are in ``added_tokens.json`` and ``tokenizer.json``, and ``special_tokens_map.json`` wins where it names a token.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from edge_sdk.diffusion.tokenizer_file import AGAIN, MOST_ID, TOKEN, read_tokenizer_file
from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.inputs import read_input
from edge_sdk.system.json import MOST_TOKENIZER_BYTES, read_json
from edge_sdk.system.schema import Either, Many, Maybe, Whole, check

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
# The special tokens by name, in the order in which they are added, and what they are where a folder does not say.
_NAMES: dict[str, str | None] = {
    "bos_token": BEGIN,
    "eos_token": END,
    "unk_token": END,
    "sep_token": None,
    "pad_token": END,
    "cls_token": None,
    "mask_token": None,
}
_FURTHER = ("extra_special_tokens", "additional_special_tokens")  # lists of special tokens without names
_WORD = Either(str, TOKEN)
_IDS: dict[Any, Any] = {str: Whole(0, MOST_ID)}
_SPECIAL: dict[str, Any] = {
    **dict.fromkeys(_NAMES, Maybe(Either(str, TOKEN, None))),
    **dict.fromkeys(_FURTHER, Maybe(Either(Many(_WORD, 0, 1 << 16), {str: _WORD}, None))),
}
_CONFIG = _SPECIAL | {"added_tokens_decoder": Maybe(Either({str: TOKEN}, None))}
_FLAGS = tuple(name for name in TOKEN if name != "content")

Token = dict[str, Any]  # its content, and flags that a file gives


@dataclass(frozen=True)
class SpecialTokens:
    """What a folder says of its special tokens.

    Attributes:
        named: name -> token, None where there is none; see `_NAMES`.
        further: those without a name.
        added: number -> token, where ``tokenizer_config.json`` lists all that were added; else None.
    """

    named: dict[str, Token | None]
    further: list[Token]
    added: dict[int, Token] | None

    @classmethod
    def read(cls, folder: Path) -> "SpecialTokens":
        """Raises EdgeSdkError if a file is damaged."""
        config = _read(folder / "tokenizer_config.json", _CONFIG)
        files = [config]
        added = config.get("added_tokens_decoder")
        if added is None:
            files.append(_read(folder / "special_tokens_map.json", _SPECIAL))
        named = {name: _token(word) for name, word in _NAMES.items()}
        further: list[Token] = []
        for entries in files:
            named |= {name: _token(entries[name]) for name in _NAMES if name in entries}
            words: Any = next((entries[name] for name in _FURTHER if entries.get(name)), [])
            further += [_special(word) for word in (words.values() if isinstance(words, dict) else words)]
        return cls(named, further, None if added is None else _by_number(folder, added))

    @property
    def pad(self) -> str:
        """The word that fills prompts up."""
        pad = self.named["pad_token"]
        return END if pad is None else pad["content"]

    @property
    def listed(self) -> list[Token]:
        """All of them, those with a name first."""
        return [*(_special(token) for token in self.named.values() if token), *self.further]


def read_folder(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]], list[AddedToken]]:
    """Token -> id; pairs of tokens to merge, the most frequent first; tokens to add, in this order.

    Raises:
        EdgeSdkError, OSError, ValueError: a file is missing or damaged.
    """
    special, content = SpecialTokens.read(folder), None
    if (folder / "tokenizer.json").exists() or not (folder / "vocab.json").exists():
        content = read_tokenizer_file(folder / "tokenizer.json")
    added = special.added
    if added is None:
        added = _added_beside(folder, {token["content"] for token in special.listed})
        added |= {token["id"]: token for token in (content or {}).get("added_tokens", [])}
    tokens = {token["content"]: token for _, token in sorted(added.items())}
    named = {token["content"] for token in special.named.values() if token}
    tokens = {word: token | ({"special": True} if word in named else {}) for word, token in tokens.items()}
    for token in special.listed:
        tokens.setdefault(token["content"], token)
    vocabulary, merges = _of_files(folder) if content is None else _of_content(content)
    return vocabulary, merges, [_library_token(token) for token in tokens.values()]


def _read(path: Path, kind: dict[str, Any]) -> dict[str, Any]:
    """The entries of a file; none where it is not there."""
    if not path.exists():
        return {}
    entries = read_json(path, AGAIN)
    try:
        check(entries, kind)
    except ValueError as error:
        raise EdgeSdkError(f"{path} cannot be used: {error}; {AGAIN}") from error
    return entries


def _by_number(folder: Path, added: dict[str, Token]) -> dict[int, Token]:
    if wrong := [number for number in added if not number.isdecimal() or int(number) > MOST_ID]:
        raise EdgeSdkError(
            f"{folder / 'tokenizer_config.json'} cannot be used: added_tokens_decoder has the number {wrong[0]!r:.40}; "
            f"{AGAIN}"
        )
    return {int(number): token for number, token in added.items()}


def _added_beside(folder: Path, special: set[str]) -> dict[int, Token]:
    """The tokens of ``added_tokens.json`` by number."""
    added = _read(folder / "added_tokens.json", _IDS)
    return {
        number: {"content": word, "normalized": word not in special, "special": word in special}
        for word, number in added.items()
    }


def _of_files(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of ``vocab.json`` and ``merges.txt``."""
    lines = read_input(folder / "merges.txt", MOST_TOKENIZER_BYTES).decode().splitlines()
    pairs = (line.split() for line in lines if line.strip() and not line.startswith("#version"))
    merges = [(first, second) for first, second in pairs]
    vocabulary = read_json(folder / "vocab.json", AGAIN, MOST_TOKENIZER_BYTES)
    check(vocabulary, _IDS)
    return vocabulary, merges


def _of_content(content: dict[str, Any]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The same of a checked ``tokenizer.json``, whose merges are texts or pairs."""
    model = content["model"]
    if not isinstance(model["vocab"], dict):
        raise ValueError("model.vocab is a list, and CLIP's is an object")
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model.get("merges", []))
    return model["vocab"], [(first, second) for first, second in pairs]


def _token(word: str | Token | None) -> Token | None:
    return {"content": word} if isinstance(word, str) else word


def _special(word: str | Token) -> Token:
    return {**(word if isinstance(word, dict) else {"content": word}), "special": True}


def _library_token(token: Token) -> AddedToken:
    return AddedToken(token["content"], **{name: token[name] for name in _FLAGS if name in token})
