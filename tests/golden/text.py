"""Golden vectors of prompts: ids of two tokenizers, one from each form of file that bundles hold."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from edge_sdk.diffusion.tokenizer import ClipTokenizer, load_tokenizer, padding_word
from edge_sdk.errors import EdgeSdkError
from edge_sdk.pocket import MODEL

HERE = Path(__file__).parent
TEXTS = (
    "",
    " ",
    "dog",
    "a picture of a person",
    "a photo of a dog",
    "A PHOTO of a DoG",
    "  a   photo\tof\na dog  ",
    "A  Person\twith PINK curly hair, tan skin",
    "it's 12 people, aren't they?",
    "don't'll ... #42",
    "we're you've I'm he'd can't IT'S",
    "a close-up photo, in the style of a mug!",
    "12345 6 7.8",
    "caf\u00e9 na\u00efve",
    "cafe\u0301 nai\u0308ve e\u0301",  # decomposed: one letter after NFC
    "CAF\u00c9 \u00c4\u00d6\u00dc \u00df",
    "\u0130stanbul \u03a3\u03c3\u03c2",  # letters whose lower case is special
    "\u039f\u0394\u039f\u03a3 \u03a3",  # a sigma at the end of a word stays the usual small one
    "\u96ea \U0001f642 !!",
    "\u0434\u043e\u043c \u0414\u041e\u041c",
    "\u00bd \u0663 \u2167 x\u00b2",  # numbers that are not digits
    "a\u00a0dog\u2003mug",  # spaces that are not ASCII
    "zero\u200bwidth",
    "<|endoftext|> dog <|startoftext|>",
    "<|endoftext|",
    "dog<|endoftext|>dog",
    "_under_score__ -- ~~ ++",
    "\u4f60\u597d\uff0c\u4e16\u754c",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 family",
    "tab\x0bvertical\x0cfeed",
    "photophoto photomug mugs dogdog",
)
# Prompts with placeholders, in the order in which their vectors follow one another.
ROWS: tuple[tuple[str, tuple[tuple[str, int], ...]], ...] = (
    ("a photo of a <mug>", (("<mug>", 1),)),
    ("a photo of a <mug>", (("<mug>", 3),)),
    ("<mug>", (("<mug>", 2),)),
    ("<mug><mug> and <mug>", (("<mug>", 2),)),
    ("my<mug>, clean", (("<mug>", 1),)),
    ("a <MUG>", (("<mug>", 1),)),  # the same word: letters are compared in lower case
    ("a cafe\u0301 and a CAF\u00c9", (("caf\u00e9", 1),)),  # and composed
    ("a \u0130x, i\u0307x", (("\u0130X", 1),)),  # but only as far as a letter stays one letter
    ("a <mug> in the style of <style>", (("<mug>", 2), ("<style>", 1))),
    ("a <style> <mug>", (("<mug>", 2), ("<style>", 1))),
    ("sks sksdog", (("sks", 1), ("sksdog", 2))),  # the longest is looked for first
    ("no placeholder", (("<mug>", 2),)),
    ("a.b (x|y)", (("a.b", 1), ("(x|y)", 1))),  # nothing in a placeholder is a pattern
    ("the dog " * 20, ()),  # cut
    ("<mug> " + "the dog " * 20, (("<mug>", 1),)),  # cut behind the placeholder
    ("the dog " * 20 + "<mug>", (("<mug>", 1),)),  # refused: the placeholder would be cut off
    ("a photo of a <mug>", (("<mug>", 40),)),  # refused
)
WORDS = ("person", "dog", "Dog", " mug ", "two words", "", "zebra", "\u96ea", "<|endoftext|>")
PLACEHOLDERS = ("<mug>", "sks", "person", "dog", "zebra42", "<|endoftext|>")
# Tokens that are added to a vocabulary, each in one of the places where programs write them.
_CAT = {"content": "<cat-toy>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
_WORD = _CAT | {"content": "wug", "single_word": True}
_SECOND = _CAT | {"content": "<cat-toy>_1"}
_FOLDERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("added_tokens.json", {"added_tokens.json": {"<cat-toy>": 626, "wug": 627}}),
    ("a gap", {"added_tokens.json": {"<cat-toy>": 700}}),
    ("the list of the config", {"tokenizer_config.json": {"added_tokens_decoder": {"626": _CAT, "627": _WORD}}}),
    ("a word of two vectors", {"tokenizer_config.json": {"added_tokens_decoder": {"626": _CAT, "627": _SECOND}}}),
    ("special", {"tokenizer_config.json": {"additional_special_tokens": ["<cat-toy>"]}}),
    ("the map wins", {"tokenizer_config.json": {"pad_token": "a"}, "special_tokens_map.json": {"pad_token": "!"}}),
    (
        "the list wins",
        {
            "tokenizer_config.json": {"pad_token": "-", "added_tokens_decoder": {"626": _CAT}},
            "special_tokens_map.json": {"pad_token": "!"},
            "added_tokens.json": {"wug": 626},
        },
    ),
)
_ADDED_TEXTS = (
    "a photo of <cat-toy>",
    "A <CAT-TOY>, a<cat-toy>s",
    "<cat-toy>_1<cat-toy>",
    "a wug, wugs!! WUG",
    "dog! - <|ENDOFTEXT|> <|endoftext|>",
)


def tokens() -> dict[str, Any]:
    """tokens.json."""
    sizes = json.loads((MODEL / "text_encoder" / "config.json").read_text())
    manifest = json.loads((HERE / "bundle" / "manifest.json").read_text())
    folders = {
        "bundle": (
            HERE / "bundle" / "tokenizer",
            manifest["embedding"][0]["vocab_size"],
            manifest["tokens"][0]["length"],
        ),
        "embedded": (MODEL / "tokenizer", sizes["vocab_size"], sizes["max_position_embeddings"]),
    }
    made = {
        name: ClipTokenizer(load_tokenizer(folder), vocab_size, length, padding_word(folder))
        for name, (folder, vocab_size, length) in folders.items()
    }
    return {
        "folders": [_folder(name, files) for name, files in _FOLDERS],
        "tokenizers": {
            "bundle": _described(made["bundle"], "bundle/tokenizer", ["vocab.json", "merges.txt"]),
            "embedded": _described(
                made["embedded"], "../../edge_sdk/pocket/model/tokenizer", ["tokenizer.json", "tokenizer_config.json"]
            ),
        },
        "texts": [{"text": text, **{name: one.words(text) for name, one in made.items()}} for text in TEXTS],
        "rows": [
            {
                "prompt": prompt,
                "placeholders": [list(each) for each in placeholders],
                **{name: _row(one, prompt, placeholders) for name, one in made.items()},
            }
            for prompt, placeholders in ROWS
        ],
        "single_words": [{"word": word, **{name: _word(one, word) for name, one in made.items()}} for word in WORDS],
        "placeholders": [
            {"placeholder": word, **{name: _is_free(one, word) for name, one in made.items()}} for word in PLACEHOLDERS
        ],
    }


def _folder(name: str, files: dict[str, Any]) -> dict[str, Any]:
    """The tokens of the bundle's vocabulary with other files beside it; the table has room for all of them."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(shutil.copytree(HERE / "bundle" / "tokenizer", Path(place, "tokenizer")))
        (folder / "tokenizer_config.json").unlink()
        for path, content in files.items():
            (folder / path).write_text(json.dumps(content))
        one = ClipTokenizer(load_tokenizer(folder), 640, 16, padding_word(folder))
    return {
        "name": name,
        "files": files,
        "pad": one.pad,
        "texts": [{"text": text, "ids": one.words(text)} for text in _ADDED_TEXTS],
        "placeholders": [{"placeholder": word, "free": _is_free(one, word)} for word in ("<Cat-Toy>", "<mug>")],
    }


def _described(one: ClipTokenizer, folder: str, files: list[str]) -> dict[str, Any]:
    marks = {"bos": one.bos, "eos": one.eos, "pad": one.pad, "length": one.length, "vocab_size": one.vocab_size}
    return {"folder": folder, "files": files, **marks}


def _row(one: ClipTokenizer, prompt: str, placeholders: tuple[tuple[str, int], ...]) -> list[int] | None:
    try:
        return one.rows([prompt], dict(placeholders))[0].tolist()
    except EdgeSdkError:
        return None


def _word(one: ClipTokenizer, word: str) -> int | None:
    try:
        return one.word(word)
    except EdgeSdkError:
        return None


def _is_free(one: ClipTokenizer, word: str) -> bool:
    try:
        one.check_placeholder(word)
    except EdgeSdkError:
        return False
    return True
