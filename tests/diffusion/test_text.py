"""Prompts and learned vectors against CLIPTokenizer and CLIPTextModel as diffusers extends them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPTextModel, CLIPTokenizer

from edge_sdk.errors import EdgeSdkError
from edge_sdk.pocket import MODEL as POCKET
from edge_sdk.runtime.pytorch.model import open_model
from edge_sdk.runtime.pytorch.text import TextEncoder


@pytest.fixture(scope="module")
def text(sd1_folder: Path) -> TextEncoder:
    return open_model(str(sd1_folder), "none").load_text()


PROMPTS = [
    "",
    " ",
    "a photo of the dog",
    "A PHOTO, of: my cat!",
    "a  photo\tof\nthe mug.",
    "zebra <xyz> 42",
    "dog " * 60,
]
PROMPT_IDS = ["empty", "space", "words", "capitals and punctuation", "odd spaces", "letters", "too long"]


@pytest.mark.parametrize("prompt", PROMPTS, ids=PROMPT_IDS)
@pytest.mark.parametrize("model", ["tiny", "pocket"])
def test_a_prompt_without_placeholder_is_what_the_tokenizer_makes_of_it(
    prompt: str, model: str, sd1_folder: Path
) -> None:
    folder = POCKET if model == "pocket" else sd1_folder
    encoder = open_model(str(folder), "none").load_text()
    stock = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    expected = stock([prompt], padding="max_length", truncation=True, max_length=encoder.length).input_ids
    assert encoder.tokenize([prompt]).tolist() == expected == encoder.tokenize([prompt], {"<s>": 2}).tolist()


SUBJECTS = [
    ("a photo of <s>", {"<s>": 1}),
    ("<s> on a mug", {"<s>": 1}),
    ("<s>", {"<s>": 3}),
    ("a <s> and a <s>", {"<s>": 2}),
    ("<s>, the dog. (<s>)", {"<s>": 1}),
    ("a dog<s>cat", {"<s>": 1}),
    ("<s><s>", {"<s>": 2}),
    ("a <t> of <s>", {"<s>": 2, "<t>": 3}),
    ("the <t> <t>", {"<s>": 1, "<t>": 2}),
    ("a photo", {"<s>": 2}),
    ("a sks1 and a sks", {"sks": 2, "sks1": 1}),
    ("a sks1 and a sks", {"sks1": 1, "sks": 2}),
]


@pytest.mark.parametrize(("prompt", "placeholders"), SUBJECTS, ids=[f"{p} {list(v.values())}" for p, v in SUBJECTS])
def test_placeholders_are_what_tokens_added_to_the_tokenizer_are(
    prompt: str, placeholders: dict[str, int], text: TextEncoder, sd1_folder: Path
) -> None:
    stock = CLIPTokenizer.from_pretrained(sd1_folder / "tokenizer")
    first, vectors = len(stock), {}
    assert stock.add_tokens(list(placeholders)) == len(placeholders)
    for i, (word, count) in enumerate(placeholders.items()):  # the tokenizer gives one id a word
        vectors[len(stock) - len(placeholders) + i] = list(range(first, first + count))
        assert stock.convert_tokens_to_ids(word) in vectors
        first += count
    inside = [v for i in stock(prompt, add_special_tokens=False).input_ids for v in vectors.get(i, [i])]
    row = [stock.bos_token_id, *inside, stock.eos_token_id]
    expected = row + [stock.pad_token_id] * (text.length - len(row))
    assert text.tokenize([prompt], placeholders).tolist() == [expected]


def test_a_placeholder_that_just_fits_is_kept_and_one_cut_off_is_refused(text: TextEncoder) -> None:
    room = text.length - 2
    fits = text.tokenize(["dog " * (room - 2) + "<s>"], {"<s>": 2})
    assert fits[0, -3:].tolist() == [text.vocab_size, text.vocab_size + 1, text.eos]
    assert text.tokenize(["<s> " + "dog " * 60], {"<s>": 2})[0, 2] == text.vocab_size + 1
    for prompt, vectors in (("dog " * (room - 1) + "<s>", 2), ("dog " * 60 + "<s>", 1), ("<s>", room + 1)):
        with pytest.raises(EdgeSdkError, match="<s> would be cut off") as error:
            text.tokenize(["a dog", prompt], {"<s>": vectors})
        assert f"takes {room}" in str(error.value) and "\n" not in str(error.value)


def test_the_initial_embedding_is_the_words_row_for_every_vector(text: TextEncoder) -> None:
    table = text.table.detach().numpy()
    (row,) = text.words("dog")
    start = text.initial_embedding("dog", 3)
    assert start.shape == (3, 32) and start.dtype == np.float32 and (start == table[row]).all()
    start += 1
    assert (text.initial_embedding("dog", 1) == table[row]).all()


@pytest.mark.parametrize("word", ["dog cat", "zebra", "", " "], ids=["two words", "letters", "empty", "space"])
def test_an_initializer_of_other_than_one_token_is_refused(word: str, text: TextEncoder) -> None:
    with pytest.raises(EdgeSdkError, match=r"initializer_token .* makes \d+ tokens; it must be one word"):
        text.initial_embedding(word, 1)


def test_a_placeholder_that_is_a_word_is_refused(text: TextEncoder) -> None:
    with pytest.raises(EdgeSdkError, match="'dog' is already a word of the model"):
        text.check_placeholder("dog")
    for free in ("<subject>", "zebra", "dogcat"):
        text.check_placeholder(free)


def vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.5


def extended(folder: Path, learned: torch.Tensor) -> CLIPTextModel:
    """A stock encoder whose table has the learned vectors as further rows, as textual inversion does."""
    model = CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
    size = model.config.vocab_size
    model.resize_token_embeddings(size + len(learned))
    model.get_input_embeddings().weight.data[size:] = learned
    return model


PROMPT = "a photo of <t> and <s>"
PLACEHOLDERS = {"<s>": 2, "<t>": 1}


def test_encoding_is_that_of_a_model_with_a_longer_table(text: TextEncoder, sd1_folder: Path) -> None:
    ids = torch.from_numpy(text.tokenize([PROMPT, "a dog", "<s><s>"], PLACEHOLDERS))
    learned = vectors(3, 3, 32)
    with torch.inference_mode():
        out = text.encode(ids, learned)
        for b in range(3):
            expected = extended(sd1_folder, learned[b])(input_ids=ids[b : b + 1]).last_hidden_state[0]
            torch.testing.assert_close(out[b], expected, rtol=1e-5, atol=1e-5)


def test_every_row_has_its_own_vectors(text: TextEncoder) -> None:
    ids = text.tokenize([PROMPT] * 3, PLACEHOLDERS)
    learned = vectors(3, 3, 32)
    learned[2] = learned[0]
    out = text.encode(ids, learned)
    torch.testing.assert_close(out[0], out[2])
    assert (out[0] - out[1]).abs().max() > 1e-2


def test_encoding_without_learned_vectors_is_stock(text: TextEncoder, sd1_folder: Path) -> None:
    ids = torch.from_numpy(text.tokenize(["a photo of a dog", ""]))
    expected = CLIPTextModel.from_pretrained(sd1_folder / "text_encoder").eval()(input_ids=ids).last_hidden_state
    torch.testing.assert_close(text.encode(ids), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(text.encode(ids, vectors(2, 1, 32)), expected, rtol=1e-6, atol=1e-6)


def test_the_table_and_the_tokenizer_are_never_changed(text: TextEncoder) -> None:
    before, words = text.table.detach().clone(), text.tokenizer.get_vocab_size()
    learned = vectors(1, 3, 32).requires_grad_()
    text.encode(text.tokenize([PROMPT], PLACEHOLDERS), learned).sum().backward()
    with pytest.raises(RuntimeError):
        text.encode(text.tokenize([PROMPT], PLACEHOLDERS), vectors(1, 1, 32))  # ids of vectors that are not given
    assert (text.table == before).all() and text.table.grad is None
    assert text.tokenizer.get_vocab_size() == words and (learned.grad != 0).any()


def test_statistics_of_the_table(text: TextEncoder) -> None:
    table = text.table.detach().double().numpy()
    assert text.vocabulary_std() == pytest.approx(table.std(axis=0, ddof=1).mean(), rel=1e-5)
    low, high = text.norm_range()
    norms = np.linalg.norm(table, axis=1)
    assert 0 < low < norms.min() * 1.01 and high > norms.max() * 0.99
