"""What the user should know of prompts before they are read: words and embeddings without effect, ends that are cut."""

import re
from collections.abc import Iterable, Mapping, Sequence

from edge_sdk.diffusion.tokenizer import ClipTokenizer, words_in
from edge_sdk.embedding import fold
from edge_sdk.errors import one_line

MOST_SHOWN = 1000  # characters of a prompt's end
_BRACKETED = re.compile(r"<[^<>|\s]+>")


def prompt_notices(
    tokenizers: Sequence[ClipTokenizer], prompts: Mapping[str, Sequence[str]], embeddings: Mapping[str, int]
) -> list[str]:
    """A line for each word that nothing defines, embedding that no prompt uses, and prompt that is cut.

    Args:
        tokenizers: of the text encoders.
        prompts: by what they are, such as "prompt" and "negative prompt".
        embeddings: token -> number of its vectors.

    Raises:
        EdgeSdkError: the word of an embedding would be cut off.
    """
    notices = []
    for name, texts in prompts.items():
        notices += _undefined(tokenizers, name, texts, embeddings)
    used = {word for texts in prompts.values() for text in texts for word in words_in(text, embeddings)}
    named = " or ".join(f"the {name}" for name in prompts)
    notices += [
        f"the embedding of {token} has no effect: write {token} in {named}, or leave the embedding out"
        for token in embeddings
        if token not in used
    ]
    for name, texts in prompts.items():
        for number, text in enumerate(texts, 1):
            which = name if len(texts) == 1 else f"{name} {number}"
            notices += cut_notices(tokenizers, f"the {which}", text, embeddings)
    return notices


def cut_notices(
    tokenizers: Sequence[ClipTokenizer], subject: str, prompt: str, embeddings: Mapping[str, int]
) -> list[str]:
    """A line with the words that are left out of a prompt, where it is longer than a text encoder reads.

    Raises:
        EdgeSdkError: the word of an embedding would be cut off.
    """
    end = max((tokenizer.left_out(prompt, embeddings) for tokenizer in tokenizers), key=len)
    if not end:
        return []
    room = min(tokenizer.length for tokenizer in tokenizers) - 2
    return [f"{subject} is longer than the {room} tokens that the model reads; left out: {one_line(end, MOST_SHOWN)}"]


def _undefined(
    tokenizers: Sequence[ClipTokenizer], name: str, prompts: Iterable[str], embeddings: Mapping[str, int]
) -> list[str]:
    """A line for each word in angle brackets that neither an embedding nor the model defines."""
    defined = {fold(token) for token in embeddings}
    words = sorted({word for prompt in prompts for word in _BRACKETED.findall(prompt)})
    given = f"the embeddings define {', '.join(embeddings)}" if embeddings else "no --embedding is given"
    return [
        f"{word} in the {name} is not a learned word ({given}); it is read as ordinary text"
        for word in words
        if fold(word) not in defined and not any(tokenizer.knows(word) for tokenizer in tokenizers)
    ]
