"""``tokenizer.json``: data that the library reads, never a program for it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import pocket
from edge_sdk.diffusion.tokenizer import load_tokenizer, padding_word
from edge_sdk.diffusion.tokenizer_file import is_linear
from edge_sdk.errors import EdgeSdkError

ENDLESS = {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}
REFUSED: dict[str, dict[str, Any]] = {
    "pattern without end": {"normalizer": ENDLESS},
    "pattern without end inside": {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, ENDLESS]}},
    "pattern that splits": {
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Removed", "invert": True}
    },
    "polynomial pattern": {"normalizer": ENDLESS | {"pattern": {"Regex": "a*a*a*a*b"}}},
    "long pattern": {"normalizer": ENDLESS | {"pattern": {"Regex": "a|" * 200 + "a"}}},
    "pattern a number": {"normalizer": ENDLESS | {"pattern": {"Regex": 5}}},
    "empty text replaced": {"normalizer": ENDLESS | {"pattern": {"String": ""}}},
    "unknown step": {"normalizer": {"type": "BertNormalizer"}},
    "step a list": {"pre_tokenizer": [1]},
    "deep steps": {"normalizer": {"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": 5}]}},
    "model of another kind": {"model": {"type": "WordLevel", "vocab": {}}},
    "no model": {"model": None},
    "vocabulary of texts": {"model": {"type": "BPE", "vocab": {"a": "b"}, "merges": []}},
    "negative ids": {"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}},
    "merges of numbers": {"model": {"type": "BPE", "vocab": {"a": 1}, "merges": [1]}},
    "words left out at random": {"model": {"type": "BPE", "vocab": {"a": 1}, "merges": [], "dropout": 0.5}},
    "added words of no form": {"added_tokens": [{"id": -1, "content": "x"}]},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(pocket.MODEL / "tokenizer", tmp_path / "tokenizer"))


def changed(folder: Path, name: str, change: dict[str, Any]) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_what_no_tokenizer_of_clip_has_is_refused_without_a_word_of_the_library(
    change: dict[str, Any], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    changed(folder, "tokenizer.json", change)
    with pytest.raises(EdgeSdkError, match=r"^[^\n]*cannot be read as CLIP's tokenizer[^\n]*$"):
        load_tokenizer(folder)
    assert capfd.readouterr() == ("", "")


def test_what_would_cut_or_fill_prompts_up_is_left_out(folder: Path) -> None:
    before = load_tokenizer(folder).encode("a picture of a person", add_special_tokens=False).ids
    cut = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    changed(folder, "tokenizer.json", {"truncation": cut})
    assert load_tokenizer(folder).encode("a picture of a person", add_special_tokens=False).ids == before


@pytest.mark.parametrize("pad", [5, True, ["a"], {"content": 5}, {}], ids=str)
def test_a_padding_word_of_another_type_is_refused(pad: object, folder: Path) -> None:
    changed(folder, "tokenizer_config.json", {"pad_token": pad})
    with pytest.raises(EdgeSdkError, match=r"tokenizer_config\.json cannot be used: pad_token"):
        padding_word(folder)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"<\|startoftext\|>|'s|'t|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", True),
        (r"\s+", True),
        (" {2,}", True),
        (r" ?\p{L}+", True),
        ("(a+)+$", False),
        ("(?=a)b", False),
        (r"(a)\1", False),
        ("a+a+a+b", False),
        ("a{9999}", False),
        ("", False),
        ("[a", False),
        ("*", False),
    ],
)
def test_patterns_are_alternatives_of_few_repetitions(pattern: str, expected: bool) -> None:
    assert is_linear(pattern) is expected
