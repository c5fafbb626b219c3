"""The parser of every command: dashes are taken for underscores, and a mistake is one line with a suggestion."""

import argparse
import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from edge_sdk.errors import one_line
from edge_sdk.system.paths import expanded

USER_ERROR = 2
_NEGATIVE_NUMBER = argparse.ArgumentParser()._negative_number_matcher


class Parser(argparse.ArgumentParser):
    """An argument parser that knows its options in both spellings, ``--train_data_dir`` and ``--train-data-dir``.

    Attributes:
        advice: what to do about options of other programs that people are used to, by name without dashes.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)
        self.register("type", Path, expanded)  # so the options of benchmarks take ~ as well
        self.advice: Mapping[str, str] = {}

    def error(self, message: str) -> NoReturn:
        self.exit(
            USER_ERROR,
            f"edge-sdk: error: {one_line(message)}{' See' if message.endswith('?') else '; see'} {self.prog} --help\n",
        )

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Spell options with underscores, and refuse unknown ones before argparse looks for missing ones."""
        words = None if args is None else self._spelled(args)
        if words is not None:
            self._refuse_unknown(words)
        return super().parse_known_args(words, namespace)

    def _spelled(self, words: Sequence[str]) -> list[str]:
        ended, spelled = False, []
        for word in words:
            ended = ended or word == "--"
            name, equals, value = word.partition("=")
            underscored = "--" + name[2:].replace("-", "_")
            known = name.startswith("--") and not ended and name not in self._option_string_actions
            spelled.append(
                underscored + equals + value if known and underscored in self._option_string_actions else word
            )
        return spelled

    def _refuse_unknown(self, words: Sequence[str]) -> None:
        passes_on = any(action.nargs in (argparse.PARSER, argparse.REMAINDER) for action in self._actions)
        for word in words:
            if word == "--" or (passes_on and word[:1] != "-"):
                return  # the rest are values, or words of a command or of a benchmark
            name = word.partition("=")[0]
            if len(word) < 2 or word[0] != "-" or " " in word or _NEGATIVE_NUMBER.match(word):
                continue  # a value
            if name not in self._option_string_actions and word not in self._option_string_actions:
                bare = name.lstrip("-").replace("-", "_")
                if advice := self.advice.get(bare):
                    self.error(f"{name} is an option of another program: {advice}")
                options = [each.lstrip("-") for each in self._option_string_actions if each.startswith("--")]
                self.error(f"unknown option {name}{did_you_mean(bare, options, '--')}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            names = list(map(str, action.choices))
            message = f"invalid choice: {value!r} (choose from {', '.join(names)}){did_you_mean(str(value), names)}"
            if action.nargs == argparse.PARSER:
                self.error(message)  # commands need no name of the argument
            raise argparse.ArgumentError(action, message)


def did_you_mean(given: str, names: Iterable[str], prefix: str = "") -> str:
    """ "; did you mean ...?" with what is spelled alike, or has the given word as a part; empty where nothing does."""
    names = list(names)
    close = difflib.get_close_matches(given.lower(), names, n=1, cutoff=0.6)
    close = close or [name for name in names if any(part.startswith(given.lower()) for part in name.split("_"))][:3]
    return f"; did you mean {' or '.join(prefix + name for name in close)}?" if close else ""
