"""Captions: a text file beside a photo, of the same name."""

import codecs
import os
from pathlib import Path

from edge_sdk.errors import EdgeSdkError, printable
from edge_sdk.system.inputs import open_input

MAX_CAPTION = 2000  # bytes
SUFFIX = ".txt"
_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # else UTF-8


def is_caption(file: Path) -> bool:
    return file.suffix.lower() == SUFFIX


def caption_of(photo: Path) -> str:
    """The caption of a photo, its white space single spaces, cut after `MAX_CAPTION` bytes; empty where there is none.

    Raises:
        EdgeSdkError: the file cannot be read, or is not text in UTF-8 or, by its byte order mark, UTF-16.
    """
    beside = next((b for b in map(photo.with_suffix, (SUFFIX, SUFFIX.upper())) if os.path.lexists(b)), None)
    if beside is None:
        return ""
    try:
        with open_input(beside) as file:
            data = file.read(MAX_CAPTION)
        encoding = _MARKS.get(data[:2], "utf-8-sig")
        whole = len(data) < MAX_CAPTION  # else the last letter may be cut, and is left out
        text = codecs.getincrementaldecoder(encoding)().decode(data, final=whole)
        if "\0" in text:  # UTF-16 without a mark, UTF-32, or no text
            raise ValueError
    except OSError as error:
        raise EdgeSdkError(
            f"the caption {printable(str(beside))} cannot be read ({error.strerror}); mend it, or leave "
            "use_captions out"
        ) from error
    except ValueError as error:
        raise EdgeSdkError(
            f"the caption {printable(str(beside))} is not UTF-8 text, nor UTF-16 with a byte order mark; save it as "
            "UTF-8, or leave use_captions out"
        ) from error
    return " ".join(text.split())
