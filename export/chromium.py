"""A headless Chromium of this computer, driven by Playwright, which the extra dev brings; nothing is downloaded."""

import contextlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edge_sdk.errors import EdgeSdkError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Beside Playwright's own. Whatever a browser would report or look up has no name or address that resolves.
ARGUMENTS = (
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--no-proxy-server",
    "--no-pings",
    "--disable-domain-reliability",
    "--disable-gpu",
)


def executable() -> str | None:
    """The browser's path, if there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def missing() -> str | None:
    """Why no browser can be driven, and how to add what is missing."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed, so no browser was tried; run pip install playwright"
    if executable() is None:
        return "chromium is not installed, so no browser was tried; install it, such as by apt-get install chromium"
    return None


@contextlib.contextmanager
def launched(*arguments: str) -> Iterator["Browser"]:
    """A browser with a profile and a home of its own; both are gone afterwards.

    Args:
        arguments: of its command line; they replace earlier ones of the same name.

    Raises:
        EdgeSdkError: Playwright or the browser is not installed, or the browser does not start.
    """
    if why := missing():
        raise EdgeSdkError(why)
    from playwright.sync_api import Error, sync_playwright

    with contextlib.ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-sdk-", ignore_cleanup_errors=True))
        places = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"), home)
        playwright = stack.enter_context(sync_playwright())
        try:
            browser = playwright.chromium.launch(
                executable_path=executable(), args=[*ARGUMENTS, *arguments], env={**os.environ, **places}
            )
        except Error as error:
            raise EdgeSdkError(f"chromium does not start ({first_line(error)}); see that it runs by itself") from error
        stack.callback(browser.close)
        yield browser


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
