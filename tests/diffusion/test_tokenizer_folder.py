"""Tokenizer folders of every program and age are read as transformers reads them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import CLIPTokenizer

from edge_sdk import pocket
from edge_sdk.diffusion.tokenizer import ClipTokenizer, load_tokenizer, padding_word
from edge_sdk.errors import EdgeSdkError

LENGTH = 32
CAT = {"content": "<cat-toy>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
CAT["special"] = False
MARKS = {
    96: {"content": "<|startoftext|>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False},
    97: {"content": "<|endoftext|>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False},
}
TEXTS = (
    "a picture of <cat-toy>",
    "A <CAT-TOY>, and a<cat-toy>s!",
    "<cat-toy><cat-toy> !! wow! <|endoftext|> x",
    "my wug and wugs, <|ENDOFTEXT|>",
    "cafe\u0301 <cat-toy> \u0130x",
    "",
)
Change = Callable[[Path], None]


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def edit(name: str, **entries: Any) -> Change:
    return lambda folder: (folder / name).write_text(json.dumps(read(folder / name) | entries)) and None


def loose(folder: Path) -> None:
    """The vocabulary as older programs write it."""
    model = read(folder / "tokenizer.json")["model"]
    (folder / "tokenizer.json").unlink()
    merges = (each if isinstance(each, str) else " ".join(each) for each in model["merges"])
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))


def beside(folder: Path) -> None:
    """A smaller vocabulary beside a whole ``tokenizer.json``."""
    whole = (folder / "tokenizer.json").read_text()
    loose(folder)
    (folder / "tokenizer.json").write_text(whole)
    (folder / "merges.txt").write_text("#version: 0.2\n")


def in_tokenizer_json(*tokens: dict[str, Any]) -> Change:
    def change(folder: Path) -> None:
        content = read(folder / "tokenizer.json")
        first = len(content["model"]["vocab"])
        content["added_tokens"] += [{"id": first + i, **token} for i, token in enumerate(tokens)]
        (folder / "tokenizer.json").write_text(json.dumps(content))

    return change


def words_of(folder: Path) -> int:
    content = read(folder / "tokenizer.json").get("model", {}).get("vocab") or read(folder / "vocab.json")
    return len(content)


def in_added_tokens_json(*words: str, gap: int = 0) -> Change:
    return lambda folder: edit(
        "added_tokens.json", **{word: words_of(folder) + gap + i for i, word in enumerate(words)}
    )(folder)


def in_config(*tokens: dict[str, Any], **entries: Any) -> Change:
    def change(folder: Path) -> None:
        first = words_of(folder)
        added = MARKS | {first + i: token for i, token in enumerate(tokens)}
        edit("tokenizer_config.json", added_tokens_decoder={str(k): v for k, v in added.items()}, **entries)(folder)

    return change


PADDING = {"strategy": {"Fixed": 32}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 97, "pad_type_id": 0}
PADDING["pad_token"] = "<|endoftext|>"
CUT = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
MAP = "special_tokens_map.json"
CONFIG = "tokenizer_config.json"
A_PAD = {"content": "a", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
FOLDERS: dict[str, tuple[Change, ...]] = {
    "saved by transformers 5": (),
    "vocabulary and merges": (loose,),
    "padding left by a call": (edit("tokenizer.json", padding=PADDING),),
    "padding to the longest, truncation": (
        edit("tokenizer.json", padding=PADDING | {"strategy": "BatchLongest"}, truncation=CUT),
    ),
    "padding to a multiple": (
        edit("tokenizer.json", padding=PADDING | {"strategy": "BatchLongest", "pad_to_multiple_of": 8}),
    ),
    "the map names another padding": (loose, edit(MAP, pad_token="!")),
    "the map names it as a token": (loose, edit(MAP, pad_token=A_PAD)),
    "the map beside tokenizer.json": (edit(MAP, pad_token="!"),),
    "the config names it and there is no map": (loose, edit(CONFIG, pad_token="!")),
    "the config lists added tokens, so the map is not read": (in_config(CAT), edit(MAP, pad_token="!")),
    "the config without an entry": (loose, lambda f: (f / CONFIG).write_text("{}") and None, edit(MAP, pad_token="!")),
    "no config": (loose, lambda f: (f / CONFIG).unlink(), edit(MAP, pad_token="!")),
    "added_tokens.json": (loose, in_added_tokens_json("<cat-toy>")),
    "added_tokens.json with two words": (loose, in_added_tokens_json("<cat-toy>", "wug")),
    "added_tokens.json with a gap": (loose, in_added_tokens_json("<cat-toy>", gap=7)),
    "added_tokens.json beside tokenizer.json": (in_added_tokens_json("<cat-toy>"),),
    "added_tokens.json names a special token": (
        loose,
        in_added_tokens_json("<cat-toy>"),
        edit(MAP, extra_special_tokens=["<cat-toy>"]),
    ),
    "the config's list": (loose, in_config(CAT)),
    "the config's list beside tokenizer.json": (in_config(CAT, CAT | {"content": "wug"}),),
    "the config's list, whole words only": (in_config(CAT | {"content": "wug", "single_word": True}),),
    "the config's list, special": (in_config(CAT | {"special": True, "normalized": False}),),
    "tokenizer.json": (in_tokenizer_json(CAT),),
    "tokenizer.json with a small vocabulary beside it": (in_tokenizer_json(CAT), beside),
    "tokenizer.json and the config's list, which wins": (in_tokenizer_json(CAT), in_config(CAT | {"content": "wug"})),
    "special tokens without a name": (loose, edit(CONFIG, additional_special_tokens=["<cat-toy>", "wug"])),
    "the same by their new name": (loose, edit(CONFIG, extra_special_tokens=["<cat-toy>"])),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(pocket.MODEL / "tokenizer", tmp_path / "tokenizer"))


@pytest.mark.parametrize("changes", FOLDERS.values(), ids=FOLDERS)
def test_ids_and_padding_are_those_of_transformers(changes: tuple[Change, ...], folder: Path) -> None:
    for change in changes:
        change(folder)
    stock = CLIPTokenizer.from_pretrained(folder)
    ours = ClipTokenizer(load_tokenizer(folder), len(stock), LENGTH, padding_word(folder))
    assert ours.pad == stock.pad_token_id
    for text in TEXTS:
        expected = stock(text, padding="max_length", truncation=True, max_length=LENGTH).input_ids
        assert ours.rows([text]).tolist() == [expected], text
        whole = stock(text, padding=False, truncation=False, add_special_tokens=False).input_ids
        assert ours.words(text) == whole, text


PLACES: dict[str, tuple[Change, ...]] = {
    "tokenizer.json": (in_tokenizer_json(CAT),),
    "added_tokens.json": (loose, in_added_tokens_json("<cat-toy>")),
    "the config": (loose, in_config(CAT)),
    "a special token": (loose, in_config(CAT | {"special": True, "normalized": False})),
}


@pytest.mark.parametrize("word", ["<cat-toy>", "<CAT-Toy>", "<|endoftext|>", "person"])
@pytest.mark.parametrize("changes", PLACES.values(), ids=PLACES)
def test_a_placeholder_that_is_there_is_refused(changes: tuple[Change, ...], word: str, folder: Path) -> None:
    for change in changes:
        change(folder)
    ours = ClipTokenizer(load_tokenizer(folder), 5000, LENGTH, padding_word(folder))
    with pytest.raises(EdgeSdkError, match=r"^[^\n]*is already a word of the model[^\n]*$"):
        ours.check_placeholder(word)
    ours.check_placeholder("<cat-toy2>")


@pytest.mark.parametrize("place", [in_tokenizer_json, in_config], ids=["tokenizer.json", "the config"])
def test_a_word_of_several_vectors_becomes_all_of_them_as_in_diffusers(
    place: Callable[..., Change], folder: Path
) -> None:
    from diffusers.loaders.textual_inversion import TextualInversionLoaderMixin

    place(*(CAT | {"content": f"<cat-toy>{end}"} for end in ("", "_1", "_2")), CAT | {"content": "<dog>_1"})(folder)
    stock = CLIPTokenizer.from_pretrained(folder)
    ours = ClipTokenizer(load_tokenizer(folder), len(stock), LENGTH, padding_word(folder))
    for text in ("a <cat-toy> on a <cat-toy>", "a <dog>_1", "nothing"):
        converted = TextualInversionLoaderMixin().maybe_convert_prompt(text, stock)
        assert ours.words(text) == stock(converted, add_special_tokens=False).input_ids
    assert len(ours.words("<cat-toy>")) == 3


DAMAGED: dict[str, Change] = {
    "a map of numbers": edit(MAP, pad_token=5),
    "a map that is a list": lambda f: (f / MAP).write_text("[]") and None,
    "added tokens below zero": edit("added_tokens.json", **{"<cat-toy>": -1}),
    "added tokens that are texts": edit("added_tokens.json", **{"<cat-toy>": "5"}),
    "the config's list by names": edit(CONFIG, added_tokens_decoder={"x": CAT}),
    "the config's list too far": edit(CONFIG, added_tokens_decoder={"9" * 30: CAT}),
    "the config's list of texts": edit(CONFIG, added_tokens_decoder={"5000": "<cat-toy>"}),
    "a flag that is a text": edit(CONFIG, added_tokens_decoder={"5000": CAT | {"lstrip": "no"}}),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_beside_the_vocabulary_is_one_line(damage: Change, folder: Path) -> None:
    loose(folder)
    damage(folder)
    with pytest.raises(EdgeSdkError, match=r"^[^\n]* cannot be used: [^\n]*$|^[^\n]* holds list[^\n]*$"):
        load_tokenizer(folder)


def test_an_added_word_beyond_the_text_encoders_table_is_one_line(folder: Path) -> None:
    in_tokenizer_json(CAT)(folder)
    tokenizer = load_tokenizer(folder)
    ours = ClipTokenizer(tokenizer, tokenizer.get_vocab_size(with_added_tokens=False), LENGTH)
    with pytest.raises(EdgeSdkError, match="they are not of one model"):
        ours.rows(["a <cat-toy>"])
