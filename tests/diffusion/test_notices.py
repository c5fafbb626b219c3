"""What the user should know of prompts: a line each, and none where all is well."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_sdk import pocket
from edge_sdk.config import PersonalizeConfig
from edge_sdk.diffusion.notices import prompt_notices
from edge_sdk.diffusion.tokenizer import ClipTokenizer, load_tokenizer
from edge_sdk.errors import EdgeSdkError
from edge_sdk.images import load_photos
from edge_sdk.preparation import prepare
from edge_sdk.runtime.open import open_runtime

LENGTH = 10  # tokens that are read: 8


@pytest.fixture(scope="module")
def tokenizer() -> ClipTokenizer:
    return ClipTokenizer(load_tokenizer(pocket.MODEL / "tokenizer"), 4472, LENGTH)


CUT: dict[str, tuple[str, str]] = {
    "all of it fits": ("a picture of a dog with red hair", ""),
    "one word too many": ("a picture of a dog with red hair and", "and"),
    "in the middle of a word": ("a picture of a dog with red zebrazebra", "brazebra"),
    "letters of several bytes": ("a a a a a a a a \u96ea \U0001f642", "\u96ea \U0001f642"),
    "decomposed letters": ("a a a a cafe\u0301 dog dog, and me", "\u00e9 dog dog, and me"),
    "behind a word": ("<s> a picture of a dog with red hair", "red hair"),
    "lines": ("a a a a a a a a\n dog\n\ncat", "dog cat"),
    "spaces only": ("a a a a a a a a      ", ""),
}


@pytest.mark.parametrize(("prompt", "end"), CUT.values(), ids=CUT)
def test_the_words_that_are_left_out_are_named(prompt: str, end: str, tokenizer: ClipTokenizer) -> None:
    lines = prompt_notices([tokenizer], {"prompt": [prompt]}, {"<s>": 2})
    cut = [line for line in lines if "longer" in line]
    if not end:
        assert cut == []
        return
    (line,) = cut
    assert (
        line.startswith("the prompt is longer than the 8 tokens that the model reads; left out: ") and "\n" not in line
    )
    assert line.rpartition("left out: ")[2] == end


def test_of_two_text_encoders_the_one_that_reads_less_counts(tokenizer: ClipTokenizer) -> None:
    longer = ClipTokenizer(load_tokenizer(pocket.MODEL / "tokenizer"), 4472, 3 * LENGTH)
    (line,) = prompt_notices([longer, tokenizer], {"prompt": ["a picture of a dog with red hair and"]}, {})
    assert line.endswith("left out: and")


def test_a_word_of_an_embedding_that_would_be_cut_off_is_refused(tokenizer: ClipTokenizer) -> None:
    with pytest.raises(EdgeSdkError, match="<s> would be cut off"):
        prompt_notices([tokenizer], {"negative prompt": ["a " * 8 + "<S>"]}, {"<s>": 1})


PROMPTS: dict[str, tuple[str, list[str]]] = {
    "all is well": ("a picture of <Subject> on a blue background", []),
    "without the word": ("a picture of a person", ["the embedding of <subject> has no effect"]),
    "too long": ("<subject> " + "with red hair " * 20, ["the validation prompt is longer than the 30 tokens"]),
    "another word": ("<subject> and <other>", ["<other> in the validation prompt is not a learned word"]),
}


@pytest.mark.parametrize("where", ["model", "bundle"])
@pytest.mark.parametrize(("prompt", "starts"), PROMPTS.values(), ids=PROMPTS)
def test_a_validation_prompt_is_looked_at_before_the_run(
    prompt: str, starts: list[str], where: str, bundle_of: Callable[[str, str], Path]
) -> None:
    runtime = open_runtime(None, bundle_of("pocket", "int8") if where == "bundle" else None)
    photos = load_photos(pocket.PHOTOS, 16)
    lines = prepare(runtime, photos, PersonalizeConfig(), validation_prompt=prompt).notices
    assert len(lines) == len(starts) and all(map(str.startswith, lines, starts)), lines


def test_a_validation_prompt_whose_subject_is_cut_off_is_refused_before_the_run() -> None:
    photos = load_photos(pocket.PHOTOS, 16)
    with pytest.raises(EdgeSdkError, match="<subject> would be cut off"):
        prepare(open_runtime(None, None), photos, PersonalizeConfig(), validation_prompt="red hair " * 20 + "<subject>")


def test_captions_that_are_cut_are_named_and_may_have_the_word_in_other_letters(tmp_path: Path) -> None:
    for i, caption in enumerate(("a picture of {}", "{} " + "with red hair " * 20 + "at last", "a <SUBJECT>, too")):
        (tmp_path / f"{i}.png").write_bytes((pocket.PHOTOS / "1.png").read_bytes())
        (tmp_path / f"{i}.txt").write_text(caption)
    config = PersonalizeConfig(use_captions=True)
    lines = prepare(open_runtime(None, None), load_photos(tmp_path, 16, use_captions=True), config).notices
    (line,) = lines
    assert line.startswith("caption 2 is longer than the 30 tokens") and line.endswith("at last")
