"""CLIP's own tokenizer, for checkpoints that hold none: its vocabulary follows from the merges that ship here."""

import gzip
import json
from itertools import chain
from pathlib import Path

from edge_sdk.diffusion.tokenizer import BEGIN, END

MERGES = Path(__file__).parent / "clip" / "merges.txt.gz"
SIZE = 49408  # words of the vocabulary, both marks included
LENGTH = 77  # tokens of a prompt


def write_tokenizer(folder: Path, pad: str = END) -> None:
    """Write ``vocab.json``, ``merges.txt`` and ``tokenizer_config.json`` as transformers has them.

    Args:
        folder: a new folder.
        pad: the word that fills prompts up.
    """
    merges = gzip.decompress(MERGES.read_bytes()).decode()
    letters = _letters()
    words = [*letters, *(letter + "</w>" for letter in letters)]
    words += [line.replace(" ", "") for line in merges.splitlines()]
    words += [BEGIN, END]
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": BEGIN,
        "eos_token": END,
        "unk_token": END,
        "pad_token": pad,
        "model_max_length": LENGTH,
        "do_lower_case": True,
    }
    folder.mkdir()
    vocabulary = {word: i for i, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def _letters() -> list[str]:
    """A character for each byte: printable ones stand for themselves and come first (GPT-2's ``bytes_to_unicode``)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = len(set(range(256)) - set(printable))
    return [chr(code) for code in chain(printable, range(256, 256 + others))]
