"""The errors a user can cause. A message is one line: what was given, what is accepted, what to do."""

import importlib.util


class EdgeSdkError(Exception):
    """Base of every error that the user can cause and mend. The command line prints it and exits with status 2."""


class Cancelled(Exception):
    """The user stopped a run; its state is saved, and the message says after which step."""


class MissingExtraError(EdgeSdkError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs packages that are not installed; run: pip install 'edge-sdk[{extra}]'")


def require(feature: str, extra: str, *packages: str) -> None:
    """Raises MissingExtraError where one of an extra's packages is not installed; loads none of them."""
    if any(importlib.util.find_spec(name) is None for name in packages):
        raise MissingExtraError(feature, extra)


def one_line(error: object, limit: int | None = None) -> str:
    """The text of an error or a value on one line, at most ``limit`` characters; of an error without text its class."""
    text = " ".join(str(error).split())
    if not text and isinstance(error, BaseException):
        text = type(error).__name__
    return text[:limit]
