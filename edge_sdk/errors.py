"""The errors a user can cause. A message is one line: what was given, what is accepted, what to do."""

import contextlib
import importlib.util
from collections.abc import Iterator


class EdgeSdkError(Exception):
    """Base of every error that the user can cause and mend. The command line prints it and exits with status 2."""


class MissingExtraError(EdgeSdkError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs packages that are not installed; run: pip install 'edge-sdk[{extra}]'")


@contextlib.contextmanager
def native_errors(what: str) -> Iterator[None]:
    """Turn a panic of a library in Rust, which is no `Exception`, into an error about ``what``."""
    try:
        yield
    except BaseException as error:
        if not is_panic(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise EdgeSdkError(f"{what} cannot be used: a library gave up on it ({reason}); use another one") from error


def is_panic(error: BaseException) -> bool:
    """Whether this is pyo3's exception of a panic; its module cannot be imported."""
    return type(error).__module__.startswith("pyo3")


def printable(text: str) -> str:
    """A text in one line that no terminal takes for commands: other characters than printable ones become "?"."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def require(feature: str, extra: str, *packages: str) -> None:
    """Raises MissingExtraError where one of an extra's packages is not installed; loads none of them."""
    if any(importlib.util.find_spec(name) is None for name in packages):
        raise MissingExtraError(feature, extra)
