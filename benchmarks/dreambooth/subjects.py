"""The DreamBooth data set as it is published: a folder of photos a subject, and one text with classes and prompts.

Ruiz et al., 2023, https://github.com/google/dreambooth, licensed CC BY 4.0. The prompts are read from the data's own
``prompts_and_classes.txt``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.inputs import read_input

TEXT = "prompts_and_classes.txt"
MOST_BYTES = 1 << 20
LIVE = ("cat", "dog")  # classes that have prompts of their own
PHOTOS = (".jpg", ".jpeg", ".png", ".webp")
_PROMPT = re.compile(r"^'([^']*\{0\} \{1\}[^']*)'\.format\(", re.MULTILINE)
_CLASS = re.compile(r"^([\w-]+),([\w -]+)$", re.MULTILINE)
_LISTS = ("Object Prompts", "Live Subject Prompts")
_HINT = "give the folder dataset/ of the published data, see benchmarks/dreambooth/README.md"


@dataclass(frozen=True)
class Subject:
    """One subject: its folder of photos, the noun of its class, and prompts with ``{}`` in the subject's place."""

    name: str
    folder: Path
    noun: str
    prompts: tuple[str, ...]

    @property
    def initializer(self) -> str:
        """The word that a token starts from: the noun's last, which is one word."""
        return self.noun.split()[-1]

    @property
    def photos(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.suffix.lower() in PHOTOS)


def read_subjects(folder: Path, names: Sequence[str] = ()) -> list[Subject]:
    """Subjects of a folder, sorted by name; those of ``names``, or all that have photos.

    Raises:
        EdgeSdkError: one line: there is no such folder, text or subject, or the text holds no classes or prompts.
    """
    path = folder / TEXT
    try:
        text = read_input(path, MOST_BYTES).decode()
    except (OSError, ValueError) as error:
        raise EdgeSdkError(f"{path} cannot be read ({error!s:.120}); {_HINT}") from error
    nouns = {name: noun.strip() for name, noun in _CLASS.findall(text) if name != "subject_name"}
    objects, live = (_prompts(text, title) for title in _LISTS)
    if not (nouns and objects and live):
        raise EdgeSdkError(f"{path} holds no classes or not both lists of prompts; {_HINT}")
    if unknown := [name for name in names if name not in nouns]:
        raise EdgeSdkError(f"subject {unknown[0]!r:.60} is not in {path}; it has {', '.join(sorted(nouns)):.300}")
    subjects = [
        Subject(name, folder / name, nouns[name], live if nouns[name] in LIVE else objects)
        for name in sorted(names or nouns)
        if names or (folder / name).is_dir()
    ]
    for subject in subjects:
        if not subject.folder.is_dir() or not subject.photos:
            raise EdgeSdkError(f"{subject.folder} holds no photos; {_HINT}")
    if not subjects:
        raise EdgeSdkError(f"{folder} holds no folder of a subject; {_HINT}")
    return subjects


def _prompts(text: str, title: str) -> tuple[str, ...]:
    """A list of prompts, from its title to the bracket that closes it; the two places become one."""
    _, _, rest = text.partition(f"\n{title}\n")
    return tuple(prompt.replace("{0} {1}", "{}") for prompt in _PROMPT.findall(rest.partition("\n]")[0]))
