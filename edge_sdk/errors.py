"""The errors a user can cause. A message is one line: what was given, what is accepted, what to do."""

import contextlib
import importlib.util
from collections.abc import Iterator, Sequence

_DISTRIBUTIONS = {
    "optimum": "optimum-quanto",
    "pillow_heif": "pillow-heif",
}  # where a package is imported by another name


class EdgeSdkError(Exception):
    """Base of every error that the user can cause and mend. The command line prints it and exits with status 2."""


class Cancelled(Exception):
    """The user stopped a run; its state is saved, and the message says after which step."""


class MissingExtraError(EdgeSdkError):
    """Packages of an extra are not installed; the message names them and the extra that brings them."""

    def __init__(self, feature: str, extra: str, missing: Sequence[str]) -> None:
        names = " and ".join([", ".join(missing[:-1]), missing[-1]] if len(missing) > 1 else missing)
        super().__init__(
            f"{feature} needs {names}, not installed here; install edge-sdk with its extra {extra}: in a checkout "
            f"pip install '.[{extra}]', from a wheel pip install 'FILE.whl[{extra}]'"
        )


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
    """Raises MissingExtraError where packages of an extra are not installed; loads none of them."""
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise MissingExtraError(feature, extra, [_DISTRIBUTIONS.get(name, name) for name in missing])


def one_line(error: object, limit: int | None = None) -> str:
    """The text of an error or a value on one line, at most ``limit`` characters; of an error without text its class."""
    text = " ".join(str(error).split())
    if not text and isinstance(error, BaseException):
        text = type(error).__name__
    return text[:limit]
